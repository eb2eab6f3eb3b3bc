"""What every attack on updates reads first: the gradients of the beginning of the model, and the tokens that show."""

from dataclasses import dataclass, field

import torch
from torch import nn

from attacks.updates._changed_rows import changed_rows
from attacks.updates._first_layer import FirstLayer
from attacks.updates._positions import rounding
from attacks.updates._span import spanned_tokens
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate
from redteam.targets.target import WhiteBox

NOISE = "every row was given noise: what stands out of it is a guess"


@dataclass(frozen=True)
class UpdateReading:
    """Gradients up to a factor, tokens and the length of the longest text, both ends counted.

    `rows` [V, H] is None where embeddings were frozen. `errors` is the standard deviation of what is wrong with each
    number of a token's row; `decayed` tells weight decay, `noise` that all rows were given some.
    """

    layer: FirstLayer
    rows: torch.Tensor | None
    tokens: tuple[int, ...]
    length: int
    errors: dict[int, float] = field(default_factory=dict)
    noise: float = 0.0
    decayed: float = 0.0
    notes: tuple[str, ...] = ()


def read(target: WhiteBox, update: ClientUpdate, *, longest: int) -> UpdateReading:
    """Read one update against the weights before it; texts are at most `longest` tokens.

    Raises NotApplicable for another kind of model, or where the update changes nothing that is read.
    """
    layer = FirstLayer(target)
    longest = min(longest, len(layer.places))
    change = update.change.get(layer.name_of_words)
    if change is None or not bool(change.any()):
        return _frozen(layer, update, longest)
    found = changed_rows(change.double(), layer.words, pad=layer.pad)
    rows = -change.double() + (-found.decayed) * layer.words if found.decayed else -change.double()
    errors = rounding(layer, change, found.rows) + found.noise
    length = _length(layer, update, longest)
    by_token = dict(zip(found.rows, errors.tolist(), strict=True))
    notes = (NOISE,) if found.noise else ()
    return UpdateReading(layer, rows, found.rows, length, by_token, found.noise, found.decayed, notes)


def tokens_of_rows(target: WhiteBox, update: ClientUpdate) -> tuple[tuple[int, ...], float]:
    """Return the tokens whose rows of any model's embedding table were trained, and the noise of all rows.

    Raises NotApplicable where the table was frozen, or the model has none.
    """
    try:
        table = target.model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # no model of transformers, or one that reads no tokens
        table = None
    if not isinstance(table, nn.Embedding):
        raise NotApplicable("the model has no table of word embeddings")
    names = {id(parameter): name for name, parameter in target.model.named_parameters()}
    change = update.change.get(names.get(id(table.weight), ""))
    if change is None or not bool(change.any()):
        raise NotApplicable("word embeddings were frozen")
    found = changed_rows(change.double(), table.weight.detach().cpu().double(), pad=table.padding_idx)
    return found.rows, found.noise


def _frozen(layer: FirstLayer, update: ClientUpdate, longest: int) -> UpdateReading:
    gradient = layer.attention_gradient(update)
    found = spanned_tokens(layer, gradient, longest=longest)
    if not found.tokens:
        raise NotApplicable(
            f"word embeddings were frozen, and the first layer's change has rank {found.rank} of {layer.width}: it "
            "spans every token, for there are too many, or this is no step of SGD without momentum"
        )
    return UpdateReading(layer, None, found.tokens, found.length)


def _length(layer: FirstLayer, update: ClientUpdate, longest: int) -> int:
    """Return the length of the longest text by the rows of the position table that changed."""
    change = update.change.get(layer.name_of_places)
    if change is None or not bool(change.any()):
        return longest
    places = changed_rows(change.double()[layer.offset :], layer.places).rows
    return max(3, min(len(places), longest))
