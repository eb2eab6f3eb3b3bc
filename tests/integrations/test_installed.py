"""What an index would hand out, in an empty environment with all that it asks for, far from the checkout."""

import json
import os
import shutil
import subprocess

import pytest
from conftest import ROOT
from test_package import build, build_sdist, pythons

from redteam import __version__

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("REDTEAM_INTEGRATIONS" not in os.environ, reason="make test-integrations installs all of it"),
]
VERSION = "3.11"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel that the source distribution gives, and its needs at our pins."""
    python = pythons().get(VERSION)
    if python is None:
        pytest.skip(f"no Python {VERSION} here")
    folder = tmp_path_factory.mktemp("installed")
    environment = folder / "environment"
    try:
        subprocess.run([python, "-m", "venv", environment], check=True, capture_output=True)
        pip = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        tried = subprocess.run([*pip, "download", "--no-deps", "-d", folder / "tried", "mdurl"], capture_output=True)
        if tried.returncode != 0:
            pytest.skip("no package index is within reach, so that nothing can be installed")
        (folder / "wheels").mkdir()
        unpacked = folder / "unpacked"
        shutil.unpack_archive(build_sdist(folder), unpacked, filter="data")
        (source,) = unpacked.iterdir()
        wheel = build(folder / "wheels", source)
        command = [*pip, "install", "--quiet", "-c", ROOT / "constraints.txt", wheel]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a gigabyte and more


def run(installed, *arguments, cwd):
    """The command as a shell finds it, with nothing of this process's environment that names our packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REDTEAM", "VIRTUAL"))}
    environment = kept | {"XDG_CACHE_HOME": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    command = [installed / "bin" / "redteam", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_it_is_what_was_built(installed, tmp_path):
    shown = run(installed, "--version", cwd=tmp_path)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"redteam {__version__}\n", "")
    program = "import attacks, defenses, redteam; print(*(each.__file__ for each in (attacks, defenses, redteam)))"
    python = [installed / "bin" / "python", "-I", "-c", program]
    found = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert len(found) == 3
    assert all(path.startswith(str(installed)) for path in found)
    checked = subprocess.run([*python[:1], "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_it_trains_audits_and_draws(installed, tmp_path):
    """A leak is found in the model that leaks, and the page is drawn, as in the first five minutes of a user."""
    data = shutil.copy(ROOT / "fixtures" / "intents.csv", tmp_path)
    policy = ("--policy", shutil.copy(ROOT / "fixtures" / "policy.toml", tmp_path))
    shutil.copytree(ROOT / "fixtures" / "leaky", tmp_path / "leaky")
    (tmp_path / "leaky" / "model.ledger.json").chmod(0o600)
    audited = run(installed, "audit", "leaky/model.pt", *policy, "-f", "json", "-o", "report.json", cwd=tmp_path)
    assert audited.returncode == 1, audited.stderr
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["target"]["name"] == "model.pt"
    drawn = run(installed, "report", "report.json", *policy, "-o", "report.html", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    trained = run(installed, "train", data, "-o", "own.pt", "--set", "epochs=1", "--layers", "1", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "own.pt").exists()


def test_the_self_test_passes(installed, tmp_path):
    done = run(installed, "selftest", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
