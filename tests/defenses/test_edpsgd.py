"""RD102 as a defence: what it plans, that it is resumable to the same bits, and that it says what goes wrong."""

import math
import os
import signal
import stat
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, sentences
from torch import nn

from defenses.dpsgd import DPSGD
from defenses.edpsgd import EDPSGD
from defenses.edpsgd.texts import widen
from redteam.core import RedteamError, UsageError
from redteam.data.ledger import Ledger
from redteam.models.initial import initial_model
from redteam.models.pooling import begin_with_words
from redteam.plugins.defense import Checkpoint, Problem
from redteam.training.train import RandomInclusion, train

EXAMPLES = sentences(120, seed=8)
QUICK = {"epsilon": None, "noise_multiplier": 1.0, "epochs": 2, "batch_size": 15}
TRAINERS = {
    "example": EDPSGD(**QUICK),
    "shuffled": EDPSGD(**QUICK, sampling="shuffled"),
    "microbatch": EDPSGD(**QUICK, clipping="microbatch", microbatch=4, noise_decay="linear"),
    "opacus": DPSGD(**QUICK),
}


class Stop(BaseException):
    """What a test raises in the middle of a training."""


def stopping(at):
    def progress(step, steps, loss):
        if step == at:
            raise Stop

    return progress


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    rows = zip(EXAMPLES.texts, EXAMPLES.labels, strict=True)
    path.write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]) + "\n", encoding="utf-8")
    return path


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def fit(trainer, *, seed=3, checkpoint=None, progress=None, spec="tiny"):
    initial = initial_model(spec, EXAMPLES, learn_from=EXAMPLES, seed=0)
    return trainer.fit(initial, EXAMPLES, seed=seed, checkpoint=checkpoint, progress=progress)


class TestResume:
    @pytest.mark.parametrize("name", TRAINERS)
    def test_broken_off_anywhere_gives_the_same_bits_and_guarantee(self, name, tmp_path, monkeypatch):
        trainer = TRAINERS[name]
        unbroken = fit(trainer)
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        checkpoint = Checkpoint(tmp_path / "kept", "key")
        for step in (1, 2, 7, 16):
            with pytest.raises(Stop):
                fit(trainer, checkpoint=checkpoint, progress=stopping(step))
        steps = []
        resumed = fit(trainer, checkpoint=checkpoint, progress=lambda step, *_: steps.append(step))
        assert steps == [16]  # the step after whose end it was broken off was not kept yet
        assert resumed.bundle.digest() == unbroken.bundle.digest()
        assert resumed.guarantee == unbroken.guarantee
        assert resumed.guarantee.accounted.epsilon > 0

    def test_bilstm_too(self, tmp_path, monkeypatch):
        unbroken = fit(TRAINERS["example"], spec="bilstm")
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        checkpoint = Checkpoint(tmp_path / "kept", "key")
        with pytest.raises(Stop):
            fit(TRAINERS["example"], checkpoint=checkpoint, progress=stopping(9), spec="bilstm")
        resumed = fit(TRAINERS["example"], checkpoint=checkpoint, spec="bilstm")
        assert resumed.bundle.digest() == unbroken.bundle.digest()

    def test_what_was_spent_is_in_the_checkpoint_before_the_first_step(self, tmp_path):
        checkpoint = Checkpoint(tmp_path / "kept", "key")
        with pytest.raises(Stop):
            fit(TRAINERS["example"], checkpoint=checkpoint, progress=stopping(1))
        assert stat.S_IMODE(checkpoint.path.stat().st_mode) == 0o600
        kept = torch.load(checkpoint.path, weights_only=True)
        assert kept["step"] == 0
        assert kept["extra"]["noise_multiplier"] == 1.0

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"noise_multiplier": 2.0}, "noise_multiplier is 2.0, but the unfinished training has 1.0"),
            ({"clip": 0.5}, "clip is 0.5"),
            ({"batch_size": 20}, "sample_rate is"),
            ({"sampling": "shuffled"}, "sampling is shuffled"),
            ({"delta": 1e-6}, "delta is 1e-06"),
        ],
    )
    def test_with_another_sigma_is_refused_whatever_the_key(self, change, words, tmp_path, monkeypatch):
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        checkpoint = Checkpoint(tmp_path / "kept", "the same key")
        with pytest.raises(Stop):
            fit(TRAINERS["example"], checkpoint=checkpoint, progress=stopping(4))
        with pytest.raises(UsageError, match=words):
            fit(EDPSGD(**(QUICK | change)), checkpoint=checkpoint)

    def test_with_another_generator_of_noise_is_refused(self, tmp_path, monkeypatch):
        checkpoint = Checkpoint(tmp_path / "kept", "key")
        with pytest.raises(Stop):
            fit(TRAINERS["example"], checkpoint=checkpoint, progress=stopping(4))
        monkeypatch.setattr("defenses.edpsgd.noise.NoiseSource.generator_on", lambda *_: "another")
        with pytest.raises(UsageError, match="unfinished training with other data or settings"):
            fit(TRAINERS["example"], checkpoint=checkpoint)


