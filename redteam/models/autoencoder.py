"""A small recurrent autoencoder of texts: words to a vector, and a vector to words."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from redteam.core.arrays import FloatArray
from redteam.data.words import words_of

State = tuple[Tensor, Tensor]
_END, _UNKNOWN, _FIRST = 0, 1, 2
_MOST_WORDS, _LONGEST, _BATCH, _ASKED = 6000, 30, 64, 512
_HIDDEN = 0.3  # of words before the next one that are hidden while learning, so that the vector is looked at


@dataclass(frozen=True)
class Autoencoder:
    """The words that it knows, by number from 2, and its network; a text is cut after 30 words."""

    words: tuple[str, ...]
    network: "Network"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return a vector for each text, float64 [n, size], not clipped."""
        index = {word: i for i, word in enumerate(self.words, _FIRST)}
        made = [np.zeros((0, self.network.size))]
        with torch.no_grad():
            for start in range(0, len(texts), _ASKED):
                rows = _numbered(texts[start : start + _ASKED], index)
                made.append(self.network.encode(*rows).double().numpy())
        return np.concatenate(made)

    def decode(self, vectors: FloatArray, unknown: str) -> list[str]:
        """Return the text that each vector most likely stands for, word by word; `unknown` is put for unknown words."""
        names = ("", unknown, *self.words)
        texts: list[str] = []
        with torch.no_grad():
            for start in range(0, len(vectors), _ASKED):
                block = torch.from_numpy(vectors[start : start + _ASKED]).float()
                for row in self.network.decode(block).tolist():
                    end = row.index(_END) if _END in row else len(row)
                    texts.append(" ".join(names[i] for i in row[:end]) or unknown)
        return texts


class Network(nn.Module):
    """An LSTM reads the words, its last state becomes the vector; another one writes from it."""

    def __init__(self, words: int, size: int, width: int = 128) -> None:
        """Build it for so many words."""
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(words, width)
        self.reader = nn.LSTM(width, width, batch_first=True)
        self.to_vector = nn.Linear(width, size)
        self.begin = nn.Linear(size, width)
        self.writer = nn.LSTM(width + size, width, batch_first=True)
        self.choose = nn.Linear(width, words)

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return vectors [n, size] of word numbers [n, length]."""
        states, _ = self.reader(self.embedding(ids))
        last: Tensor = states[torch.arange(len(ids)), lengths - 1]
        made: Tensor = self.to_vector(last)
        return made

    def loss(self, vectors: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return how badly the words are written from their vectors, each after the ones before it."""
        before = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], dim=1)
        before = torch.where(torch.rand(before.shape) < _HIDDEN, _UNKNOWN, before)
        states, _ = self._write(before, vectors, None)
        wanted = ids.masked_fill(torch.arange(ids.shape[1]) >= lengths[:, None], -100)  # nothing after the end
        return nn.functional.cross_entropy(self.choose(states).flatten(0, 1), wanted.flatten())

    def decode(self, vectors: Tensor) -> Tensor:
        """Return word numbers [n, length], the likeliest one at each step."""
        before, state, made = torch.zeros(len(vectors), 1, dtype=torch.long), None, []
        for _ in range(_LONGEST):
            out, state = self._write(before, vectors, state)
            before = self.choose(out).argmax(dim=2)
            made.append(before)
        return torch.cat(made, dim=1)

    def _write(self, before: Tensor, vectors: Tensor, state: State | None) -> tuple[Tensor, State]:
        if state is None:
            hidden = torch.tanh(self.begin(vectors))[None]
            state = hidden, torch.zeros_like(hidden)
        seen = vectors[:, None].expand(-1, before.shape[1], -1)
        out, state = self.writer(torch.cat([self.embedding(before), seen], dim=2), state)
        return out, state


def learn(
    texts: Sequence[str], size: int, norm: int, *, epochs: int = 15, progress: Callable[[int, int], None] | None = None
) -> Autoencoder:
    """Learn to write `texts` from vectors of this size, clipped to 1 in the L1 or L2 `norm`; the same each time."""
    counts = Counter(word for text in texts for word in words_of(text))
    words = tuple(word for word, count in counts.most_common(_MOST_WORDS) if count > 1 or len(counts) < 1000)
    index = {word: i for i, word in enumerate(words, _FIRST)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(len(words) + _FIRST, size)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        steps = epochs * -(-len(texts) // _BATCH)
        for step in range(steps):
            rows = torch.randint(len(texts), (_BATCH,)).tolist()
            ids, lengths = _numbered([texts[i] for i in rows], index)
            optimizer.zero_grad()
            vectors = network.encode(ids, lengths)
            vectors = vectors / vectors.norm(p=norm, dim=1, keepdim=True).clamp(min=1.0)
            torch.autograd.backward(network.loss(vectors, ids, lengths))
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps)
    return Autoencoder(words, network.eval())


def _numbered(texts: Sequence[str], index: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return word numbers [n, length], an end after the last word, and lengths with that end."""
    rows = [[*(index.get(word, _UNKNOWN) for word in words_of(text)[: _LONGEST - 1]), _END] for text in texts]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, lengths
