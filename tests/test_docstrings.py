"""What `import redteam` offers is documented: each public function there names its arguments and its errors."""

import ast
import importlib
import inspect
import re

import pytest

import redteam

OFFERED = [getattr(redteam, name) for name in redteam.__all__ if name != "__version__"]
MODULES = sorted({offered.__module__ for offered in OFFERED})


def public(body, prefix=""):
    """Yield every public class, function and method with its full name."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


def unsaid(function):
    """Return the arguments and errors of a function that its docstring leaves out.

    An argument is named as it is, or in words: `most_rows` by "the most rows". An error is one that is raised right
    there, and not further down.
    """
    said = ast.get_docstring(function) or ""
    words = set(re.findall(r"[a-z]+", said.lower()))
    taken = [each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    lacking = {
        name
        for name in {*taken} - {"self", "cls"}
        if not all({part, part.rstrip("s"), f"{part}s"} & words for part in re.findall(r"[a-z]+", name))
    }
    raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc is not None]
    errors = {ast.unparse(each.func if isinstance(each, ast.Call) else each) for each in raised}
    return lacking | {name for name in errors if name.endswith("Error") and name not in said}


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_name_their_arguments_and_errors(name):
    module = importlib.import_module(name)
    found = dict(public(ast.parse(inspect.getsource(module)).body))
    assert not [each for each, node in found.items() if not ast.get_docstring(node)]
    functions = {each: node for each, node in found.items() if isinstance(node, ast.FunctionDef)}
    assert not {each: left for each, node in functions.items() if (left := unsaid(node))}


def test_what_is_left_out_is_found():
    told, untold = (
        ast.parse(f"def f(a_file, size):\n    {said!r}\n    raise ValueError(size)").body[0]
        for said in ("Cut a file to `size`; raise ValueError for a negative one.", "Cut it.")
    )
    assert (unsaid(told), unsaid(untold)) == (set(), {"a_file", "size", "ValueError"})
