"""From errors of tokens to sentences: find one, prove it, subtract it, so that repeated tokens become single ones.

The cheap search comes first, as long as it finds something: a token's cells from its own errors, which the right ones
explain exactly. Where it is stuck, or the update is not one clean gradient, all tokens that seem to stand in one
sentence are traced together, and then each position is looked at once more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from attacks.updates._cells import CandidateCells, Cell, errors_to_explain
from attacks.updates._first_layer import FirstLayer
from attacks.updates._positions import place_of
from attacks.updates._replay import Match, Replay
from attacks.updates._search import Explained, explain, refine
from attacks.updates._span import distance, row_space
from attacks.updates._unmix import unmix
from redteam.core.progress import Progress
from redteam.plugins.update import RecoveredSentence

_PEEL = 0.99999  # cosine of a sentence's own errors with those solved for: it is subtracted
_CLEAN = 1e-5  # of the gradient is left over where the update is one gradient in float32
_ALIVE = 1e-3  # of its first size is left of a token that still stands somewhere
_DONE = 1e-4  # of the gradient is left where all was found
_INSIDE = 0.03  # distance from the span of a cell that may be there
_LEAVES_NOTHING = 1e-5  # of errors of squared length 1; in float32 the right cells leave 3e-8 at the most
_PASSES, _TRIES = 8, 2


@dataclass(frozen=True)
class SeenOfUpdate:
    """What an update says of its first layer: the gradients of attention, [3H, H], and of embeddings, [V, H] or None.

    `tokens` and `length` are of the longest text; `errors` are the standard deviations of what is wrong with the rows
    of `tokens`, one number each. `slack` is by how much a cosine may miss 1 and still prove a sentence.
    """

    gradient: torch.Tensor
    rows: torch.Tensor | None
    tokens: tuple[int, ...]
    length: int
    errors: Mapping[int, float] = field(default_factory=dict)
    slack: float = 1e-6


class Assembly:
    """The sentences of one update."""

    def __init__(self, layer: FirstLayer, replay: Replay, seen: SeenOfUpdate, *, beam: int, progress: Progress) -> None:
        """Begin with everything unexplained."""
        self.layer, self.replay, self.seen, self.beam, self.progress = layer, replay, seen, beam, progress
        self.gradient, self.rows = seen.gradient.clone(), None if seen.rows is None else seen.rows.clone()
        self.tokens = list(seen.tokens)
        self.sizes = {} if self.rows is None else {w: float(self.rows[w].norm()) for w in self.tokens}
        self.solved: dict[int, torch.Tensor] = {}
        self.begun: dict[int, float] = {}
        self.floor, self.unexplained = 1e-3, 1.0
        self.found: list[RecoveredSentence] = []
        self.complete = False
        self.explained: float | None = None  # the share of the gradient that tokens explain, None where undetermined
        self.guesses: dict[int, tuple[float, RecoveredSentence]] = {}

    def run(self, known: Iterable[tuple[int, ...]] = ()) -> tuple[RecoveredSentence, ...]:
        """Return what was found: proven sentences first, then guesses at what is left.

        `known` are sentences of other rounds: those that are here too are subtracted before anything is searched for.
        """
        whole, deep = float(self.gradient.norm()), False
        for _ in range(_PASSES):
            if not self._solve():
                break
            if known:
                self._find(known)
                known = ()
                continue
            clean = self.unexplained < _CLEAN
            self.floor, deep = (1e-3, deep) if clean else (1.0, True)
            before = len(self.found)
            self._pass(deep=deep, clean=clean)
            stuck = len(self.found) == before
            if float(self.gradient.norm()) < _DONE * whole or (deep and stuck):
                break
            deep = stuck
        self.complete = float(self.gradient.norm()) < _DONE * whole
        return (*self.found, *(() if self.complete else self._guessed()))

    def _find(self, sentences: Iterable[tuple[int, ...]]) -> None:
        """Subtract those of the sentences that are in the update."""
        here = {*self.tokens, self.layer.cls}
        for tokens in sentences:
            if here.issuperset(tokens):
                match = self.replay.match([(w, p) for p, w in enumerate(tokens)], self.solved, set())
                if match.score > _PEEL:
                    self._peel(match, tokens, proven=match.score > 1 - self.seen.slack)

    def _solve(self) -> bool:
        """Solve for the errors of the tokens that are left; False where they are too few or too many."""
        if self.rows is not None:
            largest = max(self.sizes.values(), default=0.0)
            sizes = {word: float(self.rows[word].norm()) for word in self.tokens}
            self.tokens = [w for w in self.tokens if sizes[w] > max(1e-5 * largest, _ALIVE * self.sizes[w])]
        if len(self.tokens) < 3:
            return False
        solved = unmix(self.layer, self.gradient, self.tokens, self.seen.length)
        if solved is None:
            return False
        self.solved, self.unexplained = solved
        self.explained = 1 - self.unexplained if self.explained is None else self.explained
        if not self.begun:
            self.begun = {word: float(error.norm()) for word, error in self.solved.items()}
        if self.rows is None:
            self.tokens = [word for word in self.tokens if self._alive(word)]
        return len(self.tokens) >= 3

    def _alive(self, word: int) -> bool:
        return word == self.layer.cls or float(self.solved[word].norm()) > _ALIVE * self.begun[word]

    def _pass(self, *, deep: bool, clean: bool) -> None:
        """Look for the sentence of every token that names one, rare tokens first."""
        where = self._places()
        single = {word for word, places in where.items() if len(places) == 1 and word != self.layer.cls}
        if clean:
            where = self._narrowed(where)
        cells = CandidateCells.of(self.layer, [(word, place) for word in self.tokens for place in where[word]])
        ends = (self.layer.cls, self.layer.sep)
        anchors = [w for w in self.tokens if w not in ends and (self.rows is None or w in single)]
        taken: set[int] = set()
        tried: dict[int, int] = {}
        for word in sorted(anchors, key=lambda w: (len(where[w]), -w)):
            if word in taken or tried.get(word, 0) >= _TRIES or not self._alive(word):
                continue
            match, line = self._sentence_of(word, cells, where, single, deep=deep)
            if match is None:
                if line:
                    self.guesses[word] = (0.0, RecoveredSentence(tuple(token for token, _ in line)))
                continue
            tokens = tuple(token for token, _ in match.line)
            for mate, cosine in match.cosines.items():
                tried[mate] = tried.get(mate, 0) + (cosine > 0.8)
            if match.score <= _PEEL:
                self.guesses[word] = (match.score, RecoveredSentence(tokens, match.label, match.weight))
                continue
            self._peel(match, tokens, proven=match.score > 1 - self.seen.slack)
            taken |= set(tokens)

    def _places(self) -> dict[int, list[int]]:
        """Return where each token can stand: one place only, where its row of the embeddings says so."""
        where = {word: list(range(1, self.seen.length)) for word in self.tokens}
        where[self.layer.cls] = [0]
        if self.rows is not None:
            for word in self.tokens:
                if word in (self.layer.cls, self.layer.sep):
                    continue
                error = self.seen.errors.get(word, 0.0)
                place = place_of(self.layer, word, self.rows[word], self.seen.length, error=error)
                where[word] = where[word] if place is None else [place]
        return where

    def _narrowed(self, where: dict[int, list[int]]) -> dict[int, list[int]]:
        """Leave out cells whose own input does not lie in the span of the first layer's inputs."""
        basis = row_space(self.gradient)
        if basis.shape[1] >= self.layer.width - 2:
            return where
        found = dict(where)
        for word, places in where.items():
            if len(places) > 1:
                far = distance(self.layer.inputs(torch.full((len(places),), word), torch.tensor(places)), basis)
                found[word] = [p for p, d in zip(places, far.tolist(), strict=True) if d < _INSIDE] or places
        return found

    def _sentence_of(
        self, word: int, cells: CandidateCells, where: Mapping[int, list[int]], single: set[int], *, deep: bool
    ) -> tuple[Match | None, tuple[Cell, ...]]:
        """Return the best match for the sentence of a token, and what it would be without one."""
        beam, length = (2 if deep else 1) * self.beam, self.seen.length
        known = [(word, where[word][0])] if len(where[word]) == 1 else []
        lines = self._explained(cells, [word], known, beam)
        best: Match | None = None
        seen: set[tuple[Cell, ...]] = set()
        for _ in range(3 if deep else 1):
            lines = [each for each in lines if any(token == word for token, _ in each.line)]
            for match in self._matches(lines[:3], word, single, seen, deep=deep):
                best = match if best is None or match.score > best.score else best
                if best.score > _PEEL:
                    return best, best.line
            if best is None or not deep:
                break
            mates = self._mates(best, word, single)
            errors = errors_to_explain(self.layer, [self.solved[mate] for mate in mates], floor=self.floor)
            at = dict(best.line)
            lines = explain(cells, errors, [(mate, at[mate]) for mate in mates], beam=beam, longest=length)
            better = [Explained(e.left, refine(cells, errors, e.line), True) for e in lines[:2] if e.whole]
            lines = [*better, *lines[:2]]
        return best, lines[0].line if lines else ()

    def _explained(
        self, cells: CandidateCells, words: Sequence[int], known: Sequence[Cell], beam: int
    ) -> list[Explained]:
        errors = errors_to_explain(self.layer, [self.solved[word] for word in words], floor=self.floor)
        return explain(cells, errors, known, beam=beam, longest=self.seen.length)

    def _matches(
        self, lines: Sequence[Explained], word: int, single: set[int], seen: set[tuple[Cell, ...]], *, deep: bool
    ) -> Iterator[Match]:
        """Run those of the lines that are sentences, each once; the cheap search only believes what leaves nothing."""
        for each in lines:
            if each.line in seen or [place for _, place in each.line] != list(range(len(each.line))):
                continue
            if deep or each.left <= _LEAVES_NOTHING:
                seen.add(each.line)
                yield self.replay.match(each.line, self.solved, {word} | single)

    def _mates(self, match: Match, word: int, single: set[int]) -> list[int]:
        """Return the tokens that seem to stand in the sentence of `word`, itself first."""
        likely = [w for w, cosine in match.cosines.items() if cosine > 0.6 and w not in (word, self.layer.sep)]
        likely.sort(key=lambda w: -match.cosines[w])
        return [word, *(likely[:3] if self.rows is None else (w for w in likely if w in single))]

    def _peel(self, match: Match, tokens: tuple[int, ...], *, proven: bool) -> None:
        """Subtract a sentence from all that is left."""
        self.found.append(RecoveredSentence(tokens, match.label, match.weight, proven))
        ids, places = torch.tensor(tokens), torch.arange(len(tokens))
        self.gradient -= match.weight * match.errors.T @ self.layer.inputs(ids, places)
        if self.rows is not None:
            self.rows.index_add_(0, ids, -match.weight * match.rows)
        spread = self.layer.spread(ids, places)
        for at, word in enumerate(tokens):
            if word in self.solved:
                self.solved[word] = self.solved[word] - match.weight * match.errors[at] / spread[at]
            self.guesses.pop(word, None)
        self.progress(len(self.found), len(self.found) + 1)

    def _guessed(self) -> Iterator[RecoveredSentence]:
        """Yield unproven sentences, the likeliest first, no two that mostly hold the same tokens."""
        used: list[set[int]] = []
        for _, each in sorted(self.guesses.values(), key=lambda guess: -guess[0]):
            own = set(each.tokens)
            if not any(len(own & other) > 0.5 * min(len(own), len(other)) for other in used):
                used.append(own)
                yield each
