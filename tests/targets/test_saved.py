"""Saved scores: every kind of file, every column, and what stands in for the model."""

import subprocess
import sys

import numpy as np
import pytest
from scorefiles import MEMBER, SCORE, failure, write

from redteam.core import TargetError
from redteam.data import Columns, Examples
from redteam.targets.saved import SavedScores, load_scores
from redteam.targets.target import Access, Target

every_kind = pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl", ".npz"])


@every_kind
def test_scores(tmp_path, suffix):
    target, split, notes = load_scores(write(tmp_path, suffix, {"member": MEMBER, "score": SCORE}))
    assert isinstance(target, Target)
    assert (target.kind, target.access, target.labels) == ("scores", Access.LOSSES, ())
    assert len(target.digest) == 64
    assert (split.members.rows.tolist(), split.nonmembers.rows.tolist()) == ([0, 2, 4], [1, 3])
    assert (split.members.texts, split.members.labels, split.reference) == (None, None, None)
    pool, is_member = split.pool(3)
    assert (-target.losses(pool)).tolist() == [SCORE[row] for row in pool.rows]
    assert [MEMBER[row] for row in pool.rows] == is_member.tolist()
    assert notes[0] == f"scores{suffix}: columns: membership = 'member', score = 'score'"
    assert "on trust" in notes[1]


@every_kind
def test_losses(tmp_path, suffix):
    target, split, _ = load_scores(write(tmp_path, suffix, {"is_member": MEMBER, "loss": SCORE}))
    assert target.losses(split.members).tolist() == [0.5, 2.25, 1e-3]


@every_kind
def test_probabilities(tmp_path, suffix):
    p = [0.25, 1.0, 0.5, 0.125, 0.9]
    columns = {"split": ["train", "test"] * 2 + ["train"], "label": ["b c", "a", "a", "b c", "a"]}
    columns |= {"prob:a": p, "prob:b c": [1 - value for value in p]}
    target, split, _ = load_scores(write(tmp_path, suffix, columns))
    assert (target.access, target.labels) == (Access.PROBABILITIES, ("a", "b c"))
    assert split.members.labels == ("b c", "a", "a")
    assert target.losses(split.members) == pytest.approx(-np.log([0.75, 0.5, 0.9]))
    assert target.predict(split.nonmembers).tolist() == [0, 1]
    values = target.log_probabilities(split.nonmembers)
    assert values.shape == (2, 2)
    assert values[0] == pytest.approx([0, -708.396], abs=1e-3)  # a zero stays finite


@every_kind
def test_texts_and_ids(tmp_path, suffix):
    columns = {"member": MEMBER, "score": SCORE, "text": ["one", "two", "One ", "naïve", "three"]}
    columns |= {"id": ["r1", "r2", "r3", "r4", "r5"], "user": [7, 7, 8, 8, 9], "group": ["g"] * 5, "label": ["x"] * 5}
    target, split, notes = load_scores(write(tmp_path, suffix, columns), columns=Columns(user="user"))
    assert (split.members.texts, split.members.ids) == (("one", "three"), ("r1", "r5"))
    assert (split.members.users, split.members.groups, split.duplicates) == (("7", "9"), ("g", "g"), 1)
    assert split.members.labels == ("x", "x")
    assert target.losses(split.members).tolist() == [-0.5, -1e-3]
    assert not any("trust" in note for note in notes)


@pytest.mark.parametrize("prefix", ["prob:", "p:", "prob_", "p_", "P:"])
def test_prefixes_of_probabilities(tmp_path, prefix):
    columns = {"member": MEMBER, "label": ["a"] * 5, f"{prefix}a": [0.5] * 5, f"{prefix}b": [0.5] * 5}
    assert load_scores(write(tmp_path, ".csv", columns))[0].labels == ("a", "b")


def test_a_p_value_is_no_probability(tmp_path):
    columns = {"member": MEMBER, "score": SCORE, "p_value": SCORE}
    assert load_scores(write(tmp_path, ".csv", columns))[0].access is Access.LOSSES
    columns = {"member": MEMBER, "label": ["a"] * 5, "p_value": SCORE, "p:a": [0.5] * 5, "p:b": [0.5] * 5}
    assert load_scores(write(tmp_path, ".csv", columns))[0].labels == ("a", "b")


