"""Classifiers small enough to build in a test, as bundles and as Hugging Face directories."""

import json
import socket

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLNetConfig,
)

from redteam.core import BundleError
from redteam.models.bundle import FORMAT, Bundle
from redteam.models.configs import portable_config
from redteam.targets.loading import load_target

LABELS = ("down", "level", "up")
WORDS = ["amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "haven", "play", "book", "call", "7", "a", "b"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = SPECIAL + WORDS + [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}

TEXTS = (
    "amber basil",
    "",
    "play",
    "call fjord 7 " * 40,  # longer than any of the models takes
    "Cedar delta EMBER grove haven book call fjord amber",
    "zyx unknown words",
    "b",
    "basil basil basil basil basil",
)


def tokenizer(*, special=True):
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if special:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return made


def config(kind="bert", **changes):
    size = len(VOCABULARY)
    bert = {"vocab_size": size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert |= {"intermediate_size": 16, "max_position_embeddings": 40, "initializer_range": 0.5}
    gpt2 = {"vocab_size": size, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40, "initializer_range": 0.5}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    kinds = {
        "bert": (BertConfig, bert),
        "roberta": (RobertaConfig, bert | ends | {"pad_token_id": 1}),
        "distilbert": (DistilBertConfig, {"vocab_size": size, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
                       | {"max_position_embeddings": 40, "initializer_range": 0.5}),
        "gpt2": (GPT2Config, gpt2 | ends | {"pad_token_id": 0}),
        "gpt2 without padding": (GPT2Config, gpt2 | ends | {"pad_token_id": None}),
        "xlnet": (XLNetConfig, {"vocab_size": size, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16}
                  | {"pad_token_id": 0, "initializer_range": 0.5}),
    }  # fmt: skip
    made, settings = kinds[kind]
    return made(**(settings | NAMES | changes))


def model(kind="bert", *, seed=0, **changes):
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(config(kind, **changes)).eval()


def bundle(kind="bert", *, seed=0, max_length=40, special=True, **changes):
    made = model(kind, seed=seed, **changes)
    state = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    return Bundle(portable_config(made.config), state, tokenizer(special=special).to_str(), LABELS, max_length)


def directory(path, kind="bert", *, made=None, settings=None, **changes):
    """A Hugging Face directory as `save_pretrained` writes it."""
    (made or model(kind, **changes)).save_pretrained(path)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), model_max_length=40, mask_token="[MASK]", **names
    ).save_pretrained(path)
    if settings:
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return path


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
    assert said in str(caught.value), caught.value
    assert len(str(caught.value)) < 500 + len(str(path))
    return str(caught.value)


def no_network(monkeypatch):
    """Let every attempt to reach the network fail the test."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
