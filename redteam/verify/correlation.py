"""Is the noise of each coordinate, layer, step and training drawn for it alone?

Standardised vectors of independent normal numbers have a correlation whose distribution is known exactly (that of
Student's t), so the largest of very many can be judged.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, stats

from redteam.verify.calibration import Values
from redteam.verify.check import MechanismCheck, worst

Floats = npt.NDArray[np.float64]

_FEWEST_PAIRS = 1000  # products at one distance: their sum is then normal as far out as is asked
_LAGS = 16


class Neighbours:
    """Adds up the products of noises at each distance, within a layer and between the two."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.steps = 0
        self._within = self._between = self._pairs = np.zeros(0)

    def observe(self, silent: npt.NDArray[np.bool_], layers: Sequence[tuple[Values, Values, float]]) -> None:
        """Take in one step; where `silent` is false, an entry holds more than noise and is left out."""
        size = len(silent) + len(layers[0][1])
        padded = int(fft.next_fast_len(size, real=True))
        mask = np.zeros(padded, dtype=np.float32)
        mask[:size] = np.concatenate([silent, np.ones(size - len(silent), dtype=bool)])
        noises = [np.zeros(padded, dtype=np.float32) for _ in layers]
        for noise, (entries, blanks, _) in zip(noises, layers, strict=True):
            noise[:size] = np.concatenate([np.where(silent, entries, np.float32(0)), blanks])
        first, second = (fft.rfft(noise) for noise in noises)
        of_mask = fft.rfft(mask)
        within, between, pairs = (
            fft.irfft(product, padded).astype(np.float64)
            for product in (abs(first) ** 2 + abs(second) ** 2, first.conj() * second, abs(of_mask) ** 2)
        )
        if not self.steps:
            self._within, self._between, self._pairs = (np.zeros(padded) for _ in range(3))
        self._within += within
        self._between += between
        self._pairs += pairs
        self.steps += 1

    def checks(self) -> list[MechanismCheck]:
        """Return whether noise of one place is found in another, within a step."""
        if not self.steps:
            return []
        half = len(self._pairs) // 2
        within = _largest(self._within[1:half], 2 * self._pairs[1:half])
        between = _largest(self._between, self._pairs)
        at = "neighbouring coordinates" if within[1] == 0 else f"coordinates {within[1] + 1:,} apart"
        same = "the same coordinate" if between[1] == 0 else "coordinates"
        found = [
            MechanismCheck(f"noise: correlated between {at} of a layer ({within[2]:+.2f})", within[0]),
            MechanismCheck(f"noise: correlated between {same} of two layers ({between[2]:+.2f})", between[0]),
        ]
        return worst(found)


def _largest(sums: Floats, pairs: Floats) -> tuple[float, int, float]:
    """Return p of the largest sum of products of normal numbers, its place, and the correlation."""
    usable = pairs >= _FEWEST_PAIRS
    if not bool(usable.any()):
        return 1.0, 0, 0.0
    z = np.where(usable, np.abs(sums) / np.sqrt(np.maximum(pairs, 1.0)), 0.0)
    at = int(np.argmax(z))
    return float(min(1.0, 2 * usable.sum() * stats.norm.sf(z[at]))), at, float(sums[at] / pairs[at])


def across(trainings: Sequence[dict[int, Values]]) -> list[MechanismCheck]:
    """Return whether noise at the blanks comes again in another step, layer or training.

    `trainings` hold the standardised noise of some steps, [layers, blanks] each.
    """
    rows, places = [], []
    for training, kept in enumerate(trainings):
        for step, layers in kept.items():
            for layer, noise in enumerate(layers):
                if bool(noise.any()):
                    rows.append(noise)
                    places.append((training, step, layer))
    if len(rows) < 2:
        return []
    table, of = np.array(rows), np.array(places)
    n = table.shape[1]
    gram = (table @ table.T).astype(np.float64) / n
    upper = np.triu_indices(len(table), 1)
    r = gram[upper]
    left, right = of[upper[0]], of[upper[1]]
    where = {
        "two layers of a step": (left[:, :2] == right[:, :2]).all(axis=1),
        "steps of a training": (left[:, 0] == right[:, 0]) & (left[:, 1] != right[:, 1]),
        "two trainings with other seeds": left[:, 0] != right[:, 0],
    }
    same_layer = left[:, 2] == right[:, 2]
    found: list[MechanismCheck] = []
    for name, chosen in where.items():
        if bool(chosen.any()):
            found += _of_pairs(name, r[chosen], np.abs(left - right)[chosen], n)
    # Last: where both are beyond doubt, it is said which noise comes again.
    found += [_overlap(r[those], n) for those in (same_layer, same_layer & where["steps of a training"]) if those.any()]
    return worst(found)


def _overlap(r: Floats, n: int) -> MechanismCheck:
    """Return whether noises of a layer are alike beyond chance, in either sign, as in fewer dimensions than it has.

    A squared correlation of two is n - 1 times smaller than 1 on average, and tr(S^2) / tr(S)^2 times where both have
    the covariance S: any S that is none of single coordinates raises it, wherever its dependent coordinates lie. All
    pairs of independent noises are pairwise independent, so that the sum has the variance of a chi-square (J. Schott,
    Biometrika 92, 2005).
    """
    square = float((r**2).sum())
    alike = min(n, round(1 + len(r) / square)) if square > 0 else n
    words = f"noise: correlated between coordinates of a layer (as if it had {alike:,} of {n:,})"
    return MechanismCheck(words, float(stats.chi2.sf((n - 1) * square, len(r))))


def _of_pairs(name: str, r: Floats, apart: npt.NDArray[np.int64], n: int) -> list[MechanismCheck]:
    """Return whether one pair of noises, or all pairs so many steps apart, are correlated."""
    at = int(np.argmax(np.abs(r)))
    p = min(1.0, len(r) * _chance(np.abs(r[at]), n))
    found = [MechanismCheck(f"noise: comes again in {name} (correlation {r[at]:+.2f})", p)]
    smallest, common = 1.0, 0.0
    for lag in range(_LAGS + 1):
        those = r[(apart[:, 1] == lag) & (apart[:, 2] == 0)] if name.startswith("steps") else r[apart[:, 1] == lag]
        if len(those):
            z = float(those.sum() * np.sqrt(n / len(those)))  # uncorrelated, each of variance 1 / (n - 1)
            chance = 2 * float(stats.norm.sf(abs(z))) * (_LAGS + 1)
            smallest, common = (chance, float(those.mean())) if chance < smallest else (smallest, common)
    return [*found, MechanismCheck(f"noise: correlated between {name} ({common:+.3f} on average)", min(1.0, smallest))]


def _chance(r: float, n: int) -> float:
    """Return how often two independent normal vectors of `n` numbers are correlated as much, centred both."""
    if r >= 1:
        return 0.0
    return float(2 * stats.t.sf(r * np.sqrt((n - 2) / (1 - r**2)), n - 2))
