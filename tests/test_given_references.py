"""Reference models that were trained elsewhere: read from files in any order of rows, or opened."""

import csv

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from redteam.auditing.references import check_drawn_from_both
from redteam.core import DataError, UsageError
from redteam.data import Columns, Examples
from redteam.data.grouping import Grouping
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.given import OpenedReferences, SavedReferences, pairs

ROWS = sentences(40, seed=2)
POOL = Examples(ROWS.rows, ROWS.texts, ROWS.labels, ids=tuple(f"r{i}" for i in range(40)))
RNG = np.random.default_rng(0)
ODDS = RNG.normal(size=(3, 40))
HALF = np.arange(40) % 2 == 0
INSIDE = np.array([HALF, ~HALF, RNG.permutation(HALF)])
MIXED = RNG.permutation(40)


def write_arrays(path, **changes):
    arrays = {"log_odds": ODDS.T[MIXED], "included": INSIDE.T[MIXED], "texts": np.array(POOL.texts)[MIXED]}
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return path


def write_table(path, key="id", rows=MIXED, **odd):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([key, *(f"{what}:m{k}" for k in range(3) for what in ("log_odds", "included"))])
        values = POOL.ids if key == "id" else POOL.texts
        for i in rows:
            cells = [cell for k in range(3) for cell in (repr(float(ODDS[k, i])), int(INSIDE[k, i]))]
            writer.writerow([values[i], *odd.get(values[i], cells)])
    return path


def check(found):
    assert np.array_equal(found.log_odds, ODDS)
    assert np.array_equal(found.included, INSIDE)
    assert found.partner == (1, 0, -1)


def test_arrays_and_tables_are_matched_by_id_or_text(tmp_path):
    check(SavedReferences(write_arrays(tmp_path / "a.npz")).scores(POOL))
    named = write_arrays(tmp_path / "b.npz", texts=None, ids=np.array(POOL.ids)[MIXED])
    check(SavedReferences(named).scores(POOL))
    check(SavedReferences(write_table(tmp_path / "c.csv")).scores(POOL))
    check(SavedReferences(write_table(tmp_path / "d.csv", key="text")).scores(POOL))


def test_rows_that_are_not_audited_are_passed_over(tmp_path):
    path = write_table(tmp_path / "c.csv")
    few = POOL.take(range(10))
    assert np.array_equal(SavedReferences(path).scores(few).log_odds, ODDS[:, :10])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"included": None}, "no array 'included' among log_odds, texts"),
        ({"log_odds": ODDS}, r"log_odds \(3, 40\) and included \(40, 3\) must both be \[rows, models\]"),
        ({"log_odds": np.full((40, 3), np.nan)}, "log_odds holds what is no number"),
        ({"included": np.full((40, 3), 2)}, "included must hold 0 and 1"),
        ({"included": np.ones((40, 3))}, "model 1 was trained on 40 of 40 audited rows"),
        ({"included": np.zeros((40, 3))}, "model 1 was trained on 0 of 40 audited rows"),
        ({"texts": np.array(["other"] * 40)}, "40 of 40 audited rows are not there by their text"),
        ({"texts": np.array([POOL.texts[0]] * 40)}, "rows 1 and 2 have the same text"),
        ({"texts": np.array(["one"])}, r"texts \(1,\) must be one for each of 40 rows"),
        ({"texts": None}, "have neither in common"),
        ({"texts": np.array(POOL.texts, dtype=object)}, "not an .npz of plain arrays"),
        ({"correct": np.full((40, 3), np.nan)}, "correct must hold 0 and 1"),
        ({"log_odds": np.ones((40, 3))}, "model 1 has one value for all audited rows"),
        ({"log_odds": np.full((40, 3), np.inf)}, "model 1 has one value for all audited rows"),
        (
            {"log_odds": np.repeat(ODDS.T[MIXED][:, :1], 3, 1), "included": np.repeat(INSIDE.T[MIXED][:, :1], 3, 1)},
            "models 1 and 2 are one and the same",
        ),
    ],
)
def test_what_is_wrong_with_arrays_is_one_line(tmp_path, changes, said):
    with pytest.raises(DataError, match=said) as caught:
        SavedReferences(write_arrays(tmp_path / "a.npz", **changes)).scores(POOL)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_tables_is_one_line(tmp_path):
    with pytest.raises(DataError, match="1 of 40 audited rows are not there by their id"):
        SavedReferences(write_table(tmp_path / "a.csv", rows=range(39))).scores(POOL)
    with pytest.raises(DataError, match="says nothing about membership"):
        SavedReferences(write_table(tmp_path / "b.csv", r3=[0.5, "perhaps", 0.5, 1, 0.5, 1])).scores(POOL)
    with pytest.raises(DataError, match="is not a number"):
        SavedReferences(write_table(tmp_path / "c.csv", r3=["high", 0, 0.5, 1, 0.5, 1])).scores(POOL)
    (tmp_path / "d.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="no column log_odds:NAME and included:NAME among 'text', 'label'"):
        SavedReferences(tmp_path / "d.csv").scores(POOL)
    (tmp_path / "e.npz").write_bytes(b"PK not an archive")
    with pytest.raises(DataError, match=r"not an .npz of plain arrays"):
        SavedReferences(tmp_path / "e.npz").scores(POOL)


def test_what_would_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_arrays(tmp_path / "a.npz")
    monkeypatch.setattr("redteam.references.given._MOST", 1000)
    with pytest.raises(DataError, match=r"GiB unpacked, more than .* are not read"):
        SavedReferences(path).scores(POOL)


def members(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(rows.texts, rows.labels, strict=True)])
    return path


