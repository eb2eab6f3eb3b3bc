"""What a target thinks of candidates: the loss of each for a label, exactly, from token ids or from texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.extraction._memory import require_room
from attacks.extraction.sentences import CandidateSet, IntArray, Spelling, spell
from redteam.core import RedteamError, TargetError
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of

_TOKENS = 4096  # in one forward pass: best on one core for bilstm, tiny and MiniLM alike, by a few per cent
_IMPOSSIBLE = 1e6  # nats, for a probability of exactly zero: a loss must be a number
_PROBES = 8
_SMALL = 1 << 24  # losses for which there is always room


class Losses:
    """The losses of a set's candidates in nats or, with a `reference`, its log-odds of the label less the target's.

    A difference of losses would forget all that the target is sure of: near a probability of one the loss is flat, and
    what is left is the reference's. Raises TargetError for a label that the target or the reference lacks.
    """

    def __init__(
        self, target: Target, candidate_set: CandidateSet, labels: Sequence[str], *, reference: Target | None = None
    ) -> None:
        """Prepare for the sentences of `candidate_set`, each with every one of `labels`."""
        self.labels = tuple(labels)
        odds = reference is not None
        self._own = _Source(target, candidate_set, self.labels, odds=odds)
        self._reference = None if reference is None else _Source(reference, candidate_set, self.labels, odds=odds)

    def of(self, picks: IntArray) -> FloatArray:
        """Return the loss of each pick for each label, shape [n, labels]."""
        values = self._own.losses(picks)
        return values if self._reference is None else values - self._reference.losses(picks)


class Memory:
    """The losses of picks for every label, each asked for once; UsageError where the memory does not hold them."""

    def __init__(self, losses: Losses, places: int) -> None:
        """Know nothing yet."""
        self._losses = losses
        self._row: dict[bytes, int] = {}
        self.picks = np.empty((0, places), dtype=np.int64)
        self.values = np.empty((0, len(losses.labels)))

    def of(self, picks: IntArray) -> FloatArray:
        """Return the losses of picks, [n, labels]."""
        keys = [pick.tobytes() for pick in np.ascontiguousarray(picks)]
        new = {key: i for i, key in enumerate(keys) if key not in self._row}
        if new:
            asked = picks[list(new.values())]
            if (len(self.picks) + len(asked)) * self.values.shape[1] > _SMALL:
                require_room(len(self.picks) + len(asked), self.values.shape[1])
            self._row |= {key: len(self.picks) + i for i, key in enumerate(new)}
            self.picks = np.concatenate([self.picks, asked])
            self.values = np.concatenate([self.values, self._losses.of(asked)])
        return self.values[[self._row[key] for key in keys]]

    def best(self, label: int, count: int) -> IntArray:
        """Return the `count` picks with the lowest loss for a label, the lowest first."""
        return self.picks[np.argsort(self.values[:, label], kind="stable")[:count]]


class _Source:
    """One model's losses, or minus its log-odds."""

    def __init__(
        self, target: Target, candidate_set: CandidateSet, labels: tuple[str, ...], *, odds: bool = False
    ) -> None:
        self._target, self._space, self._odds = target, candidate_set, odds
        asked = Examples(np.arange(len(labels)), labels=labels)
        self._columns = label_indices(labels_of(target), asked, name=target.name)
        self._spelling = spelling_of(target, candidate_set)
        if self._spelling is not None and not self._agrees():
            self._spelling = None

    def losses(self, picks: IntArray) -> FloatArray:
        if self._spelling is None:
            return self._from_texts(picks)
        values = np.empty((len(picks), len(self._columns)))
        for positions, ids in self._spelling.rows(picks):
            values[positions] = self._from_ids(ids)
        if np.isnan(values).any():
            raise TargetError(f"{self._target.name}: {int(np.isnan(values).any(axis=1).sum())} answers are NaN")
        return np.clip(values, -_IMPOSSIBLE, _IMPOSSIBLE)

    def _from_ids(self, ids: IntArray) -> FloatArray:
        """Return the losses of sentences of one length, shape [n, labels], in batches without padding."""
        target: Any = self._target
        values = np.empty((len(ids), len(self._columns)))
        size = max(1, _TOKENS // max(1, ids.shape[1]))
        with torch.inference_mode():
            for first in range(0, len(ids), size):
                batch = torch.from_numpy(ids[first : first + size]).to(target.device)
                logits = target.model(input_ids=batch).logits.double()
                log_p = torch.log_softmax(logits, dim=-1)
                values[first : first + size] = self._of(log_p).cpu().numpy()
        return values

    def _from_texts(self, picks: IntArray) -> FloatArray:
        texts = self._space.texts(picks)
        answers = classifier(self._target).log_probabilities(Examples(np.arange(len(texts)), texts))
        values: FloatArray = self._of(torch.from_numpy(answers)).numpy()
        return np.clip(values, -_IMPOSSIBLE, _IMPOSSIBLE)

    def _of(self, log_p: Tensor) -> Tensor:
        """Return the losses from log-probabilities [n, k], shape [n, labels]."""
        if not self._odds:
            return -log_p[:, self._columns]
        return torch.stack([minus_log_odds(log_p, int(column)) for column in self._columns], dim=1)

    def _agrees(self) -> bool:
        """Some models take no batches, or answer otherwise in one: ask both ways."""
        picks = self._space.draw(_PROBES, np.random.default_rng(0))
        try:
            return np.allclose(self.losses(picks), self._from_texts(picks), rtol=1e-3, atol=1e-4)
        except (RedteamError, IndexError, RuntimeError, ValueError):
            return False


def minus_log_odds(scores: Tensor, column: int | Tensor) -> Tensor:
    """Return log (1 - p) - log p of one column of logits or log-probabilities [n, k], or one for each row; shape [n].

    From the other columns, so that it is exact where p is all but one.
    """
    columns = torch.as_tensor(column, device=scores.device).expand(len(scores))[:, None]
    others = scores.scatter(1, columns, -torch.inf)
    return others.logsumexp(dim=1) - scores.gather(1, columns)[:, 0]


def spelling_of(target: Target, candidate_set: CandidateSet) -> Spelling | None:
    """Return how the target spells a candidate set; None of a target that takes texts, or spells by context."""
    tokenizer = getattr(target, "tokenizer", None)
    if Access.WEIGHTS not in target.access or tokenizer is None or not hasattr(target, "model"):
        return None
    return spell(tokenizer, candidate_set, name=target.name)
