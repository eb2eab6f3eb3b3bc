"""Numbers and pages of reports in the trackers themselves: a file store, event files, an offline run."""

import csv
import json
import os
import struct
import subprocess
import sys

import pytest
from conftest import ROOT, learnable, needs, run_redteam

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
LEAKY = ROOT / "tests" / "formats" / "golden" / "leaky.json"
REPORT = json.loads(LEAKY.read_text(encoding="utf-8"))
VALUE = {
    f"{each['attack']}.{each['metric']}": each["interval"] for each in REPORT["evidence"] if each["metric"] == "auc"
}


def gate(folder, tracker, *options, **environment):
    done = run_redteam("gate", LEAKY, "--log", tracker, *options, cwd=folder, env=environment)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(" LEAK")
    return done


def check(numbers):
    """The exit code, and every judged AUC with both of its ends."""
    assert numbers["redteam/exit_code"] == 1
    aucs = {name: value for name, value in numbers.items() if ".auc." in name}
    assert {name.removeprefix("redteam/")[:9] for name in aucs} <= set(VALUE)
    first = next(name for name in aucs if not name.endswith((".low", ".high")))
    known = [interval for rule, interval in VALUE.items() if rule in first]
    shown = aucs[f"{first}.low"], aucs[first], aucs[f"{first}.high"]
    assert any(shown == pytest.approx((each["low"], each["value"], each["high"])) for each in known)


@needs("mlflow")
def test_mlflow_has_the_numbers_and_the_page(tmp_path):
    store = {"MLFLOW_TRACKING_URI": (tmp_path / "store").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    gate(tmp_path, "mlflow", MLFLOW_DISABLE_TELEMETRY="true", **store)
    (page,) = (tmp_path / "store").rglob("redteam.html")
    run = page.parents[1]
    metrics = {str(p.relative_to(run / "metrics")): float(p.read_text().split()[1])
               for p in (run / "metrics").rglob("*") if p.is_file()}  # fmt: skip
    check(metrics)
    assert (run / "tags" / "redteam.verdict").read_text() == "leak"
    assert "<html" in page.read_text(encoding="utf-8")


def events(folder):
    """Read the one run back that lies there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (page,) = folder.glob("runs/redteam-*/redteam.html")
    read = EventAccumulator(str(page.parent))
    read.Reload()
    return {tag: read.Scalars(tag)[0].value for tag in read.Tags()["scalars"]}


@needs("tensorboard")
def test_tensorboard_reads_the_numbers_back(tmp_path):
    gate(tmp_path, "tensorboard")
    check(events(tmp_path))


def kept(file):
    """Yield the records of an offline run: LevelDB's log format, behind seven bytes that say whose it is."""
    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield parts
            parts = b""


@needs("wandb")
def test_wandb_offline_has_the_numbers_and_the_page(tmp_path):
    from wandb.proto import wandb_internal_pb2

    gate(tmp_path, "wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path), WANDB_DATA_DIR=str(tmp_path / "staged"))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    numbers, artefacts = {}, []
    for data in kept(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            numbers[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        if record.WhichOneof("record_type") == "artifact" or record.request.HasField("log_artifact"):
            artefacts.append(record)
    check(numbers)
    assert any("redteam.html" in str(each) for each in artefacts)


@needs("tensorboard")
def test_a_comparison_is_logged(tmp_path):
    older = LEAKY.with_name("safe.json")
    done = run_redteam("compare", older, LEAKY, "--log", "tensorboard", cwd=tmp_path)
    numbers = events(tmp_path)
    assert numbers["redteam/exit_code"] == done.returncode
    assert numbers["redteam/compare/worse"] > 0


@needs("tensorboard")
def test_every_row_of_a_gap_is_logged(tmp_path):
    rows = learnable(240, seed=1)
    with (tmp_path / "data.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(rows.texts, rows.labels, strict=True)])
    grid = ("--trainer", "plain", "--seeds", "1", "--layers", "1", "--embeddings", "random")
    done = run_redteam("gap", "data.csv", "-o", "found", *grid, "--log", "tensorboard", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found" / "gap.json").read_text(encoding="utf-8"))
    numbers = events(tmp_path)
    (row,) = report["rows"]
    assert numbers["redteam/exit_code"] == 0
    assert numbers["redteam/gap/plain.inf/accuracy"] == pytest.approx(row["accuracy"]["mean"])
    strongest = max(each["spread"]["mean"] for each in row["measures"] if each["metric"] == "auc")
    assert numbers["redteam/gap/plain.inf/auc"] == pytest.approx(strongest)


@needs("mlflow")
def test_mlflow_takes_more_numbers_than_it_takes_at_once(tmp_path):
    program = (
        "from redteam.integrations.logged import Logged\n"
        "from redteam.integrations.trackers import log\n"
        "log('mlflow', Logged({f'row{i}/auc': i / 2500 for i in range(2500)}, {'verdict': 'pass'}, '<html>'))"
    )
    store = {"MLFLOW_TRACKING_URI": (tmp_path / "store").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    environment = os.environ | store | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert len([*(tmp_path / "store").rglob("metrics/redteam/row*/auc")]) == 2500


@needs("tensorboard")
def test_what_cannot_be_logged_is_said_and_a_leak_stays_one(tmp_path):
    (tmp_path / "runs").write_text("no folder")
    done = run_redteam("gate", LEAKY, "--log", "tensorboard", cwd=tmp_path)
    assert done.returncode == 1
    assert "redteam: --log tensorboard: " in done.stderr
    safe = LEAKY.with_name("safe.json")
    assert run_redteam("gate", safe, "--log", "tensorboard", cwd=tmp_path).returncode == 2
