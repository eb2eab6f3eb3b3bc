"""From a data file to model and ledger: honest, repeatable, resumable, and blind to who was held out."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import sentences

from defenses.plain import Plain
from redteam.core import BundleError, DataError, RedteamError, UsageError
from redteam.data.ledger import Ledger, assign_membership
from redteam.models.bundle import load_bundle
from redteam.models.initial import minilm_directory
from redteam.targets.loading import load_target
from redteam.training.train import ModelChoice, RandomInclusion, train

QUICK = Plain(epochs=2, batch_size=16)
ROWS = sentences(120, seed=8)


def write(path, rows=ROWS):
    lines = [f"{text},{label}" for text, label in zip(rows.texts, rows.labels, strict=True)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data.csv")


def files(folder):
    return sorted(p.name for p in folder.iterdir())


class TestWhatIsWritten:
    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("trained")
        seen = []
        done = train(
            write(folder / "data.csv"),
            folder / "model.pt",
            QUICK,
            inclusion=RandomInclusion(0.4, 0.2, seed=5),
            progress=lambda *measures: seen.append(measures),
        )
        return folder, done, seen

    def test_files(self, trained):
        folder, done, _ = trained
        assert files(folder) == ["data.csv", "model.ledger.json", "model.pt"]
        assert stat.S_IMODE(done.ledger.stat().st_mode) == 0o600
        bundle = load_bundle(done.model)
        assert bundle.digest() == done.trained.bundle.digest() == Ledger.load(done.ledger).model
        assert bundle.labels == ("a", "b", "c")
        released = done.model.read_bytes()
        assert str(folder).encode() not in released
        for text in ROWS.texts:
            assert text.split()[-1].encode() not in released  # the number that makes each text unlike all others

    def test_ledger(self, trained):
        _, done, _ = trained
        ledger = Ledger.load(done.ledger)
        sides = assign_membership(ROWS, holdout=0.4, reference=0.2, seed=5, key=ledger.data.sha256)
        assert ledger.membership.members == sides["members"] == tuple(done.members.rows)
        assert ledger.membership.nonmembers == sides["nonmembers"] == tuple(done.nonmembers.rows)
        assert ledger.membership.randomised
        assert ledger.data.path == "data.csv"
        assert ledger.recipe.defense == "RD100"
        assert ledger.recipe.parameters == {
            "model": {"spec": "tiny", "layers": None, "freeze_embeddings": False, "dropout": None},
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
        }
        assert ledger.guarantee is None
        assert len(ledger.salt) == 32
        split, _ = ledger.split(done.ledger)
        assert split.members.texts == done.members.texts
        assert done.notes == (
            "data.csv: guessed columns: text = 'text', label = 'label'",
            "chosen for about 58 rows and 3 labels: learning rate 0.001",
        )

    def test_progress(self, trained):
        _, done, seen = trained
        steps = 2 * -(-len(done.members) // 16)
        assert [(step, total) for step, total, _ in seen] == [(i + 1, steps) for i in range(steps)]
        assert all(np.isfinite(loss) for *_, loss in seen)

    def test_the_target_in_memory_is_the_one_on_disk(self, trained):
        _, done, _ = trained
        disk = load_target(str(done.model), device="cpu").log_probabilities(ROWS)
        np.testing.assert_array_equal(done.trained.target.log_probabilities(ROWS), disk)


@pytest.mark.parametrize("spec", ["tiny", "bilstm"])
class TestBlindness:
    def digest(self, data, name, spec, **options):
        inclusion = options.pop("inclusion", RandomInclusion(seed=1))
        return train(data, data.with_name(name), QUICK, model=ModelChoice(spec), inclusion=inclusion, **options).trained

    def test_held_out_rows_have_no_influence(self, data, spec):
        """Every held-out and reference text becomes another one, held out too: the same bits are released."""
        inclusion = RandomInclusion(0.4, 0.2, seed=1, key="")
        first = self.digest(data, "1.pt", spec, inclusion=inclusion).bundle
        sides = assign_membership(ROWS, holdout=inclusion.holdout, reference=inclusion.reference, seed=inclusion.seed)
        pool = iter(f"wholly other words: {i} zzz qqq" for i in range(10**6))
        texts, labels = list(ROWS.texts), list(ROWS.labels)
        for side in ("nonmembers", "reference"):
            for row in sides[side]:
                labels[row] = "abc"["bca".index(labels[row])]
                while texts[row] == ROWS.texts[row] or row not in self.rows_of(side, texts[row], row, inclusion):
                    texts[row] = next(pool)
        changed = replace(ROWS, texts=tuple(texts), labels=tuple(labels))
        assert assign_membership(changed, holdout=0.4, reference=0.2, seed=1) == sides
        other = self.digest(write(data.with_name("other.csv"), changed), "2.pt", spec, inclusion=inclusion).bundle
        assert other.tokenizer == first.tokenizer
        assert other.digest() == first.digest()
        assert other.config == first.config

    def rows_of(self, side, text, row, inclusion):
        alone = replace(ROWS, texts=(text,) * len(ROWS))
        return assign_membership(alone, holdout=inclusion.holdout, reference=inclusion.reference, seed=inclusion.seed)[
            side
        ]


class TestBadInput:
    def test_outputs_that_would_fail_at_the_end_fail_at_the_start(self, data, tmp_path):
        (tmp_path / "folder").mkdir()
        steps = []
        for output, said in (
            (tmp_path / "none" / "model.pt", "the folder does not exist"),
            (tmp_path / "folder", "is a folder; name a file in it"),
            (data, "would overwrite the data"),
        ):
            with pytest.raises(UsageError, match=said):
                train(data, output, QUICK, progress=lambda *measures: steps.append(measures))
        assert steps == []
        ledger = write(tmp_path / "model.ledger.jsonl")
        assert ledger.exists()

    def test_a_name_without_a_suffix(self, data):
        done = train(data, data.with_name("model"), QUICK)
        assert done.ledger.name == "model.ledger.json"
        assert done.ledger.is_file()

    def test_when_the_model_cannot_be_written_the_old_pair_stays(self, data, monkeypatch):
        old = train(data, data.with_name("model.pt"), QUICK)
        before = {p: p.read_bytes() for p in (old.model, old.ledger)}

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("redteam.training.train.save_bundle", full)
            with pytest.raises(OSError, match="No space left"):
                train(data, old.model, QUICK, inclusion=RandomInclusion(seed=9))
        assert {p: p.read_bytes() for p in (old.model, old.ledger)} == before

    def test_too_little_data(self, tmp_path):
        few = write(tmp_path / "few.csv", ROWS.take(range(3)))
        with pytest.raises(DataError, match=r"few\.csv: [01] (members|nonmembers) of 3 rows: not enough data"):
            train(few, tmp_path / "model.pt", QUICK, inclusion=RandomInclusion(holdout=0.99))
        with pytest.raises(UsageError, match="1 distinct labels"):
            train(write(tmp_path / "one.csv", replace(ROWS, labels=("a",) * 120)), tmp_path / "model.pt", QUICK)
        assert files(tmp_path) == ["few.csv", "one.csv"]

    def test_a_model_directory_without_anything(self, data, tmp_path):
        (tmp_path / "hf").mkdir()
        with pytest.raises(BundleError, match=r"no readable config\.json"):
            train(data, tmp_path / "model.pt", QUICK, model=ModelChoice(str(tmp_path / "hf")))

    @pytest.mark.parametrize("spec", ["tiny", "bilstm"])
    def test_a_loss_that_is_not_a_number(self, data, spec):
        wild = Plain(epochs=5, batch_size=16, learning_rate=1e30)
        with pytest.raises(RedteamError, match=r"^loss is (nan|inf) at step \d+: try a learning_rate of 1e\+29$"):
            train(data, data.with_name("model.pt"), wild, model=ModelChoice(spec))
        assert files(data.parent) == ["data.csv"]


def test_frozen_embeddings_do_not_move(data):
    for spec, name in (("tiny", "bert.embeddings.word_embeddings.weight"), ("bilstm", "embedding.weight")):
        for frozen in (True, False):
            model = ModelChoice(spec, freeze_embeddings=frozen)
            began, ended = [
                train(data, data.with_name("model.pt"), trainer, model=model).trained.bundle.state[name]
                for trainer in (Plain(epochs=0), QUICK)
            ]
            assert torch.equal(began, ended) == frozen


def test_minilm(data):
    done = train(data, data.with_name("model.pt"), Plain(epochs=1), model=ModelChoice("minilm", 1, True))
    ledger = json.loads(done.ledger.read_text())
    assert ledger["recipe"]["parameters"]["model"]["spec"] == "minilm"
    there = train(
        data, data.with_name("other.pt"), Plain(epochs=1), model=ModelChoice(str(minilm_directory()), 1, True)
    )
    assert there.trained.bundle.digest() == done.trained.bundle.digest()
    assert json.loads(there.ledger.read_text())["recipe"]["parameters"]["model"]["spec"] == "model"
