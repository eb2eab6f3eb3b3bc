"""From a model that knows tokens by their number to one that also reads their characters."""

import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification, PreTrainedModel

from redteam.core import UsageError
from redteam.models.bilstm import BiLSTMForSequenceClassification
from redteam.models.characters import CharacterBert, CharacterBiLSTM
from redteam.models.configs import portable_config

_FILTERS = 32
_LONGEST = 16  # characters of a token that are read
_KINDS: dict[type[PreTrainedModel], type[PreTrainedModel]] = {
    BiLSTMForSequenceClassification: CharacterBiLSTM,
    BertForSequenceClassification: CharacterBert,
}


def with_characters(model: PreTrainedModel, tokenizer: Tokenizer, *, seed: int) -> PreTrainedModel:
    """Return a model that answers as `model` does so far, and learns from characters besides (see `characters`).

    What was frozen stays so, and frozen embeddings are frozen with their characters. Raises UsageError for a model
    that is neither a bilstm nor a BERT.
    """
    kind = _KINDS.get(type(model))
    if kind is None:
        raise UsageError(
            f"characters: a {type(model).__name__} cannot read them; tiny, bilstm and BERT models such as minilm can"
        )
    table, alphabet = spell(tokenizer, size=model.get_input_embeddings().num_embeddings)
    torch.manual_seed(seed)
    settings = {k: v for k, v in portable_config(model.config).items() if k not in ("model_type", "architectures")}
    sizes = {"characters": _FILTERS, "alphabet": len(alphabet) + 1, "longest": table.shape[1]}
    made = kind(kind.config_class(**settings, **sizes))
    made.get_input_embeddings().reset()
    _take_over(model, made)
    made.get_input_embeddings().spelling.copy_(table)
    return made.train(model.training)


def spell(tokenizer: Tokenizer, *, size: int) -> tuple[torch.Tensor, str]:
    """Return the characters of every token, [size, longest], as places in the alphabet that is returned, from 1 on.

    Tokens are spelled as the vocabulary writes them, with the marks of a piece inside a word.
    """
    pieces = {number: piece for piece, number in tokenizer.get_vocab().items() if number < size}
    alphabet = "".join(sorted({letter for piece in pieces.values() for letter in piece[:_LONGEST]}))
    place = {letter: i + 1 for i, letter in enumerate(alphabet)}
    longest = min(_LONGEST, max(map(len, pieces.values()), default=1))
    table = torch.zeros(size, longest, dtype=torch.long)
    for number, piece in pieces.items():
        letters = [place[letter] for letter in piece[:longest]]
        table[number, : len(letters)] = torch.tensor(letters, dtype=torch.long)
    return table, alphabet


def _take_over(old: PreTrainedModel, new: PreTrainedModel) -> None:
    """Give the new model every weight of the old one, and freeze what was frozen."""
    rows = next(name for name, value in old.named_parameters() if value is old.get_input_embeddings().weight)
    renamed = {rows: f"{rows.removesuffix('.weight')}.words.weight"}
    new.load_state_dict(new.state_dict() | {renamed.get(name, name): v for name, v in old.state_dict().items()})
    frozen = {renamed.get(name, name) for name, value in old.named_parameters() if not value.requires_grad}
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if renamed[rows] in frozen:
        new.get_input_embeddings().requires_grad_(False)
