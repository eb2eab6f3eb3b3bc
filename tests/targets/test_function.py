"""A function as target: what it may return, how it is found, and what happens when it breaks."""

import sys

import numpy as np
import pytest
import torch

from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.blackbox import PROBE
from redteam.targets.function import FunctionTarget
from redteam.targets.loading import load_target
from redteam.targets.target import Access, Target

TWO = Examples(np.arange(2), ("short", "a longer text"), ("a", "b"))
ROW = [0.25, 0.75]


def failure(call, *arguments, **options):
    with pytest.raises(TargetError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name, module in [*sys.modules.items()]:  # those of libraries stay: torch cannot be imported twice
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


# -- what it may return ----------------------------------------------------------------------------------------


class NoArray:
    """What will not be one."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")

    def __len__(self):
        return 1


class Frame:
    """What pandas and its like give: columns by name."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows

    def to_numpy(self):
        return np.array(self.rows)


def test_a_frame_with_other_columns_than_the_labels():
    said = failure(FunctionTarget, lambda texts: Frame(["a", "c"], [ROW] * len(texts)), labels=["a", "b"])
    assert "its labels are not the 2 given (they differ in 'b', 'c')" in said


@pytest.mark.parametrize(
    "answer",
    [
        lambda texts: [ROW] * len(texts),
        lambda texts: tuple(tuple(ROW) for _ in texts),
        lambda texts: np.tile(np.float32(ROW), (len(texts), 1)),
        lambda texts: torch.tensor([ROW] * len(texts)),
        lambda texts: torch.tensor([ROW] * len(texts), requires_grad=True),
        lambda texts: torch.tensor([ROW] * len(texts), dtype=torch.bfloat16),
        lambda texts: [torch.tensor(ROW, requires_grad=True) for _ in texts],
        lambda texts: Frame(["b", "a"], [ROW[::-1]] * len(texts)),
        lambda texts: Frame([0, 1], [ROW] * len(texts)),
        lambda texts: {"probabilities": np.array([ROW] * len(texts))},
        lambda texts: {"probabilities": [ROW[::-1]] * len(texts), "classes": ["b", "a"]},
        lambda texts: {"probabilities": [{"b": 0.75, "a": 0.25}] * len(texts)},
        lambda texts: [{"b": 0.75, "a": 0.25}] * len(texts),
        lambda texts: [[{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}]] * len(texts),
    ],
)
def test_probabilities_in_every_form(answer):
    target = FunctionTarget(answer, labels=["a", "b"])
    assert isinstance(target, Target)
    assert (target.kind, target.access, target.labels) == ("function", Access.PROBABILITIES, ("a", "b"))
    assert target.losses(TWO) == pytest.approx(-np.log(ROW))
    assert target.predict(TWO).tolist() == [1, 1]
    assert target.digest is None


@pytest.mark.parametrize(
    "answer",
    [
        lambda texts: ["b"] * len(texts),
        lambda texts: np.array(["b"] * len(texts)),
        lambda texts: np.array(["b"] * len(texts), dtype=object),
        lambda texts: {"labels": ["b"] * len(texts)},
    ],
)
def test_labels_in_every_form(answer):
    target = FunctionTarget(answer, labels=("a", "b"))
    assert target.access is Access.LABELS
    assert target.predict(TWO).tolist() == [1, 1]
    assert "shows labels only" in failure(target.losses, TWO)


def test_classes_that_are_numbers():
    assert FunctionTarget(lambda texts: np.zeros(len(texts), int), labels=["0", "1"]).predict(TWO).tolist() == [0, 0]
    assert FunctionTarget(lambda texts: [{0: 0.5, 1: 0.5} for _ in texts]).labels == ("0", "1")


def test_batches_are_lists_of_their_own():
    seen = []

    def greedy(texts):
        seen.append(list(texts))
        rows = [ROW for _ in texts]
        texts.clear()
        return rows

    FunctionTarget(greedy, labels=["a", "b"], batch_size=1).predict(TWO)
    assert seen == [[PROBE], ["short"], ["a longer text"]]
    assert TWO.texts == ("short", "a longer text")


@pytest.mark.parametrize(
    ("answer", "fragment"),
    [
        (lambda texts: None, "answered NoneType where a list"),
        (lambda texts: 0.5, "answered float where a list"),
        (lambda texts: [0.5], r"answered shape \(1,\) for 1 texts"),
        (lambda texts: np.zeros((1, 3)), r"answered shape \(1, 3\) for 1 texts and 2 labels"),
        (lambda texts: [ROW, ROW], "answered 2 rows for 1 texts"),
        (lambda texts: [[0.5, float("nan")]], "NaN or infinite"),
        (lambda texts: [[-3.0, 4.0]], "negative"),
        (lambda texts: NoArray(), r"do not make an array \(RuntimeError\)"),
        (lambda texts: [{"label": "a", "score": 9.0}], "more than there is"),
        (lambda texts: [None for _ in texts], "no answer to a first, harmless text"),
        (lambda texts: (row for row in [ROW]), "answered generator where a list"),
    ],
)
def test_nonsense(answer, fragment):
    with pytest.raises(TargetError, match=fragment):
        FunctionTarget(answer, labels=["a", "b"])


def test_rows_without_names_need_labels():
    assert 'without "classes"' in failure(FunctionTarget, lambda texts: [ROW])


class Stop(BaseException):
    """As some frameworks end their work."""


@pytest.mark.parametrize(
    "error", [ValueError("bad\nthing"), SystemExit(0), KeyError("x"), RuntimeError(), GeneratorExit(), Stop()]
)
def test_what_the_function_raises_is_one_line(error):
    def broken(texts):
        raise error

    assert f"broken: raised {type(error).__name__}" in failure(FunctionTarget, broken, name="broken")


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, OSError, SystemExit, AttributeError])
def test_the_texts_are_not_said_again(kind, monkeypatch):
    """Standard error is kept in logs; the texts are those of the training."""

    def broken(texts):
        if len(texts) > 1:
            raise kind(f"cannot score {texts[1]}")
        return [[0.5, 0.5]]

    target = FunctionTarget(broken, labels=["a", "b"], name="broken")
    examples = Examples(np.arange(2), ("one", "secret diagnosis"))
    said = failure(target.log_probabilities, examples)
    assert "secret" not in said
    assert f"broken: raised {kind.__name__} at test_function.py:" in said
    monkeypatch.setenv("REDTEAM_DEBUG", "1")
    assert "cannot score secret diagnosis" in failure(target.log_probabilities, examples)


