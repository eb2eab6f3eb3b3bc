"""The white-box adversary: it sees every update, knows a calibration run, and gives each canary several scores.

Each layer's entries are whitened by the noise that blanks show at that step, so a step or a layer without noise
decides by itself. What is scored:

- likelihood: the log-likelihood ratio of "in" against "out" over all steps where each is taken independently,
  the best test there is of a Poisson-sampled Gaussian; with strength and rate as claimed, and as calibrated;
- inner product: the plain sum of all updates;
- one layer's alone;
- once a pass: the ratio where each pass takes a canary exactly once;
- calibrated order: the inner product over those steps only that took the canary in the calibration run;
- calibrated noise: the plain sum less that of the calibration run;
- changes: what differs from one update to the next, for noise that is drawn once and used again.

No score looks at who was included, so each is valid; which one to believe is chosen on canaries that do not judge.
Nothing but one number a canary and score is kept.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from redteam.verify.calibration import Calibration, Reader, Values, centred, require_finite
from redteam.verify.dirac_canaries import LAYERS, Design

Scores = dict[str, npt.NDArray[np.float64]]

_FARTHEST = 60.0  # noises: what lies farther out is certain, and nothing must overflow
_LARGEST_LOG = 80.0  # of float32


@dataclass(frozen=True)
class Claim:
    """What a trainer says of its steps: how far a canary moves one, in noises, and the chance to be in it."""

    strength: float
    rate: float


@dataclass
class Adversary:
    """Watches the training that is attacked."""

    design: Design
    calibration: Calibration
    claim: Claim
    noise: list[tuple[float, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start all scores at zero."""
        self.reader = Reader(self.design)
        names = ["likelihood, as claimed", "likelihood, as calibrated", "inner product", "once a pass"]
        names += [f"layer {layer + 1} alone" for layer in range(LAYERS)] + ["calibrated order", "changes"]
        self._scores: Scores = {name: np.zeros(self.design.canaries) for name in names}
        self._pass = np.zeros(self.design.canaries, dtype=np.float32)
        self._before: list[Values] | None = None
        self._steps_of_a_pass = max(1, round(1 / self.claim.rate))

    def observe(self, gradients: list[Values]) -> None:
        """Take in one update."""
        step = len(self.noise)
        self.reader.turn()
        at = min(step, self.calibration.steps - 1)
        whitened, strengths, spreads = [], [], []
        for layer, gradient in enumerate(require_finite(gradients, step)):
            entries, spread = centred(gradient, self.design.canaries)
            scale = max(spread, self.calibration.floor[layer])
            strengths.append(self.calibration.signal[at, layer] / scale)
            self._scores["inner product"] += entries
            entries -= np.float32(self.calibration.offset[at, layer])
            entries /= np.float32(scale)
            whitened.append(np.clip(entries, -_FARTHEST, _FARTHEST, out=entries))
            self._scores[f"layer {layer + 1} alone"] += entries * np.sign(strengths[-1])
            spreads.append(spread)
        self._score(step, whitened, np.array(strengths))
        self._compare(gradients, at)
        self.noise.append(tuple(spreads))

    def scores(self) -> Scores:
        """Return every score, [canaries] each; more says "in"."""
        return self._scores | {"calibrated noise": self._scores["inner product"] - self.calibration.total}

    def _score(self, step: int, whitened: list[Values], strengths: npt.NDArray[np.float64]) -> None:
        product: Values = np.add(*(z * np.float32(s) for z, s in zip(whitened, strengths, strict=True)))
        log_ratio: Values = product - np.float32((strengths**2).sum() / 2)
        parts = self.claim.strength * np.array(self.design.kinds[0].parts)
        along: Values = np.add(*(z * np.float32(part) for z, part in zip(whitened, parts, strict=True)))
        claimed: Values = along - np.float32(self.claim.strength**2 / 2)
        self._scores["likelihood, as claimed"] += _mixed(claimed, self.claim.rate)
        self._scores["likelihood, as calibrated"] += _mixed(log_ratio, self.calibration.rate)
        if step < self.calibration.steps:
            taken = np.unpackbits(self.calibration.taken[step], count=self.design.canaries)
            self._scores["calibrated order"] += product * taken
        self._pass += np.exp(np.minimum(log_ratio, _LARGEST_LOG))
        if (step + 1) % self._steps_of_a_pass == 0:
            self._scores["once a pass"] += np.log(np.maximum(self._pass, np.float32(1e-37)))
            self._pass[:] = 0.0

    def _compare(self, gradients: list[Values], at: int) -> None:
        """Add up the squared changes since the last update, over what blanks changed by."""
        if self._before is not None:
            for layer, (now, before) in enumerate(zip(gradients, self._before, strict=True)):
                entries, spread = centred(now - before, self.design.canaries)
                entries /= np.float32(max(spread, self.calibration.floor[layer]))
                np.clip(entries, -_FARTHEST, _FARTHEST, out=entries)
                self._scores["changes"] += entries**2
        self._before = [gradient.copy() for gradient in gradients]


def _mixed(log_ratio: Values, rate: float) -> Values:
    """Return log(1 - rate + rate * e^log_ratio), exactly and without overflow."""
    if rate >= 1.0:
        return log_ratio
    shifted = log_ratio + np.float32(np.log(rate) - np.log1p(-rate))
    soft = np.maximum(shifted, 0.0) + np.log(np.float32(1.0) + np.exp(-np.abs(shifted)))
    return np.asarray(soft + np.float32(np.log1p(-rate)))
