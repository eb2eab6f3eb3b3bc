"""What is audited, from how it was named: every way to say it, and every contradiction."""

import numpy as np
import pytest
from conftest import sentences
from tiny_models import LABELS, bundle, directory

from defenses.plain import Plain
from redteam.auditing.inputs import Sources, open_inputs
from redteam.core import DataError, LedgerError, RedteamError, TargetError, UsageError
from redteam.data import Columns
from redteam.models.bundle import save_bundle
from redteam.training.train import RandomInclusion, train

ROWS = sentences(60, seed=2, labels=LABELS)


def write(path, rows, sides=None):
    head = ["text,label" + (",split" if sides else "")]
    lines = [f"{t},{x}" for t, x in zip(rows.texts, rows.labels, strict=True)]
    if sides:
        lines = [f"{line},{side}" for line, side in zip(lines, sides, strict=True)]
    path.write_text("\n".join(head + lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "plain.pt"
    save_bundle(bundle(), path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(
        write(folder / "data.csv", ROWS), folder / "model.pt", Plain(epochs=1), inclusion=RandomInclusion(0.5, 0.2, 1)
    )
    return folder


class TestWays:
    def test_the_ledger_beside_the_model(self, trained):
        inputs = open_inputs(str(trained / "model.pt"), Sources(), {"device": "cpu"})
        assert inputs.split.randomised
        assert inputs.target.labels == tuple(sorted(LABELS))
        assert inputs.guarantee is None
        assert inputs.split.reference is not None
        assert inputs.notes == ()

    def test_a_ledger_and_data_elsewhere(self, trained, tmp_path):
        for name in ("model.pt", "model.ledger.json", "data.csv"):
            (tmp_path / f"my.{name}").write_bytes((trained / name).read_bytes())
        ledger, data = tmp_path / "my.model.ledger.json", tmp_path / "my.data.csv"
        with pytest.raises(LedgerError, match=r"data\.csv is not there; put it back or say --training-data FILE"):
            open_inputs(str(trained / "model.pt"), Sources(ledger=ledger), {})
        inputs = open_inputs(str(tmp_path / "my.model.pt"), Sources(training_data=data), {})
        assert inputs.split.randomised

    def test_a_folder_with_its_ledger(self, trained, tmp_path):
        hf = directory(tmp_path / "hf")
        (hf / "ledger.json").write_bytes((trained / "model.ledger.json").read_bytes())
        with pytest.raises(LedgerError, match="written for another model"):
            open_inputs(str(hf), Sources(), {})

    def test_a_ledger_vouches_only_for_a_model_it_can_recognise(self, trained, tmp_path, monkeypatch):
        """A function may answer for the ledger's model or for any other: its rows are known, its members are not."""
        (tmp_path / "served.py").write_text(
            f"labels = {list(LABELS)!r}\ndef predict(texts): return [[1 / len(labels)] * len(labels) for _ in texts]\n"
        )
        monkeypatch.chdir(tmp_path)
        inputs = open_inputs("served:predict", Sources(ledger=trained / "model.ledger.json"), {})
        assert not inputs.split.randomised
        assert inputs.guarantee is None
        assert "cannot be recognised as the ledger's model: grade B" in inputs.notes[-1]

    def test_members_and_nonmembers(self, model, tmp_path):
        inside, outside, apart = (
            write(tmp_path / name, ROWS.take(range(i, i + 20)))
            for name, i in (("in.csv", 0), ("out.csv", 20), ("ref.csv", 40))
        )
        inputs = open_inputs(str(model), Sources(members=inside, nonmembers=outside), {})
        assert (len(inputs.split.members), len(inputs.split.nonmembers), inputs.split.reference) == (20, 20, None)
        assert not inputs.split.randomised
        assert [note.split(":")[0] for note in inputs.notes] == ["in.csv", "out.csv"]
        inputs = open_inputs(str(model), Sources(members=inside, nonmembers=outside, reference=apart), {})
        assert inputs.split.reference is not None
        assert len(inputs.notes) == 3
        with pytest.raises(DataError, match="0 members after 20 texts found on both sides were moved out"):
            open_inputs(str(model), Sources(members=inside, nonmembers=inside), {})

    def test_one_file_with_a_split_column(self, model, tmp_path):
        data = write(tmp_path / "d.csv", ROWS, ["train", "test", "ref"] * 20)
        inputs = open_inputs(str(model), Sources(data=data), {"device": "cpu"})
        assert (len(inputs.split.members), len(inputs.split.nonmembers), len(inputs.split.reference or ())) == (
            20,
            20,
            20,
        )
        assert inputs.split.members.rows.tolist() == list(range(0, 60, 3))
        with pytest.raises(DataError, match="no column 'side' for split"):
            open_inputs(str(model), Sources(data=data, columns=Columns(split="side")), {})

    def test_saved_scores(self, tmp_path):
        path = tmp_path / "scores.csv"
        path.write_text("score,member\n" + "\n".join(f"{i / 7},{i % 2}" for i in range(10)) + "\n")
        inputs = open_inputs(None, Sources(scores=path), {})
        assert inputs.target.kind == "scores"
        assert len(inputs.split.members) == 5
        assert np.isfinite(inputs.target.losses(inputs.split.members)).all()


class TestContradictions:
    @pytest.mark.parametrize(
        ("name", "sources", "said"),
        [
            (None, {}, "name one thing to audit"),
            ("m.pt", {"scores": "s.csv"}, "name one thing to audit"),
            ("m.pt", {"members": "a.csv"}, "--members and --nonmembers go together"),
            ("m.pt", {"nonmembers": "a.csv"}, "--members and --nonmembers go together"),
            ("m.pt", {"members": "a.csv", "nonmembers": "b.csv", "data": "c.csv"}, "--members and --data exclude"),
            ("m.pt", {"members": "a.csv", "nonmembers": "b.csv", "ledger": "l"}, "--members and --ledger exclude"),
            (None, {"scores": "s.csv", "data": "c.csv"}, "--scores and --data exclude each other"),
            ("m.pt", {"data": "d.csv", "ledger": "l"}, "--ledger and --data exclude each other"),
            ("m.pt", {"data": "d.csv", "training_data": "t.csv"}, "--training-data goes with a ledger"),
            (None, {"scores": "s.csv", "training_data": "t.csv"}, "--training-data goes with a ledger"),
            (None, {"scores": "s.csv", "ledger": "l"}, "--scores and --ledger exclude each other"),
            ("m.pt", {"reference": "r.csv"}, "--reference goes with --members and --nonmembers"),
            ("m.pt", {"data": "c.csv", "reference": "r.csv"}, "--reference goes with --members"),
        ],
    )
    def test_options(self, tmp_path, name, sources, said):
        paths = {key: tmp_path / value for key, value in sources.items()}
        with pytest.raises(UsageError, match=said):
            open_inputs(name, Sources(**paths), {})

    def test_no_ledger(self, model, tmp_path):
        with pytest.raises(
            UsageError, match=r"^no ledger at .*plain\.ledger\.json, so nothing says who was a member: give"
        ):
            open_inputs(str(model), Sources(), {})
        with pytest.raises(LedgerError, match="No such file"):
            open_inputs(str(model), Sources(ledger=tmp_path / "none.json"), {})

    def test_columns_beside_a_ledger_that_names_them(self, trained):
        with pytest.raises(UsageError, match="the ledger says which columns"):
            open_inputs(str(trained / "model.pt"), Sources(columns=Columns(label="text")), {})

    def test_a_split_column_beside_two_files(self, model, tmp_path):
        path = write(tmp_path / "a.csv", ROWS)
        with pytest.raises(UsageError, match="--split-column goes with --data or --scores"):
            open_inputs(str(model), Sources(members=path, nonmembers=path, columns=Columns(split="label")), {})

    @pytest.mark.parametrize("name", ["none.pt", "folder/none.pt", "", "/"])
    def test_names_of_nothing(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        data = write(tmp_path / "d.csv", ROWS, ["train", "test", "ref"] * 20)
        for sources in (Sources(), Sources(data=data)):
            with pytest.raises(RedteamError, match=r"^[^\n]+$"):
                open_inputs(name, sources, {})

    def test_a_ledger_of_another_model(self, trained, model):
        with pytest.raises(LedgerError, match="written for another model"):
            open_inputs(str(model), Sources(ledger=trained / "model.ledger.json"), {})

    def test_a_missing_model_beside_its_ledger(self, trained, tmp_path):
        (tmp_path / "gone.ledger.json").write_bytes((trained / "model.ledger.json").read_bytes())
        with pytest.raises(TargetError, match="no such file or directory"):
            open_inputs(str(tmp_path / "gone.pt"), Sources(), {})


def test_a_guarantee_whose_noise_anyone_can_draw_again_is_not_taken_over(tmp_path):
    from defenses.edpsgd import EDPSGD

    data = write(tmp_path / "data.csv", ROWS)
    trainer = EDPSGD(noise_multiplier=2.0, epsilon=None, epochs=1, batch_size=10)
    for name, from_seed in (("secret.pt", False), ("seed.pt", True)):
        train(data, tmp_path / name, trainer, inclusion=RandomInclusion(0.5, 0.2, 1), noise_from_seed=from_seed)
    secret, seed = (open_inputs(str(tmp_path / name), Sources(), {}) for name in ("secret.pt", "seed.pt"))
    assert secret.guarantee is not None
    assert any("does not cover the vocabulary" in note for note in secret.notes)
    assert seed.guarantee is None
    assert any("the noise follows from the seed" in note for note in seed.notes)


def test_a_guarantee_of_a_trainer_that_takes_no_secret_is_not_taken_over(tmp_path):
    from defenses.edpsgd import EDPSGD
    from redteam.plugins.defense import Defense

    class Installed(Defense):
        id, name = "RD199", "installed"

        def fit(self, start, examples, *, seed, population=None, checkpoint=None, progress=None):
            trainer = EDPSGD(noise_multiplier=2.0, epsilon=None, epochs=1, batch_size=10)
            return trainer.fit(start, examples, seed=seed, population=population)

    train(
        write(tmp_path / "data.csv", ROWS), tmp_path / "model.pt", Installed(), inclusion=RandomInclusion(0.5, 0.2, 1)
    )
    assert open_inputs(str(tmp_path / "model.pt"), Sources(), {}).guarantee is None


def test_two_trainings_never_share_their_noise(tmp_path):
    """A secret that was left behind, by a kill in a bad moment, must not hide two models with the same noise."""
    from defenses.edpsgd import EDPSGD

    seeds = []

    class Watching(EDPSGD):
        def fit(self, *args, seed, **kwargs):
            seeds.append(seed)
            return super().fit(*args, seed=seed, **kwargs)

    data = write(tmp_path / "data.csv", ROWS)
    for epochs in (1, 2):
        (tmp_path / "model.pt.checkpoint.secret").write_text("ab" * 32)
        watching = Watching(noise_multiplier=2.0, epsilon=None, epochs=epochs, batch_size=10)
        train(data, tmp_path / "model.pt", watching, inclusion=RandomInclusion(0.5, 0.2, 1))
    assert len(set(seeds)) == 2
    assert not list(tmp_path.glob("*.checkpoint*"))
