"""A user's own package called `attacks` or `defenses` is never taken for ours."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from redteam.core import UsageError
from redteam.plugins.registry import discover_attacks


@pytest.mark.parametrize("name", ["attacks", "defenses"])
@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_package_of_the_same_name(tmp_path, name, kind):
    if kind == "package":
        (tmp_path / name).mkdir()
    (tmp_path / (f"{name}/__init__.py" if kind == "package" else f"{name}.py")).write_text("print('mine')\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "redteam", name]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert f"package {name!r} is {tmp_path.resolve() / name}" in result.stderr


def test_nothing_found_is_an_error(monkeypatch):
    monkeypatch.setattr("redteam.plugins.registry.discover", lambda *where: ())
    with pytest.raises(UsageError, match="no Attack found in the package 'attacks'"):
        discover_attacks()


def test_debugging_exits_2_as_well(tmp_path):
    from forks import fast

    broken = "import redteam.plugins.registry\ndef broken(): raise ZeroDivisionError('x')\n"
    broken += "redteam.plugins.registry.discover_defenses = broken"
    result = fast("defenses", cwd=tmp_path, env={"REDTEAM_DEBUG": "1"}, before=broken)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
