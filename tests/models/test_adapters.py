"""An adapter of PEFT on top of its base answers as the two do together, or is refused by what cannot be merged."""

import json
import shutil

import pytest
import torch
from conftest import needs
from safetensors.torch import load_file, save_file
from tiny_models import LABELS, directory, model, no_network, refused
from torch import nn
from transformers import AutoModelForSequenceClassification, BertForMaskedLM

from redteam.core import BundleError
from redteam.models.bundle import load_bundle, save_bundle
from redteam.models.opening import load_encoder, open_model, read_directory, write_directory

IDS = torch.tensor([[2, 5, 6, 9, 3], [2, 13, 14, 7, 3]])
QUERY, VALUE = (f"bert.encoder.layer.1.attention.self.{part}" for part in ("query", "value"))
PLAIN = {
    "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 4, "lora_alpha": 8, "bias": "none", "lora_dropout": 0.1,
    "target_modules": None, "modules_to_save": ["classifier", "score"], "init_lora_weights": True, "use_dora": False,
    "megatron_core": "megatron.core", "loftq_config": {}, "rank_pattern": {}, "inference_mode": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    no_network(monkeypatch)


@pytest.fixture
def base(tmp_path):
    return directory(tmp_path / "base")


def numbers(*shape, seed=1):
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(module, rows=16, columns=16, rank=4, *, seed=1):
    return {
        f"base_model.model.{module}.lora_A.weight": numbers(rank, columns, seed=seed),
        f"base_model.model.{module}.lora_B.weight": numbers(rows, rank, seed=seed + 1),
    }


def head(labels=3, *, prefix="base_model.model.classifier"):
    return {f"{prefix}.weight": numbers(labels, 16, seed=9), f"{prefix}.bias": numbers(labels, seed=10)}


def adapter(path, tensors, base=None, *, file="adapter_model.safetensors", **settings):
    path.mkdir(exist_ok=True)
    stated = PLAIN | {"base_model_name_or_path": None if base is None else str(base)} | settings
    (path / "adapter_config.json").write_text(json.dumps(stated))
    if file.endswith(".bin"):
        torch.save(tensors, path / file)
    else:
        save_file(tensors, path / file, {"format": "pt"})
    return path


def beside(made, module, first, second, scale):
    """Compute a module's answer with its two matrices beside it, as training does, and nothing merged."""

    def hook(layer, inputs, output):
        low = first.T[inputs[0]] if isinstance(layer, nn.Embedding) else inputs[0] @ first.T
        return output + scale * (low @ second.T)

    made.get_submodule(module).register_forward_hook(hook)


def logits(found, **options):
    with torch.inference_mode():
        return open_model(read_directory(found, **options), name="m")(input_ids=IDS).logits


def check(found, made, **options):
    with torch.inference_mode():
        wanted = made(input_ids=IDS).logits
    torch.testing.assert_close(logits(found, **options), wanted, rtol=1e-4, atol=1e-5)


def opened(base, tensors, **options):
    """The base with the tensors that an adapter brings whole."""
    made = AutoModelForSequenceClassification.from_pretrained(base, **options).eval()
    names = {name.removeprefix("base_model.model."): value for name, value in tensors.items() if "lora_" not in name}
    made.load_state_dict(names, strict=False)
    return made


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_the_two_together(tmp_path, base, file):
    tensors = pair(QUERY) | pair(VALUE, seed=3) | head()
    found = adapter(tmp_path / "a", tensors, base, file=file, target_modules=["query"], layers_to_transform=[1])
    made = opened(base, tensors)
    for module in (QUERY, VALUE):
        a, b = (tensors[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
        beside(made, module, a, b, 2.0)
    check(found, made)
    packed = read_directory(found)
    (note,) = packed.notes
    assert note == f"{found}: merged the adapter onto {base}; its labels are those of {base / 'config.json'}"
    assert packed.digest() != read_directory(base).digest()
    save_bundle(packed, tmp_path / "m.pt")
    write_directory(load_bundle(tmp_path / "m.pt"), tmp_path / "merged", name="m")
    assert read_directory(tmp_path / "merged").digest() == packed.digest()


@pytest.mark.parametrize(
    ("settings", "rank", "scale"),
    [
        ({}, 4, 2.0),
        ({"use_rslora": True}, 4, 4.0),
        ({"lora_alpha": 3.5}, 4, 0.875),
        ({"rank_pattern": {"query": 2}}, 2, 4.0),
        ({"rank_pattern": {"query": 2}, "use_rslora": True}, 2, 8 / 2**0.5),
        ({"alpha_pattern": {r"^bert.*layer\.1\.attention.*query": 1}}, 4, 0.25),
        ({"alpha_pattern": {"key": 1, "self.query": 6, "query": 2}}, 4, 1.5),
        ({"alpha_pattern": {"uery": 1}}, 4, 2.0),
        ({"fan_in_fan_out": True}, 4, 2.0),
    ],
)
def test_scales(tmp_path, base, settings, rank, scale):
    tensors = pair(QUERY, rank=rank) | head()
    made = opened(base, tensors)
    beside(made, QUERY, *list(tensors.values())[:2], scale)
    check(adapter(tmp_path / "a", tensors, base, **settings), made)


@pytest.mark.parametrize("fan", [True, False])
def test_the_other_way_round(tmp_path, fan):
    base = directory(tmp_path / "gpt2", "gpt2")
    tensors = pair("transformer.h.0.attn.c_attn", 48) | {"base_model.model.score.weight": numbers(3, 16)}
    made = opened(base, tensors)
    beside(made, "transformer.h.0.attn.c_attn", *list(tensors.values())[:2], 2.0)
    check(adapter(tmp_path / "a", tensors, base, fan_in_fan_out=fan, target_modules=["c_attn"]), made)


def test_embeddings_biases_and_whole_modules(tmp_path, base):
    words, norm = "bert.embeddings.word_embeddings", "base_model.model.bert.embeddings.LayerNorm"
    a, b = numbers(4, 45), numbers(16, 4, seed=2)
    tensors = {f"base_model.model.{words}.lora_embedding_A": a, f"base_model.model.{words}.lora_embedding_B": b}
    kept = {f"{norm}.weight": numbers(16, seed=4), f"{norm}.bias": numbers(16, seed=5)} | head()
    bias = {f"base_model.model.{QUERY}.base_layer.bias": numbers(16, seed=6)} | pair(QUERY)
    twice = {
        "base_model.model.classifier.modules_to_save.bias": head()["base_model.model.classifier.bias"],
        "base_model.model.classifier.original_module.bias": numbers(3, seed=7),
    }
    made = opened(base, kept)
    made.get_submodule(QUERY).bias.data.copy_(bias[f"base_model.model.{QUERY}.base_layer.bias"])
    beside(made, words, a, b, 2.0)
    beside(made, QUERY, *list(bias.values())[1:], 2.0)
    check(adapter(tmp_path / "a", tensors | kept | bias | twice, base, bias="all"), made)


def test_a_base_that_is_only_an_encoder(tmp_path):
    """The labels are as many as the adapter's classifier has rows, the pretraining's head is left behind."""
    whole = directory(tmp_path / "base")
    torch.manual_seed(0)
    BertForMaskedLM(model().config).save_pretrained(whole)
    tensors = pair(QUERY) | head(5) | {f"base_model.model.bert.pooler.dense.{k}": v for k, v in
                                       (("weight", numbers(16, 16)), ("bias", numbers(16)))}  # fmt: skip
    found = adapter(tmp_path / "a", tensors, whole)
    packed = read_directory(found)
    assert packed.labels == tuple(f"LABEL_{i}" for i in range(5))
    assert "its labels are numbers" in packed.notes[-1]
    made = opened(whole, tensors, num_labels=5, ignore_mismatched_sizes=True)
    beside(made, QUERY, *list(tensors.values())[:2], 2.0)
    check(found, made)


def test_what_lies_beside_the_adapter(tmp_path, base):
    """Its own config names the labels, its own tokenizer reads the texts."""
    found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
    raw = json.loads((base / "config.json").read_text())
    names = {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}
    (found / "config.json").write_text(json.dumps(raw | names))
    assert read_directory(found).labels == ("x", "y", "z")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(base / file, found / file)
    assert read_directory(found).labels == ("x", "y", "z")
    (found / "config.json").write_text(json.dumps(raw | {"model_type": "roberta"}))
    refused(found, "config.json is of model type 'roberta', its base")


def test_half_precision_is_not_rounded_again(tmp_path, base):
    model().half().save_pretrained(base)
    tensors = pair(QUERY) | head()
    made = opened(base, tensors, dtype=torch.float32)
    beside(made, QUERY, *list(tensors.values())[:2], 2.0)
    found = adapter(tmp_path / "a", tensors, base)
    check(found, made)
    assert read_directory(found).state[f"{QUERY}.weight"].dtype == torch.float32


class TestBase:
    def test_is_given(self, tmp_path, base):
        named = adapter(tmp_path / "a", pair(QUERY) | head(), "google-bert/bert-base-uncased")
        said = refused(named, "its base 'google-bert/bert-base-uncased' is no directory here")
        assert "--adapter-base DIR" in said
        assert read_directory(named, base_model=base).labels == LABELS

    def test_the_one_that_is_given_counts(self, tmp_path, base):
        other = directory(tmp_path / "other", seed=5)
        found = adapter(tmp_path / "a", pair(QUERY) | head(), other)
        packed = read_directory(found, base_model=base)
        assert f"onto {base};" in packed.notes[-1]
        assert packed.digest() != read_directory(found).digest()

    @pytest.mark.parametrize("name", [None, "", "\0", "x" * 5000, "//server/share", "\\\\server\\share"])
    def test_names_nothing_here(self, tmp_path, name):
        refused(adapter(tmp_path / "a", pair(QUERY) | head(), None, base_model_name_or_path=name), "--adapter-base DIR")

    def test_is_read_by_the_checks_of_every_model(self, tmp_path, base):
        secret = tmp_path / "secret.json"
        shutil.move(base / "config.json", secret)
        (base / "config.json").symlink_to(secret)
        refused(adapter(tmp_path / "a", pair(QUERY) | head(), base), "config.json is a link out of the directory")

    def test_must_be_a_whole_model(self, tmp_path, base):
        first = adapter(tmp_path / "a", pair(QUERY) | head(), base)
        refused(adapter(tmp_path / "b", pair(QUERY) | head(), first), "is an adapter itself")
        refused(adapter(tmp_path / "c", pair(QUERY) | head(), tmp_path / "c"), "is an adapter itself")

    def test_is_for_adapters(self, tmp_path, base):
        with pytest.raises(BundleError, match="--adapter-base is for one"):
            read_directory(base, base_model=base)

    def test_beside_whole_weights(self, tmp_path, base):
        found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
        shutil.copy(base / "model.safetensors", found)
        refused(found, "holds an adapter (adapter_config.json) and whole weights (model.safetensors)")

    def test_training_starts_elsewhere(self, tmp_path, base):
        found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
        with pytest.raises(BundleError, match="merge the two with redteam pack"):
            load_encoder(found, ("x", "y"), layers=None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "an adapter of kind 'IA3'; only LORA is merged here"),
        ({"peft_type": "PROMPT_TUNING"}, "an adapter of kind 'PROMPT_TUNING'"),
        ({"use_dora": True}, "has use_dora = True, which is not merged here"),
        ({"lora_bias": True}, "has lora_bias = True"),
        ({"trainable_token_indices": [1]}, "has trainable_token_indices = [1]"),
        ({"layer_replication": [[0, 2]]}, "has layer_replication"),
        ({"target_parameters": ["x"]}, "has target_parameters"),
        ({"made_up_tomorrow": 1}, "has made_up_tomorrow = 1, which is not merged here"),
        ({"init_lora_weights": "pissa_niter_4"}, "has init_lora_weights = 'pissa_niter_4', which changes the base's"),
        ({"init_lora_weights": "loftq"}, "changes the base's"),
        ({"bias": "some"}, "has bias = 'some'"),
        ({"r": 0}, "has r = 0; wanted a whole number"),
        ({"r": 2}, "the adapter's pair for"),
        ({"lora_alpha": "much"}, "has lora_alpha = 'much'; wanted a number"),
        ({"r": "4"}, "has r = '4'; wanted a whole number"),
        ({"lora_alpha": 10**400}, "wanted a number"),
        ({"lora_alpha": float("nan")}, "has lora_alpha = nan"),
        ({"use_rslora": "yes"}, "has use_rslora = 'yes'"),
        ({"rank_pattern": {"(a+)+b": 4}}, "too complex"),
        ({"rank_pattern": {"(": 4}}, "has rank_pattern for '('"),
        ({"alpha_pattern": [1]}, "no object of numbers by module"),
        ({"modules_to_save": "classifier"}, "no list of names"),
        (
            {"target_modules": ["query"]},
            "layer.0.attention.self.query' was adapted, the adapter holds no",
        ),
        ({"modules_to_save": ["classifier", "pooler"]}, "'bert.pooler.dense.weight' was trained, the adapter holds no"),
    ],
)
def test_what_is_not_merged_exactly(tmp_path, base, settings, words):
    refused(adapter(tmp_path / "a", pair(QUERY) | head(), base, **settings), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t | {"base_model.model.bert.extra.weight": numbers(3)},
            "'bert.extra.weight', for which",
        ),
        (lambda t: t | {"extra": numbers(3)}, "'extra', for which its base has no place"),
        (lambda t: t | pair("bert.encoder.layer.7.output.dense"), "changes 'bert.encoder.layer.7.output.dense', which"),
        (lambda t: t | pair("bert.embeddings.LayerNorm"), "a LayerNorm, which is not merged here"),
        (lambda t: t | pair("bert.embeddings.word_embeddings"), "wanted lora_embedding_A and lora_embedding_B"),
        (lambda t: {k: v for k, v in t.items() if "lora_B" not in k}, "holds lora_A.weight; wanted lora_A.weight and"),
        (lambda t: {k: v for k, v in t.items() if "class" not in k}, "says that 'classifier.weight' was trained"),
        (lambda t: t | pair(QUERY, columns=8), "is (4, 8) and (16, 4), wanted (4, 16) and (16, 4)"),
        (lambda t: t | pair(QUERY, rank=0), "is (0, 16) and (16, 0)"),
        (lambda t: t | {f"base_model.model.{QUERY}.lora_magnitude_vector": numbers(16)}, "lora_magnitude_vector', for"),
        (lambda t: t | {"base_model.model.classifier.weight": numbers(3, 8)}, "classifier.weight' is (3, 8) of torch"),
        (lambda t: t | {"base_model.model.classifier.weight": numbers(4, 16)}, "classifier has 3 or 4 rows"),
        (
            lambda t: t | {"base_model.model.classifier.modules_to_save.bias": numbers(3)},
            "two tensors for 'class",
        ),
        (lambda t: {k: v.int() for k, v in t.items()}, "of torch.int32, its base has"),
    ],
)
def test_every_tensor_has_its_place(tmp_path, base, change, words):
    refused(adapter(tmp_path / "a", change(pair(QUERY) | head()), base), words)


