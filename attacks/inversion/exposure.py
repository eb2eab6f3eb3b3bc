"""RT201 exposure: how far a secret stands out among all that could stand in its place (Carlini et al., 2019).

The adversary knows the sentence but for its secret, writes every candidate into the gap, asks the model about each and
ranks them by the loss of the canary's label: the secret's exposure is log2 |R| - log2 rank, and the first in the rank
is the guess. No attack that looks at the loss alone does better, so where RT201 finds nothing, RT202 and RT203 cannot.
Probabilities are enough.

Up to 10^6 candidates are all looked at, and the rank is exact. Beyond, 10,000 drawn at random stand for them: the
exposure is interpolated among their losses, or read off a skew-normal curve where the secret's is below nearly all,
and each answer says which; the guess is then the best of the sample. Questions that differ in their label alone share
one pass. With a reference model, that never saw the canaries, losses are compared with its losses: what is likely for
both is no secret. White-box, sentences are composed from token ids, in batches of one length without padding.

Cost: one forward pass of each candidate, and 8 bytes for each candidate and label asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attacks.inversion.sentences import IntArray, Space, by_space
from redteam.inversion import ENUMERABLE, Answer, InversionAttack, Question, Ranked, Suspect
from redteam.target import Access, FloatArray, Target

if TYPE_CHECKING:
    from attacks.inversion._losses import Losses
    from redteam.statistics.exposure import Exposure

_CHUNK = 1 << 16  # candidates composed at a time


@dataclass(frozen=True)
class ExposureRank(InversionAttack):
    """Rank both suspects among all candidates, or among `sample` of them where there are more than `enumerable`."""

    id = "RT201"
    name = "exposure"
    needs = Access.PROBABILITIES

    enumerable: int = ENUMERABLE
    sample: int = 10_000

    def extract(
        self,
        target: Target,
        questions: Sequence[Question],
        suspects: Sequence[Suspect],
        *,
        reference: Target | None = None,
        base: Path | None = None,
        seed: int,
    ) -> Sequence[Answer]:
        """Return the best candidate of each question, and both suspects with their exposures."""
        from attacks.inversion._losses import Losses

        answers: dict[str, Answer] = {}
        for space, labels in by_space(questions).items():
            losses = Losses(target, space, labels, reference=reference)
            table = self._look_at(losses, space, seed)
            for question in questions:
                if Space(question.pattern, question.alphabets) == space:
                    own = [suspect.secret for suspect in suspects if suspect.question == question.id]
                    answers[question.id] = table.answer(question, own)
        return tuple(answers[question.id] for question in questions)

    def _look_at(self, losses: "Losses", space: Space, seed: int) -> "_Table":
        if space.size <= self.enumerable:
            parts = [
                losses.of(space.number(first, min(first + _CHUNK, space.size)))
                for first in range(0, space.size, _CHUNK)
            ]
            return _Table(space, losses, np.concatenate(parts).T, None)
        picks = space.draw(self.sample, np.random.default_rng([seed, 201]))
        return _Table(space, losses, losses.of(picks).T, picks)


@dataclass(frozen=True)
class _Table:
    """The losses of the candidates that were looked at, [labels, n]; `sample` are their picks, None of all."""

    space: Space
    source: "Losses"
    losses: FloatArray
    sample: IntArray | None

    def answer(self, question: Question, secrets: Sequence[tuple[str, ...]]) -> Answer:
        row = self.source.labels.index(question.label)
        losses = self.losses[row]
        best = int(losses.argmin())
        pick = self.space.number(best, best + 1)[0] if self.sample is None else self.sample[best]
        return Answer(
            question.id,
            self.space.secret(pick),
            float(losses[best]),
            exact=self.sample is None,
            ranked=self._rank(row, secrets),
            details={"candidates": float(len(losses))},
        )

    def _rank(self, row: int, secrets: Sequence[tuple[str, ...]]) -> tuple[Ranked, ...]:
        if not secrets:
            return ()
        picks = self.space.picks(secrets)
        if self.sample is None:
            own = self.losses[row, np.ravel_multi_index(tuple(picks.T), self.space.sizes)]
        else:
            own = self.source.of(picks)[:, row]
        pairs = zip(secrets, own.tolist(), strict=True)
        return tuple(Ranked(secret, loss, self._exposure(loss, row)) for secret, loss in pairs)

    def _exposure(self, loss: float, row: int) -> "Exposure":
        from redteam.statistics.exposure import exact_exposure, sampled_exposure

        if self.sample is None:
            return exact_exposure(loss, self.losses[row])
        return sampled_exposure(loss, self.losses[row], candidates=self.space.size)
