"""`model.pt` holds a whole classifier and no code: whatever else the file is, it is refused in one line."""

import json
import os
import pickle
import random
import resource
import socket
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import LABELS, bundle
from torch import nn

from redteam.bundle import FORMAT, load_bundle, save_bundle, state_digest
from redteam.data import Examples
from redteam.errors import BundleError, TargetError
from redteam.models.opening import open_model
from redteam.target import load_target
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
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def document(whole, **changes):
    made = {
        "format": FORMAT,
        "config": json.dumps(whole.config),
        "state_dict": dict(whole.state),
        "tokenizer": whole.tokenizer,
        "labels": list(whole.labels),
        "max_length": whole.max_length,
        "files": {},
    }
    return made | changes


def refused(path, said=""):
    """The message with which a file is refused, as a bundle and as a target."""
    with pytest.raises(BundleError, match=r"^[^\n]*$") as caught:
        load_target(str(path), device="cpu")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    return str(caught.value)


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
    with pytest.raises(OSError, match="cannot be written|directory"):
        save_bundle(whole, tmp_path)
    with pytest.raises(OSError, match="cannot be written|No space"):
        save_bundle(whole, tmp_path.__class__("/dev/full"))


class TestBrokenFiles:
    def test_missing_empty_and_folder(self, tmp_path):
        with pytest.raises(TargetError, match="no such file or directory"):
            load_target(str(tmp_path / "none.pt"))
        with pytest.raises(BundleError, match="No such file or directory"):
            load_bundle(tmp_path / "none.pt")
        with pytest.raises(BundleError, match="is a directory"):
            load_bundle(tmp_path)
        (tmp_path / "empty.pt").touch()
        refused(tmp_path / "empty.pt", "empty file")

    def test_truncated_anywhere(self, saved):
        content = saved.read_bytes()
        cuts = [1, 2, 3, 4, 5, 30, 100, len(content) - 1, len(content) - 2, len(content) - 22, len(content) - 23]
        for cut in cuts + [len(content) * i // 40 for i in range(1, 40)]:
            saved.write_bytes(content[:cut])
            assert "truncated" in refused(saved)

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


class TestWrongContents:
    @pytest.mark.parametrize("key", ["config", "state_dict", "tokenizer", "labels", "max_length", "files"])
    def test_a_key_is_missing(self, whole, tmp_path, key):
        made = document(whole)
        del made[key]
        torch.save(made, tmp_path / "m.pt")
        refused(tmp_path / "m.pt", f"key {key!r} is missing; pack it again")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"format": "redteam.model/2"}, "format is 'redteam.model/2', this version reads 'redteam.model/1'"),
            ({"format": torch.zeros(1000)}, "this version reads"),
            ({"format": "x" * 10_000}, "this version reads"),
            ({"members": [1, 2]}, "unknown key 'members'"),
            ({7: 1, "z": 2}, "unknown key"),
            ({"config": {}}, "config is a dict, not a str"),
            ({"config": "{"}, "config is not JSON"),
            ({"config": "[]"}, "config is not a JSON object"),
            ({"config": "[" * 100_000}, "config is not JSON"),
            ({"config": "{}"}, "a config of model type None cannot be built"),
            ({"state_dict": []}, "state_dict is a list, not a dict"),
            ({"state_dict": {"a": 1}}, "not a named tensor"),
            ({"state_dict": {1: torch.zeros(1)}}, "not a named tensor"),
            ({"state_dict": {}}, "the state_dict lacks tensor"),
            ({"tokenizer": 7}, "tokenizer is a int, not a str"),
            ({"tokenizer": "{}"}, "its tokenizer is broken (Model missing"),
            ({"tokenizer": bundle().tokenizer.replace('"[SEP]":{', '"[NEP]":{')}, "its tokenizer is broken (no entry"),
            ({"labels": "abc"}, "labels is a str, not a list"),
            ({"labels": ["a"]}, "labels must be at least 2 distinct texts"),
            ({"labels": ["a", "a", "b"]}, "labels must be at least 2 distinct texts"),
            ({"labels": ["a", 2, "b"]}, "labels must be at least 2 distinct texts"),
            ({"labels": [["a"], ["b"]]}, "labels must be at least 2 distinct texts"),
            ({"labels": ["up", "level", "down"]}, "labels of the config are not those that the bundle names"),
            ({"labels": ["down", "level"]}, "labels of the config are not those that the bundle names"),
            ({"max_length": True}, "max_length is a bool, not a int"),
            ({"max_length": 0}, "max_length is 0"),
            ({"max_length": -1}, "max_length is -1"),
            ({"max_length": 2}, "no room for a token besides 2 special"),
            ({"max_length": 41}, "max_length is 41, the model takes 40 tokens"),
            ({"max_length": 10**30}, "max_length is 1000"),
            ({"files": {"README.md": 7}}, "files must be texts by name"),
        ],
    )
    def test_refused(self, whole, tmp_path, change, said):
        torch.save(document(whole, **{k: v for k, v in change.items() if isinstance(k, str)}) | change, tmp_path / "m")
        refused(tmp_path / "m", said)

    def test_bare_state_dict_list_and_tensor(self, whole, tmp_path):
        for content, said in ((dict(whole.state), "a bare state_dict"), ([1], "a list"), (torch.zeros(1), "a Tensor")):
            torch.save(content, tmp_path / "m.pt")
            refused(tmp_path / "m.pt", f"holds {said}, not a redteam bundle; save the model as a Hugging Face")

    def test_tensors_that_do_not_fit_the_config(self, whole):
        state = dict(whole.state)
        name = "bert.encoder.layer.1.output.dense.weight"
        for changed, said in (
            ({k: v for k, v in state.items() if k != name}, f"lacks tensor '{name}'"),
            (state | {"more.weight": torch.zeros(1)}, "has an unexpected tensor 'more.weight'"),
            (state | {name: torch.zeros(16, 17)}, r"has shape \(16, 17\), the config says \(16, 16\)"),
        ):
            with pytest.raises(BundleError, match=said):
                open_model(replace(whole, state=changed), name="m")