def test_models_are_opened_with_what_each_was_trained_on(tmp_path):
    halves = POOL.take(range(20)), POOL.take(range(20, 40))
    models = [RuleTarget(half, name=f"m{i}", seed=i) for i, half in enumerate(halves)]
    files = [members(tmp_path / f"{i}.csv", half) for i, half in enumerate(halves)]
    found = OpenedReferences.open(models, files, Columns(), RuleTarget()).scores(POOL)
    assert found.partner == (1, 0)
    assert found.log_odds[found.included].min() > 3 > found.log_odds[~found.included].mean()
    again = OpenedReferences.open(models, files, Columns(), RuleTarget()).scores(POOL.take(MIXED))
    assert np.array_equal(again.log_odds, found.log_odds[:, MIXED])


def test_the_target_is_never_among_its_own_references(tmp_path):
    target, file = RuleTarget(POOL), members(tmp_path / "m.csv", POOL.take(range(20)))
    target.digest = "f00"
    with pytest.raises(UsageError, match="is the target itself"):
        OpenedReferences.open([target], [file], Columns(), target)
    with pytest.raises(UsageError, match="1 --reference-model and 0 --reference-members"):
        OpenedReferences.open([target], [], Columns(), target)


def test_complements_are_found_and_each_model_has_one():
    assert pairs(np.array([HALF, HALF, ~HALF, ~HALF])) == (2, 3, 0, 1)
    assert pairs(np.array([HALF, HALF])) == (-1, -1)


def test_models_that_were_all_trained_on_the_same_rows_are_refused(tmp_path):
    path = write_arrays(tmp_path / "a.npz", included=np.array([HALF] * 3).T[MIXED])
    with pytest.raises(DataError, match="0% of the audited rows have both a model that was trained on them"):
        SavedReferences(path).scores(POOL)


def units(is_member, users=None):
    pool = Examples(np.arange(len(is_member)), users=users)
    return Grouping.of(pool, is_member, "example" if users is None else "user")


def drawn_from(included):
    return ReferenceScores(np.zeros(included.shape), included, (-1,) * len(included))


def test_references_whose_rows_tell_who_is_a_member_are_refused():
    """Trained on the target's own members, on parts of these alone, or on a few more of them in each of many."""
    rng = np.random.default_rng(1)
    member = rng.permutation(200) < 100
    for included in (
        np.array([member] * 2),
        np.array([~member] * 2),
        np.array([member & (rng.random(200) < 0.5) for _ in range(4)]),
    ):
        with pytest.raises(DataError, match="which rows it knows tells who is a member"):
            check_drawn_from_both(drawn_from(included), units(member))
    slightly = rng.random((40, 200)) < np.where(member, 0.58, 0.42)
    with pytest.raises(DataError, match="how many reference models were trained on a row tells"):
        check_drawn_from_both(drawn_from(slightly), units(member))


def test_references_drawn_blindly_and_none_at_all_are_taken():
    rng = np.random.default_rng(2)
    member = rng.permutation(60) < 30
    for _ in range(10):
        half = rng.permutation(60) < 30
        check_drawn_from_both(drawn_from(np.array([half, ~half])), units(member))
    check_drawn_from_both(None, units(member))


def test_rows_of_one_user_count_once():
    """Ten users of twenty rows: halves drawn by user are uneven over rows, and whole sides of them are seen."""
    owners = np.repeat(np.arange(24), 20)
    member, users = owners % 2 == 0, tuple(f"u{each}" for each in owners)
    few = np.isin(owners, [0, 2, 4, 6, 8, 10, 12, 14, 1, 3])
    check_drawn_from_both(drawn_from(np.array([few, ~few])), units(member, users))
    with pytest.raises(DataError, match="reference model 1 was trained on 100% of the members and 0% of the"):
        check_drawn_from_both(drawn_from(np.array([member, ~member])), units(member, users))