class TestSecret:
    def train(self, data, name="model.pt", trainer=TRAINERS["example"], **options):
        return train(data, data.with_name(name), trainer, inclusion=RandomInclusion(seed=1), **options)

    def test_noise_is_new_each_time_and_nowhere_afterwards(self, data):
        one, other = (self.train(data, name) for name in ("1.pt", "2.pt"))
        assert one.trained.bundle.digest() != other.trained.bundle.digest()
        assert files(data.parent) == ["1.ledger.json", "1.pt", "2.ledger.json", "2.pt", "data.csv"]
        recipe = Ledger.load(one.ledger).recipe
        assert recipe.parameters["noise"] == "secret"
        assert recipe.seed == 1
        assert Ledger.load(one.ledger).guarantee == one.trained.guarantee

    def test_noise_from_the_seed_is_for_research_and_says_so(self, data):
        one, other = (self.train(data, name, noise_from_seed=True) for name in ("1.pt", "2.pt"))
        assert one.trained.bundle.digest() == other.trained.bundle.digest()
        assert any("whoever knows the seed can subtract it" in note for note in one.notes)
        assert Ledger.load(one.ledger).recipe.parameters["noise"] == "seed"

    def test_it_is_private_and_survives_a_break(self, data, monkeypatch):
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        with pytest.raises(Stop):
            self.train(data, progress=stopping(4))
        kept, secret = data.with_name("model.pt.checkpoint"), data.with_name("model.pt.checkpoint.secret")
        assert files(data.parent) == ["data.csv", kept.name, secret.name]
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        text = secret.read_text()
        assert int(text, 16).bit_length() > 200
        with pytest.raises(Stop):
            self.train(data, progress=stopping(7))
        assert secret.read_text() == text
        with pytest.raises(UsageError, match="unfinished training with other data or settings"):
            self.train(data, noise_from_seed=True)
        self.train(data)
        assert files(data.parent) == ["data.csv", "model.ledger.json", "model.pt"]
        assert text.strip() not in data.with_name("model.ledger.json").read_text()

    def test_resumed_with_its_secret_it_is_the_training_that_was_broken_off(self, data, monkeypatch):
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        secret = data.with_name("1.pt.checkpoint.secret")
        with pytest.raises(Stop):
            self.train(data, "1.pt", progress=stopping(5))
        data.with_name("2.pt.checkpoint.secret").write_text(secret.read_text())
        ends = [self.train(data, name).trained for name in ("1.pt", "2.pt")]
        assert ends[0].bundle.digest() == ends[1].bundle.digest()

    def test_lost_or_broken_it_is_missed(self, data):
        with pytest.raises(Stop):
            self.train(data, progress=stopping(4))
        secret = data.with_name("model.pt.checkpoint.secret")
        for change, words in ((lambda: secret.write_text("no number"), "cannot be read"), (secret.unlink, "without")):
            change()
            with pytest.raises(UsageError, match=f"{words}.*say --restart"):
                self.train(data)
        self.train(data, restart=True)

    def test_a_training_that_never_began_leaves_nothing(self, data):
        with pytest.raises(UsageError, match="larger than the data"):
            self.train(data, trainer=EDPSGD(batch_size=1000))
        assert files(data.parent) == ["data.csv"]

    def test_killed_and_resumed_elsewhere(self, data, monkeypatch):
        program = """
import os, signal, sys
from pathlib import Path
from defenses.edpsgd import EDPSGD
from redteam.training import checkpoint
from redteam.training.train import train
checkpoint.CHECKPOINT_EVERY = -1.0
def progress(step, steps, loss):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
trainer = EDPSGD(epsilon=None, noise_multiplier=1.0, epochs=2, batch_size=15)
train(Path(sys.argv[1]), Path(sys.argv[2]), trainer, progress=progress)
"""
        model = data.with_name("model.pt")
        end = subprocess.run([sys.executable, "-c", program, data, model], cwd=ROOT, check=False, env=os.environ)
        assert end.returncode == -signal.SIGKILL
        assert data.with_name("model.pt.checkpoint.secret").exists()
        steps, seeds, fitted = [], [], EDPSGD.fit

        def watched(self, *args, seed, **kwargs):
            seeds.append(seed)
            return fitted(self, *args, seed=seed, **kwargs)

        monkeypatch.setattr(EDPSGD, "fit", watched)
        resumed = train(data, model, TRAINERS["example"], progress=lambda step, *_: steps.append(step))
        assert steps[0] == 4
        initial = initial_model("tiny", resumed.members, learn_from=resumed.members, seed=0)
        unbroken = TRAINERS["example"].fit(initial, resumed.members, seed=seeds[0], population=60)
        assert resumed.trained.bundle.digest() == unbroken.bundle.digest()
        assert resumed.trained.guarantee == unbroken.guarantee


