"""Candidates ranked by some loss: all of them where they can be counted through, else a sample that stands for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attacks.inversion._memory import require_room
from attacks.inversion.sentences import IntArray, Space
from redteam.core.arrays import FloatArray
from redteam.plugins.inversion import Progress, Ranked, Secret
from redteam.statistics.exposure import Exposure, exact_exposure, sampled_exposure

_CHUNK = 1 << 12  # candidates composed at a time


@dataclass(frozen=True)
class Candidates:
    """The losses of a space's candidates, [columns, n]; `sample` are the picks of those looked at, None of all.

    `of` gives the losses of any picks, [n, columns]: a column for each label asked about.
    """

    space: Space
    of: Callable[[IntArray], FloatArray]
    losses: FloatArray
    sample: IntArray | None

    @classmethod
    def look_at(
        cls,
        space: Space,
        of: Callable[[IntArray], FloatArray],
        *,
        enumerable: int,
        sample: int,
        seed: int,
        progress: Progress,
    ) -> "Candidates":
        """Take the losses of all candidates, or of `sample` random ones where there are more than `enumerable`.

        Raises UsageError where the memory does not hold them: before the first is looked at for long.
        """
        whole = space.size <= enumerable
        picks = None if whole else space.draw(sample, np.random.default_rng([seed, 201]))
        count, losses = space.size if picks is None else len(picks), None
        for first in range(0, count, _CHUNK):
            last = min(first + _CHUNK, count)
            some = of(space.number(first, last) if picks is None else picks[first:last])
            if losses is None:
                require_room(count, some.shape[1])
                losses = np.empty((some.shape[1], count))
            losses[:, first:last] = some.T
            progress(last, count)
        assert losses is not None  # a space has candidates
        return cls(space, of, losses, picks)

    @property
    def exact(self) -> bool:
        """Whether no candidate was left out."""
        return self.sample is None

    def best(self, column: int) -> tuple[Secret, float]:
        """Return the candidate with the lowest loss of those looked at, and that loss."""
        first = int(self.losses[column].argmin())
        pick = self.space.number(first, first + 1)[0] if self.sample is None else self.sample[first]
        return self.space.secret(pick), float(self.losses[column, first])

    def rank(self, column: int, secrets: Sequence[Secret]) -> tuple[Ranked, ...]:
        """Return each secret with its loss and its exposure among the candidates."""
        if not secrets:
            return ()
        picks = self.space.picks(secrets)
        if self.sample is None:
            own = self.losses[column, np.ravel_multi_index(tuple(picks.T), self.space.sizes)]
        else:
            own = self.of(picks)[:, column]
        pairs = zip(secrets, own.tolist(), strict=True)
        return tuple(Ranked(secret, loss, self._exposure(loss, column)) for secret, loss in pairs)

    def _exposure(self, loss: float, column: int) -> Exposure:
        if self.sample is None:
            return exact_exposure(loss, self.losses[column])
        return sampled_exposure(loss, self.losses[column], candidates=self.space.size)
