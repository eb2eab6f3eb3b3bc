"""Weights saved from within DataParallel, Opacus or torch.compile are the same model, and it is said."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LABELS, directory, refused

from redteam.models.initial import initial_model
from redteam.models.opening import load_encoder, read_directory


def renamed(path, rename, *, add=None):
    state = load_file(path / "model.safetensors")
    state = {rename(name): value for name, value in state.items()} | (add or {})
    save_file(state, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.mark.parametrize("wrapper", ["module.", "_module.", "_orig_mod.", "_orig_mod.module.", "_fsdp_wrapped_module."])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_wrapper_is_taken_off_and_said(tmp_path, kind, wrapper):
    plain = read_directory(directory(tmp_path / "plain", kind))
    inside = read_directory(renamed(directory(tmp_path / "hf", kind), lambda name: wrapper + name))
    assert plain.notes == ()
    (note,) = inside.notes
    assert "saved inside a wrapper: took '" in note
    assert all(f"'{part}.'" in note for part in wrapper.rstrip(".").split("."))
    assert inside.digest() == plain.digest()


def test_a_wrapper_around_a_part(tmp_path):
    hf = renamed(directory(tmp_path / "hf"), lambda name: name.replace("bert.encoder", "bert._orig_mod.encoder"))
    assert read_directory(hf).digest() == read_directory(directory(tmp_path / "plain")).digest()


def test_two_tensors_of_one_name_are_refused(tmp_path):
    hf = renamed(directory(tmp_path / "hf"), lambda name: name, add={"module.classifier.bias": torch.zeros(3)})
    refused(hf, "'classifier.bias' and 'module.classifier.bias' are one tensor without the wrapper")


def test_what_has_no_place_without_its_wrapper_is_refused(tmp_path):
    hf = renamed(directory(tmp_path / "hf"), lambda name: f"module.{name}", add={"module.extra.weight": torch.zeros(3)})
    refused(hf, "holds weights of 'extra.weight', for which its config has no layer")


def test_training_starts_from_it_and_says_so(tmp_path):
    hf = renamed(directory(tmp_path / "hf"), lambda name: f"module.{name}")
    told = []
    started = load_encoder(hf, ("x", "y"), layers=None, tell=told.append)
    plain = load_encoder(directory(tmp_path / "plain"), ("x", "y"), layers=None)
    assert all(torch.equal(plain.bert.state_dict()[k], v) for k, v in started.bert.state_dict().items())
    assert len(told) == 1
    assert "took 'module.' (DataParallel)" in told[0]

    class Two:
        texts, labels = ("a", "b"), ("x", "y")

    assert initial_model(str(hf), Two, learn_from=Two, seed=0).notes == tuple(told)


def test_more_rows_than_labels(tmp_path):
    """The config names other labels than the classifier has rows for."""
    for count in (2, 4):
        names = [f"n{i}" for i in range(count)]
        hf = directory(tmp_path / str(count))
        raw = json.loads((hf / "config.json").read_text())
        raw |= {"id2label": {str(i): n for i, n in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}
        (hf / "config.json").write_text(json.dumps(raw))
        refused(hf, f"the classifier has {len(LABELS)} rows ('classifier.bias'), the config names {count} labels")


def test_a_tensor_of_another_shape(tmp_path):
    hf = renamed(directory(tmp_path / "hf"), lambda name: name)
    state = load_file(hf / "model.safetensors")
    key = "bert.encoder.layer.0.output.dense.weight"
    save_file(state | {key: torch.zeros(16, 32)}, hf / "model.safetensors", {"format": "pt"})
    refused(hf, f"tensor {key!r} has shape (16, 32), the config says (16, 16)")
