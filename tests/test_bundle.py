"""`model.pt` holds a whole classifier and no code: whatever else the file is, it is refused in one line."""

import json
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import LABELS, bundle, document, no_network, refused
from torch import nn

from redteam.core import BundleError, TargetError
from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle, state_digest
from redteam.targets.loading import load_target
from redteam.targets.model import ModelTarget


@pytest.fixture(scope="module")
def whole():
    return bundle()


@pytest.fixture
def saved(whole, tmp_path):
    path = tmp_path / "model.pt"
    save_bundle(whole, path)
    return path


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    no_network(monkeypatch)


def test_round_trip(whole, saved):
    again = load_bundle(saved)
    assert again.config == json.loads(json.dumps(whole.config))
    assert again.state.keys() == whole.state.keys()
    assert all(torch.equal(again.state[name], whole.state[name]) for name in whole.state)
    assert (again.tokenizer, again.labels, again.max_length) == (whole.tokenizer, LABELS, 40)
    assert again.digest() == whole.digest()
    assert [p.name for p in saved.parent.iterdir()] == ["model.pt"]


def test_a_view_does_not_take_what_it_is_a_view_of_along(whole, tmp_path):
    big = torch.zeros(1_000_000)
    path = tmp_path / "model.pt"
    save_bundle(replace(whole, state={**whole.state, "classifier.bias": big[:3]}), path)
    assert path.stat().st_size < 200_000


def test_digest_tells_names_types_shapes_and_bytes_apart():
    one = {"a": torch.arange(6, dtype=torch.float32), "b": torch.tensor(True)}
    assert state_digest(one) == state_digest(dict(reversed(one.items())))
    assert state_digest(one) == state_digest(one | {"a": torch.arange(12, dtype=torch.float32)[::2] / 2})
    others = [
        one | {"a": one["a"].half()},
        one | {"a": one["a"].reshape(2, 3)},
        one | {"b": torch.tensor(False)},
        {"c": one["a"], "b": one["b"]},
        one | {"a": -one["a"]},  # minus zero is not zero
    ]
    assert len({state_digest(state) for state in [one, *others]}) == 6
    assert state_digest({"x": torch.empty(0), "y": torch.tensor(1.0, dtype=torch.bfloat16)})


