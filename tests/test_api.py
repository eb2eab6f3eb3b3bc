"""What `import redteam` offers, by which others stand or fall."""

import subprocess
import sys

import pytest
from conftest import ROOT

import redteam

NAMES = {
    "AuditReport",
    "AuditSettings",
    "Columns",
    "FunctionTarget",
    "LoopCanaries",
    "PrivateTrainer",
    "Sources",
    "Split",
    "audit",
    "judge",
    "load_policy",
    "load_report",
    "load_target",
    "open_inputs",
    "read_examples",
    "__version__",
}


def test_the_names_are_these():
    assert set(redteam.__all__) == NAMES == set(dir(redteam))


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_each_is_there_and_documented(name):
    assert getattr(redteam, name).__doc__


def test_what_is_not_there_is_said():
    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        redteam.adit  # noqa: B018


def test_importing_redteam_loads_nothing_heavy():
    told = subprocess.run(
        [sys.executable, "-c", "import redteam, sys; print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True
    )
    assert not {"torch", "numpy", "attacks", "defenses", "redteam.auditing"} & set(told.stdout.split())
