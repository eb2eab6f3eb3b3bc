"""The ledger of the very model that is audited knows who was a member: whoever says otherwise is refused."""

from dataclasses import replace

import pytest
from canary_rows import PIN
from conftest import sentences

from defenses.plain import Plain
from redteam.auditing.inputs import Sources, open_inputs
from redteam.canary import PlantingPlan, plant
from redteam.core import LedgerError
from redteam.data import Columns, read_examples
from redteam.data.ledger import Ledger
from redteam.data.planting import canary_rows
from redteam.training.train import ModelChoice, RandomInclusion, train

ROWS = sentences(80, seed=31)
FRESH = sentences(20, seed=32)


def write(path, rows, sides=None):
    lines = [f"{text},{label}" for text, label in zip(rows.texts, rows.labels, strict=True)]
    if sides is not None:
        lines = [f"{line},{side}" for line, side in zip(lines, sides, strict=True)]
    head = "text,label" + ("" if sides is None else ",split")
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    data = write(folder / "data.csv", ROWS)
    planted = plant(data, folder / "planted.csv", PlantingPlan((PIN,), canaries=4, repetitions=(2,)))
    train(data, folder / "plain.pt", Plain(epochs=1), inclusion=RandomInclusion(0.5, 0.2, 1))
    train(
        planted.data,
        folder / "holds.pt",
        Plain(epochs=1),
        model=ModelChoice("bilstm"),
        inclusion=RandomInclusion(0.5, 0.2, 1),
    )
    return folder


@pytest.fixture
def sides(trained, tmp_path):
    """Write rows of the training, its members by default, and return the sources."""
    ledger = Ledger.load(trained / "plain.ledger.json").membership

    def say(members=ledger.members, nonmembers=ledger.nonmembers, extra=None):
        inside = write(tmp_path / "in.csv", ROWS.take(list(members)))
        outside = write(tmp_path / "out.csv", extra or ROWS.take(list(nonmembers)))
        return Sources(members=inside, nonmembers=outside)

    say.ledger = ledger
    return say


def opened(trained, sources, name="plain.pt"):
    return open_inputs(str(trained / name), sources, {"device": "cpu"})


def refused(trained, sources, name="plain.pt"):
    with pytest.raises(LedgerError, match=r"^[^\n]+$") as caught:
        opened(trained, sources, name)
    return str(caught.value)


class TestMembers:
    def test_all_of_them_and_some(self, trained, sides):
        assert opened(trained, sides()).notes[-1] == "plain.ledger.json: agrees on who was a member"
        inputs = opened(trained, sides(sides.ledger.members[:10], extra=FRESH))
        assert len(inputs.split.members) == 10
        assert f"of the {len(sides.ledger.members)} texts that it was trained on, 10 are audited" in inputs.notes[-1]

    def test_swapped(self, trained, sides):
        inside, outside = sides.ledger.members, sides.ledger.nonmembers
        said = refused(trained, sides(outside, inside))
        assert "plain.ledger.json: is the ledger of this very model and contradicts what is said of it: " in said
        assert f"{len(outside)} of the {len(outside)} members were held out of its training, " in said
        assert f"{len(inside)} of the {len(inside)} non-members were trained on; " in said

    def test_one_row_is_enough(self, trained, sides):
        inside, outside = sides.ledger.members, sides.ledger.nonmembers
        assert "1 of the 11 members were held out" in refused(trained, sides((*inside[:10], outside[0]), outside[1:]))
        assert "1 of the 2 non-members were trained on" in refused(trained, sides(inside[1:], (inside[0], outside[0])))
        apart = sides.ledger.reference[0]
        assert "1 of the 3 members were held out" in refused(trained, sides((*inside[:2], apart)))

    def test_members_that_the_model_never_saw(self, trained, tmp_path, sides):
        sources = replace(sides(), members=write(tmp_path / "fresh.csv", FRESH))
        assert "20 of the 20 members are not in its data" in refused(trained, sources)

    def test_a_split_column(self, trained, tmp_path, sides):
        of = dict.fromkeys(sides.ledger.members, "train")
        right = [of.get(row, "test") for row in range(len(ROWS))]
        kept = Sources(data=write(tmp_path / "d.csv", ROWS, right), columns=Columns(split="split"))
        assert "agrees" in opened(trained, kept).notes[-1]
        wrong = ["test" if side == "train" else "train" for side in right]
        assert "non-members were trained on" in refused(
            trained, replace(kept, data=write(tmp_path / "e.csv", ROWS, wrong))
        )

    def test_all_rows_as_members(self, trained, tmp_path, sides):
        """The file that was trained from is not the file that was trained on."""
        sources = replace(sides(extra=FRESH), members=trained / "data.csv")
        assert "of the 80 members were held out" in refused(trained, sources)

    def test_another_ledger_of_the_same_model(self, trained, tmp_path):
        ledger = Ledger.load(trained / "plain.ledger.json")
        sides = ledger.membership
        swapped = replace(sides, randomised=False, members=sides.nonmembers, nonmembers=sides.members)
        replace(ledger, membership=swapped).save(tmp_path / "other.json")
        sources = Sources(ledger=tmp_path / "other.json", training_data=trained / "data.csv")
        assert "members were held out of its training" in refused(trained, sources)
        ledger.save(tmp_path / "same.json")
        assert "agrees" in opened(trained, replace(sources, ledger=tmp_path / "same.json")).notes[-1]


