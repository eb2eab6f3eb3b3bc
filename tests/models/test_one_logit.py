"""A classifier with one logit z is one of two labels whose logits are 0 and z."""

import json

import numpy as np
import pytest
import torch
from test_weights import KINDS, save, small
from tiny_models import TEXTS, directory, refused
from transformers import AutoModelForSequenceClassification, pipeline

from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle
from redteam.models.heads import with_labels
from redteam.models.opening import open_model, read_directory, write_directory
from redteam.targets.loading import load_target

IDS = torch.tensor([[2, 5, 6, 9, 3]])


def one(name="LABEL_0"):
    return {"id2label": {0: name}, "label2id": {name: 0}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_probability_is_the_sigmoid(tmp_path, kind):
    torch.manual_seed(0)
    made = AutoModelForSequenceClassification.from_config(with_labels(small(kind).config, ("LABEL_0",))).eval()
    if kind == "t5":
        made.config.decoder_start_token_id = 0
    packed = read_directory(save(tmp_path / kind, made))
    with torch.inference_mode():
        logit = made(input_ids=IDS).logits
        pair = open_model(packed, name="m")(input_ids=IDS).logits
    torch.testing.assert_close(pair, torch.cat([torch.zeros_like(logit), logit], 1))
    assert packed.labels == ("LABEL_0", "LABEL_1")
    assert "one logit, read as the log-odds of 'LABEL_1' against 'LABEL_0'" in packed.notes[-1]


def test_it_is_a_target_and_a_bundle_like_any_other(tmp_path):
    hf = directory(tmp_path / "hf", **one("toxic"))
    target = load_target(str(hf), device="cpu")
    assert target.labels == ("not toxic", "toxic")
    texts = TEXTS[4:]
    found = pipeline("text-classification", model=str(hf), device="cpu")(list(texts), top_k=None)
    mine = np.exp(target.log_probabilities(Examples(np.arange(len(texts)), texts)))
    np.testing.assert_allclose(mine[:, 1], [each[0]["score"] for each in found], atol=1e-6)
    save_bundle(read_directory(hf), tmp_path / "m.pt")
    write_directory(load_bundle(tmp_path / "m.pt"), tmp_path / "pair", name="m")
    assert read_directory(tmp_path / "pair").digest() == target.digest


def test_two_names_for_one_row(tmp_path):
    """The first is what the logit speaks against."""
    hf = directory(tmp_path / "hf", **one())
    raw = json.loads((hf / "config.json").read_text())
    raw |= {"id2label": {"0": "ham", "1": "spam"}, "label2id": {"ham": 0, "spam": 1}}
    (hf / "config.json").write_text(json.dumps(raw))
    packed = read_directory(hf)
    assert packed.labels == ("ham", "spam")
    assert "log-odds of 'spam' against 'ham'" in packed.notes[-1]
    torch.testing.assert_close(packed.state["classifier.bias"][0], torch.tensor(0.0))


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"problem_type": "regression"}, "problem_type = 'regression', where the answer is a number"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}, "has 1 row "),
    ],
)
def test_what_is_no_yes_or_no(tmp_path, stated, words):
    hf = directory(tmp_path / "hf", **one())
    raw = json.loads((hf / "config.json").read_text()) | stated
    (hf / "config.json").write_text(json.dumps(raw))
    refused(hf, words)