def beginning(model):
    """What a private training of a new model begins with."""
    initial = initial_model(model, EXAMPLES, learn_from=EXAMPLES, seed=0)
    widen(initial.model)
    begin_with_words(initial.model)
    return {name: tensor.clone() for name, tensor in initial.model.state_dict().items()}


@pytest.mark.parametrize("kind", [EDPSGD, DPSGD])
def test_weights_biases_leaves_matrices_and_words_alone(kind):
    began = beginning("tiny")
    state = fit(kind(**QUICK, weights="biases")).bundle.state
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, began[name])}
    trained = {name for name in began if began[name].dim() == 1 or "pooler" in name or "classifier" in name}
    assert moved == trained
    with pytest.raises(UsageError, match="weights 'some': must be one of all, biases, classifier"):
        kind(weights="some")


@pytest.mark.parametrize(("kind", "model"), [(EDPSGD, "tiny"), (EDPSGD, "bilstm"), (DPSGD, "tiny")])  # no LSTM in RD101
def test_weights_classifier_leaves_all_else_alone(kind, model):
    initial, began = initial_model(model, EXAMPLES, learn_from=EXAMPLES, seed=0), beginning(model)
    state = kind(**QUICK, weights="classifier").fit(initial, EXAMPLES, seed=0).bundle.state
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, began[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_what_is_not_asked_for_suits_private_training():
    """No dropout, and of a narrow new transformer weights of the scale of its width."""
    for asked, rate in ((None, 0.0), (0.3, 0.3)):
        initial = initial_model("tiny", EXAMPLES, learn_from=EXAMPLES, seed=0, dropout=asked)
        EDPSGD(**QUICK).fit(initial, EXAMPLES, seed=0)
        assert {m.p for m in initial.model.modules() if isinstance(m, torch.nn.Dropout)} == {rate}
    initial = initial_model("tiny", EXAMPLES, learn_from=EXAMPLES, seed=0, freeze_embeddings=True)
    words, dense = initial.model.get_input_embeddings().weight.clone(), initial.model.bert.pooler.dense.weight.clone()
    widen(initial.model)
    assert torch.equal(initial.model.get_input_embeddings().weight, words)
    torch.testing.assert_close(initial.model.bert.pooler.dense.weight, dense * 6.25)  # 1 / 8 over 0.02
    lstm = initial_model("bilstm", EXAMPLES, learn_from=EXAMPLES, seed=0).model
    before = {name: tensor.clone() for name, tensor in lstm.state_dict().items()}
    widen(lstm)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lstm.state_dict().items())


class TestWhatGoesWrong:
    def test_weights_gone(self, data):
        wild = EDPSGD(**QUICK, learning_rate=1e30)
        with pytest.raises(RedteamError) as caught:
            train(data, data.with_name("model.pt"), wild)
        assert "the weights are no usable numbers after step 1 of 8: try a smaller learning rate" in str(caught.value)
        assert "privacy spent so far by this run: epsilon" in str(caught.value)
        assert "\n" not in str(caught.value)
        kept = torch.load(data.with_name("model.pt.checkpoint"), weights_only=True)
        assert kept["step"] == 0
        assert all(tensor.isfinite().all() for tensor in kept["model"].values())

    def test_weights_that_were_never_numbers(self):
        model = nn.Linear(2, 2)
        model.weight.data[0, 0] = math.nan
        problem = Problem(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda rows: model(rows), 50, 50)
        with pytest.raises(UsageError, match="before the first step"):
            EDPSGD(**QUICK).train_on(problem, seed=0)

    def test_examples_that_are_no_numbers_are_told(self):
        x = torch.ones(60, 2)
        x[5] = math.inf
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        problem = Problem(model, optimizer, lambda rows: model(x[rows]).square().sum(1), 60, 60)
        _, notes = EDPSGD(**(QUICK | {"batch_size": 60})).train(problem, seed=0)
        assert any("2 times an example was dropped because its loss or gradient was no number" in n for n in notes)
        assert model.weight.isfinite().all()

    def test_a_delta_that_protects_nobody_is_told(self):
        notes = fit(EDPSGD(**QUICK, delta=0.01)).notes
        assert any("delta 0.01 is not below 1 / 120 examples" in note for note in notes)
        assert any("runs not declared" in note for note in notes)
        assert not any("delta" in note or "runs" in note for note in fit(EDPSGD(**QUICK, runs=1)).notes)
