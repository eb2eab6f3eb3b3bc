"""The shape of the house: which room may import which, no circle anywhere, and few enough rooms to know them all."""

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

# Each group may import those above it, and a room itself. The values that pass between all parts come first.
ROOMS = (
    {"core"},
    {"statistics"},
    {"report"},
    {"policy", "data"},
    {"formats", "models"},
    {"targets"},
    {"plugins"},
    {"canary"},
    {"training"},
    {"references"},  # are trained as `redteam train` does
    {"auditing"},
    {"verify", "experiments"},
    {"integrations", "testing"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("redteam", "attacks", "defenses")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(module):
    """All that a module imports of ours, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def room(module):
    return module.split(".")[1] if module.startswith("redteam.") else None


def test_redteam_has_at_most_twenty_modules_and_packages():
    inside = {entry.name.removesuffix(".py") for entry in (ROOT / "redteam").iterdir()} - {"__pycache__", "py.typed"}
    assert len(inside) <= 20, sorted(inside)
    assert inside - {"__init__", "__main__"} <= set(FLOOR), "a room that no floor knows"


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in FLOOR])
def test_no_import_runs_back_up(module):
    own = room(module)
    up = [other for other in imports(module) if room(other) not in (None, own) and FLOOR[room(other)] >= FLOOR[own]]
    assert not up, f"{module} is below {up}"


def test_redteam_reaches_attacks_and_defenses_through_the_registry_only():
    named = {(module, other) for module in MODULES for other in imports(module) if module.startswith("redteam")}
    assert not {pair for pair in named if not pair[1].startswith("redteam")}


def test_no_module_imports_itself_by_a_detour():
    graph = {module: {other for other in imports(module) if other != module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_walk_finds_a_circle():
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).prepare()


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


def constants(path):
    """The string constants of a module but for docstrings and the help of options."""
    tree = ast.parse(path.read_text())
    quiet = {id(node.body[0].value) for node in ast.walk(tree) if hasattr(node, "body") and documented(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "help":
            quiet |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in quiet:
            yield node.value


def documented(node):
    """Whether a body begins with a docstring."""
    first = node.body[0] if isinstance(node.body, list) and node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)


@pytest.mark.parametrize("module", [module for module in MODULES if room(module)])
def test_core_code_knows_no_plug_in_by_its_id(module):
    """What one means for an audit stands in its class attributes. Reports of format 1 had an id instead."""
    named = [value for value in constants(MODULES[module]) if re.search(r"\b(RT|RD)\d{3}\b", value, re.IGNORECASE)]
    assert not named or module == "redteam.report.older", named
