"""Classifiers that read each token twice: by its row in a table, and by its characters (Ma and Hovy, ACL 2016).

A small convolution over the characters of a token is added to the token's own row. Inputs are token ids as everywhere:
which characters a token has is a table in the model, made from its tokenizer when training starts. Both parts are in
`get_input_embeddings()`, whose output for ids is all that the model sees of them; so a mixture of its rows, given as
`inputs_embeds`, is what it would be without characters: the expected embedding of the mixed tokens.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification

_WIDTH = 16  # of a character's embedding
_SEEN_AT_ONCE = 3  # characters


class CharacterEmbedding(nn.Module):
    """The row of each token in `words` plus what its characters give; ids [...] become [..., embedding size].

    Of every token the first `longest` characters count. Starts as `words` alone: the characters are weighed by zero.
    """

    spelling: torch.Tensor

    def __init__(self, words: nn.Embedding, *, characters: int, alphabet: int, longest: int) -> None:
        """Add `characters` filters over an alphabet of so many characters, of which 0 is none."""
        super().__init__()
        self.words = words
        self.letters = nn.Embedding(alphabet, _WIDTH, padding_idx=0)
        self.filters = nn.Conv1d(_WIDTH, characters, _SEEN_AT_ONCE, padding=_SEEN_AT_ONCE // 2)
        self.weigh = nn.Linear(characters, words.embedding_dim, bias=False)
        self.register_buffer("spelling", torch.zeros(words.num_embeddings, longest, dtype=torch.long))

    @property
    def weight(self) -> torch.Tensor:
        """The table of the tokens' own rows, [vocabulary, embedding size], without their characters."""
        return self.words.weight

    def reset(self) -> None:
        """Draw the filters anew from torch's generator, and let the characters count for nothing yet."""
        self.letters.reset_parameters()
        self.filters.reset_parameters()
        nn.init.zeros_(self.weigh.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of token ids; each token that occurs is spelled once, however often it does."""
        found, where = torch.unique(ids, return_inverse=True)
        letters = self.letters(self.spelling[found]).transpose(1, 2)
        heard = self.weigh(self.filters(letters).amax(dim=2))
        words: torch.Tensor = self.words(ids)
        return words + functional.embedding(where, heard)


class CharacterBiLSTMConfig(BiLSTMConfig):
    """Sizes of a `CharacterBiLSTM`."""

    model_type = "redteam_bilstm_characters"

    characters: int = 32
    alphabet: int = 64
    longest: int = 16


class CharacterBiLSTM(BiLSTMForSequenceClassification):
    """The bidirectional LSTM classifier, with characters."""

    config_class = CharacterBiLSTMConfig

    def __init__(self, config: CharacterBiLSTMConfig) -> None:
        """Build the layers from the config's sizes."""
        super().__init__(config)
        self.embedding = _with_characters(self.embedding, config)  # type: ignore[assignment]


class CharacterBertConfig(BertConfig):  # type: ignore[misc]  # transformers is Any to mypy
    """Sizes of a `CharacterBert`."""

    model_type = "redteam_bert_characters"

    characters: int = 32
    alphabet: int = 64
    longest: int = 16


class CharacterBert(BertForSequenceClassification):  # type: ignore[misc]
    """A BERT classifier, with characters."""

    config_class = CharacterBertConfig

    def __init__(self, config: CharacterBertConfig) -> None:
        """Build the layers from the config's sizes."""
        super().__init__(config)
        self.set_input_embeddings(_with_characters(self.get_input_embeddings(), config))


def _with_characters(words: nn.Embedding, config: Any) -> CharacterEmbedding:
    sizes = {"characters": config.characters, "alphabet": config.alphabet, "longest": config.longest}
    return CharacterEmbedding(words, **sizes)
