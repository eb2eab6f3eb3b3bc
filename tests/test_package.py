"""The wheel holds what runs and nothing else, and it runs; the gate does so beside its few light needs alone."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

from redteam import __version__

GOLDEN = ROOT / "tests" / "formats" / "golden"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STEM = f"{PROJECT['name'].replace('-', '_')}-{__version__}"
OFFLINE = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}


def copy_source(folder):
    """A copy of what is built from: setuptools leaves its work in the folder it builds."""
    skipped = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("redteam", "attacks", "defenses", "tests", "fixtures"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=skipped)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    return folder / "source"


def build(folder, source=None, **environment):
    """The wheel of a source, or of a copy of ours."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    environment = os.environ | OFFLINE | environment
    subprocess.run([*command, source or copy_source(folder)], check=True, env=environment, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def build_sdist(folder):
    """The source distribution."""
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, copy_source(folder)]
    subprocess.run(command, check=True, env=os.environ | OFFLINE, capture_output=True)
    (built,) = folder.glob("*.tar.gz")
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
    assert re.fullmatch(rf"{re.escape(STEM)}-cp311-abi3-\w+\.whl", wheel.name)
    names = names_in(wheel)
    with zipfile.ZipFile(wheel) as archive:
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "redteam = redteam.cli:main" in archive.read(entry).decode()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    info = f"{STEM}.dist-info"
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


def test_the_wheel_of_the_source_distribution_is_the_same(wheel, tmp_path):
    sdist = build_sdist(tmp_path)
    assert sdist.name == f"{STEM}.tar.gz"
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    again = build(tmp_path, tmp_path / "unpacked" / STEM)
    assert (again.name, names_in(again)) == (wheel.name, names_in(wheel))


def needs_of_the_gate():
    """Each distribution that the image of the gate installs, with its pinned version."""
    lines = (ROOT / "requirements-gate.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def pythons():
    """Each Python from 3.11 to 3.13 that is on this machine, this one first."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for minor in (11, 12, 13):
        installed = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))
        for each in (*filter(None, [shutil.which(f"python3.{minor}")]), *installed):
            if (
                subprocess.run([each, "-c", ""], capture_output=True).returncode == 0
            ):  # pyenv has some that only complain
                found.setdefault(f"3.{minor}", str(each))
    return found


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_gate_runs_beside_its_light_needs_alone(wheel, tmp_path, version):
    """In an empty environment, with nothing but what requirements-gate.txt lists; it writes nowhere."""
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True, capture_output=True)
    (site,) = (tmp_path / "empty").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in needs_of_the_gate():
        found = metadata.distribution(name)
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found.locate_file(file), site / file)
    (tmp_path / "work").mkdir()
    environment = {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}

    def run(*arguments):
        command = [tmp_path / "empty" / "bin" / "python", "-m", "redteam", *arguments]
        return subprocess.run(command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True)

    for form in ("text", "json", "markdown", "html", "sarif", "junit"):
        judged = run("gate", GOLDEN / "leaky.json", "-f", form)
        assert judged.returncode == 1, judged.stderr
        assert judged.stdout
    assert run("gate", GOLDEN / "safe.json").returncode == 0
    assert run("compare", GOLDEN / "safe.json", GOLDEN / "leaky.json").returncode == 1
    assert not list((tmp_path / "work").iterdir())
    assert run("report", GOLDEN / "safe.json", "-o", "page.html").returncode == 0


def test_what_the_gate_needs_is_pinned_as_everywhere():
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert needs_of_the_gate().items() <= pinned.items()
    assert not {"numpy", "torch", "transformers", "scikit-learn", "scipy"} & set(needs_of_the_gate())


def test_constraints_pin_every_dependency():
    wanted = PROJECT["dependencies"] + [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for name in ("constraints.txt", "constraints-federated.txt")  # Flower needs older versions of what we have
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    names = {re.split(r"[<>=!~ \[]", each, maxsplit=1)[0].lower() for each in wanted}
    assert names <= pinned | {"setuptools"}