class TestMemory:
    @pytest.mark.parametrize(
        "lie",
        [
            {"hidden_size": 10**9},
            {"vocab_size": 10**12},
            {"num_hidden_layers": 10**9},
            {"num_hidden_layers": 1e9},
            {"num_labels": 10**9},
            {"max_position_embeddings": 10**12},
            {"num_attention_heads": 0},
            {"model_type": "distilbert", "n_layers": 10**9},
            {"model_type": "gpt2", "n_layer": 10**9},
            {"model_type": "t5", "num_layers": 10**9},
            {"model_type": "bart", "encoder_layers": 10**9},
            {"model_type": "albert", "num_hidden_groups": 10**9},
            {"model_type": "redteam_bilstm", "hidden_size": 10**9},
        ],
    )
    def test_a_config_that_lies_about_sizes(self, whole, lie):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(BundleError, match=r"^[^\n]*$"):
            ModelTarget(replace(whole, config=whole.config | lie), name="m")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB

    @pytest.mark.parametrize("kind", ["expanded", "sparse", "without bytes"])
    def test_tensors_that_would_swell(self, whole, tmp_path, kind):
        tensor = {
            "expanded": lambda: torch.zeros(1).expand(10**9),
            "sparse": lambda: torch.sparse_coo_tensor(size=(10**9,), check_invariants=True),
            "without bytes": lambda: torch.empty(10**9, device="meta"),
        }[kind]()
        torch.save(document(whole, state_dict=dict(whole.state) | {"classifier.bias": tensor}), tmp_path / "m.pt")
        refused(tmp_path / "m.pt", "is not a plain array of numbers")

    def test_many_tensors_on_the_same_bytes(self, whole, tmp_path):
        shared = torch.zeros(100_000)
        torch.save(document(whole, state_dict={str(i): shared for i in range(100)}), tmp_path / "m.pt")
        refused(tmp_path / "m.pt", "far larger than the file")


def test_weights_that_are_not_numbers_end_in_one_line(whole):
    state = {name: tensor.clone() for name, tensor in whole.state.items()}
    state["classifier.weight"][0, 0] = torch.nan
    target = ModelTarget(replace(whole, state=state), name="model.pt")
    with pytest.raises(TargetError, match=r"^model.pt: 2 of 2 answers are NaN$"):
        target.log_probabilities(Examples(np.arange(2), ("amber", "basil")))
