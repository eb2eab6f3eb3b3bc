"""Hugging Face directories and bundles are the same model, whichever way it goes; others' code never runs."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LABELS, TEXTS, bundle, config, directory, model, no_network, tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from redteam.core import BundleError, TargetError
from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle, state_digest
from redteam.models.configs import longest_input
from redteam.models.initial import minilm_directory
from redteam.models.opening import load_encoder, open_model, read_directory, write_directory
from redteam.models.tokens import load_tokenizer
from redteam.targets.loading import load_target
from redteam.targets.model import ModelTarget

EXAMPLES = Examples(np.arange(len(TEXTS)), TEXTS)
ENCODER = "bert.encoder.layer.1.output.dense.weight"


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    no_network(monkeypatch)


@pytest.fixture
def hf(tmp_path):
    return directory(tmp_path / "hf")


def answers(target):
    return target.log_probabilities(EXAMPLES)


class TestRoundTrip:
    @pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2"])
    def test_nothing_is_lost(self, tmp_path, kind):
        hf = directory(tmp_path / "hf", kind)
        (hf / "README.md").write_text("# Model card é\n")
        packed = read_directory(hf)
        save_bundle(packed, tmp_path / "model.pt")
        loaded = load_bundle(tmp_path / "model.pt")
        write_directory(loaded, tmp_path / "again", name="model.pt")
        again = read_directory(tmp_path / "again")

        assert packed.digest() == loaded.digest() == again.digest()
        kept, back = load_file(hf / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
        assert kept.keys() == back.keys()
        assert all(torch.equal(kept[name], back[name]) for name in kept)
        assert loaded.labels == again.labels == LABELS
        assert loaded.max_length == again.max_length
        assert loaded.config == json.loads(json.dumps(again.config))
        for file in ("README.md", "tokenizer_config.json"):
            assert (tmp_path / "again" / file).read_bytes() == (hf / file).read_bytes()
        before, after = load_tokenizer(hf), load_tokenizer(tmp_path / "again")
        assert [before.encode(t).ids for t in TEXTS] == [after.encode(t).ids for t in TEXTS]
        opened = [load_target(str(p), device="cpu") for p in (hf, tmp_path / "model.pt", tmp_path / "again")]
        first = answers(opened[0])
        assert all((answers(other) == first).all() for other in opened[1:])

    def test_a_bundle_of_our_own_opens_elsewhere(self, tmp_path):
        ours = bundle()
        write_directory(ours, tmp_path / "hf", name="m")
        from transformers import pipeline

        classify = pipeline("text-classification", model=str(tmp_path / "hf"), top_k=None, device="cpu")
        texts = ["amber basil", "play", "zyx"]
        found = [{d["label"]: d["score"] for d in one} for one in classify(texts, batch_size=2)]
        mine = np.exp(ModelTarget(ours, name="m").log_probabilities(Examples(np.arange(3), tuple(texts))))
        np.testing.assert_allclose(mine, [[one[label] for label in LABELS] for one in found], atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_keeps_its_bits_and_is_computed_in_full(self, tmp_path, dtype):
        hf = directory(tmp_path / "hf", made=model().to(dtype))
        packed = read_directory(hf)
        assert {tensor.dtype for tensor in packed.state.values()} == {dtype}
        save_bundle(packed, tmp_path / "m.pt")
        write_directory(load_bundle(tmp_path / "m.pt"), tmp_path / "again", name="m")
        assert {t.dtype for t in load_file(tmp_path / "again" / "model.safetensors").values()} == {dtype}
        assert read_directory(tmp_path / "again").digest() == packed.digest()
        opened = open_model(packed, name="m")
        assert opened.dtype == torch.float32
        assert all(torch.equal(opened.state_dict()[k], v.float()) for k, v in packed.state.items())

    def test_a_config_of_another_precision_does_not_round_the_weights(self):
        ours = bundle()
        opened = open_model(replace(ours, config=ours.config | {"dtype": "float16"}), name="m")
        assert state_digest(opened.state_dict()) == state_digest(ours.state)

    def test_shards(self, tmp_path):
        hf = directory(tmp_path / "hf")
        whole = read_directory(hf)
        (hf / "model.safetensors").unlink()
        model().save_pretrained(hf, max_shard_size="5KB")
        assert len(list(hf.glob("*.safetensors"))) > 1
        assert read_directory(hf).digest() == whole.digest()
        next(iter(sorted(hf.glob("*.safetensors")))).unlink()
        with pytest.raises(BundleError, match="weights"):
            read_directory(hf)

    def test_weights_as_a_pickle_of_tensors(self, hf):
        whole = read_directory(hf)
        torch.save(load_file(hf / "model.safetensors"), hf / "pytorch_model.bin")
        (hf / "model.safetensors").unlink()
        assert read_directory(hf).digest() == whole.digest()

    def test_unpacking_leaves_nothing_half_written(self, tmp_path):
        ours = bundle()
        torn = replace(ours, state={k: v for k, v in ours.state.items() if k != ENCODER})
        stray = replace(ours, files={"../../evil.sh": "rm"})
        broken = replace(ours, tokenizer="{}")
        for bad in (torn, stray, broken):
            with pytest.raises(BundleError):
                write_directory(bad, tmp_path / "hf", name="m")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "hf").mkdir()
        write_directory(ours, tmp_path / "hf", name="m")
        assert [p.name for p in tmp_path.iterdir()] == ["hf"]
        with pytest.raises(OSError, match="not empty"):
            write_directory(ours, tmp_path / "hf", name="m")


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class TestRefusals:
    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_pickle_with_code_does_not_run(self, hf, tmp_path, legacy):
        crater = tmp_path / "crater"
        (hf / "model.safetensors").unlink()
        bomb = {"classifier.weight": Bomb(crater)}
        torch.save(bomb, hf / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(BundleError, match=r"^[^\n]*weights cannot be loaded[^\n]*$"):
            load_target(str(hf), device="cpu")
        assert not crater.exists()

    def test_code_beside_the_weights_does_not_run(self, hf, tmp_path):
        crater = tmp_path / "crater"
        (hf / "evil.py").write_text(f"import os\nos.mkdir({str(crater)!r})\nclass Model: pass\n")
        raw = json.loads((hf / "config.json").read_text())
        raw["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model", "AutoConfig": "evil.Model"}
        (hf / "config.json").write_text(json.dumps(raw))
        with pytest.raises(BundleError, match="'auto_map', which would load code or another model: refused"):
            load_target(str(hf), device="cpu")
        del raw["auto_map"]
        (hf / "config.json").write_text(json.dumps(raw))
        tokens = json.loads((hf / "tokenizer_config.json").read_text())
        tokens |= {"auto_map": {"AutoTokenizer": ["evil.Model", "evil.Model"]}, "tokenizer_class": "EvilModel"}
        (hf / "tokenizer_config.json").write_text(json.dumps(tokens))
        try:
            load_target(str(hf), device="cpu")
        except BundleError as error:
            assert "\n" not in str(error)  # noqa: PT017  (opening it by its tokenizer.json is as good)
        assert not crater.exists()

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            (
                {"problem_type": "multi_label_classification"},
                "problem_type = 'multi_label_classification', where each label is answered by itself: only",
            ),
            (
                {"problem_type": "regression"},
                "problem_type = 'regression', where the answer is a number: only classifiers",
            ),
            (
                {"id2label": {"0": "a"}, "label2id": {"a": 0}},
                "the classifier has 3 rows ('classifier.bias'), the config names 1 label; write the names",
            ),
            ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "must number the labels from 0 without a gap"),
            ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "names two labels 'a'"),
            ({"id2label": ["a", "b", "c"]}, "cannot be built"),
            ({"model_type": "no such"}, "a config of model type 'no such' cannot be built"),
            ({"num_hidden_layers": 1}, "for which its config has no layer"),
            ({"num_hidden_layers": 3}, "are missing: not a fine-tuned text classifier"),
            ({"hidden_size": 32}, "has shape (16,), the config says (32,): they are not of one model"),
            ({"quantization_config": {"quant_method": "gptq"}}, "would load code or another model"),
        ],
    )
    def test_configs(self, tmp_path, settings, said):
        hf = directory(tmp_path / "hf", settings=settings)
        with pytest.raises(BundleError, match=r"^[^\n]*$") as caught:
            load_target(str(hf), device="cpu")
        assert said in str(caught.value)

    def test_files(self, hf):
        def broken(name, content):
            kept = (hf / name).read_bytes() if (hf / name).exists() else None
            (hf / name).write_bytes(content) if content is not None else (hf / name).unlink()
            with pytest.raises(BundleError, match=r"^[^\n]*$") as caught:
                load_target(str(hf), device="cpu")
            (hf / name).write_bytes(kept) if kept is not None else (hf / name).unlink()
            return str(caught.value)

        weights = (hf / "model.safetensors").read_bytes()
        assert "no readable config.json (No such file or directory)" in broken("config.json", None)
        assert "no readable config.json" in broken("config.json", b"{")
        assert "not a JSON object" in broken("config.json", b"[]")
        assert "weights cannot be loaded" in broken("model.safetensors", None)
        for content in (b"", weights[:7], weights[: len(weights) // 2], b"\xff" * 100):
            assert "weights cannot be loaded" in broken("model.safetensors", content)
        assert "its tokenizer is broken" in broken("tokenizer.json", b"{}")
        assert "names no peft_type" in broken("adapter_config.json", b'{"base_model_name_or_path": "someone/model"}')
        load_target(str(hf), device="cpu")

    def test_an_adapter_alone(self, hf):
        """PEFT saves no config.json: the message must not be about that."""
        (hf / "config.json").unlink()
        (hf / "model.safetensors").unlink()
        stated = {"peft_type": "LORA", "base_model_name_or_path": "someone/model"}
        (hf / "adapter_config.json").write_text(json.dumps(stated))
        with pytest.raises(BundleError, match="its base 'someone/model' is no directory here: give it with --adapter"):
            read_directory(hf)
        with pytest.raises(BundleError, match=r"holds an adapter \(adapter_config\.json\).*redteam pack"):
            load_encoder(hf, LABELS, layers=None)

    def test_no_tokenizer(self, hf):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (hf / file).unlink(missing_ok=True)
        with pytest.raises(BundleError, match=r"has no tokenizer \(tokenizer.json\); save it beside the model$"):
            load_target(str(hf), device="cpu")

    def test_an_encoder_alone_is_no_target_but_a_start(self, tmp_path):
        torch.manual_seed(0)
        encoder = BertModel(config())
        hf = directory(tmp_path / "hf", made=encoder)
        with pytest.raises(BundleError, match=r"'classifier.bias' are missing: not a fine-tuned text classifier$"):
            load_target(str(hf), device="cpu")
        started = load_encoder(hf, ("x", "y"), layers=1)
        assert started.config.num_hidden_layers == 1
        assert started.config.id2label == {0: "x", 1: "y"}
        name = "encoder.layer.0.output.dense.weight"
        assert torch.equal(started.state_dict()[f"bert.{name}"], encoder.state_dict()[name])


class TestEncoder:
    def test_the_classifier_is_fresh_whatever_the_directory_was_trained_for(self, hf):
        old = read_directory(hf).state
        for labels in (("x", "y"), LABELS):
            torch.manual_seed(1)
            started = load_encoder(hf, labels, layers=None)
            state = started.state_dict()
            assert state["classifier.weight"].shape == (len(labels), 16)
            assert torch.equal(state[ENCODER], old[ENCODER])
            assert torch.equal(state["bert.pooler.dense.weight"], old["bert.pooler.dense.weight"])
            assert not torch.equal(state["classifier.weight"][:2], old["classifier.weight"][:2])
            torch.manual_seed(1)
            assert state_digest(load_encoder(hf, labels, layers=None).state_dict()) == state_digest(state)

    def test_training_starts_in_full_precision(self, tmp_path):
        started = load_encoder(directory(tmp_path / "hf", made=model().half()), LABELS, layers=None)
        assert started.dtype == torch.float32
        assert started.config.to_dict()["dtype"] in (None, "float32")

    @pytest.mark.parametrize("layers", [0, 3])
    def test_layers_that_are_not_there(self, hf, layers):
        with pytest.raises(BundleError, match=f"--layers {layers}: the model has 2"):
            load_encoder(hf, LABELS, layers=layers)

    def test_weights_that_are_not_there(self, hf):
        state = load_file(hf / "model.safetensors")
        save_file({k: v for k, v in state.items() if k != ENCODER}, hf / "model.safetensors", {"format": "pt"})
        with pytest.raises(BundleError, match=re.escape(f"weights of '{ENCODER}' are missing or do not fit")):
            load_encoder(hf, LABELS, layers=None)
        with pytest.raises(BundleError, match=r"no readable config\.json"):
            load_encoder(hf.parent, LABELS, layers=None)


class TestLongestInput:
    def test_roberta_numbers_positions_from_behind_the_padding(self, tmp_path):
        made = model("roberta")
        assert longest_input(made) == 38
        assert longest_input(model("bert")) == 40
        with pytest.raises(BundleError, match="max_length is 39, the model takes 38 tokens"):
            open_model(bundle("roberta", max_length=39), name="m")
        target = ModelTarget(bundle("roberta", max_length=38), name="m")
        assert np.isfinite(answers(target)).all()

    @pytest.mark.parametrize(
        ("stated", "expected"), [(20, 20), (1000, 40), (int(1e30), 40), ("Infinity", 40), (None, 40), ("x", 40)]
    )
    def test_the_tokenizers_own_limit(self, tmp_path, stated, expected):
        text = stated if stated == "Infinity" else json.dumps(stated)
        (tmp_path / "tokenizer_config.json").write_text(f'{{"model_max_length": {text}}}')
        assert longest_input(model("bert"), tmp_path) == expected

    def test_a_model_without_a_limit(self):
        assert longest_input(model("xlnet")) is None


def test_a_readme_of_an_older_editor_is_kept(hf):
    (hf / "README.md").write_bytes("# Modèle café\n".encode("latin-1"))
    assert read_directory(hf).files["README.md"] == "# Modèle café\n"
    (hf / "special_tokens_map.json").write_bytes(b'{"unk_token": "caf\xe9"}')
    with pytest.raises(BundleError, match=r"^[^\n]*special_tokens_map.json[^\n]*$"):
        read_directory(hf)


def test_labels_without_names_are_met_half_way(tmp_path):
    names = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    target = load_target(str(directory(tmp_path / "hf", made=model(**names))), device="cpu")
    assert target.labels == ("LABEL_0", "LABEL_1")
    rows = Examples(np.arange(2), ("amber", "basil"), ("1", "LABEL_0"))
    losses = -target.log_probabilities(rows)
    assert target.losses(rows).tolist() == [losses[0, 1], losses[1, 0]]
    with pytest.raises(TargetError, match=r"1 labels? unknown to the model"):
        target.losses(Examples(np.arange(1), ("amber",), ("2",)))


def test_the_side_that_is_cut_is_kept(tmp_path):
    hf = directory(tmp_path / "hf")
    settings = json.loads((hf / "tokenizer_config.json").read_text()) | {"truncation_side": "left"}
    (hf / "tokenizer_config.json").write_text(json.dumps(settings))
    target = ModelTarget(replace(read_directory(hf), max_length=4), name="m")
    kept = tokenizer().encode("fjord grove").ids
    assert target.tokenizer.encode("amber basil cedar fjord grove").ids == kept


def test_minilm_fine_tuned_by_others(tmp_path):
    """A real directory, through transformers' own loading and saving, against its own answers."""
    source = minilm_directory()
    torch.manual_seed(0)
    theirs = AutoModelForSequenceClassification.from_pretrained(source, num_labels=3, num_hidden_layers=1).eval()
    theirs.save_pretrained(tmp_path / "hf")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(source / file, tmp_path / "hf" / file)
    packed = read_directory(tmp_path / "hf")
    assert packed.max_length == 512
    assert set(packed.files) == {"tokenizer_config.json", "special_tokens_map.json", "vocab.txt"}
    target = ModelTarget(packed, name="m")
    ids = [AutoTokenizer.from_pretrained(source)(text, truncation=True).input_ids for text in TEXTS]
    with torch.inference_mode():
        expected = [theirs(input_ids=torch.tensor([row])).logits.double().log_softmax(-1)[0].numpy() for row in ids]
    np.testing.assert_allclose(answers(target), expected, atol=1e-5)
    write_directory(packed, tmp_path / "again", name="m")
    assert read_directory(tmp_path / "again").digest() == packed.digest()


class TestTheClassItWasSavedFrom:
    """Weights of a class of somebody's own may fit a class of transformers that computes something else with them."""

    def altered(self, folder, stated):
        raw = json.loads((folder / "config.json").read_text()) | {"architectures": stated}
        (folder / "config.json").write_text(json.dumps(raw))
        return folder

    @pytest.mark.parametrize("stated", [["BertMeanPooled"], ["BertForSequenceClassification", "Mine"]])
    def test_of_its_own(self, hf, stated):
        with pytest.raises(BundleError, match=r"saved from a (BertMeanPooled|Mine), .*audit it as a function"):
            read_directory(self.altered(hf, stated))

    def test_of_its_own_in_a_bundle(self, hf):
        made = read_directory(hf)
        with pytest.raises(BundleError, match="saved from a BertMeanPooled"):
            open_model(replace(made, config=made.config | {"architectures": ["BertMeanPooled"]}), name="m.pt")

    @pytest.mark.parametrize("stated", [None, [], ["BertForMaskedLM"], ["BertModel"]])
    def test_others_that_are_known(self, hf, stated):
        """A config is often that of the encoder still, where weights were saved by hand."""
        open_model(read_directory(self.altered(hf, stated)), name="m")
