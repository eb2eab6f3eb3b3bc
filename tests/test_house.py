"""The size of the house: files and functions short enough to be read at a sitting."""

import ast
from statistics import median

from conftest import ROOT

SOURCES = sorted(path for room in ("redteam", "attacks", "defenses") for path in (ROOT / room).rglob("*.py"))


def lengths(text):
    """Yield every function of a module with its lines, signature and docstring counted."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def test_files_are_short():
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in SOURCES}
    assert not {path: count for path, count in lines.items() if count > 300}
    assert median(lines.values()) < 130


def test_functions_are_short():
    named = [(str(path.relative_to(ROOT)), *each) for path in SOURCES for each in lengths(path.read_text())]
    assert not {(path, name): count for path, name, count in named if count > 50}
    assert median(count for _, _, count in named) <= 12


def test_the_measure_counts_every_line():
    assert list(lengths("def f(\n    a,\n):\n    '''Say.'''\n    def g():\n        pass\n")) == [("f", 6), ("g", 2)]
