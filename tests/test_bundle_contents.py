"""A `model.pt` whose parts are wrong, lie or would swell is refused in one line, before it takes any memory."""

import resource
from dataclasses import replace

import pytest
import torch
from tiny_models import bundle, document, no_network, refused

from redteam.core import BundleError
from redteam.models.opening import open_model
from redteam.targets.model import ModelTarget


@pytest.fixture(scope="module")
def whole():
    return bundle()


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    no_network(monkeypatch)


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
