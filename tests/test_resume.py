"""The same training gives the same bits, however often it is broken off on the way."""

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import ROOT, sentences

from defenses.plain import Plain
from redteam.core import UsageError
from redteam.core.interrupts import Interrupts
from redteam.data import Columns
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


class Stop(BaseException):
    """What a test raises in the middle of a training."""


def stopping(at, how=None):
    def progress(step, steps, loss):
        if step == at:
            if how is None:
                raise Stop
            how()

    return progress


@pytest.mark.parametrize("spec", ["tiny", "bilstm"])
class TestRepeatable:
    def digest(self, data, name, spec, **options):
        inclusion = options.pop("inclusion", RandomInclusion(seed=1))
        return train(data, data.with_name(name), QUICK, model=ModelChoice(spec), inclusion=inclusion, **options).trained

    def test_the_seed_decides_everything(self, data, spec):
        first = self.digest(data, "1.pt", spec).bundle.digest()
        torch.manual_seed(12345)
        assert self.digest(data, "2.pt", spec).bundle.digest() == first
        assert self.digest(data, "3.pt", spec, inclusion=RandomInclusion(seed=2)).bundle.digest() != first

    def test_broken_off_and_resumed(self, data, spec, monkeypatch):
        unbroken = self.digest(data, "1.pt", spec).bundle.digest()
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        for step in (1, 3, 6):
            with pytest.raises(Stop):
                self.digest(data, "2.pt", spec, progress=stopping(step))
        kept = data.with_name("2.pt.checkpoint")
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert files(data.parent) == ["1.ledger.json", "1.pt", "2.pt.checkpoint", "data.csv"]
        steps = []
        resumed = self.digest(data, "2.pt", spec, progress=lambda step, *_: steps.append(step))
        assert steps == [6, 7, 8]
        assert resumed.bundle.digest() == unbroken
        assert not kept.exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_by_a_signal(self, data, spec, number):
        unbroken = self.digest(data, "1.pt", spec).bundle.digest()
        before = signal.getsignal(number)
        for step in (3, 8):  # in the middle, and at the last step
            with pytest.raises(KeyboardInterrupt):
                self.digest(data, "2.pt", spec, progress=stopping(step, lambda: os.kill(os.getpid(), number)))
            assert files(data.parent) == ["1.ledger.json", "1.pt", "2.pt.checkpoint", "data.csv"]
        assert signal.getsignal(number) is before
        steps = []
        resumed = self.digest(data, "2.pt", spec, progress=lambda step, *_: steps.append(step))
        assert steps == []
        assert resumed.bundle.digest() == unbroken


def test_killed_and_resumed(data):
    """SIGKILL: nothing is cleaned up, and another process goes on to the same bits."""
    program = """
import os, signal, sys
from pathlib import Path
from defenses import plain
from redteam.training import checkpoint
from redteam.training.train import train
checkpoint.CHECKPOINT_EVERY = -1.0
def progress(step, steps, loss):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
train(Path(sys.argv[1]), Path(sys.argv[2]), plain.Plain(epochs=2, batch_size=16), progress=progress)
"""
    model = data.with_name("model.pt")
    end = subprocess.run([sys.executable, "-c", program, data, model], cwd=ROOT, check=False)
    assert end.returncode == -signal.SIGKILL
    assert files(data.parent) == ["data.csv", "model.pt.checkpoint"]
    steps = []
    resumed = train(data, model, QUICK, progress=lambda step, *_: steps.append(step))
    unbroken = train(data, data.with_name("other.pt"), QUICK)
    assert steps[0] == 4
    assert resumed.trained.bundle.digest() == unbroken.trained.bundle.digest()


class TestUnfinished:
    @pytest.fixture
    def broken_off(self, data, monkeypatch):
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
        with pytest.raises(Stop):
            train(data, data.with_name("model.pt"), QUICK, progress=stopping(3))
        return data.with_name("model.pt")

    @pytest.mark.parametrize(
        "change",
        [
            {"defense": Plain(epochs=3, batch_size=16)},
            {"defense": Plain(epochs=2, batch_size=16, weight_decay=0.0)},
            {"model": ModelChoice("bilstm")},
            {"model": ModelChoice("tiny", dropout=0.0)},
            {"model": ModelChoice("tiny", freeze_embeddings=True)},
            {"inclusion": RandomInclusion(seed=1)},
            {"inclusion": RandomInclusion(holdout=0.4)},
            {"columns": Columns("text", "label", id="label")},
        ],
    )
    def test_other_settings_are_refused(self, data, broken_off, change):
        options = {"defense": QUICK} | change
        with pytest.raises(UsageError, match="unfinished training with other data or settings; repeat those or say"):
            train(data, broken_off, **options)
        assert broken_off.with_name("model.pt.checkpoint").exists()

    def test_other_data_is_refused_and_restart_starts_anew(self, data, broken_off):
        data.write_text(data.read_text() + "one more,a\n")
        with pytest.raises(UsageError, match="unfinished training with other data"):
            train(data, broken_off, QUICK)
        steps = []
        train(data, broken_off, QUICK, restart=True, progress=lambda step, *_: steps.append(step))
        assert steps[0] == 1
        assert files(data.parent) == ["data.csv", "model.ledger.json", "model.pt"]

    @pytest.mark.parametrize("content", [b"", b"x", None])
    def test_a_broken_checkpoint(self, data, broken_off, content):
        kept = broken_off.with_name("model.pt.checkpoint")
        kept.write_bytes(kept.read_bytes()[:-500] if content is None else content)
        with pytest.raises(UsageError, match=r"^[^\n]*cannot be read \(\w+\); say --restart$"):
            train(data, broken_off, QUICK)
        train(data, broken_off, QUICK, restart=True)

    def test_a_checkpoint_runs_no_code(self, data, broken_off, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "crater"),)

        torch.save({"key": Bomb()}, broken_off.with_name("model.pt.checkpoint"))
        with pytest.raises(UsageError, match="cannot be read"):
            train(data, broken_off, QUICK)
        assert not (tmp_path / "crater").exists()

    def test_a_full_disk_does_not_end_the_training(self, data, monkeypatch):
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("redteam.training.checkpoint.save_atomic", full)
        train(data, data.with_name("model.pt"), QUICK)
        assert files(data.parent) == ["data.csv", "model.ledger.json", "model.pt"]


class TestInterrupts:
    def test_the_first_is_held_back_and_the_second_is_not(self):
        with Interrupts() as interrupts:
            interrupts.raise_if_caught()
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.caught
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_if_caught()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_thread_can_train_too(self, data):
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(train, data, data.with_name("model.pt"), QUICK).result()
        assert done.model.is_file()
