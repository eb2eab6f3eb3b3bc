"""Predicted labels in a file of scores: alone, beside losses, beside probabilities that they must not contradict."""

from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scorefiles import MEMBER, SCORE, failure, write

from redteam.auditing.run import audit
from redteam.auditing.scoring import ScoreCache
from redteam.core import TargetError
from redteam.policy import DEFAULT
from redteam.policy.judge import judge
from redteam.targets.saved import load_scores
from redteam.targets.target import Access

OWN = ["a", "b", "a", "b", "a"]
SAID = ["a", "a", "a", "b", "b"]
SIDE = 1500  # rows, enough for the limits of the default policy
EACH = {"member": MEMBER, "label": OWN, "predicted": SAID}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl", ".npz"])
def test_labels_are_all_there_is(tmp_path, suffix):
    target, split, _ = load_scores(write(tmp_path, suffix, EACH))
    assert (target.access, target.labels) == (Access.LABELS, ("a", "b"))
    assert target.predict(split.members).tolist() == [0, 0, 1]
    for asked in (target.losses, target.log_probabilities):
        with pytest.raises(TargetError, match=r"there are no losses|no probabilities"):
            asked(split.members)


@pytest.mark.parametrize("name", ["Predicted", "predicted_label", "prediction"])
def test_usual_names(tmp_path, name):
    path = write(tmp_path, ".csv", {"member": MEMBER, "label": OWN, name: SAID})
    assert load_scores(path)[0].access is Access.LABELS


def test_a_name_of_its_own(tmp_path):
    path = write(tmp_path, ".csv", {"member": MEMBER, "label": OWN, "answer": SAID})
    assert load_scores(path, predicted="answer")[0].access is Access.LABELS


def scored(directory, right, **more):
    """Saved predictions for 2 x 300 rows of three labels, of which shares of members and others are right."""
    rng = np.random.default_rng(0)
    member, own = np.repeat([1, 0], SIDE), rng.integers(3, size=2 * SIDE)
    hit = rng.random(2 * SIDE) < np.where(member == 1, *right)
    said = np.where(hit, own, (own + 1) % 3)
    columns = {"member": member, "label": own, "predicted": said} | {name: make(hit) for name, make in more.items()}
    return load_scores(write(directory, ".csv", {name: values.tolist() for name, values in columns.items()}))


def verdict(target, split):
    report = audit(target, split)
    policy = replace(DEFAULT, limits=DEFAULT.limits[:1])  # none on a TPR is kept without reference models
    return report, judge(report, policy, today=date(2026, 1, 1))


@pytest.mark.parametrize(("right", "code"), [((0.95, 0.4), 1), ((0.8, 0.8), 0), ((0.33, 0.33), 2)])
def test_the_gap_is_audited(tmp_path, right, code):
    target, split, _ = scored(tmp_path, right)
    report, judged = verdict(target, split)
    assert {evidence.attack for evidence in report.evidence} == {"RT105"}
    assert judged.exit_code == code
    assert report.accuracy.members == pytest.approx(right[0], abs=0.07)


def test_beside_losses_they_show_whether_anything_was_learned(tmp_path):
    rng = np.random.default_rng(1)
    target, split, _ = scored(tmp_path, (0.33, 0.33), loss=lambda hit: rng.random(2 * SIDE))
    assert target.access == Access.LABELS | Access.LOSSES
    report, judged = verdict(target, split)
    assert {evidence.attack for evidence in report.evidence} == {"RT101"}
    assert judged.exit_code == 2
    assert "always answering their commonest label" in judged.problems[0]


def test_texts_are_looked_up_beside_losses(tmp_path):
    columns = EACH | {"loss": SCORE, "text": ["one", "two", "three", "four", "five"]}
    target, split, _ = load_scores(write(tmp_path, ".csv", columns))
    assert ScoreCache(target).predict(split.members).tolist() == [0, 0, 1]


def test_losses_alone_are_taken_at_their_word(tmp_path):
    target, split, _ = load_scores(write(tmp_path, ".csv", {"member": MEMBER, "label": OWN, "loss": SCORE}))
    assert target.access is Access.LOSSES
    assert audit(target, split).accuracy is None


