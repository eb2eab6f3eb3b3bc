"""The two images: what the Dockerfile claims, and where a daemon and the base image are, what they do."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
GOLDEN = ROOT / "tests" / "formats" / "golden"
BASE = "python:3.11-slim"


def stages():
    """The instructions of each stage by its name, with those of the stages that it is built on."""
    found = {}
    for part in re.split(r"^(?=FROM )", TEXT.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        head, *lines = [line.strip() for line in part.splitlines() if line.strip() and not line.startswith("#")]
        _, base, _, name = head.split()
        found[name] = [*found.get(base, ()), *lines]
    return found


@pytest.mark.parametrize("name", ["gate", "full"])
def test_an_image_is_slim_and_runs_without_root(name):
    lines = stages()[name]
    assert "FROM python:${PYTHON}-slim AS base" in TEXT
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER 10001:10001"]
    assert lines.index(users[0]) > max(i for i, line in enumerate(lines) if line.startswith("RUN"))
    assert 'ENTRYPOINT ["redteam"]' in lines
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(lines)  # on a read-only file system nothing can be written
    assert not re.search(r"^ADD|apt-get|curl|wget", "\n".join(lines), flags=re.MULTILINE)


def test_the_gate_has_its_light_needs_alone():
    installs = re.findall(r"pip install [^&]*", " ".join(line for line in stages()["gate"] if line.startswith("RUN")))
    assert len(installs) == 2
    assert all("--no-deps" in each for each in installs)
    assert "-r /requirements/requirements-gate.txt" in installs[0]


def test_what_the_build_is_given_holds_no_model_and_no_ledger():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    wanted = {line[1:].removesuffix("/**") for line in lines if line.startswith("!")}
    assert all((ROOT / each).exists() for each in wanted)
    assert not wanted & {"fixtures", "tests", ".git"}
    assert {"**/*.pt", "**/*ledger.json"} <= set(lines)
    assert lines.index("**/*.pt") > max(i for i, line in enumerate(lines) if line.startswith("!"))
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, flags=re.MULTILINE)
    assert {name for each in copied for name in each.split()} - {"."} <= wanted


def docker(*arguments):
    return subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True)


def there():
    return shutil.which("docker") and not docker("info").returncode and not docker("image", "inspect", BASE).returncode


def test_the_gate_judges_in_its_image():
    if not there():
        pytest.skip(f"no Docker daemon with {BASE} here")
    built = docker("build", "--quiet", "--target", "gate", "-t", "redteam:gate-test", ROOT)
    assert built.returncode == 0, built.stderr
    confined = ("run", "--rm", "--read-only", "--network", "none", "-v", f"{GOLDEN}:/work:ro", "redteam:gate-test")
    assert docker(*confined, "gate", "leaky.json").returncode == 1
    assert docker(*confined, "gate", "safe.json", "-f", "html").returncode == 0
