"""How a model sums a text up: sentence encoders by the mean of their tokens, and not by the first token.

A BERT classifier reads the first token's state alone, which a sentence encoder never learned to fill: of all-MiniLM, a
linear classifier trained at epsilon 8 on top of that state is right on 77 % of unseen texts of 77 intents, and on 92 %
on top of the mean. So one more layer of the same architecture is added that begins as that mean: without queries its
attention is the same to every token, values and output pass on what they see, and its feed-forward part adds nothing.
Every tool opens the model as before, and training may turn the mean into attention of its own. All of it is public: it
follows from the encoder alone.

A small model that is new begins its private training as a random projection of the words of a text, which tells texts
apart as they are (Johnson and Lindenstrauss 1984): what random layers and places make of the words is only in the way.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from redteam.models.bilstm import BiLSTMForSequenceClassification

_STRENGTH = 10.0  # of the mean against the first token's own state, which the layer adds to it
_SQUASHED = 0.5  # of it goes into the pooler's tanh, which would cut off more
_LOUDER = 4.0  # word vectors, for gates that take less for silence


def pools_by_mean(path: Path) -> bool:
    """Tell whether a directory says, as sentence-transformers writes it, that texts are the mean of their tokens."""
    try:
        said = json.loads((path / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(said, dict):
        return False
    on = {key: value for key, value in said.items() if key.startswith("pooling_mode") and value is not False}
    return on in ({"pooling_mode_mean_tokens": True}, {"pooling_mode": "mean"})


def add_mean(model: PreTrainedModel) -> bool:
    """Let a BERT classifier begin with the mean of its tokens, by one more layer; False for a model of another kind."""
    layers = _layers(model)
    if layers is None:
        return False
    layer = copy.deepcopy(layers[-1])
    if layer.attention.self.layer_idx is not None:
        layer.attention.self.layer_idx += 1
    layers.append(layer)
    model.config.num_hidden_layers += 1
    return begin_with_mean(model)


def begin_with_mean(model: PreTrainedModel) -> bool:
    """Let the last layer of a BERT classifier begin as the mean of what it sees; False for a model of another kind."""
    layers = _layers(model)
    if layers is None:
        return False
    pooler: Any = model.bert.pooler.dense
    with torch.no_grad():
        _become_mean(layers[-1])
        nn.init.eye_(pooler.weight)
        nn.init.zeros_(pooler.bias)
    return True


def begin_with_words(model: PreTrainedModel) -> bool:
    """Let a new classifier begin as a random projection of the words of a text; False for a model of another kind."""
    with torch.no_grad():
        if isinstance(model, BiLSTMForSequenceClassification):
            model.embedding.weight.mul_(_LOUDER)
            for name, parameter in model.encoder.named_parameters():
                if name.startswith("bias"):  # the same for all texts
                    parameter.zero_()
            return True
        if not begin_with_mean(model):
            return False
        bert: Any = model.bert
        bert.pooler.dense.weight.mul_(_SQUASHED)
        bert.embeddings.position_embeddings.weight.zero_()
        bert.embeddings.token_type_embeddings.weight.zero_()
        for layer in bert.encoder.layer[:-1]:  # passes on what it sees
            for linear in (layer.attention.output.dense, layer.output.dense):
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)
    return True


def _layers(model: PreTrainedModel) -> Any:
    """Return the layers of a BERT encoder under a classifier that reads the first token; None of another model."""
    bert = getattr(model, "bert", None)
    found = model.config.model_type == "bert" and not model.config.is_decoder
    return bert.encoder.layer if found and bert is not None and bert.pooler is not None else None


def _become_mean(layer: Any) -> None:
    """Turn a layer into one whose states are the mean of all it sees, normalised; keys stay, for queries to learn."""
    attention = layer.attention
    for linear in (attention.self.query, attention.self.value, attention.output.dense, layer.output.dense):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    nn.init.eye_(attention.self.value.weight)
    nn.init.eye_(attention.output.dense.weight).mul_(_STRENGTH)
    for norm in (attention.output.LayerNorm, layer.output.LayerNorm):
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
