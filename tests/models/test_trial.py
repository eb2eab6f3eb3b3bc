"""What opening a directory may take: more than that ends the process that tries, and not the one that asked."""

import ctypes
import os
import signal
import time

import pytest
import torch
from tiny_models import directory

from redteam.core import BundleError, TargetError, UsageError
from redteam.models import trial
from redteam.models.opening import read_directory
from redteam.models.trial import Limits, possible, try_first
from redteam.targets.loading import load_target

pytestmark = pytest.mark.skipif(not possible(), reason="needs Linux")
FEW = Limits(seconds=2, memory=0.25)


def spin():
    while True:
        pass


def swallow():
    return bytearray(1 << 29)


def tensors():
    return torch.zeros(1 << 27)


def mapped():
    """Memory that no Python allocator counts."""
    found = ctypes.CDLL(None, use_errno=True).malloc
    found.restype = ctypes.c_void_p
    if not found(ctypes.c_size_t(1 << 29)):
        raise MemoryError
    return


def fails(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "kind", "words"),
    [
        (spin, BundleError, "takes more than 2 s to be opened: refused; --open-seconds"),
        (lambda: time.sleep(60), BundleError, "takes more than 2 s"),
        (swallow, BundleError, "takes more than 0.25 GiB beside its weights to be opened"),
        (tensors, BundleError, "takes more than 0.25 GiB"),
        (mapped, BundleError, "takes more than 0.25 GiB"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), BundleError, "or breaks what opens it: refused"),
        (lambda: os._exit(0), BundleError, "cannot be opened (it ended the process that tried)"),
        (fails(RuntimeError("odd")), BundleError, "cannot be opened"),
        (fails(TargetError("the model fails")), TargetError, "the model fails"),
        (fails(BundleError("m: DefaultCPUAllocator: can't allocate memory")), BundleError, "takes more than 0.25 GiB"),
    ],
)
def test_more_than_may_be(tmp_path, capfd, work, kind, words):
    with pytest.raises(kind) as caught:
        try_first(work, tmp_path, FEW)
    assert words in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_stays_within_them(tmp_path, capfd):
    done = []
    assert try_first(lambda: done.append(os.write(1, b"heard")), tmp_path, FEW) == ()
    assert done == []  # another process did it
    assert capfd.readouterr() == ("", "")


def test_no_child_is_left(tmp_path, monkeypatch):
    made, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: made.append(fork()) or made[-1])
    with pytest.raises(BundleError):
        try_first(spin, tmp_path, Limits(seconds=0.2))
    with pytest.raises(ProcessLookupError):
        os.kill(made[0], 0)


def test_a_model_and_one_that_is_refused(tmp_path):
    hf = directory(tmp_path / "hf")
    plain = load_target(str(hf), device="cpu")
    assert load_target(str(hf), device="cpu", limits=Limits()).digest == plain.digest
    (hf / "tokenizer.json").write_text("{")
    with pytest.raises(BundleError) as tried:
        load_target(str(hf), device="cpu", limits=Limits())
    with pytest.raises(BundleError) as opened:
        read_directory(hf)
    assert str(tried.value) == str(opened.value)


def test_weights_have_their_own_share(tmp_path):
    """A model of many gigabytes is no bomb."""
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 27)
    assert try_first(swallow, tmp_path, FEW) == ()


def test_systems_without_limits_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "possible", lambda: False)
    (note,) = try_first(spin, tmp_path, FEW)
    assert "was opened without limits of time and memory" in note


@pytest.mark.parametrize("made", [{"seconds": 0}, {"seconds": float("nan")}, {"memory": -1}, {"memory": 1e9}])
def test_limits_that_are_none(made):
    with pytest.raises(UsageError, match="must lie between 0 and 1,000,000"):
        Limits(**made)