@pytest.mark.parametrize("text", ["[]", "{}", "{", "[" * 100_000, '{"peft_type": "LORA", "peft_type": "LORA"}'])
def test_a_broken_config(tmp_path, base, text):
    found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
    (found / "adapter_config.json").write_text(text)
    refused(found, "adapter_config.json")


def test_links_out_of_the_adapter(tmp_path, base):
    found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
    shutil.move(found / "adapter_model.safetensors", tmp_path / "out.safetensors")
    (found / "adapter_model.safetensors").symlink_to(tmp_path / "out.safetensors")
    refused(found, "adapter_model.safetensors is a link out of the directory")


def test_no_weights(tmp_path, base):
    found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
    (found / "adapter_model.safetensors").unlink()
    refused(found, "neither adapter_model.safetensors nor adapter_model.bin")


def test_a_change_to_one_of_two_tied_tensors(tmp_path):
    from test_weights import save, small

    base = save(tmp_path / "bart", small("bart"))
    words = "base_model.model.model.encoder.embed_tokens"
    tensors = {f"{words}.lora_embedding_A": numbers(4, 45), f"{words}.lora_embedding_B": numbers(16, 4)}
    refused(adapter(tmp_path / "a", tensors, base, modules_to_save=None), "are one in the base, and the adapter")


@pytest.mark.integration
@needs("peft")
@pytest.mark.filterwarnings("ignore")  # of peft itself
@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta", "distilbert"])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "bias": "all"}])
def test_as_peft_does(tmp_path, kind, settings):
    import peft

    base, modules = directory(tmp_path / "base", kind), {"gpt2": ["c_attn"], "distilbert": ["q_lin", "v_lin"]}
    chosen = {"r": 4, "lora_alpha": 6, "target_modules": modules.get(kind, ["query", "dense"])} | settings
    made = AutoModelForSequenceClassification.from_pretrained(base)
    made = peft.get_peft_model(made, peft.LoraConfig(task_type="SEQ_CLS", **chosen)).eval()
    for seed, weight in enumerate(part for part in made.parameters() if part.requires_grad):
        weight.data += numbers(*weight.shape, seed=seed)
    made.save_pretrained(tmp_path / "a")
    check(tmp_path / "a", made)


def test_the_file_is_left_as_it_was(tmp_path, base):
    found = adapter(tmp_path / "a", pair(QUERY) | head(), base)
    before = load_file(base / "model.safetensors")
    assert read_directory(found).digest() == read_directory(found).digest()
    after = load_file(base / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