class TestWithoutTheData:
    @pytest.fixture
    def moved(self, trained, tmp_path):
        for name in ("plain.pt", "plain.ledger.json"):
            (tmp_path / name).write_bytes((trained / name).read_bytes())
        return tmp_path

    def test_numbers_alone(self, moved, sides):
        inside = sides.ledger.members
        assert "was not compared with it" in opened(moved, sides()).notes[-1]
        said = refused(moved, sides(range(70), extra=FRESH))
        assert f"was trained on {len(inside)} rows, and contradicts 70 members" in said

    def test_the_data_under_another_name(self, moved, trained, sides):
        sources = replace(sides(extra=FRESH), members=trained / "data.csv")
        assert "of the 80 members were held out" in refused(moved, sources)

    def test_a_ledger_of_another_model_says_nothing(self, moved, sides):
        path = moved / "plain.ledger.json"
        replace(Ledger.load(path), model="0" * 64).save(path)
        inside, outside = sides.ledger.members, sides.ledger.nonmembers
        assert len(opened(moved, sides(outside, inside)).split.members) == len(outside)

    def test_a_broken_ledger_is_no_silence(self, moved, sides):
        path = moved / "plain.ledger.json"
        path.write_text(path.read_text()[:-50])
        assert "not JSON" in refused(moved, sides())


class TestCanaries:
    def test_canaries_that_only_the_model_knows_of_are_asked_for(self, trained, tmp_path):
        ledger = Ledger.load(trained / "holds.ledger.json")
        rows = read_examples(trained / "planted.csv", Columns("text", "label")).examples
        known = canary_rows(ledger.planting(trained / "holds.ledger.json"))
        inside = write(tmp_path / "in.csv", rows.take(sorted({*ledger.membership.members, *known})))
        sources = Sources(members=inside, nonmembers=write(tmp_path / "out.csv", FRESH))
        inputs = opened(trained, sources, "holds.pt")
        assert inputs.planting is not None
        assert len(inputs.split.members) == len(ledger.membership.members)

    def test_other_canaries_of_the_same_file(self, trained, tmp_path):
        other = tmp_path / "planted.csv"
        other.write_bytes((trained / "planted.csv").read_bytes())
        planting = Ledger.load(trained / "holds.ledger.json").planting(trained / "holds.ledger.json")
        replace(planting, written=planting.written + 1).save(tmp_path / "planted.canaries.json")
        sources = Sources(members=other, nonmembers=write(tmp_path / "out.csv", FRESH))
        assert "was trained on other canaries than these" in refused(trained, sources, "holds.pt")
