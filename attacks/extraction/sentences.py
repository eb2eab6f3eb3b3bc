"""Candidates as numbers: which symbol stands in which place, and which token ids that makes.

Token ids are composed from those of the known text and of each symbol, since tokenizing 10^6 sentences costs more
than asking a small model about them. That is right only where no symbol changes how its neighbours are spelled, so it
is checked, and where it is not right sentences are tokenized one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from redteam.data.pattern import Pattern
from redteam.plugins.extraction import ExtractionQuery, Secret

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IntArray = npt.NDArray[np.int64]

_PAIRS = 256  # of symbols side by side that are looked at
_WHOLE = 128  # sentences drawn at random that are looked at


@dataclass(frozen=True)
class CandidateSet:
    """The candidates of queries that differ in their label alone; a pick is the index of a symbol for each place."""

    pattern: Pattern
    alphabets: tuple[tuple[str, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of symbols of each place."""
        return tuple(len(symbols) for symbols in self.alphabets)

    @property
    def size(self) -> int:
        """The number of candidates."""
        return math.prod(self.sizes)

    def number(self, first: int, last: int) -> IntArray:
        """Return the picks of candidates `first` to `last` - 1, shape [n, places]; the last place changes fastest."""
        return np.stack(np.unravel_index(np.arange(first, last), self.sizes), axis=1).astype(np.int64)

    def draw(self, count: int, rng: np.random.Generator) -> IntArray:
        """Return `count` picks, uniform and independent, shape [count, places]."""
        return np.stack([rng.integers(size, size=count) for size in self.sizes], axis=1)

    def picks(self, secrets: Sequence[Secret]) -> IntArray:
        """Return the picks of secrets, shape [n, places]."""
        index = {symbols: {symbol: i for i, symbol in enumerate(symbols)} for symbols in set(self.alphabets)}
        rows = [[index[k][symbol] for k, symbol in zip(self.alphabets, s, strict=True)] for s in secrets]
        return np.array(rows, dtype=np.int64).reshape(-1, len(self.sizes))

    def secret(self, pick: Sequence[int] | IntArray) -> Secret:
        """Return the secret of one pick."""
        return tuple(symbols[int(i)] for symbols, i in zip(self.alphabets, pick, strict=True))

    def texts(self, picks: IntArray) -> tuple[str, ...]:
        """Return the sentence of each pick."""
        return tuple(self.pattern.fill(self.secret(pick)) for pick in picks.tolist())


def by_candidate_set(queries: Sequence[ExtractionQuery]) -> dict[CandidateSet, tuple[str, ...]]:
    """Return the spaces that are asked about, each with the labels of its queries, none twice."""
    found: dict[CandidateSet, dict[str, None]] = {}
    for query in queries:
        found.setdefault(CandidateSet(query.pattern, query.alphabets), {})[query.label] = None
    return {candidate_set: tuple(labels) for candidate_set, labels in found.items()}


@dataclass(frozen=True)
class Spelling:
    """The token ids of a candidate set: `runs` of known ids before, between and after the places, [length] each.

    `pieces` has for each place the ids of each symbol, [symbols, most] filled up with 0, and `counts` how many.
    """

    runs: tuple[IntArray, ...]
    pieces: tuple[IntArray, ...]
    counts: tuple[IntArray, ...]

    def shapes(self, picks: IntArray) -> IntArray:
        """Return how many ids each place takes, shape [n, places]."""
        return np.stack([count[picks[:, i]] for i, count in enumerate(self.counts)], axis=1)

    def rows(self, picks: IntArray) -> list[tuple[IntArray, IntArray]]:
        """Return positions in `picks` [n] and token ids [n, length] for each length of sentence."""
        known = sum(len(run) for run in self.runs)
        groups: dict[int, list[tuple[IntArray, IntArray]]] = {}
        for positions, shape in _alike(self.shapes(picks)):
            groups.setdefault(known + sum(shape), []).append((positions, self._compose(picks[positions], shape)))
        return [
            (np.concatenate([p for p, _ in parts]), np.concatenate([ids for _, ids in parts]))
            for _, parts in sorted(groups.items())
        ]

    def _compose(self, picks: IntArray, shape: tuple[int, ...]) -> IntArray:
        parts = [np.broadcast_to(self.runs[0], (len(picks), len(self.runs[0])))]
        for i, count in enumerate(shape):
            run = self.runs[i + 1]
            parts += [self.pieces[i][picks[:, i], :count], np.broadcast_to(run, (len(picks), len(run)))]
        return np.concatenate(parts, axis=1)


def _alike(shapes: IntArray) -> list[tuple[IntArray, tuple[int, ...]]]:
    """Return the positions of each shape."""
    if (shapes == shapes[:1]).all():
        return [(np.arange(len(shapes)), tuple(shapes[0].tolist()))] if len(shapes) else []
    distinct, which = np.unique(shapes, axis=0, return_inverse=True)
    return [(np.nonzero(which.ravel() == i)[0], tuple(shape)) for i, shape in enumerate(distinct.tolist())]


