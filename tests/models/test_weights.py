"""Every tensor of a weights file has its place, every parameter its tensor: else another model would be audited."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LABELS, directory, model, tokenizer
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForPreTraining,
)
from typer.testing import CliRunner

from redteam.cli import app
from redteam.core import BundleError
from redteam.models.opening import load_encoder, open_model, read_directory
from redteam.models.weights import stored_tensors

SIZES = {
    "vocab_size": 45, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 40, "embedding_size": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40,
    "dim": 16, "hidden_dim": 16, "n_layers": 2, "n_heads": 2, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 2,
    "num_heads": 2, "num_decoder_layers": 2, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_key_value_heads": 2,
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
KINDS = [
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "mpnet",
    "deberta-v2",
    "gpt2",
    "bloom",
    "llama",
    "bart",
    "t5",
    "opt",
]
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")


def save(path, made):
    made.save_pretrained(path)
    tokenizer().save(str(path / "tokenizer.json"))
    return path


def small(kind):
    """A random classifier of that architecture with two layers."""
    sizes = {key: value for key, value in SIZES.items() if hasattr(AutoConfig.for_model(kind), key)}
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **sizes, **names)).eval()


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    return save(tmp_path_factory.mktemp(request.param) / "hf", small(request.param))


def change(hf, path, *, add=None, drop=(), settings=None):
    """A copy of the directory with tensors put in, with tensors taken out, or with another config."""
    shutil.copytree(hf, path)
    state = load_file(hf / "model.safetensors")
    state = {name: value for name, value in (state | (add or {})).items() if name not in drop}
    save_file(state, path / "model.safetensors", {"format": "pt"})
    raw = json.loads((hf / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(raw | (settings or {})))
    return path


def refusal(path):
    with pytest.raises(BundleError, match=r"^[^\n]*$") as caught:
        read_directory(path)
    return str(caught.value)


def tables(state):
    return [name for name, value in state.items() if value.ndim == 2]


class TestArchitectures:
    def test_as_they_are_saved(self, kind, tmp_path):
        """The bundle holds what the file does, from safetensors and from a pickle with tied weights twice."""
        packed = read_directory(kind)
        assert packed.notes == ()
        stored = load_file(kind / "model.safetensors")
        assert all(torch.equal(packed.state[name], value) for name, value in stored.items())
        made = AutoModelForSequenceClassification.from_pretrained(kind)
        assert all(torch.equal(packed.state[name], value) for name, value in made.state_dict().items())
        open_model(packed, name="m")
        shutil.copytree(kind, tmp_path / "bin")
        (tmp_path / "bin" / "model.safetensors").unlink()
        torch.save(made.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
        assert read_directory(tmp_path / "bin").digest() == packed.digest()

    def test_fewer_layers_than_stored(self, kind, tmp_path):
        raw = json.loads((kind / "config.json").read_text())
        depth = next(name for name in DEPTHS if raw.get(name) == 2)
        said = refusal(change(kind, tmp_path / "hf", settings={depth: 1}))
        assert ", for which its config has no layer" in said
        said = refusal(change(kind, tmp_path / "more", settings={depth: 3}))
        assert "are missing: not a fine-tuned text classifier" in said

    def test_what_was_left_over(self, kind, tmp_path):
        """LoRA on the embeddings, a block and the head, a second head, and names that only look harmless."""
        state = load_file(kind / "model.safetensors")
        found = [name.removesuffix(".weight") for name in tables(state)]
        stray = [f"{name}.lora_A.default.weight" for name in (found[0], found[len(found) // 2], found[-1])]
        stray += [f"{found[-1]}.modules_to_save.default.weight", "cls.predictions.bias", "a.position_ids", "x.inv_freq"]
        for number, name in enumerate(stray):
            said = refusal(change(kind, tmp_path / str(number), add={name: torch.randn(4, 16)}))
            assert f"holds weights of {name!r}, for which its config has no layer" in said

    def test_what_is_missing_or_no_weight(self, kind, tmp_path):
        state = load_file(kind / "model.safetensors")
        found = tables(state)
        for number, name in enumerate((found[0], found[-1])):
            said = refusal(change(kind, tmp_path / f"drop{number}", drop=(name,)))
            assert "are missing: not a fine-tuned text classifier" in said
        name = found[len(found) // 2]
        said = refusal(change(kind, tmp_path / "wide", add={name: torch.cat([state[name]] * 2)}))
        assert f"tensor {name!r} has shape {(2 * len(state[name]), state[name].shape[1])}, the config says" in said
        said = refusal(change(kind, tmp_path / "int", add={name: state[name].to(torch.int8)}))
        assert f"tensor {name!r} holds torch.int8, the model's is torch.float32 (quantised?): refused" in said
        said = refusal(change(kind, tmp_path / "fp8", add={name: state[name].to(torch.float8_e5m2)}))
        assert "which cannot be read as a weight" in said


def other(name):
    """A whole checkpoint of that kind whose table of this name is another's, saved as a pickle."""
    return {name: torch.full((45, 16), 0.5)}