def test_cannot_be_written(whole, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        save_bundle(whole, tmp_path / "none" / "model.pt")
    with pytest.raises(OSError, match=r"cannot be written|directory"):
        save_bundle(whole, tmp_path)
    with pytest.raises(OSError, match=r"cannot be written|No space"):
        save_bundle(whole, tmp_path.__class__("/dev/full"))


class TestBrokenFiles:
    def test_missing_empty_and_folder(self, tmp_path):
        with pytest.raises(TargetError, match="no such file or directory"):
            load_target(str(tmp_path / "none.pt"))
        with pytest.raises(BundleError, match=r"No such file or directory"):
            load_bundle(tmp_path / "none.pt")
        with pytest.raises(BundleError, match=r"is a directory"):
            load_bundle(tmp_path)
        (tmp_path / "empty.pt").touch()
        refused(tmp_path / "empty.pt", "empty file")

    def test_truncated_anywhere(self, saved):
        content = saved.read_bytes()
        cuts = [1, 2, 3, 4, 5, 30, 100, len(content) - 1, len(content) - 2, len(content) - 22, len(content) - 23]
        for cut in cuts + [len(content) * i // 40 for i in range(1, 40)]:
            saved.write_bytes(content[:cut])
            assert "truncated" in refused(saved)

    def test_a_bit_changed_in_the_weights_is_refused(self, saved):
        with zipfile.ZipFile(saved) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
            content = archive.read(largest)
        whole = bytearray(saved.read_bytes())
        whole[whole.index(content) + len(content) // 2] ^= 1
        saved.write_bytes(whole)
        assert "a checksum is wrong" in refused(saved)

    def test_parts_that_no_bundle_has_are_refused_before_they_are_unpacked(self, saved, tmp_path):
        packed = tmp_path / "packed.pt"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model/data.pkl", bytes(1 << 20))
        content = bytearray(packed.read_bytes())
        content[60:80] = bytes(20)  # and what is packed is broken
        packed.write_bytes(content)
        refused(packed, "compressed parts")
        whole = bytearray(saved.read_bytes())
        for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            whole[whole.index(mark) + flags] |= 1  # says that it is encrypted
        saved.write_bytes(whole)
        refused(saved, "broken or truncated")

    def test_a_byte_changed_anywhere_is_never_a_crash(self, saved):
        content, rng = bytearray(saved.read_bytes()), random.Random(0)
        directory = content.rindex(b"PK\x05\x06") - 1500
        places = [rng.randrange(len(content)) for _ in range(60)]
        for place in places + [rng.randrange(directory, len(content)) for _ in range(60)]:
            before, content[place] = content[place], rng.randrange(256)
            saved.write_bytes(content)
            try:
                load_target(str(saved), device="cpu")
            except (BundleError, TargetError) as error:
                assert "\n" not in str(error)  # noqa: PT017  (an intact load is as good)
            content[place] = before

    @pytest.mark.parametrize("content", [b"hello", b"PK", b"PK\x03\x04" + b"\0" * 100, b"PK\x05\x06" + b"\0" * 18])
    def test_not_an_archive(self, tmp_path, content):
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        refused(path)

    def test_a_zip_of_something_else(self, tmp_path):
        path = tmp_path / "model.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        refused(path, "broken or truncated")

    def test_compressed_parts(self, saved, tmp_path):
        packed = tmp_path / "packed.pt"
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
        refused(packed, "compressed parts")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class TestCode:
    """Files that would run code when loaded carelessly: each is first shown to be armed."""

    def test_bombs(self, whole, tmp_path):
        crater, path = tmp_path / "crater", tmp_path / "model.pt"
        bombs = {
            "legacy": lambda: path.write_bytes(pickle.dumps(Bomb(crater))),
            "legacy torch": lambda: torch.save(Bomb(crater), path, _use_new_zipfile_serialization=False),
            "zip": lambda: torch.save(Bomb(crater), path),
            "in the bundle": lambda: torch.save(document(whole, labels=Bomb(crater)), path),
            "in the weights": lambda: torch.save(document(whole, state_dict={"a": Bomb(crater)}), path),
        }
        for kind, write in bombs.items():
            write()
            message = refused(path)
            assert not crater.exists(), kind
            assert "refused" in message
            assert "redteam pack" in message
            with open(path, "rb") as file:  # noqa: PTH123
                pickle.load(file) if kind == "legacy" else torch.load(path, weights_only=False)
            assert crater.is_dir(), f"{kind}: the bomb of this test is a dud"
            crater.rmdir()

    def test_pickled_module(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
        message = refused(tmp_path / "model.pt", "holds more than tensors and text")
        assert "redteam pack HFDIR -o model.pt" in message

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_torchscript(self, tmp_path):
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), str(tmp_path / "model.pt"))
        refused(tmp_path / "model.pt", "redteam pack HFDIR")

    @pytest.mark.parametrize(
        "change",
        [
            {"auto_map": {"AutoModelForSequenceClassification": "evil.Model"}},
            {"auto_map": {"AutoConfig": "someone/evil--config.Config"}},
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            {"custom_pipelines": {"text-classification": {"impl": "evil.Pipe"}}},
            {"text_config": {"auto_map": {"AutoConfig": "evil.Config"}}},
        ],
    )
    def test_configs_that_ask_for_code_or_another_model(self, whole, change):
        with pytest.raises(BundleError, match="would load code or another model: refused"):
            ModelTarget(replace(whole, config=whole.config | change), name="m")

    def test_a_config_cannot_choose_kernels_to_fetch(self, whole):
        fetched = {"_attn_implementation": "someone/kernel", "attn_implementation": "someone/kernel"}
        fetched |= {"_name_or_path": "someone/model", "experts_implementation": "someone/kernel"}
        ModelTarget(replace(whole, config=whole.config | fetched), name="m")


def test_weights_that_are_not_numbers_end_in_one_line(whole):
    state = {name: tensor.clone() for name, tensor in whole.state.items()}
    state["classifier.weight"][0, 0] = torch.nan
    target = ModelTarget(replace(whole, state=state), name="model.pt")
    with pytest.raises(TargetError, match=r"^model.pt: 2 of 2 answers are NaN$"):
        target.log_probabilities(Examples(np.arange(2), ("amber", "basil")))


def test_the_digest_covers_all_that_answers_depend_on():
    """A model whose labels were turned round answers something else: its ledger must not take it for the same."""
    first = bundle()
    changed = [
        replace(first, labels=first.labels[::-1]),
        replace(first, max_length=first.max_length - 1),
        replace(first, config={**first.config, "hidden_act": "relu"}),
        replace(first, tokenizer=first.tokenizer.replace('"lowercase":true', '"lowercase":false')),
    ]
    assert len({first.digest(), *(other.digest() for other in changed)}) == 5
    assert replace(first, files={"README.md": "words"}).digest() == first.digest()


class Weight(torch.Tensor):
    """A tensor of another class."""


def with_attribute(tensor):
    tensor.detach = nn.Parameter
    return tensor


def with_hook(tensor):
    tensor.requires_grad_()
    tensor.register_hook(lambda gradient: gradient)
    return tensor


def ordered(state):
    """What a foreign bundle may hold: as a module returns it."""
    made = OrderedDict(state)
    made._metadata = OrderedDict({"": {"version": 1}})
    return made


class TestWhatIsHashedIsLoaded:
    """No two files that load as different models share a digest, and nothing in a file stands in for the numbers."""

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (with_attribute, "carries more than numbers"),
            (lambda t: t.view(torch.float8_e4m3fn), "cannot be read as a weight"),
            (lambda t: torch.complex(t, t).conj().imag, "is not a plain array of numbers"),
            (lambda t: t.to(torch.complex64), "cannot be read as a weight"),
            (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is not a plain array of numbers"),
            (lambda t: t.to(torch.int64), "holds torch.int64, the model's is torch.float32"),
        ],
    )
    @pytest.mark.filterwarnings("ignore")  # torch's own, about quantised tensors
    def test_tensors_that_are_more(self, whole, tmp_path, make, said):
        state = dict(whole.state)
        state["classifier.bias"] = make(state["classifier.bias"].clone())
        torch.save(document(whole, state_dict=state), tmp_path / "model.pt")
        refused(tmp_path / "model.pt", said)

    def test_an_attribute_would_have_hidden_other_weights(self, whole, tmp_path):
        """The attack: every digest of such tensors is that of an empty one."""
        for number in range(2):
            state = {name: with_attribute(torch.full_like(value, number)) for name, value in whole.state.items()}
            torch.save(document(whole, state_dict=state), tmp_path / "model.pt")
            refused(tmp_path / "model.pt", "carries more than numbers (attributes or hooks): refused")

    def test_states_that_tell_of_other_items(self, whole, tmp_path):
        lying = ordered(whole.state)
        lying.items = OrderedDict
        torch.save(document(whole, state_dict=lying), tmp_path / "model.pt")
        refused(tmp_path / "model.pt", "state_dict is a OrderedDict, not a dict")
        torch.save(document(whole, state_dict=ordered(whole.state)), tmp_path / "model.pt")
        assert load_bundle(tmp_path / "model.pt").digest() == whole.digest()

    def test_strides_and_gradients_change_nothing(self, whole, tmp_path):
        state = dict(whole.state)
        name = "classifier.weight"
        state[name] = state[name].clone().T.contiguous().T.requires_grad_()
        assert not state[name].is_contiguous()
        torch.save(document(whole, state_dict=state), tmp_path / "model.pt")
        loaded = load_bundle(tmp_path / "model.pt")
        assert loaded.digest() == whole.digest()
        assert not any(tensor.requires_grad for tensor in loaded.state.values())
        target = load_target(str(tmp_path / "model.pt"), device="cpu")
        assert target.weights_digest() == state_digest(whole.state)

    def test_a_config_that_says_a_thing_twice(self, whole, tmp_path):
        text = json.dumps(whole.config)
        torch.save(document(whole, config=text[:-1] + ', "num_hidden_layers": 2}'), tmp_path / "model.pt")
        refused(tmp_path / "model.pt", "config is not JSON (key 'num_hidden_layers' occurs twice)")

    def test_the_numbers_are_what_the_module_computes_with(self, whole):
        half = replace(whole, state={name: value.half() for name, value in whole.state.items()})
        loaded = ModelTarget(half, name="m").model.state_dict()
        assert all(torch.equal(loaded[name], value.float()) for name, value in half.state.items())
