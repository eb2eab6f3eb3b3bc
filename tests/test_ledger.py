"""The ledger: private, exact, and impossible to edit without being found out; membership drawn honestly."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest
from conftest import sentences
from scipy.stats import binom, chi2

from redteam.core import DataError, LedgerError, UsageError
from redteam.data import Columns, Examples, read_examples
from redteam.data.ledger import Ledger, Membership, TrainingRecipe, assign_membership, describe_data, ledger_path
from redteam.report.values import Budget, Guarantee

ROWS = 200
TEXTS = sentences(ROWS, seed=4).texts


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data" / "all.csv"
    path.parent.mkdir()
    rows = [f"{text},{'xy'[i % 2]},u{i}" for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(["text,label,user", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def where(tmp_path):
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "model.ledger.json"


@pytest.fixture
def ledger(data, where):
    reading = read_examples(data, Columns())
    sides = assign_membership(reading.examples, holdout=0.4, reference=0.2, seed=3)
    return Ledger(
        model="ab" * 32,
        data=describe_data(data, reading.columns, ROWS, beside=where),
        membership=Membership(True, 3, 0.4, 0.2, **sides),
        recipe=TrainingRecipe("RD100", {"epochs": 3, "learning_rate": None}, 3),
        guarantee=None,
        salt="00" * 16,
    )


def test_round_trip_private_and_whole(ledger, where):
    ledger.save(where)
    assert stat.S_IMODE(where.stat().st_mode) == 0o600
    assert [p.name for p in where.parent.iterdir()] == [where.name]
    assert Ledger.load(where) == ledger
    assert TEXTS[0] not in where.read_text()
    where.chmod(0o644)
    ledger.save(where)
    assert stat.S_IMODE(where.stat().st_mode) == 0o600


def test_a_guarantee_comes_back(ledger, where):
    budget = Budget(2.0, 1e-5, "example", "add-remove", "rdp")
    promised = Guarantee(nominal=replace(budget, epsilon=1.0), accounted=budget)
    replace(ledger, guarantee=promised).save(where)
    assert Ledger.load(where).guarantee == promised


def test_the_split_is_that_of_the_training(ledger, where, data):
    ledger.save(where)
    split, notes = Ledger.load(where).split(where)
    assert split.members.rows.tolist() == list(ledger.membership.members)
    assert split.nonmembers.rows.tolist() == list(ledger.membership.nonmembers)
    assert split.reference is not None
    assert split.reference.rows.tolist() == list(ledger.membership.reference)
    assert split.members.texts == tuple(TEXTS[i] for i in ledger.membership.members)
    assert split.members.users is not None
    assert split.randomised
    assert split.salt == ledger.salt
    assert notes == ()


def test_the_data_is_found_from_elsewhere(ledger, where, data, tmp_path, monkeypatch):
    ledger.save(where)
    assert ledger.data.path == "../data/all.csv"
    monkeypatch.chdir(where.parent)
    loaded = Ledger.load(type(where)(where.name))
    loaded.split(type(where)(where.name))
    (tmp_path / "link").symlink_to(where)
    loaded.split(tmp_path / "link")
    moved = tmp_path / "moved.csv"
    data.rename(moved)
    with pytest.raises(LedgerError, match=r"all\.csv is not there; put it back or say --training-data FILE"):
        loaded.split(where)
    assert len(loaded.split(where, data=moved)[0].members) == len(ledger.membership.members)


def test_changed_data(ledger, where, data):
    for change in ("\n", "more,x,u\n"):
        data.write_text(data.read_text() + change)
        with pytest.raises(LedgerError, match=r"all\.csv: changed since training \(SHA-256 differs .*restore it"):
            ledger.split(where)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: {"seed": 4}, "membership is not what its seed draws: the ledger was edited"),
        (lambda m: {"holdout": 0.5}, "membership is not what its seed draws"),
        (lambda m: {"reference_share": 0.1}, "membership is not what its seed draws"),
        (lambda m: {"members": m.members[1:]}, "membership is not what its seed draws"),
        (lambda m: {"members": m.members[1:], "nonmembers": (*m.nonmembers, m.members[0])}, "not what its seed draws"),
        (lambda m: {"members": (*m.members, m.members[0])}, "a row is on two sides"),
        (lambda m: {"nonmembers": (*m.nonmembers, m.members[0])}, "a row is on two sides"),
        (lambda m: {"members": (*m.members, ROWS)}, "names a row beyond the 200 of"),
        (lambda m: {"members": (*m.members, -1)}, "names a row beyond the 200 of"),
    ],
)
def test_edited_membership(ledger, where, change, said):
    edited = replace(ledger, membership=replace(ledger.membership, **change(ledger.membership)))
    with pytest.raises(LedgerError, match=r"^[^\n]*$") as caught:
        edited.split(where)
    assert said in str(caught.value)


def test_chosen_membership_passes_as_what_it_is(ledger, where):
    chosen = replace(ledger.membership, randomised=False, members=(0, 1, 2), nonmembers=(3, 4), reference=())
    split, _ = replace(ledger, membership=chosen).split(where)
    assert not split.randomised
    assert split.reference is None
    with pytest.raises(DataError, match="1 members: an audit needs at least 2"):
        replace(ledger, membership=replace(chosen, members=(0,))).split(where)


def test_another_model(ledger, where):
    ledger.check_model("ab" * 32, where)
    ledger.check_model(None, where)
    with pytest.raises(LedgerError, match="written for another model"):
        ledger.check_model("cd" * 32, where)


class TestBroken:
    def test_files(self, where):
        with pytest.raises(LedgerError, match=r"model\.ledger\.json: cannot be read \(No such file or directory\)$"):
            Ledger.load(where)
        for content, said in (
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"\xff", "not UTF-8 text, byte 0"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "format is None, this version reads 'redteam.ledger/2'; train again"),
            (b'{"format": "redteam.ledger/9"}', "format is 'redteam.ledger/9'"),
        ):
            where.write_bytes(content)
            with pytest.raises(LedgerError, match=r"^[^\n]*$") as caught:
                Ledger.load(where)
            assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda d: d.update(extra=1), "unknown key 'extra'"),
            (lambda d: d["membership"].update(extra=1), "unknown key 'extra'"),
            (lambda d: d.pop("salt"), "'salt' is missing"),
            (lambda d: d["data"].pop("sha256"), "'sha256' is missing"),
            (lambda d: d["membership"].update(members=[1.5]), r"membership.members[0] must be of type integer"),
            (lambda d: d["membership"].update(members=[True]), r"membership.members[0] must be of type integer"),
            (lambda d: d["membership"].update(members="abc"), "members must be a list"),
            (lambda d: d["membership"].update(randomised=1), "randomised must be of type boolean"),
            (lambda d: d["membership"].update(holdout=float("nan")), "holdout must be a finite number"),
            (lambda d: d.update(model=None), "model must be of type string"),
        ],
    )
    def test_keys_and_types(self, ledger, where, edit, said):
        ledger.save(where)
        document = json.loads(where.read_text())
        edit(document)
        where.write_text(json.dumps(document))
        with pytest.raises(LedgerError, match=r"^[^\n]*model\.ledger\.json: [^\n]*$") as caught:
            Ledger.load(where)
        assert said in str(caught.value)


class TestAssignment:
    def side(self, examples, **options):
        drawn = assign_membership(examples, **{"holdout": 0.5, "seed": 0, **options})
        assert sorted(sum(drawn.values(), ())) == list(range(len(examples)))
        return {row: side for side, rows in drawn.items() for row in rows}

    def rows(self, *texts):
        return Examples(np.arange(len(texts)), texts)

    def test_the_order_of_the_rows_does_not_matter(self):
        examples = Examples(np.arange(ROWS), TEXTS)
        order = np.random.default_rng(0).permutation(ROWS)
        first, other = self.side(examples), self.side(examples.take(order))
        assert first == other
        assert self.side(examples.take(range(50))) == {i: first[i] for i in range(50)}

    def test_texts_that_count_as_the_same_share_a_side(self):
        same = self.rows("Play It", "play  it", " PLAY it\n", "play\u00a0it")
        for seed in range(40):
            assert len(set(self.side(same, seed=seed).values())) == 1

    def test_frequencies(self):
        many = self.rows(*map(str, range(20_000)))
        for holdout, reference in ((0.5, 0.0), (0.1, 0.0), (0.3, 0.25)):
            drawn = assign_membership(many, holdout=holdout, reference=reference, seed=1)
            shares = {"reference": reference, "nonmembers": (1 - reference) * holdout}
            for side, share in shares.items():
                low, high = binom.ppf([1e-6, 1 - 1e-6], 20_000, share) if share else (0, 0)
                assert low <= len(drawn[side]) <= high

    def test_the_reference_part_does_not_change_the_other_sides(self):
        many = self.rows(*map(str, range(2000)))
        without, with_part = self.side(many), self.side(many, reference=0.3)
        assert {i: s for i, s in with_part.items() if s != "reference"}.items() <= without.items()

    def test_assignment_is_uniform(self):
        """Sides at twenty thresholds cut the draws into twenty bins, which must be equally full."""
        many = self.rows(*map(str, range(20_000)))
        counts = [len(assign_membership(many, holdout=i / 20, seed=5)["nonmembers"]) for i in range(21)]
        bins = np.diff(counts)
        assert ((bins - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 19)

    def test_seeds_texts_and_neighbours_are_independent(self):
        many = self.rows(*(f"text {i}" for i in range(4000)))
        draws = np.array(
            [[s == "members" for _, s in sorted(self.side(many, seed=seed).items())] for seed in range(12)]
        )
        correlation = np.corrcoef(draws)
        assert np.abs(correlation[~np.eye(12, dtype=bool)]).max() < 5 / np.sqrt(4000)
        assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 5 / np.sqrt(12 * 4000)

    def test_extremes(self):
        many = self.rows(*map(str, range(1000)))
        assert set(self.side(many, holdout=0.0).values()) == {"members"}
        assert set(self.side(many, holdout=1.0).values()) == {"nonmembers"}
        assert set(self.side(many, reference=1.0).values()) == {"reference"}

    def test_the_assignment_of_a_seed_never_changes(self):
        """Old ledgers must stay readable: these numbers are pinned."""
        texts = self.rows("Play jazz", "wäre es möglich", "７", "a  B", "STRASSE", "İstanbul", *map(str, range(6)))
        drawn = assign_membership(texts, holdout=0.5, reference=0.2, seed=7)
        assert drawn == {"members": (0, 4, 5, 8, 9), "nonmembers": (1, 2, 6, 10, 11), "reference": (3, 7)}

    def test_two_hundred_thousand_texts(self):
        many = self.rows(*(f"Some text of usual length, number {i}" for i in range(200_000)))
        assert abs(len(assign_membership(many, holdout=0.5, seed=0)["members"]) - 100_000) < 6 * 224


def test_where_the_ledger_lies(tmp_path):
    assert ledger_path(tmp_path / "model.pt") == tmp_path / "model.ledger.json"
    assert ledger_path(tmp_path / "model") == tmp_path / "model.ledger.json"
    assert ledger_path(tmp_path / "v1.2.pt") == tmp_path / "v1.2.ledger.json"
    (tmp_path / "folder.v2").mkdir()
    assert ledger_path(tmp_path / "folder.v2") == tmp_path / "folder.v2" / "ledger.json"


class TestUsers:
    """Users with rows of their own, drawn as a whole."""

    @pytest.fixture
    def owned(self, data, where):
        data.write_text(
            "text,label,user,play\n"
            + "".join(f"{t},{'xy'[i % 2]},person {i % 40},p{i % 3}\n" for i, t in enumerate(TEXTS))
        )
        reading = read_examples(data, Columns(user="user"))
        sides = assign_membership(reading.examples, holdout=0.5, seed=3, unit="user")
        return Ledger(
            model="ab" * 32,
            data=describe_data(data, reading.columns, ROWS, beside=where),
            membership=Membership(True, 3, 0.5, 0.0, **sides, unit="user"),
            recipe=TrainingRecipe("RD100", {}, 3),
            guarantee=None,
            salt="00" * 16,
        )

    def test_the_sides_of_users_are_drawn_again(self, owned, where):
        owned.save(where)
        split, _ = Ledger.load(where).split(where)
        assert (split.unit, split.redrawn, split.users.both) == ("user", True, 0)
        assert split.users.members + split.users.nonmembers == 40
        assert "person" not in where.read_text()

    def test_sides_of_rows_are_not_taken_for_those_of_users_nor_the_reverse(self, owned, ledger, where):
        for one, unit in ((owned, "example"), (ledger, "user")):
            replace(one, membership=replace(one.membership, unit=unit)).save(where)
            with pytest.raises(LedgerError, match=r"membership is not what its seed draws|changed since training"):
                Ledger.load(where).split(where)

    def test_users_may_be_named_afterwards_but_not_others_than_were_drawn(self, owned, where):
        owned.save(where)
        with pytest.raises(UsageError, match=r"--user-column play: .* drew who was trained on by column 'user'"):
            owned.split(where, user="play")
        split, _ = owned.split(where, user="user", group="play")
        assert set(split.members.groups) == {"p0", "p1", "p2"}
        examples = read_examples(where.parent.parent / "data" / "all.csv", Columns()).examples
        sides = assign_membership(examples, holdout=0.5, seed=3)
        columns = owned.data.columns | {"user": None}
        rows = replace(
            owned, data=replace(owned.data, columns=columns), membership=Membership(True, 3, 0.5, 0.0, **sides)
        )
        assert rows.split(where, user="user")[0].users.both > 30
        assert rows.split(where, user="user")[0].unit == "example"

    def test_a_ledger_of_rows_with_a_gap_among_its_users_is_still_read(self, owned, data, where):
        data.write_text(data.read_text().replace("person 7,", ",", 1))
        examples = read_examples(data, Columns(user="user")).examples
        sides = assign_membership(examples, holdout=0.5, seed=3)
        old = replace(
            owned,
            data=describe_data(data, Columns("text", "label", user="user"), ROWS, beside=where),
            membership=Membership(True, 3, 0.5, 0.0, **sides),
        )
        assert old.split(where)[0].users is None
        with pytest.raises(DataError, match="has no user"):
            old.split(where, user="user")


def test_a_guarantee_of_format_1_comes_back(ledger, where):
    budget = Budget(2.0, 1e-5, "example", "add-remove", "rdp")
    promised = Guarantee(nominal=replace(budget, epsilon=1.0), accounted=budget)
    replace(ledger, guarantee=promised).save(where)
    old = where.read_text().replace('"nominal"', '"claimed"').replace('"accounted"', '"earned"')
    where.write_text(old.replace("redteam.ledger/2", "redteam.ledger/1"))
    assert Ledger.load(where).guarantee == promised