def test_losses_without_a_label_have_no_accuracy(tmp_path):
    columns = {"member": MEMBER, "predicted": SAID, "loss": SCORE}
    target, _, notes = load_scores(write(tmp_path, ".csv", columns))
    assert target.access is Access.LOSSES
    assert any("'predicted' has no label column beside it: not used" in note for note in notes)


P = {"p:a": [0.9, 0.5, 0.75, 0.25, 0.25], "p:b": [0.1, 0.5, 0.25, 0.75, 0.75]}


def test_probabilities_that_agree_and_tie(tmp_path):
    assert load_scores(write(tmp_path, ".csv", EACH | P))[0].access is Access.PROBABILITIES


@pytest.mark.parametrize(
    ("row", "said", "words"),
    [
        (4, "b", "row 1: predicted 'b' (0.1), but 'a' is more probable (0.9)"),
        (0, "c", "row 5: predicted 'c' has no probability column among 'a', 'b'"),
    ],
)
def test_probabilities_that_contradict(tmp_path, row, said, words):
    predicted = [*SAID]
    predicted[4 - row] = said
    assert words in failure(write(tmp_path, ".csv", EACH | P | {"predicted": predicted}))


@pytest.mark.parametrize(
    ("own", "said", "predicts"),
    [
        (["a", "B", "a", "B", "a"], ["A", "b", "A", "A", "b"], [0, 0, 1]),
        ([0, 1, 0, 1, 0], ["LABEL_0", "LABEL_1", "LABEL_0", "LABEL_0", "LABEL_1"], [0, 0, 1]),
        ([0.0, 1.0, 0.0, 1.0, 0.0], [0, 1, 0, 0, 1], [0, 0, 1]),
    ],
)
def test_one_label_in_two_spellings(tmp_path, own, said, predicts):
    columns = {"member": MEMBER, "label": own, "predicted": said}
    target, split, _ = load_scores(write(tmp_path, ".csv", columns))
    assert target.predict(split.members).tolist() == predicts
    assert audit(target, split).accuracy.members == pytest.approx(2 / 3)


def test_numbers_beside_the_classes_that_the_file_names(tmp_path):
    features = '{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}}'
    table = pa.table({"member": MEMBER, "label": [0, 1, 0, 1, 0], "predicted": [0, 1, 0, 0, 1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), tmp_path / "scores.parquet")
    target, split, _ = load_scores(tmp_path / "scores.parquet")
    assert split.members.labels == ("0", "0", "0")
    assert target.remarks == ("labels of the data are taken in the words of the predictions (no = 0, yes = 1)",)


def test_labels_by_a_map(tmp_path):
    columns = {"member": MEMBER, "label": OWN, "predicted": ["yes", "no", "yes", "no", "no"]}
    target, split, _ = load_scores(write(tmp_path, ".csv", columns), label_map={"a": "yes", "b": "no"})
    assert (target.labels, split.members.labels) == (("no", "yes"), ("yes", "yes", "yes"))


def test_a_label_that_is_never_predicted_is_a_label(tmp_path):
    target, split, _ = load_scores(write(tmp_path, ".csv", EACH | {"label": ["a", "b", "rare", "b", "a"]}))
    assert target.labels == ("a", "b", "rare")
    assert audit(target, split).accuracy.members == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"member": MEMBER, "predicted": SAID}, "a predicted column needs a label column with each row's own label"),
        (EACH | {"predicted": ["a", "", "a", "b", "b"]}, "row 2: predicted is empty; fill it or drop the row"),
        (EACH | {"predicted": ["x", "y", "x", "x", "x"]}, "no label is in both; say with --label-map FILE"),
    ],
)
def test_what_is_no_prediction(tmp_path, columns, words):
    assert words in failure(write(tmp_path, ".csv", columns))


def test_cells_that_name_no_label(tmp_path):
    path = write(tmp_path, ".jsonl", EACH | {"predicted": [["a"]] * 5})
    assert "column 'predicted' holds a list, not the name of a label; give one a row, or rename" in failure(path)
