"""The forms in which a black box may answer, and every way in which it may fail to."""

import numpy as np
import pytest

from redteam.core import TargetError
from redteam.targets.answers import Answers
from redteam.targets.distributions import FLOOR, log_probabilities, probability_fault
from redteam.targets.target import Access

AB = [{"a": 0.25, "b": 0.75}, {"b": 0.5, "a": 0.5}]


def hugging_face(*rows):
    return [[{"label": label, "score": p} for label, p in row.items()] for row in rows]


@pytest.mark.parametrize(
    "document",
    [
        {"probabilities": AB},
        {"probabilities": AB, "classes": ["a", "b"]},
        {"probabilities": AB, "labels": ["b", "a"], "model": "x"},
        {"probabilities": [[0.25, 0.75], [0.5, 0.5]], "classes": ["a", "b"]},
        {"probabilities": np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32), "classes": np.array(["a", "b"])},
        hugging_face(*AB),
    ],
)
def test_probabilities_are_read_in_every_form(document):
    answers = Answers("t")
    scored = answers.read(document, 2)
    assert (answers.access, answers.labels, answers.closed) == (Access.PROBABILITIES, ("a", "b"), True)
    assert np.exp(scored.log_probabilities) == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert scored.predicted.tolist() == [1, 0]


@pytest.mark.parametrize(
    "document",
    [
        {"probabilities": [{"a": 0.25, "b": 0.75}]},
        {"probabilities": [[0.25, 0.75]], "classes": ["a", "b"]},
        {"probabilities": [[0.75, 0.25]]},
        hugging_face({"a": 0.25, "b": 0.75}),
    ],
)
def test_given_labels_say_the_order_of_the_columns(document):
    answers = Answers("t", ["b", "a"])
    assert np.exp(answers.read(document, 1).log_probabilities)[0] == pytest.approx([0.75, 0.25])
    assert answers.labels == ("b", "a")


def test_classes_may_come_in_another_order_in_every_batch():
    answers = Answers("t")
    answers.read({"probabilities": [[0.25, 0.75]], "classes": ["a", "b"]}, 1)
    later = answers.read({"probabilities": [[0.9, 0.1]], "classes": ["b", "a"]}, 1)
    assert np.exp(later.log_probabilities)[0] == pytest.approx([0.1, 0.9])


def test_labels_with_classes_are_closed():
    answers = Answers("t")
    scored = answers.read({"labels": ["b", "a"], "classes": ["a", "b", "c"]}, 2)
    assert (answers.access, answers.labels, answers.closed) == (Access.LABELS, ("a", "b", "c"), True)
    assert scored.predicted.tolist() == [1, 0]
    assert scored.log_probabilities is None
    with pytest.raises(TargetError, match="outside the 3 known ones: 'd'"):
        answers.read({"labels": ["d"]}, 1)


def test_labels_without_classes_grow_and_keep_their_indices():
    answers = Answers("t")
    assert answers.read({"labels": ["b"]}, 1).predicted.tolist() == [0]
    assert answers.read({"labels": ["a", "b"]}, 2).predicted.tolist() == [1, 0]
    answers.admit(["b", "c", "c"])
    assert answers.labels == ("b", "a", "c")
    assert not answers.closed


def test_whole_numbers_are_names_too():
    answers = Answers("t", ["0", "1"])
    assert answers.read({"labels": [1, 0]}, 2).predicted.tolist() == [1, 0]


