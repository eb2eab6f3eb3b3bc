"""Do steps read rows as the trainer says: how often, and each independently?"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from redteam.plugins.defense import Mechanism
from redteam.verify.check import MechanismCheck, worst
from redteam.verify.inspection import Inspection

_MORE = 1.005  # times the rate that was claimed is granted: it may have been rounded
_LAGS = 3


def checks(mechanism: Mechanism, seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return all that is checked of which rows were read, in trainings of one mechanism and design."""
    if not seen:
        return []
    found = []
    for one in seen:
        if one.steps > mechanism.steps:
            found.append(
                MechanismCheck(f"there were {one.steps:,} updates; the claim is {mechanism.steps:,} steps", 0.0)
            )
        elif one.steps < mechanism.steps:
            words = f"there were {one.steps:,} updates; the claim is {mechanism.steps:,} steps"
            found.append(MechanismCheck(words, 0.0, breaks=False))
    if not any(one.times.any() for one in seen):
        return [
            *found,
            MechanismCheck("it never asks for the losses of rows: what it samples cannot be seen", 0.0, breaks=False),
        ]
    if mechanism.sampling != "poisson":
        return [*found, *_passes(mechanism, seen)]
    whole = not any(one.steps < mechanism.steps for one in seen)  # else an update may hold several batches
    return [*found, *_rate(mechanism, seen, whole), *(_poisson(seen) if whole and mechanism.sample_rate < 1 else [])]


