"""The wheel holds what runs and nothing else, and it runs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import pytest
from conftest import ROOT

from redteam import __version__


def build(folder, **environment):
    """The wheel, built from a copy: setuptools leaves its work in the folder it builds."""
    skipped = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("redteam", "attacks", "defenses", "tests", "fixtures"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=skipped)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"} | environment
    subprocess.run([*command, folder / "source"], check=True, env=environment, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def wheel_without_a_compiler(tmp_path_factory):
    return build(tmp_path_factory.mktemp("pure"), CC="/bin/false")


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def packaged_sources():
    """What every wheel holds beside its metadata and the compiled kernel."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in ("redteam", "attacks", "defenses")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".json", ".typed", ".html")
    }


def is_kernel(name):
    return name.startswith("defenses/edpsgd/_kernel.") and name.endswith((".so", ".pyd"))


def test_what_is_in_the_wheel(wheel):
    """One wheel serves every Python from 3.11 on; the kernel is in it where there was a compiler."""
    assert re.fullmatch(rf"redteam-{re.escape(__version__)}-cp311-abi3-\w+\.whl", wheel.name)
    names = names_in(wheel)
    with zipfile.ZipFile(wheel) as archive:
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "redteam = redteam.cli:main" in archive.read(entry).decode()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    info = f"redteam-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"redteam", "attacks", "defenses", info}
    assert {name for name in names if not name.startswith(info) and not is_kernel(name)} == packaged_sources()
    assert {"redteam/py.typed", "redteam/report/report.schema.json", "attacks/membership/loss.py"} <= names
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


@pytest.mark.skipif(shutil.which(sysconfig.get_config_var("CC").split()[0]) is None, reason="there is no compiler here")
def test_a_compiler_puts_the_kernel_in(wheel):
    assert sum(map(is_kernel, names_in(wheel))) == 1


def test_without_a_compiler_only_the_kernel_is_missing(wheel_without_a_compiler):
    names = names_in(wheel_without_a_compiler)
    assert {name for name in names if ".dist-info/" not in name} == packaged_sources()


@pytest.mark.parametrize("built", ["wheel", "wheel_without_a_compiler"])
def test_the_wheel_runs_without_the_source(built, tmp_path, request):
    """Unpacked ahead of everything else: commands that need no ML stack, and the plug-ins it must bring along."""
    wheel = request.getfixturevalue(built)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    program = (
        "import attacks, redteam; from defenses.edpsgd import kernel, noise; import torch\n"
        "buffer = torch.zeros(1000); noise.NoiseSource(1, secure=True).fill(buffer, 1.0, step=0)\n"
        "print(redteam.__file__, attacks.__file__, kernel.__file__, kernel._load(), 0.9 < float(buffer.std()) < 1.1)"
    )
    where = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    with_kernel = any(map(is_kernel, names_in(wheel)))
    assert where.stdout.count(str(tmp_path / "site")) == 3 + with_kernel
    assert where.stdout.endswith("True\n")
    assert ("None" in where.stdout) == (not with_kernel)
    for arguments, words in ((["--version"], __version__), (["attacks"], "RT901"), (["defenses"], "RD102")):
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
        for name in ("constraints.txt", "constraints-federated.txt")  # Flower needs older versions of what we have
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    names = {re.split(r"[<>=!~ \[]", each, maxsplit=1)[0].lower() for each in wanted}
    assert names <= pinned | {"setuptools"}
