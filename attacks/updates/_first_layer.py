"""The beginning of a BERT: embeddings, their LayerNorm, and the queries, keys and values of the first layer.

Everything is in double precision: the attacks ask whether vectors are orthogonal, or in a span, to seven digits.
"""

from functools import cached_property
from typing import Any

import torch

from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate
from redteam.targets.target import WhiteBox

_PARTS = (  # where families keep queries, keys and values of their first layer
    ("encoder.layer.0.attention.self", ("query", "key", "value")),  # BERT, RoBERTa, ELECTRA, CamemBERT
    ("transformer.layer.0.attention", ("q_lin", "k_lin", "v_lin")),  # DistilBERT
    ("encoder.layer.0.attention.attn", ("q", "k", "v")),  # MPNet
)


class FirstLayer:
    """What a cell, token w at position p, looks like before and after the LayerNorm; V tokens, width H."""

    def __init__(self, target: WhiteBox) -> None:
        """Find the parts; raise NotApplicable for a model that is not built like BERT."""
        model = target.model
        body = getattr(model, model.base_model_prefix, model)
        try:
            embeddings, self._parts = body.embeddings, _attention_of(body)
            self.norm, self._table = embeddings.LayerNorm, embeddings.word_embeddings
            places, kinds = embeddings.position_embeddings, getattr(embeddings, "token_type_embeddings", None)
        except AttributeError:
            raise NotApplicable(
                f"reads models that begin as BERT does (embeddings, LayerNorm, attention); this is a "
                f"{type(model).__name__}"
            ) from None
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.name_of_words, self.name_of_places = names[id(self._table.weight)], names[id(places.weight)]
        self.names_of_attention = tuple(names[id(part.weight)] for part in self._parts)
        first = 0 if places.padding_idx is None else int(places.padding_idx) + 1  # RoBERTa counts from behind padding
        self.offset, self.pad = first, self._table.padding_idx
        self.words = _double(self._table.weight)
        self.places = _double(places.weight)[first:] + (0 if kinds is None else _double(kinds.weight[0]))
        self.gain, self.shift, self.eps = _double(self.norm.weight), _double(self.norm.bias), float(self.norm.eps)
        self.heads, self.width = int(model.config.num_attention_heads), self.words.shape[1]
        if self.places.shape[1] != self.width or self._parts[0].weight.shape != (self.width, self.width):
            raise NotApplicable("reads models whose embeddings are as wide as their layers")
        self.cls, self.sep = _ends(target)

    @property
    def modules(self) -> tuple[Any, ...]:
        """The LayerNorm of the embeddings, and the layers of queries, keys and values."""
        return self.norm, *self._parts

    def centred(self, words: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the sums of embeddings less their own mean, [n, H]: the LayerNorm sees no more of them."""
        x = self.words[words] + self.places[places]
        return x - x.mean(-1, keepdim=True)

    def spread(self, words: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return by what the LayerNorm divides each cell, [n]."""
        return (self.centred(words, places).pow(2).mean(-1) + self.eps).sqrt()

    def inputs(self, words: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return what the first layer reads of each cell, [n, H]."""
        x = self.centred(words, places) / self.spread(words, places)[:, None]
        return self.gain * x + self.shift

    def directions(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the directions in which rows of an embedding table enter the first layer, [n, H]."""
        return self.gain * (rows - rows.mean(-1, keepdim=True))

    @cached_property
    def word_directions(self) -> torch.Tensor:
        """Those of the whole vocabulary, [V, H]."""
        return self.directions(self.words)

    @property
    def first_input(self) -> torch.Tensor:
        """What the layer reads of the first special token at the first position, [1, H]: every text has it."""
        return self.inputs(torch.tensor([self.cls]), torch.tensor([0]))

    def heads_of(self, inputs: torch.Tensor, part: int) -> torch.Tensor:
        """Return queries (0), keys (1) or values (2) of inputs, [heads, n, H / heads]."""
        linear = self._parts[part]
        return (
            (inputs @ _double(linear.weight).T + _double(linear.bias)).view(len(inputs), self.heads, -1).transpose(0, 1)
        )

    def attention_gradient(self, update: ClientUpdate) -> torch.Tensor:
        """Return the summed gradient of query, key and value weights, [3H, H], up to a factor; NotApplicable without.

        An update goes against its gradient, so that the sign is turned.
        """
        parts = [update.change.get(name) for name in self.names_of_attention]
        if any(part is None or not bool(part.any()) for part in parts):
            raise NotApplicable("the update changes no queries, keys or values of the first layer: nothing to read")
        return -torch.cat([_double(part) for part in parts if part is not None])

    def row_gradient(self, update: ClientUpdate) -> torch.Tensor | None:
        """Return the gradient of the embedding table, [V, H], up to a factor; None where it was frozen."""
        change = update.change.get(self.name_of_words)
        return None if change is None or not bool(change.any()) else -_double(change)


def _attention_of(body: Any) -> tuple[Any, ...]:
    """Return the layers of queries, keys and values; AttributeError where none of the places is there."""
    for where, names in _PARTS:
        try:
            layer = body.get_submodule(where)
            return tuple(getattr(layer, name) for name in names)
        except AttributeError:
            continue
    raise AttributeError("attention")


def _double(tensor: Any) -> torch.Tensor:
    found: torch.Tensor = tensor.detach().to("cpu", torch.float64)
    return found


def _ends(target: WhiteBox) -> tuple[int, int]:
    """Return the ids of the special tokens at both ends of every text."""
    ids = target.tokenizer.encode("a").ids
    if len(ids) < 3:
        raise NotApplicable("the tokenizer puts no special token before and behind a text: without them it has no ends")
    return int(ids[0]), int(ids[-1])
