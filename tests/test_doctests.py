"""The examples in docstrings say what the code says."""

import doctest
import importlib

import pytest
from conftest import ROOT

SOURCES = [path for room in ("redteam", "attacks", "defenses") for path in sorted((ROOT / room).rglob("*.py"))]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if "\n    >>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_there_are_examples():
    assert {"defenses.accounting", "redteam.targets.loading", "redteam.statistics.roc"} <= {*MODULES}