def test_an_interrupt_stays_one():
    def interrupted(texts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FunctionTarget(interrupted)


def test_a_declared_order_of_labels():
    def scores(texts):
        return [ROW] * len(texts)

    scores.labels = ("x", "y")
    assert FunctionTarget(scores).labels == ("x", "y")
    assert FunctionTarget(scores, labels=["p", "q"]).labels == ("p", "q")
    scores.labels = {"x", "y"}  # a set has no order
    assert 'without "classes"' in failure(FunctionTarget, scores)
    assert "not callable" in failure(FunctionTarget, 3)


# -- how it is found -------------------------------------------------------------------------------------------

MODULE = """
import sys
print("loading")
labels = ["a", "b"]
def predict(texts):
    print("asked")
    import late_{name}
    return [[0.25, 0.75] for _ in texts]
class Model:
    def score(self, texts):
        return [{{"x": 0.5, "y": 0.5}} for _ in texts]
model = Model()
predict_labels = lambda texts: ["b" for _ in texts]
number = 3
def leave(texts): sys.exit(0)
def fail(texts): raise ValueError("no such\\nmodel")
"""


@pytest.fixture
def module(here):
    (here / "rt_module.py").write_text(MODULE.format(name="module"))
    (here / "late_module.py").write_text("")
    return here


def test_a_module_in_the_working_directory(module, capsys):
    target = load_target("rt_module:predict")
    assert isinstance(target, FunctionTarget)
    assert (target.name, target.kind, target.labels) == ("rt_module:predict", "function", ("a", "b"))
    assert target.digest is None  # the same source can load other weights tomorrow
    assert target.losses(TWO) == pytest.approx(-np.log(ROW))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "loading" in captured.err
    assert "asked" in captured.err


def test_attributes_of_attributes_and_options(module):
    assert FunctionTarget.load("rt_module:predict_labels").access is Access.LABELS
    assert FunctionTarget.load("rt_module:predict", labels=["p", "q"], batch_size=1).labels == ("p", "q")
    assert FunctionTarget.load("rt_module:model.score", labels=["y", "x"]).labels == ("y", "x")


@pytest.mark.parametrize(
    ("source", "fragment"),
    [
        ("rt_module:nothing", "rt_module.py) has no 'nothing'"),
        ("rt_module:model.nothing", "has no 'model.nothing'"),
        ("rt_module:number", "rt_module:number: not callable"),
        ("rt_module:leave", "rt_module:leave: raised SystemExit: 0"),
        ("rt_module:fail", "rt_module:fail: raised ValueError at rt_module.py:"),
        ("rt_module:model.score", "its labels are not the 2 given"),
        ("rt_absent:predict", "rt_absent:predict: no module 'rt_absent' here"),
        ("rt_absent.sub:predict", "no module 'rt_absent' here"),
        ("rt_module:", "not of the form module:function"),
        (":predict", "not of the form module:function"),
    ],
)
def test_what_cannot_be_loaded(module, source, fragment):
    assert fragment in failure(FunctionTarget.load, source)


@pytest.mark.parametrize(
    ("code", "fragment"),
    [
        ("raise SystemExit", "importing rt_broken raised SystemExit at rt_broken.py:1"),
        ("import rt_missing", "raised ModuleNotFoundError at rt_broken.py:1: No module named 'rt_missing'"),
        ("def f(:", "importing rt_broken raised SyntaxError"),
        ("raise ValueError('a\\nb')", "raised ValueError at rt_broken.py:1 (REDTEAM_DEBUG=1 says what it says)"),
        ("open('none.csv')", "raised FileNotFoundError at rt_broken.py:1: No such file or directory"),
    ],
)
def test_modules_that_cannot_be_imported(here, code, fragment):
    (here / "rt_broken.py").write_text(code)
    assert fragment in failure(FunctionTarget.load, "rt_broken:predict")


def test_a_built_in_module_has_no_digest(here):
    assert "builtins:ascii: " in failure(FunctionTarget.load, "builtins:ascii", labels=["a", "b"])
    assert "a built-in module" in failure(FunctionTarget.load, "sys:nothing")


# -- what tells one function from another ----------------------------------------------------------------------


def identity(folder, monkeypatch, files, source="rt_mine:predict"):
    """Return the identity of a function in files that are written to `folder`, loaded as by a new process."""
    folder.mkdir(exist_ok=True)
    for name, code in files.items():
        (folder / name).write_text(code)
    monkeypatch.chdir(folder)
    before = set(sys.modules)
    try:
        return FunctionTarget.load(source).identity
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_folder_file_and_imports_tell_functions_apart(tmp_path, monkeypatch):
    code = "import rt_beside\nlabels = ['a', 'b']\ndef predict(texts): return [[0.5, 0.5] for _ in texts]\n"
    files = {"rt_mine.py": code, "rt_beside.py": "WEIGHTS = 1\n"}
    first = identity(tmp_path / "one", monkeypatch, files)
    assert first == identity(tmp_path / "one", monkeypatch, files)
    others = [
        identity(tmp_path / "two", monkeypatch, files),
        identity(tmp_path / "one", monkeypatch, {"rt_beside.py": "WEIGHTS = 22\n"}),
        identity(tmp_path / "one", monkeypatch, {"rt_mine.py": code + "# changed\n"}),
        identity(tmp_path / "one", monkeypatch, {"rt_late.py": ""} | {"rt_mine.py": code + "import rt_late\n"}),
    ]
    assert len({first, *others}) == 5


def test_what_a_function_imports_when_called_counts(tmp_path, monkeypatch):
    code = "labels = ['a', 'b']\ndef predict(texts):\n    import rt_lazy\n    return rt_lazy.go(texts)\n"
    found = set()
    for half in ("[0.5, 0.5]", "[0.25, 0.75]"):
        lazy = f"def go(texts): return [{half} for _ in texts]\n"
        found.add(identity(tmp_path / "one", monkeypatch, {"rt_mine.py": code, "rt_lazy.py": lazy}))
    assert len(found) == 2


def test_two_functions_of_one_name_in_one_file():
    def make(row):
        if row == 1:
            return FunctionTarget(lambda texts: [[0.5, 0.5] for _ in texts], labels=("a", "b"))
        return FunctionTarget(lambda texts: [[0.2, 0.8] for _ in texts], labels=("a", "b"))

    assert make(1).name == make(2).name
    assert make(1).identity != make(2).identity


def test_a_module_that_another_one_hides_is_refused(tmp_path, monkeypatch):
    """What is imported already answers for a file of that name in another folder: that would be another model."""
    code = "labels = ['a', 'b']\ndef predict(texts): return [[0.5, 0.5] for _ in texts]\n"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rt_same.py").write_text(code)
    try:
        monkeypatch.chdir(tmp_path / "one")
        load_target("rt_same:predict")
        load_target("rt_same:predict")
        monkeypatch.chdir(tmp_path / "two")
        said = failure(load_target, "rt_same:predict")
    finally:
        sys.modules.pop("rt_same", None)
    assert f"is imported from {tmp_path / 'one' / 'rt_same.py'} already" in said
    assert f"hides {tmp_path / 'two' / 'rt_same.py'}; rename it" in said
