"""The examples in docstrings say what the code says."""

import doctest
import importlib

import pytest

MODULES = (
    "defenses.accounting",
    "defenses.edpsgd.trainer",
    "redteam.data.ledger",
    "redteam.data.pattern",
    "redteam.statistics.epsilon.gaussian",
    "redteam.statistics.epsilon.one_run",
    "redteam.statistics.epsilon.rates",
    "redteam.statistics.exposure",
    "redteam.statistics.roc",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (found.failed, found.attempted > 0) == (0, True)
