"""A model's answers are those of transformers itself, whatever else is in the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import LABELS, TEXTS, VOCABULARY, bundle, directory, tokenizer
from transformers import pipeline

from redteam.core import BundleError, TargetError
from redteam.data import Examples
from redteam.models.bundle import state_digest
from redteam.targets import model as module
from redteam.targets.loading import load_target
from redteam.targets.model import ModelTarget, batches_by_length, pad_batch
from redteam.targets.target import Access, Target

KINDS = ["bert", "roberta", "distilbert", "gpt2", "gpt2 without padding"]


def examples(texts, labels=None):
    return Examples(np.arange(len(texts)), tuple(texts), labels)


def alone(target, text):
    """One text through the model itself, without padding or mask."""
    ids = target.tokenizer.encode(text).ids
    with torch.inference_mode():
        return target.model(torch.tensor([ids])).logits.double().log_softmax(-1)[0].numpy()


@pytest.fixture(scope="module")
def target():
    return ModelTarget(bundle(), name="model.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_one_by_one_and_as_the_pipeline(tmp_path, kind):
    target = load_target(str(directory(tmp_path / "hf", kind)), device="cpu")
    texts = (*TEXTS, *(" ".join(["amber basil 7 b"] * n) for n in range(1, 9)))
    answers = target.log_probabilities(examples(texts))
    np.testing.assert_allclose(answers, [alone(target, text) for text in texts], atol=1e-5)
    assert len({tuple(row.round(4)) for row in answers}) >= len(texts) - 2  # the texts do differ to the model

    longest = target.tokenizer.truncation["max_length"]
    classify = pipeline("text-classification", model=str(tmp_path / "hf"), top_k=None, device="cpu")
    for text, row in zip(texts, answers, strict=True):
        found = {d["label"]: d["score"] for d in classify([text], truncation=True, max_length=longest)[0]}
        np.testing.assert_allclose(np.exp(row), [found[label] for label in LABELS], atol=1e-5)


def test_neither_order_nor_batches_matter(target, monkeypatch):
    texts = [f"{'amber ' * (i % 13)}{VOCABULARY[5 + i % 14]}" for i in range(60)]
    first = target.log_probabilities(examples(texts))
    np.testing.assert_allclose(target.log_probabilities(examples(texts[::-1]))[::-1], first, atol=1e-5)
    for budget in (1, 40, 10**6):
        monkeypatch.setattr(module, "TOKENS_PER_BATCH", budget)
        np.testing.assert_allclose(target.log_probabilities(examples(texts)), first, atol=1e-5)


def test_what_it_says_of_itself(target):
    assert isinstance(target, Target)
    assert (target.name, target.kind, target.access, target.labels) == ("model.pt", "bundle", Access.WEIGHTS, LABELS)
    assert target.digest == bundle().digest()
    assert target.weights_digest() == state_digest(bundle().state)
    assert not target.model.training
    rows = examples(TEXTS, ("up", "down") * 4)
    log_p = target.log_probabilities(rows)
    assert log_p.dtype == np.float64
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, atol=1e-12)
    assert target.predict(rows).tolist() == log_p.argmax(axis=1).tolist()
    assert target.losses(rows).tolist() == [-log_p[i, 2 - 2 * (i % 2)] for i in range(8)]
    assert target.weights_digest() == state_digest(bundle().state)


def test_no_texts_no_rows_and_unknown_labels(target):
    assert target.log_probabilities(examples([])).shape == (0, 3)
    with pytest.raises(TargetError, match=r"model\.pt: the examples carry no texts to score"):
        target.log_probabilities(Examples(np.arange(2)))
    with pytest.raises(TargetError, match=r"1 labels? unknown to the model \('left'\); it knows 'down', 'level', 'up'"):
        target.losses(examples(["amber"], ("left",)))


@pytest.mark.parametrize("kind", KINDS)
def test_texts_without_a_single_token(kind):
    target = ModelTarget(bundle(kind, special=False, max_length=30), name="m")
    answers = target.log_probabilities(examples(["", "amber", "", " ", "amber basil"]))
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(answers[0], answers[2])
    np.testing.assert_allclose(answers[4], alone(target, "amber basil"), atol=1e-5)


def test_a_very_long_text_is_cut_not_refused(target):
    long = "amber basil " * 50_000
    np.testing.assert_allclose(
        target.log_probabilities(examples([long])), target.log_probabilities(examples([long[:1000]])), atol=1e-7
    )


def test_models_that_padding_would_change_take_one_text_at_a_time():
    assert ModelTarget(bundle("gpt2 without padding"), name="m").alone
    odd = ModelTarget(bundle("xlnet"), name="m")
    assert odd.alone
    np.testing.assert_allclose(odd.log_probabilities(examples(TEXTS)), [alone(odd, text) for text in TEXTS], atol=1e-5)
    for kind in ("bert", "roberta", "distilbert", "gpt2"):
        assert not ModelTarget(bundle(kind, max_length=30), name="m").alone


def test_a_tokenizer_that_does_not_fit_the_model():
    wide = tokenizer()
    wide.add_tokens(["zebra"])
    target = ModelTarget(replace(bundle(), tokenizer=wide.to_str()), name="m")
    with pytest.raises(TargetError, match=r"^m: the model fails on its own tokens \([^\n]*\)$"):
        target.log_probabilities(examples(["amber zebra"]))


def test_a_tokenizer_that_marks_token_types_is_refused():
    from tokenizers import processors

    marks = tokenizer()
    marks.post_processor = processors.TemplateProcessing(single="$A:0 [CLS]:2", special_tokens=[("[CLS]", 2)])
    with pytest.raises(BundleError, match="marks token types"):
        ModelTarget(replace(bundle(), tokenizer=marks.to_str()), name="m")


def test_text_that_is_no_text(target):
    with pytest.raises(BundleError, match=r"model\.pt: its tokenizer is broken"):
        target.log_probabilities(examples(["\ud800"]))


class TestBatches:
    def test_every_row_once_and_within_the_budget(self):
        rng = np.random.default_rng(0)
        lengths = [int(n) for n in rng.integers(0, 200, size=500)] + [5000]
        batches = list(batches_by_length(lengths, budget=1000))
        assert sorted(i for batch in batches for i in batch) == list(range(501))
        for batch in batches:
            assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 1000
        assert len(batches) < 2 * sum(lengths) / 1000

    def test_empty_texts_do_not_make_one_endless_batch(self):
        assert max(map(len, batches_by_length([0] * 5000, budget=100))) == 100
        assert list(batches_by_length([])) == []

    def test_padding(self):
        inputs = pad_batch([[5, 6], [7], []], pad=9)
        assert inputs["input_ids"].tolist() == [[5, 6], [7, 9], [9, 9]]
        assert inputs["attention_mask"].tolist() == [[1, 1], [1, 0], [0, 0]]
        assert set(pad_batch([[5, 6], [7, 8]], pad=0)) == {"input_ids"}
        assert pad_batch([[]], pad=0)["attention_mask"].tolist() == [[0]]
