"""What may be said about a model: where it computes, where texts are cut, how many are computed at once."""

import numpy as np
import pytest
import torch
from tiny_models import TEXTS, bundle, directory

from redteam.core import BundleError, UsageError
from redteam.data import Examples
from redteam.models.bundle import save_bundle
from redteam.models.devices import check_device
from redteam.targets.loading import load_target
from redteam.targets.model import batches_by_length

EXAMPLES = Examples(np.arange(len(TEXTS)), TEXTS)


def answers(target):
    return target.log_probabilities(EXAMPLES)


def test_texts_are_cut_where_it_was_said(tmp_path):
    hf = directory(tmp_path / "hf")
    usual, cut = (load_target(str(hf), device="cpu", **how) for how in ({}, {"max_length": 8}))
    short = [i for i, length in enumerate(usual.lengths(TEXTS)) if length <= 8]
    assert max(cut.lengths(TEXTS)) == 8
    same = np.isclose(answers(usual), answers(cut), atol=1e-6).all(axis=1)
    assert set(np.flatnonzero(same)) == set(short) != set(range(len(TEXTS)))
    assert cut.digest != usual.digest
    assert (usual.kind, cut.kind) == ("directory", "directory, texts cut at 8 tokens")
    same = load_target(str(hf), device="cpu", max_length=40)
    assert (same.kind, same.digest) == (usual.kind, usual.digest)


@pytest.mark.parametrize(("length", "words"), [(2, "no room for a token"), (41, "the model takes 40 tokens")])
def test_lengths_that_cannot_be(tmp_path, length, words):
    save_bundle(bundle(), tmp_path / "m.pt")
    for path in (tmp_path / "m.pt", directory(tmp_path / "hf")):
        with pytest.raises(BundleError, match=words):
            load_target(str(path), device="cpu", max_length=length)


def test_texts_at_once(tmp_path):
    hf = directory(tmp_path / "hf")
    seen = []
    one = load_target(str(hf), device="cpu", batch_size=2)
    one.model.register_forward_hook(lambda module, inputs, output: seen.append(len(output.logits)))
    np.testing.assert_allclose(answers(one), answers(load_target(str(hf), device="cpu")), atol=1e-5)
    assert max(seen) == 2
    assert sorted(i for batch in batches_by_length([3] * 7, most=3) for i in batch) == list(range(7))
    assert [len(batch) for batch in batches_by_length([3] * 7, most=3)] == [3, 3, 1]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "", "CPU", "meta", "cuda:0:1"])
def test_devices_that_nobody_knows(name):
    with pytest.raises(UsageError, match="unknown; there are cpu, cuda, cuda:N and mps"):
        check_device(name)


def test_devices_that_are_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, words in (("cuda", "no CUDA device here"), ("cuda:3", "no CUDA device"), ("mps", "no Apple GPU")):
        with pytest.raises(UsageError, match=words):
            check_device(name)
    assert check_device(None) == check_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (check_device(None), check_device("cuda:1")) == ("cuda", "cuda:1")
    with pytest.raises(UsageError, match="torch finds 2 CUDA devices here"):
        check_device("cuda:2")


def test_a_base_is_for_an_adapter(tmp_path):
    save_bundle(bundle(), tmp_path / "m.pt")
    with pytest.raises(BundleError, match="--adapter-base is for one"):
        load_target(str(tmp_path / "m.pt"), device="cpu", base_model=tmp_path)