class TestHarmless:
    @pytest.mark.parametrize(
        ("kind", "name", "right", "wrong"),
        [
            ("bert", "bert.embeddings.position_ids", torch.arange(40)[None], torch.arange(40).flip(0)[None]),
            ("roberta", "roberta.embeddings.token_type_ids", torch.zeros(1, 40).long(), torch.ones(1, 40).long()),
            ("roberta", "roberta.pooler.dense.weight", torch.randn(16, 16), torch.randn(4, 16)),
            ("roberta", "roberta.pooler.dense.bias", torch.randn(16), torch.randn(3)),
            (
                "gpt2",
                "transformer.h.0.attn.bias",
                torch.ones(1, 1, 40, 40).tril().bool(),
                torch.ones(1, 1, 40, 40).bool(),
            ),
            ("gpt2", "transformer.h.1.attn.masked_bias", torch.tensor(-1e4), torch.tensor(0.0)),
        ],
    )
    def test_tables_of_older_versions_are_named(self, tmp_path, kind, name, right, wrong):
        hf = directory(tmp_path / "hf", kind)
        plain = read_directory(hf)
        kept = read_directory(change(hf, tmp_path / "kept", add={name: right}))
        assert kept.digest() == plain.digest()
        assert kept.notes == (
            f"{tmp_path / 'kept'}: left out 1 tensor of the weights file that no answer depends on: {name}",
        )
        assert f"holds weights of {name!r}" in refusal(change(hf, tmp_path / "odd", add={name: wrong}))
        elsewhere = "bert" if kind != "bert" else "roberta"
        moved = name if elsewhere in name else f"{elsewhere}.extra.{name}"
        assert "holds weights of" in refusal(
            change(directory(tmp_path / "b", elsewhere), tmp_path / "c", add={moved: wrong})
        )

    def test_rotations_are_those_of_the_config(self, tmp_path):
        hf = save(tmp_path / "hf", small("llama"))
        name = "model.layers.0.self_attn.rotary_emb.inv_freq"
        right = 1.0 / 10000 ** (torch.arange(0, 8, 2) / 8)
        assert read_directory(change(hf, tmp_path / "a", add={name: right})).notes
        assert read_directory(change(hf, tmp_path / "b", add={name: right.half()})).notes
        wrong = 1.0 / 500000 ** (torch.arange(0, 8, 2) / 8)
        assert f"holds weights of {name!r}" in refusal(change(hf, tmp_path / "c", add={name: wrong}))

    def test_the_command_line_says_so(self, tmp_path):
        name = "bert.embeddings.position_ids"
        hf = change(directory(tmp_path / "a"), tmp_path / "hf", add={name: torch.arange(40)[None]})
        packed = CliRunner().invoke(app, ["pack", str(hf), "-o", str(tmp_path / "m.pt")])
        assert packed.exit_code == 0
        assert f"that no answer depends on: {name}" in packed.output


class TestPrecision:
    def test_is_that_of_the_file_whatever_the_config_says(self, tmp_path):
        hf = directory(tmp_path / "hf", settings={"dtype": "float16"})
        kept = read_directory(hf)
        stored = load_file(hf / "model.safetensors")
        assert all(torch.equal(kept.state[name], value) for name, value in stored.items())

    def test_of_mixed_files_is_the_finest(self, tmp_path):
        hf = directory(tmp_path / "a")
        name = "bert.encoder.layer.0.output.dense.weight"
        half = load_file(hf / "model.safetensors")[name].half()
        kept = read_directory(change(hf, tmp_path / "hf", add={name: half}))
        assert kept.state[name].dtype == torch.float32
        assert torch.equal(kept.state[name], half.float())


class TestTied:
    def test_tables_that_are_tied_and_differ(self, tmp_path):
        """T5 has one table for both sides; a file with two of them is no T5."""
        hf = save(tmp_path / "hf", small("t5"))
        state = AutoModelForSequenceClassification.from_pretrained(hf).state_dict()
        whole = read_directory(hf)
        (hf / "model.safetensors").unlink()
        for name in ("transformer.encoder.embed_tokens.weight", "transformer.shared.weight"):
            torch.save(state | other(name), hf / "pytorch_model.bin")
            assert "are one in this model, and differ in the file" in refusal(hf)
            with pytest.raises(BundleError, match="are one in this model, and differ here"):
                open_model(replace(whole, state=state | other(name)), name="m")

    def test_layers_that_share_their_weights(self, tmp_path):
        made = AutoModelForSequenceClassification.from_config(
            AlbertConfig(**{k: v for k, v in SIZES.items() if hasattr(AlbertConfig(), k)})
        )
        hf = save(tmp_path / "hf", made)
        open_model(read_directory(hf), name="m")
        name = "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.weight"
        assert "holds weights of" in refusal(change(hf, tmp_path / "b", add={name: torch.randn(16, 16)}))


