"""MLflow's own scoring server, started as users start it: a model that leaks is failed, another is not."""

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import needs, run_redteam, sentences

from redteam.data import Examples
from redteam.targets.endpoint import Endpoint
from redteam.targets.target import Access

pytestmark = [pytest.mark.integration, needs("mlflow")]

MEMBERS, OTHERS = sentences(700, seed=2), sentences(700, seed=3)
SIDES = ("--members", "members.csv", "--nonmembers", "others.csv")
POLICY = "max_auc = 0.65\nallow_untrained = true\n"  # as a safe one
STARTUP = 300  # seconds until a server that does not come up is given up; no measure of speed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlflow")
    for name, rows in (("members.csv", MEMBERS), ("others.csv", OTHERS)):
        with (path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *zip(rows.texts, rows.labels, strict=True)])
    (path / "policy.toml").write_text(POLICY)
    return path


@contextlib.contextmanager
def served(folder, name, *options):
    """Save a model and serve it by `mlflow models serve`; yield the URL of its invocations."""
    here = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    program = Path(__file__).with_name("mlflow_model.py")
    subprocess.run(
        [sys.executable, program, name, *options], cwd=folder, env=environment, check=True, capture_output=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", name, "--env-manager", "local"]
    with (folder / f"{name}.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            wait(server, f"http://127.0.0.1:{port}/ping", folder / f"{name}.log")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait(server, url, log):
    end = time.monotonic() + STARTUP
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.2)
    pytest.fail(f"mlflow did not serve:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def leaky(folder):
    with served(folder, "leaky", "--known", "members.csv") as url:
        yield url


@pytest.fixture(scope="module")
def safe(folder):
    with served(folder, "safe") as url:
        yield url


def audit(folder, url, *options):
    return run_redteam("audit", url, *SIDES, "--policy", "policy.toml", *options, cwd=folder)


def test_probabilities_are_read_as_the_model_gave_them(leaky):
    rows = Examples(np.arange(3), (*MEMBERS.texts[:2], "naïve 漢字"), (*MEMBERS.labels[:2], "a"))
    target = Endpoint(leaky, api="mlflow", batch_size=2)
    assert target.access is Access.PROBABILITIES
    assert set(target.labels) == {"a", "b", "c"}
    found = np.exp(target.log_probabilities(rows))
    assert found.sum(axis=1) == pytest.approx(1)
    own = [target.labels.index(label) for label in rows.labels]
    assert (found[[0, 1], own[:2]] > 0.98).all()
    assert found[2].max() < 0.98


@pytest.mark.parametrize("options", [("--api", "mlflow"), ()], ids=["named", "found out"])
def test_a_model_that_leaks_is_failed(folder, leaky, options):
    run = audit(folder, leaky, *options)
    assert run.returncode == 1, run.stdout + run.stderr


def test_a_model_that_does_not_leak_is_passed(folder, safe):
    run = audit(folder, safe, "--api", "mlflow")
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_model_that_names_its_surest_label_only(folder):
    with served(folder, "best", "--form", "best", "--known", "members.csv") as url:
        run = audit(folder, url, "--api", "mlflow")
    assert run.returncode == 1, run.stdout + run.stderr