def spell(tokenizer: "Tokenizer", candidate_set: CandidateSet, *, name: str) -> Spelling | None:
    """Return how a tokenizer spells a candidate set; None where it spells a symbol differently beside other symbols.

    Looked at are every symbol in every place, up to 256 pairs of neighbours in all places, and 128 whole secrets at
    random.
    """
    from redteam.models.tokens import token_ids

    start = np.zeros((1, len(candidate_set.sizes)), dtype=np.int64)
    spans = _spans(tokenizer, candidate_set, start[0])
    if spans is None:
        return None
    singles = _single_swaps(candidate_set, start[0])
    base, *found = token_ids(tokenizer, candidate_set.texts(np.concatenate([start, singles])), name=name)
    spelling = _spelling(base, spans, found, candidate_set)
    if spelling is None:
        return None
    others = np.concatenate([_neighbours(candidate_set), candidate_set.draw(_WHOLE, np.random.default_rng(0))])
    written = found + token_ids(tokenizer, candidate_set.texts(others), name=name)
    for positions, rows in spelling.rows(np.concatenate([singles, others])):
        if any(written[p] != ids for p, ids in zip(positions.tolist(), rows.tolist(), strict=True)):
            return None
    return spelling


def _spans(tokenizer: "Tokenizer", candidate_set: CandidateSet, pick: IntArray) -> list[tuple[int, int]] | None:
    """Return the tokens that each symbol of a sentence is made of, first and last + 1."""
    secret = candidate_set.secret(pick)
    offsets = tokenizer.encode(candidate_set.pattern.fill(secret)).offsets
    spans: list[tuple[int, int]] = []
    for begin, end in _characters(candidate_set, secret):
        own = [i for i, (first, last) in enumerate(offsets) if first < end and last > begin]
        if not own or own != list(range(own[0], own[-1] + 1)) or (spans and own[0] < spans[-1][1]):
            return None
        spans.append((own[0], own[-1] + 1))
    return spans


def _characters(candidate_set: CandidateSet, secret: Secret) -> list[tuple[int, int]]:
    """Return where each symbol stands in the sentence."""
    spans, at, left = [], 0, iter(secret)
    for piece in candidate_set.pattern.pieces:
        if isinstance(piece, str):
            at += len(piece)
            continue
        for _ in range(piece.count):
            symbol = next(left)
            spans.append((at, at + len(symbol)))
            at += len(symbol) + 1
        at -= 1  # no blank behind the last of a slot
    return spans


def _single_swaps(candidate_set: CandidateSet, pick: IntArray) -> IntArray:
    """Return a pick with every symbol in every place in turn, shape [sum of the sizes, places]."""
    rows = np.tile(pick, (sum(candidate_set.sizes), 1))
    first = 0
    for place, size in enumerate(candidate_set.sizes):
        rows[first : first + size, place] = np.arange(size)
        first += size
    return rows


def _neighbours(candidate_set: CandidateSet) -> IntArray:
    """Return secrets in which symbols stand side by side in all ways, or in a sample of them, shape [n, places].

    Places in turn take one symbol and the other, so that one secret tells of every two neighbours at once.
    """
    even, odd = (max(candidate_set.sizes[first::2], default=1) for first in (0, 1))
    few = even * odd <= _PAIRS
    pairs = np.arange(even * odd) if few else np.random.default_rng(1).integers(even * odd, size=_PAIRS)
    both = np.divmod(pairs, odd)
    return np.stack([both[place % 2] % size for place, size in enumerate(candidate_set.sizes)], axis=1)


def _spelling(
    base: list[int], spans: list[tuple[int, int]], found: list[list[int]], candidate_set: CandidateSet
) -> Spelling | None:
    """Take the pieces of each symbol out of the sentences in which it is the only change."""
    pieces, counts, row = [], [], 0
    wide: list[tuple[int, int]] = []
    for span, size in zip(spans, candidate_set.sizes, strict=True):
        first, last = _widened(base, span, found[row : row + size])
        if wide and first < wide[-1][1]:
            return None
        behind = len(base) - last
        own = [ids[first : len(ids) - behind] for ids in found[row : row + size]]
        if not all(own):
            return None
        most = max(map(len, own))
        pieces.append(np.array([ids + [0] * (most - len(ids)) for ids in own], dtype=np.int64))
        counts.append(np.array([len(ids) for ids in own], dtype=np.int64))
        wide.append((first, last))
        row += size
    edges = [0, *(edge for span in wide for edge in span), len(base)]
    runs = [np.array(base[a:b], dtype=np.int64) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return Spelling(tuple(runs), tuple(pieces), tuple(counts))


def _widened(base: list[int], span: tuple[int, int], found: list[list[int]]) -> tuple[int, int]:
    """Return the tokens of the base that some symbol of a place changes: also a blank that one symbol is merged with.

    A byte-level vocabulary may have a piece for a blank with one digit, and for the next one two pieces.
    """
    before = min(_alike_until(base, ids) for ids in found)
    behind = min(_alike_until(base[::-1], ids[::-1]) for ids in found)
    return min(span[0], before), max(span[1], len(base) - behind)


def _alike_until(one: list[int], other: list[int]) -> int:
    """Return the length of what two lists of ids have in common from the start on."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
