"""The wheel holds what runs and nothing else, and it runs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT

from redteam import __version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: setuptools leaves its work in the folder it builds."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("redteam", "attacks", "defenses", "tests", "fixtures"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}
    subprocess.run([*command, folder / "source"], check=True, env=environment, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_what_is_in_the_wheel(wheel):
    assert wheel.name == f"redteam-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "redteam = redteam.cli:main" in archive.read(entry).decode()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    info = f"redteam-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"redteam", "attacks", "defenses", info}
    source = {
        path.relative_to(ROOT).as_posix()
        for package in ("redteam", "attacks", "defenses")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".json", ".typed")
    }
    assert {name for name in names if not name.startswith(info)} == source
    assert {"redteam/py.typed", "redteam/report.schema.json", "attacks/membership/loss.py"} <= names
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_the_wheel_runs_without_the_source(wheel, tmp_path):
    """Unpacked ahead of everything else: commands that need no ML stack, and the plug-ins it must bring along."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    program = "import attacks, redteam, sys; print(redteam.__file__, attacks.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert where.stdout.count(str(tmp_path / "site")) == 2
    for arguments, words in ((["--version"], __version__), (["attacks"], "RT901"), (["defenses"], "RD100")):
        result = subprocess.run(
            [sys.executable, "-m", "redteam", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert words in result.stdout


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [each for extra in project["optional-dependencies"].values() for each in extra]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    names = {re.split(r"[<>=!~ \[]", each, maxsplit=1)[0].lower() for each in wanted}
    assert names <= pinned | {"setuptools"}
