import json

import pytest
from conftest import sentences
from forks import fast
from materials import error_line, leftovers, numbers, write

from redteam.models.bundle import load_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write(folder / "data.csv", sentences(200, seed=1))
    for model in ("tiny", "bilstm"):
        result = fast("train", "data.csv", "--model", model, "--set", "epochs=1", "-o", f"{model}.pt", cwd=folder)
        assert result.returncode == 0
    return folder


@pytest.mark.parametrize("model", ["tiny", "bilstm"])
def test_there_and_back_without_loss(folder, model):
    unpacked = fast("unpack", f"{model}.pt", "-o", f"{model}-hf", cwd=folder)
    packed = fast("pack", f"{model}-hf", "-o", f"{model}-again.pt", cwd=folder)
    for result in (unpacked, packed):
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (0, "", 1)
    first, again = (load_bundle(folder / f"{name}.pt") for name in (model, f"{model}-again"))
    assert first.digest() == again.digest()
    assert (first.labels, first.max_length) == (again.labels, again.max_length)
    assert first.digest()[:16] in unpacked.stderr
    assert {p.name for p in (folder / f"{model}-hf").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert leftovers(folder) == []
    reports = [
        fast("audit", name, "--ledger", f"{model}.ledger.json", "-f", "json", cwd=folder).stdout
        for name in (f"{model}.pt", f"{model}-again.pt", f"{model}-hf")
    ]
    evidence = [numbers(report)["evidence"] for report in reports]
    assert evidence[0] == evidence[1] == evidence[2]


def test_an_empty_directory_is_filled_and_a_full_one_left_alone(folder):
    (folder / "ready").mkdir()
    assert fast("unpack", "tiny.pt", "-o", "ready", cwd=folder).returncode == 0
    before = {path.name: path.read_bytes() for path in (folder / "ready").iterdir()}
    assert "ready: exists and is not an empty directory" in error_line(
        fast("unpack", "bilstm.pt", "-o", "ready", cwd=folder)
    )
    assert {path.name: path.read_bytes() for path in (folder / "ready").iterdir()} == before


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"model_type": "no-such-model"}, "no-such-model"),
        ({"problem_type": "regression"}, "only classifiers that choose one of several labels"),
        ({"id2label": {"0": "a"}, "label2id": {"a": 0}}, "the config names 1 label"),
        ({"auto_map": {"AutoConfig": "evil.Config"}}, ""),
    ],
)
def test_a_directory_that_is_no_classifier(folder, tmp_path, edit, words):
    assert fast("unpack", "tiny.pt", "-o", tmp_path / "hf", cwd=folder).returncode == 0
    (tmp_path / "hf" / "evil.py").write_text("open('exploded', 'w')")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    result = fast("pack", "hf", "-o", "new.pt", cwd=tmp_path)
    if words:
        assert words in error_line(result)
        assert not (tmp_path / "new.pt").exists()
    assert not (tmp_path / "exploded").exists()
    assert "Traceback" not in result.stderr