BAD = [
    ("hello", "answered a bare str"),
    (None, "answered a bare NoneType"),
    ([], "answered a bare list"),
    ([[0.5, 0.5]], "answered a bare list"),
    ({}, "keys: none"),
    ({"error": "loading"}, "its keys: 'error'"),
    ({"probabilities": 3}, "answered int where a list"),
    ({"probabilities": "ab"}, "answered str where a list"),
    ({"probabilities": {"a": 1.0}}, "where a list"),
    ({"probabilities": np.array(1.0)}, "a single number"),
    ({"probabilities": []}, "answered 0 rows for 1 texts"),
    ({"probabilities": AB}, "answered 2 rows for 1 texts"),
    ({"labels": ["a", "b"]}, "answered 2 rows for 1 texts"),
    ({"probabilities": [[0.5, 0.5]]}, 'without "classes"'),
    ({"probabilities": [[0.5, 0.5]], "labels": ["a", "b"]}, 'without "classes"'),
    ({"probabilities": [[0.5, 0.5]], "classes": ["a", "b", "c"]}, r"shape \(1, 2\) for 1 texts and 3 labels"),
    ({"probabilities": [0.5], "classes": ["a", "b"]}, r"shape \(1,\)"),
    ({"probabilities": [[[0.5, 0.5]]], "classes": ["a", "b"]}, r"shape \(1, 1, 2\)"),
    ({"probabilities": [["0.5", "0.5"]], "classes": ["a", "b"]}, "not all numbers"),
    ({"probabilities": [[None, 0.5]], "classes": ["a", "b"]}, "not all numbers"),
    ({"probabilities": [{"a": None, "b": 0.5}]}, "not all numbers"),
    ([{"label": "a", "score": 7.3}], "sum to 7.3, not 1; which is more than there is"),
    ({"probabilities": [[True, False]], "classes": ["a", "b"]}, "not all numbers"),
    ({"probabilities": [{"a": "x", "b": 1}]}, "not all numbers"),
    ({"probabilities": [{"a": [1, 2], "b": 1}]}, r"do not make an array \(ValueError\)"),
    ({"probabilities": [[1.0]], "classes": ["a"]}, "at least two different names"),
    ({"probabilities": [[0.5, 0.5]], "classes": ["a", "a"]}, "at least two different names, not 'a', 'a'"),
    ({"probabilities": [[0.5, 0.5]], "classes": "ab"}, "classes must be a list of names, not str"),
    ({"probabilities": [[0.5, 0.5]], "classes": [0.5, None]}, "answered float where the name"),
    ({"probabilities": [{"a": -0.1, "b": 1.1}]}, r"answer 1 of 1: a probability is negative \(-0.1\)"),
    ({"probabilities": [{"a": float("nan"), "b": 1}]}, "answer 1 of 1: a probability is NaN or infinite"),
    ({"probabilities": [{"a": float("inf"), "b": 1}]}, "NaN or infinite"),
    ({"probabilities": [[0.5, 0.4]], "classes": ["a", "b"]}, "sum to 0.9, not 1; give those of all labels"),
    ({"probabilities": [{"a": 0.5, "b": 0.6}]}, "sum to 1.1, not 1"),
    ({"labels": [True]}, "answered bool where the name"),
    ({"labels": [["a"]]}, "answered list where the name"),
    ({"labels": "a"}, "answered str where a list"),
    ([[{"label": "a", "score": 0.5}, {"label": "a", "score": 0.5}]], "names a label twice"),
    ([[{"label": "a", "score": 0.5}, {"label": "b"}]], "answered a bare list"),
]


@pytest.mark.parametrize(("document", "fragment"), BAD)
def test_anything_else_is_one_line(document, fragment):
    with pytest.raises(TargetError, match=f"^t: .*{fragment}") as caught:
        Answers("t").read(document, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        ([{"a": 0.5, "b": 0.5}, {}], "answer 2 is not an object like the others"),
        ([{"a": 0.5, "b": 0.5}, [0.5, 0.5]], "answer 2 is not an object like the others"),
    ],
)
def test_every_row_must_name_its_labels(rows, fragment):
    with pytest.raises(TargetError, match=fragment):
        Answers("t").read({"probabilities": rows}, 2)


def test_rows_of_unequal_length():
    with pytest.raises(TargetError, match="do not make an array"):
        Answers("t").read({"probabilities": [[0.5, 0.5], [1.0]], "classes": ["a", "b"]}, 2)


def test_hugging_face_rows_must_all_be_alike():
    with pytest.raises(TargetError, match="answer 2 is not a list of labels with scores"):
        Answers("t").read([*hugging_face({"a": 0.5, "b": 0.5}), []], 2)


@pytest.mark.parametrize(
    ("first", "second", "fragment"),
    [
        ({"probabilities": AB}, {"labels": ["a", "b"]}, "answered labels now and something else before"),
        ({"labels": ["a", "b"]}, {"probabilities": AB}, "answered probabilities now and something else before"),
        ({"labels": ["a", "b"]}, {"labels": ["a", "b"], "classes": ["a", "b"]}, "not the 2 of the answers before"),
        (
            {"probabilities": [[0.5, 0.5]] * 2, "classes": ["a", "b"]},
            {"probabilities": [[0.5, 0.5]] * 2},
            'without "classes"',
        ),
    ],
)
def test_answers_may_not_change_their_form(first, second, fragment):
    answers = Answers("t")
    answers.read(first, 2)
    with pytest.raises(TargetError, match=fragment):
        answers.read(second, 2)


def test_given_labels_must_be_those_answered():
    with pytest.raises(TargetError, match=r"not the 2 given \(they differ in 'b', 'c'\)"):
        Answers("t", ["a", "c"]).read({"probabilities": AB}, 2)
    with pytest.raises(TargetError, match="labels must be a list of names, not str"):
        Answers("t", "ab")


def test_a_label_in_an_error_is_cut_short():
    with pytest.raises(TargetError) as caught:
        Answers("t", ["a", "b"]).read({"labels": ["x" * 1000 + "\n"]}, 1)
    assert len(str(caught.value)) < 120


def test_zero_becomes_finite_and_stays_below_everything_else():
    values = log_probabilities(np.array([[0.0, FLOOR * 2, 1e-300, 1e-12, 1.0005]]))
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
    assert values[0, 0] == pytest.approx(-708.396, abs=1e-3)
    assert values[0, -1] == 0


def test_rounding_is_tolerated_and_the_first_fault_is_named():
    assert probability_fault(np.array([[0.3333, 0.3333, 0.3333], [1, 0, 0]])) is None
    row, what = probability_fault(np.array([[1, 0], [0.5, 0.6], [-1, 2]]))
    assert (row, what[:31]) == (1, "the probabilities sum to 1.1, n")
    row, what = probability_fault(np.array([[1e308, 1e308]]))
    assert "sum to inf" in what