def test_the_label_of_a_model_without_names(tmp_path):
    columns = {"member": MEMBER, "label": [0, 1, 0, 1, 0], "p:LABEL_0": [0.5] * 5, "p:LABEL_1": [0.5] * 5}
    target, split, _ = load_scores(write(tmp_path, ".csv", columns))
    assert target.losses(split.members) == pytest.approx([np.log(2)] * 3)


@pytest.mark.parametrize(
    "words",
    [
        ["member", "nonmember"],
        ["in", "out"],
        ["train", "test"],
        ["True", "FALSE"],
        [" IN ", "out"],
        [True, False],
        [1, 0],
        [1.0, 0.0],
    ],
)
@every_kind
def test_words_for_membership(tmp_path, suffix, words):
    columns = {"membership": [words[1 - member] for member in MEMBER], "score": SCORE}
    _, split, _ = load_scores(write(tmp_path, suffix, columns))
    assert split.members.rows.tolist() == [0, 2, 4]


def test_reference_rows(tmp_path):
    columns = {"split": ["train", "test", "train", "test", "reference"], "score": SCORE}
    _, split, _ = load_scores(write(tmp_path, ".csv", columns))
    assert split.reference.rows.tolist() == [4]


def test_columns_called_otherwise(tmp_path):
    columns = {
        "was_in": MEMBER,
        "lira": SCORE,
        "score": MEMBER,
        "loss": SCORE,
        "utt": list("abcde"),
        "intent": list("vwxyz"),
    }
    path = write(tmp_path, ".csv", columns)
    named = Columns(split="was_in", text="utt", label="intent")
    target, split, _ = load_scores(path, columns=named, score="lira")
    assert target.losses(split.members).tolist() == [-0.5, -2.25, -1e-3]
    assert (split.members.texts, split.members.labels) == (("a", "c", "e"), ("v", "x", "z"))
    assert load_scores(path, columns=named, loss="loss")[0].losses(split.members).tolist() == [0.5, 2.25, 1e-3]
    assert "no column 'nix' for score" in failure(path, columns=named, score="nix")
    assert "no column 'nix' for text" in failure(path, columns=Columns(split="was_in", text="nix"), score="lira")
    assert "both score and loss columns" in failure(path, columns=named)
    assert "both score and loss columns" in failure(path, columns=named, score="lira", loss="loss")


def test_scores_show_nothing_else():
    target = SavedScores("s", losses=np.array([1.0, 2.0]))
    rows = Examples(np.array([1, 0, 1]))
    assert target.losses(rows).tolist() == [2, 1, 2]
    for method in (target.predict, target.log_probabilities):
        with pytest.raises(TargetError, match="one score a row was saved; there are no labels or probabilities"):
            method(rows)


@pytest.mark.parametrize(
    ("examples", "fragment"),
    [
        (Examples(np.array([0, 2])), "2 rows were saved"),
        (Examples(np.array([-1])), "2 rows were saved"),
        (Examples(np.array([0]), ("new",)), "saved without texts"),
    ],
)
def test_only_saved_rows_are_answered(examples, fragment):
    with pytest.raises(TargetError, match=fragment):
        SavedScores("s", losses=np.array([1.0, 2.0])).losses(examples)


def test_a_changed_text_has_no_score():
    target = SavedScores("s", losses=np.array([1.0, 2.0]), texts=("a", "b"))
    assert target.losses(Examples(np.array([1]), ("b",))).tolist() == [2]
    with pytest.raises(TargetError, match="1 texts are not those saved; a model would have to be asked"):
        target.losses(Examples(np.array([0, 1]), ("a", "perturbed")))


# The peak of this program alone: ru_maxrss would start from that of the tests, which stays across exec.
MEASURE = """
import pathlib, re, sys
from redteam.targets.saved import load_scores
target, split, _ = load_scores(sys.argv[1])
assert len(split.members) + len(split.nonmembers) == 1_000_000
assert target.losses(split.members).sum() != 0
print(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".jsonl"])
def test_a_million_rows_fit_a_small_machine(tmp_path, suffix):
    rng = np.random.default_rng(0)
    columns = {"member": rng.integers(0, 2, 1_000_000), "score": rng.normal(size=1_000_000)}
    columns = columns if suffix == ".npz" else {name: values.tolist() for name, values in columns.items()}
    path = write(tmp_path, suffix, columns)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 300  # MiB
