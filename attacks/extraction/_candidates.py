"""Candidates ranked by some loss: all of them where they can be counted through, else a sample that stands for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attacks.extraction._memory import require_room
from attacks.extraction.sentences import CandidateSet, IntArray
from redteam.core.arrays import FloatArray
from redteam.core.progress import Progress
from redteam.plugins.extraction import Ranked, Secret
from redteam.statistics.exposure import SecretExposure, exact_exposure, sampled_exposure

_CHUNK = 1 << 12  # candidates composed at a time


@dataclass(frozen=True)
class CandidateLosses:
    """The losses of the candidates of a set, [columns, n]; `sample` are the picks of those looked at, None of all.

    `of` gives the losses of any picks, [n, columns]: a column for each label asked about.
    """

    candidate_set: CandidateSet
    of: Callable[[IntArray], FloatArray]
    losses: FloatArray
    sample: IntArray | None

    @classmethod
    def look_at(
        cls,
        candidate_set: CandidateSet,
        of: Callable[[IntArray], FloatArray],
        *,
        enumerable: int,
        sample: int,
        seed: int,
        progress: Progress,
    ) -> "CandidateLosses":
        """Take the losses of all candidates, or of `sample` random ones where there are more than `enumerable`.

        Raises UsageError where the memory does not hold them: before the first is looked at for long.
        """
        whole = candidate_set.size <= enumerable
        picks = None if whole else candidate_set.draw(sample, np.random.default_rng([seed, 201]))
        count, losses = candidate_set.size if picks is None else len(picks), None
        for first in range(0, count, _CHUNK):
            last = min(first + _CHUNK, count)
            some = of(candidate_set.number(first, last) if picks is None else picks[first:last])
            if losses is None:
                require_room(count, some.shape[1])
                losses = np.empty((some.shape[1], count))
            losses[:, first:last] = some.T
            progress(last, count)
        assert losses is not None  # a candidate set has candidates
        return cls(candidate_set, of, losses, picks)

    @property
    def exact(self) -> bool:
        """Whether no candidate was left out."""
        return self.sample is None

    def best(self, column: int) -> tuple[Secret, float]:
        """Return the candidate with the lowest loss of those looked at, and that loss."""
        first = int(self.losses[column].argmin())
        pick = self.candidate_set.number(first, first + 1)[0] if self.sample is None else self.sample[first]
        return self.candidate_set.secret(pick), float(self.losses[column, first])

    def rank(self, column: int, secrets: Sequence[Secret]) -> tuple[Ranked, ...]:
        """Return each secret with its loss and its exposure among the candidates."""
        if not secrets:
            return ()
        picks = self.candidate_set.picks(secrets)
        if self.sample is None:
            own = self.losses[column, np.ravel_multi_index(tuple(picks.T), self.candidate_set.sizes)]
        else:
            own = self.of(picks)[:, column]
        pairs = zip(secrets, own.tolist(), strict=True)
        return tuple(Ranked(secret, loss, self._exposure(loss, column)) for secret, loss in pairs)

    def _exposure(self, loss: float, column: int) -> SecretExposure:
        if self.sample is None:
            return exact_exposure(loss, self.losses[column])
        return sampled_exposure(loss, self.losses[column], candidates=self.candidate_set.size)
