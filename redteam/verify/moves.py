"""How far do examples move the updates, and do only those that were read?

Clip and noise multiplier say how many deviations of a step's noise an example moves it by. That is measured at the
steps that read it, kind of example by kind, over all steps and over those where a trainer may do something else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from redteam.plugins.defense import Mechanism
from redteam.verify.check import MechanismCheck, worst
from redteam.verify.dirac_canaries import LAYERS
from redteam.verify.inspection import AGAIN, OUT, READ, UNREAD, Inspection

Floats = npt.NDArray[np.float64]

_MORE = 1.005  # times the claim is granted: blanks give the noise of a step to a per cent, and their mean a step more
_FAR = 1.1  # times the claim is granted to a single look
_FEWEST = 30  # looks at entries that were read


@dataclass(frozen=True)
class Move:
    """By how many noises examples moved the layers, [layers]; the standard error in each; and in units of an update."""

    by: Floats
    error: float
    raw: Floats

    @property
    def length(self) -> float:
        """How far that is."""
        return float(np.linalg.norm(self.by))

    def above(self, claimed: float) -> float:
        """Return the chance to measure as much where examples move by `claimed` noises at most, whatever the way."""
        return above(self.length, self.error, claimed)


def above(length: float, error: float, claimed: float) -> float:
    """Return how often a move of `claimed` at most, measured in each layer with that error, looks so long or longer."""
    square = error**2
    p = stats.ncx2.sf(length**2 / square, LAYERS, (_MORE * claimed) ** 2 / square)
    return float(p) if np.isfinite(p) else float(stats.norm.sf((length - _MORE * claimed) / error))


def measure(
    seen: Sequence[Inspection], *, states: Sequence[int], kinds: Sequence[int], steps: Sequence[npt.NDArray[np.bool_]]
) -> Move | None:
    """Return how far entries in `states` lie from those that are out at the same steps; None where too few do."""
    total = weight = spread = 0.0
    raw: Floats = np.zeros(0)
    for one, chosen in zip(seen, steps, strict=True):
        counts, sums = np.array(one.counts)[chosen], np.array(one.sums)[chosen]
        spreads = np.array(one.spreads)[chosen]
        usable = (spreads > 0).all(axis=1)
        counts, sums, spreads = counts[usable], sums[usable], spreads[usable]
        n = counts[:, kinds][..., states].sum(axis=(1, 2))
        outs = counts[..., OUT].sum(axis=1)
        there = (n > 0) & (outs > 0)
        n, outs = n[there], outs[there]
        moved = sums[there][:, :, kinds][..., states].sum(axis=(2, 3))
        away = moved - n[:, None] * sums[there][..., OUT].sum(axis=2) / outs[:, None]
        total, weight = total + away.sum(axis=0), weight + n.sum()
        raw = raw + (away * spreads[there]).sum(axis=0) if len(raw) else (away * spreads[there]).sum(axis=0)
        spread += float((n + n**2 / outs).sum())
    if weight < _FEWEST:
        return None
    return Move(np.asarray(total / weight), float(np.sqrt(spread) / weight), np.asarray(raw / weight))


def checks(mechanism: Mechanism, seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return all that is checked of what examples do in trainings of one mechanism and design."""
    if not mechanism.noise_multiplier > 0 or not seen:
        return []
    claimed, kinds = 1 / mechanism.noise_multiplier, range(len(seen[0].design.kinds))
    every = [np.ones(one.steps, dtype=bool) for one in seen]
    said = "times as far as clip and noise multiplier say"
    found, again, unread = [], [], []
    for kind in kinds:
        for name, steps in _chosen(seen, mechanism):
            if (moved := measure(seen, states=(READ,), kinds=[kind], steps=steps)) is not None:
                words = f"an example moves a step {moved.length / claimed:.2f} {said}{name}"
                found.append(MechanismCheck(words, moved.above(claimed)))
        if (moved := measure(seen, states=(AGAIN,), kinds=[kind], steps=every)) is not None:
            words = f"an example that a step reads more than once moves it {moved.length / claimed:.2f} {said}"
            again.append(MechanismCheck(words, moved.above(claimed)))
        if (moved := measure(seen, states=(UNREAD,), kinds=[kind], steps=every)) is not None:
            words = "rows move steps that did not ask for their losses"
            unread.append(MechanismCheck(words, moved.above(0.0), breaks=False))
    found += _farthest(seen, claimed)
    if any(one.reader.doubled for one in seen):
        unread.append(MechanismCheck("sampling: a row is in one step more than once", 0.0, breaks=False))
    return [*worst(found), *worst(again), *worst(unread)]


def _farthest(seen: Sequence[Inspection], claimed: float) -> list[MechanismCheck]:
    """Return whether one example moved one step too far: what a mean over examples does not show.

    An entry over the deviation of n blanks is at most the claim over it, and a Student's t with n - 1 degrees of
    freedom; the deviation of 2,048 blanks is a tenth too small once in 10^10.
    """
    looks, one = sum(each.looks for each in seen), max(seen, key=lambda each: each.farthest)
    blanks = one.design.entries - one.design.canaries
    p = 2 * looks * float(stats.t.sf(max(0.0, one.farthest - _FAR * claimed), blanks - 1))
    words = "an example moves a single step {:.2f} times as far as clip and noise multiplier say, noise included"
    return [MechanismCheck(words.format(one.farthest / max(claimed, 1e-9)), min(1.0, p))]


def _chosen(seen: Sequence[Inspection], mechanism: Mechanism) -> Iterator[tuple[str, list[npt.NDArray[np.bool_]]]]:
    """Yield the steps that are looked at together; which ones depends on nothing that a move is measured by."""
    one_pass = max(1, round(1 / mechanism.sample_rate))
    places = [np.arange(one.steps) for one in seen]
    yield "", [at >= 0 for at in places]
    yield " in its first step", [at == 0 for at in places]
    yield " in its first pass", [at < one_pass for at in places]
    yield " in its last step", [at == len(at) - 1 for at in places]
    yield " in its last quarter", [at >= 0.75 * len(at) for at in places]
    spreads = [np.array(one.spreads).min(axis=1) for one in seen]
    yield " in the steps with least noise", [_lowest(each) for each in spreads]
    batches = [np.array(one.batches, dtype=np.float64) for one in seen]
    yield " in the smallest batches", [_lowest(each) for each in batches]
    yield " in the largest batches", [_lowest(-each) for each in batches]


def _lowest(values: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(values <= np.quantile(values, 0.25))