class TestStarts:
    """Training leaves old heads behind, and nothing else."""

    def test_a_pretraining_checkpoint(self, tmp_path):
        torch.manual_seed(0)
        made = BertForPreTraining(small("bert").config)
        hf = save(tmp_path / "hf", made)
        started = load_encoder(hf, ("x", "y"), layers=1)
        name = "encoder.layer.0.output.dense.weight"
        assert torch.equal(started.state_dict()[f"bert.{name}"], made.bert.state_dict()[name])
        assert "are missing" in refusal(hf)
        old = "cls.predictions.transform.LayerNorm"  # as the first checkpoints call them
        state = load_file(hf / "model.safetensors")
        renamed = {f"{old}.gamma": state[f"{old}.weight"], f"{old}.beta": state[f"{old}.bias"]}
        aged = change(hf, tmp_path / "aged", add=renamed, drop=(f"{old}.weight", f"{old}.bias"))
        load_encoder(aged, ("x", "y"), layers=None)
        body = {"bert.embeddings.LayerNorm.gamma": state["bert.embeddings.LayerNorm.weight"] + 1}
        new = change(hf, tmp_path / "body", add=body, drop=("bert.embeddings.LayerNorm.weight",))
        started = load_encoder(new, ("x", "y"), layers=None).state_dict()
        assert torch.equal(started["bert.embeddings.LayerNorm.weight"], *body.values())
        stray = change(hf, tmp_path / "stray", add={"bert.extra.LayerNorm.gamma": torch.ones(16)})
        with pytest.raises(BundleError, match=r"'bert\.extra\.LayerNorm\.weight', for which its config has no layer"):
            load_encoder(stray, ("x", "y"), layers=None)

    @pytest.mark.parametrize("name", ["bert.encoder.layer.0.output.dense.lora_A.weight", "bert.adapter.weight"])
    def test_an_encoder_with_more_than_its_config_has(self, tmp_path, name):
        hf = change(directory(tmp_path / "a"), tmp_path / "hf", add={name: torch.randn(2, 16)})
        with pytest.raises(BundleError, match="for which its config has no layer"):
            load_encoder(hf, ("x", "y"), layers=None)

    def test_fewer_layers_only_where_they_were_asked_for(self, tmp_path):
        hf = directory(tmp_path / "hf")
        load_encoder(hf, ("x", "y"), layers=1)
        cut = change(hf, tmp_path / "cut", settings={"num_hidden_layers": 1})
        with pytest.raises(BundleError, match="for which its config has no layer"):
            load_encoder(cut, ("x", "y"), layers=None)

    def test_an_encoder_alone(self, tmp_path):
        for kind in ("bert", "gpt2", "distilbert", "t5"):
            made = small(kind).base_model
            hf = save(tmp_path / kind, made)
            started = load_encoder(hf, ("x", "y"), layers=None).base_model.state_dict()
            assert all(torch.equal(started[name], value) for name, value in made.state_dict().items())


class TestFiles:
    def test_two_shards_with_one_name(self, tmp_path):
        hf = directory(tmp_path / "hf")
        (hf / "model.safetensors").unlink()
        model().save_pretrained(hf, max_shard_size="5KB")
        shards = sorted(hf.glob("*.safetensors"))
        save_file(load_file(shards[0]) | load_file(shards[1]), shards[1], {"format": "pt"})
        assert "two shards hold" in refusal(hf)

    @pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": 3}'])
    def test_a_broken_index(self, tmp_path, index):
        hf = directory(tmp_path / "hf")
        (hf / "model.safetensors").rename(hf / "b.safetensors")
        (hf / "model.safetensors.index.json").write_text(index)
        assert "weights cannot be loaded" in refusal(hf)

    def test_a_pickle_with_parameters_or_with_more(self, tmp_path):
        hf = directory(tmp_path / "hf")
        digest = read_directory(hf).digest()
        state = load_file(hf / "model.safetensors")
        (hf / "model.safetensors").unlink()
        file = hf / "pytorch_model.bin"
        torch.save({name: torch.nn.Parameter(value) for name, value in state.items()}, file)
        assert read_directory(hf).digest() == digest
        torch.save({"state_dict": state}, file)
        assert "something that is not a named tensor" in refusal(hf)
        torch.save(list(state), file)
        assert "pytorch_model.bin holds a list" in refusal(hf)
        lying = state["classifier.bias"].clone()
        lying.detach = torch.nn.Parameter
        torch.save(state | {"classifier.bias": lying}, file)
        assert "'classifier.bias' carries more than numbers" in refusal(hf)
        assert stored_tensors(directory(tmp_path / "b")).keys() == state.keys()

    def test_a_config_that_names_another_file(self, tmp_path):
        hf = directory(tmp_path / "hf", settings={"transformers_weights": "other.safetensors"})
        assert "'transformers_weights', which would load code or another model" in refusal(hf)
