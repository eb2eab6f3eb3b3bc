"""What an adversary learns by running the trainer beforehand: it knows the code, and draws canaries of its own.

A calibration run uses another seed and draws other canaries in than the training that is attacked. So whatever is made
of it, a score is as valid as any other: it depends on which attacked canaries are in through the updates alone.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from redteam.core import TargetError
from redteam.verify.dirac_canaries import Design, Inclusion

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """What each step of a training did, [steps, layers] each, in the units of the updates.

    `signal` is what a canary that takes part moves its entry by, `offset` where entries lie without it, `noise` the
    standard deviation at blanks. `rate` is the share of canaries that a step read, `taken` which ones, packed bits
    [steps, canaries / 8]. `total` [canaries] is the sum of all updates, less the canaries' own share.
    """

    signal: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]
    rate: float
    taken: npt.NDArray[np.uint8]
    total: npt.NDArray[np.float64]

    @property
    def steps(self) -> int:
        """How many updates there were."""
        return len(self.noise)

    @property
    def floor(self) -> npt.NDArray[np.float64]:
        """A small noise that stands for none at all, [layers]: what it whitens is certain, but finite."""
        floor: npt.NDArray[np.float64] = np.maximum(np.abs(self.signal).max(axis=0, initial=0.0) / 30.0, 1e-30)
        return floor

    @property
    def strength(self) -> float:
        """How far one canary moves a step, in standard deviations of its noise: the root mean square over steps."""
        ratios = self.signal / np.maximum(self.noise, self.floor)
        return float(np.sqrt((ratios**2).sum(axis=1).mean()))


class Reader:
    """Notes which canaries each step read; what is read after the last update counts for no step."""

    def __init__(self, design: Design) -> None:
        """Nothing was read yet."""
        self.design = design
        self.taken: list[npt.NDArray[np.uint8]] = []
        self.parts: set[int] = set()  # how many rows were asked for at once
        self.doubled = 0  # how often a row came twice among rows asked for at once
        self.now = np.zeros(design.canaries, dtype=np.int32)  # how often each was read since the last update

    def read(self, rows: npt.NDArray[np.int64]) -> None:
        """Hear of rows whose losses a trainer asks for."""
        self.parts.add(len(rows))
        own = self.design.canary_of(rows)
        if bool((own[1:] > own[:-1]).all()):
            self.now[own] += 1
            return
        own, times = np.unique(own, return_counts=True)
        self.now[own] += times
        self.doubled += int((times > 1).sum())

    def turn(self) -> Inclusion:
        """Return the canaries read since the last update, and start anew."""
        read, self.now = self.now > 0, np.zeros_like(self.now)
        self.taken.append(np.packbits(read))
        return read


@dataclass
class CalibrationRun:
    """Watches a training whose canaries' inclusion is known."""

    design: Design
    included: Inclusion
    reader: Reader = field(init=False)
    _steps: list[tuple[npt.NDArray[Any], ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare for as many canaries as there are."""
        self.reader = Reader(self.design)
        self._total = np.zeros(self.design.canaries)
        self._times = np.zeros(self.design.canaries, dtype=np.int32)

    def observe(self, gradients: list[Values]) -> None:
        """Take in one update."""
        read = self.reader.turn()
        self._times += read & self.included
        layers = []
        for gradient in require_finite(gradients, len(self._steps)):
            entries, spread = centred(gradient, self.design.canaries)
            self._total += entries
            layers.append((entries[self.included].mean(), entries[~self.included].mean(), spread))
        ins, outs, noise = np.array(layers, dtype=np.float64).T
        self._steps.append((ins, outs, noise))

    def learned(self) -> Calibration:
        """Return what there was to learn; TargetError where the optimiser was never asked for a step."""
        if not self._steps:
            raise TargetError("the trainer never called problem.optimizer.step(): there is no update to look at")
        ins, outs, noise = (np.array(column) for column in zip(*self._steps, strict=True))
        rate = self._rate()
        signal = _steadied((ins - outs) / rate, noise, rate, self.design.canaries)
        own = signal.sum(axis=1).mean() * self._times
        taken = np.array(self.reader.taken)
        return Calibration(signal, outs, noise, rate, taken, self._total - own)

    def _rate(self) -> float:
        read = sum(int(np.bitwise_count(bits).sum()) for bits in self.reader.taken)
        return max(read, 1) / (self.design.canaries * len(self.reader.taken))


def centred(gradient: Values, canaries: int) -> tuple[Values, float]:
    """Return the canaries' entries less the mean of the blanks, and the blanks' standard deviation."""
    blanks = gradient[canaries:].astype(np.float64)
    return gradient[:canaries] - np.float32(blanks.mean()), float(blanks.std())


def require_finite(gradients: list[Values], step: int) -> list[Values]:
    """Return the gradients; TargetError where one is NaN or infinite."""
    if not all(bool(np.isfinite(gradient).all()) for gradient in gradients):
        raise TargetError(f"update {step + 1} holds NaN or infinity: no number can be made of it")
    return gradients


def _steadied(
    signal: npt.NDArray[np.float64], noise: npt.NDArray[np.float64], rate: float, canaries: int
) -> npt.NDArray[np.float64]:
    """Return each step's signal drawn towards their mean as far as its own error explains the difference."""
    error = (noise / rate) ** 2 * 4 / canaries  # of a difference of two means of half the canaries each
    weight = 1 / np.maximum(error, 1e-30)
    mean = (signal * weight).sum(axis=0) / weight.sum(axis=0)
    spread = ((signal - mean) ** 2 * weight).mean(axis=0)  # 1 where errors explain all of it
    kept = np.clip(1 - 1 / np.maximum(spread, 1e-30), 0.0, 1.0)
    return np.asarray(mean + np.where(spread > 1.5, kept, 0.0) * (signal - mean))