def _passes(mechanism: Mechanism, seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether a row is read in more steps than there are passes."""
    shortest = max(1, int(np.floor(1 / mechanism.sample_rate + 1e-9)))
    most, passes = max(int(one.times.max()) for one in seen), -(-mechanism.steps // shortest)
    if most <= passes:
        return []
    return [MechanismCheck(f"sampling: a row is in {most:,} steps of {passes:,} passes, not in one of each", 0.0)]


def _rate(mechanism: Mechanism, seen: Sequence[Inspection], whole: bool) -> list[MechanismCheck]:
    """Return whether more rows are read than the rate says: over all steps, and in one of them."""
    told = min(1.0, _MORE * mechanism.sample_rate)
    trials = sum(one.design.canaries * max(one.steps, mechanism.steps) for one in seen)
    read = sum(int(one.times.sum()) for one in seen)
    words = f"sampling: steps read rows at rate {read / trials:.3g}; the claim is {mechanism.sample_rate:.3g}"
    found = [MechanismCheck(words, _at_least(read, trials, told))]
    if not whole:
        return found
    steps = sum(one.steps for one in seen)
    each = [(_at_least(batch, one.design.canaries, told), batch) for one in seen for batch in one.batches]
    p, batch = min(each, default=(1.0, 0))
    words = f"sampling: a step read {batch:,} rows, too many for the rate {mechanism.sample_rate:.3g}"
    return worst([*found, MechanismCheck(words, min(1.0, steps * p))])


def _at_least(count: int, trials: int, rate: float) -> float:
    if rate >= 1 or not count:
        return 1.0
    return float(special.bdtrc(count - 1, trials, rate))


def _poisson(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether rows enter steps independently of each other, whatever the rate."""
    return worst([*_batches(seen), *_rows(seen), *_overlaps(seen), *_neighbours(seen)])


def _observed(seen: Sequence[Inspection]) -> float:
    return sum(int(one.times.sum()) for one in seen) / sum(one.design.canaries * one.steps for one in seen)


def _batches(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether batches vary in size as those of independent rows do."""
    rate, n = _observed(seen), seen[0].design.canaries
    sizes = np.concatenate([np.array(one.batches, dtype=np.float64) for one in seen])
    if not 0 < rate < 1 or len(sizes) < 2 or n * rate * (1 - rate) < 10:
        return []
    square = float(((sizes - sizes.mean()) ** 2).sum() / (n * rate * (1 - rate)))
    few, many = special.chdtr(len(sizes) - 1, square), special.chdtrc(len(sizes) - 1, square)
    how = "too little" if few < many else "too much"
    return [MechanismCheck(f"sampling: not Poisson (batch sizes vary {how})", 2 * float(min(few, many)))]


def _rows(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether rows take part equally often, or some far too often or too rarely, for independent draws."""
    rate, steps = _observed(seen), sum(one.steps for one in seen)
    times = np.sum([one.times for one in seen], axis=0)
    n = len(times)
    if not 0 < rate < 1 or steps < 2:
        return []
    most, least = int(times.max()), int(times.min())
    found = [
        MechanismCheck(
            f"sampling: not Poisson (a row is in {most:,} of {steps:,} steps)",
            min(1.0, n * _at_least(most, steps, rate)),
        ),
        MechanismCheck(
            f"sampling: not Poisson (a row is in {least:,} of {steps:,} steps)",
            min(1.0, n * float(special.bdtr(least, steps, rate))),
        ),
    ]
    variance = steps * rate * (1 - rate)
    if variance * n < 100:
        return found
    z = float((((times - times.mean()) ** 2).sum() / variance - (n - 1)) / np.sqrt(n * (2 + 1 / variance)))
    p = 2 * float(stats.norm.sf(abs(z) * (1.0 if z < 0 else 0.9)))  # the upper tail is longer than a normal one
    words = "equally often" if z < 0 else "unequally often"
    return [*found, MechanismCheck(f"sampling: not Poisson (rows take part {words})", min(1.0, p))]


def _overlaps(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Compare how many rows two steps share with what they share by chance, exactly, given their sizes."""
    n, pairs = seen[0].design.canaries, []
    for one in seen:
        lags = {*range(1, _LAGS + 1), round(1 / max(_observed([one]), 1 / max(one.steps, 2)))}
        pairs += [
            (one.reader.taken[at], one.reader.taken[at + lag], "steps of a training")
            for lag in sorted(lags)
            for at in range(one.steps - lag)
        ]
    for left, right in pairwise(seen):
        both = zip(left.reader.taken, right.reader.taken, strict=False)
        pairs += [(a, b, "trainings with other seeds") for a, b in both]
    if not pairs:
        return []
    shared = np.array([int(np.bitwise_count(a & b).sum()) for a, b, _ in pairs])
    sizes = np.array([[int(np.bitwise_count(part).sum()) for part in pair[:2]] for pair in pairs], dtype=np.float64)
    mean = sizes.prod(axis=1) / n
    deviation = np.sqrt(np.maximum(mean * (n - sizes[:, 0]) / n * (n - sizes[:, 1]) / max(n - 1, 1), 1e-9))
    far = np.where(deviation > 1e-4, np.abs(shared - mean) / deviation, 0.0)
    names = np.array([name for _, _, name in pairs])
    found = []
    for name in dict.fromkeys(names.tolist()):  # the pair that looks worst stands for all, at the price of all
        at = int(np.argmax(np.where(names == name, far, -1.0)))
        law = stats.hypergeom(n, int(sizes[at, 0]), int(sizes[at, 1]))
        p = 2 * float(min(law.cdf(shared[at]), law.sf(shared[at] - 1))) * len(pairs)
        words = f"two {name} share {shared[at]:,} rows of {sizes[at, 0]:,.0f} and {sizes[at, 1]:,.0f}"
        found.append(MechanismCheck(f"sampling: not Poisson ({words})", min(1.0, p)))
    return found


def _neighbours(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether neighbouring rows are read together: disjoint pairs of rows are independent of each other."""
    rate, both, pairs = _observed(seen), 0, 0
    for one in seen:
        half = one.design.canaries // 2
        for bits in one.reader.taken:
            read = _unpacked(bits, 2 * half).reshape(half, 2)
            both, pairs = both + int(read.all(axis=1).sum()), pairs + half
    if not 0 < rate < 1:
        return []
    few, many = special.bdtr(both, pairs, rate**2), _at_least(both, pairs, rate**2)
    # The rate is that of these very rows, which takes away from the spread of pairs and adds none.
    words = (
        f"sampling: not Poisson (two neighbouring rows are read together {both / pairs / rate**2:.2f} times as often)"
    )
    return [MechanismCheck(words, min(1.0, 2 * float(min(few, many))))]


def _unpacked(bits: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.bool_]:
    return np.unpackbits(bits, count=count).astype(bool)
