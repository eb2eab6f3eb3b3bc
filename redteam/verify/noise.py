"""Is the noise normal, the same everywhere, at each step, and no matter what was read?

Blanks are divided by their own standard deviation, step by step, so nothing has to be known of the scale of an update;
what is tested is that 2,048 normal numbers, so divided, have a known law.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from redteam.verify.check import MechanismCheck, worst
from redteam.verify.inspection import BINS, OUT, READ, TAILS, Inspection

Floats = npt.NDArray[np.float64]

_ROUNDED = 1e-3  # by which bfloat16 moves a distribution function at most: z * density(z) / 256
_FEWEST = 8  # steps or entries below which a spread is not compared
_DIFFERENT = 0.01  # by which two noises may differ without being another noise


def checks(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return all that is checked of the noise of trainings."""
    noisy = [one for one in seen if one.noisy.any()]
    if not noisy:
        return bare(seen)
    shape = [*_shape(noisy), *_tails(noisy), _kurtosis(noisy)]
    return [*bare(seen), *worst(shape), *worst(_spread(noisy)), *worst(_everywhere(noisy))]


def bare(seen: Sequence[Inspection], when: str = "") -> list[MechanismCheck]:
    """Return whether steps, or layers of them, are released without noise, or not at all."""
    missing = np.concatenate([np.array(one.spreads) == 0 for one in seen])
    still = np.concatenate([np.array(one.still) for one in seen])
    lost = np.concatenate([np.array(one.lost) for one in seen])
    shown = missing & ~(still | lost)[:, None]
    found, steps, layers = [], len(missing), missing.shape[1]
    whole, some = int(shown.all(axis=1).sum()), int(shown.any(axis=1).sum())
    if whole:
        found.append(MechanismCheck(f"{whole} of {steps} steps{when} get no noise", 0.0))
    for layer in range(layers if some > whole else 0):
        bare_steps = int(shown[:, layer].sum())
        words = "at any step" if bare_steps == steps else f"at {bare_steps} of {steps} steps"
        if bare_steps > whole:
            found.append(MechanismCheck(f"layer {layer + 1} of {layers} gets no noise {words}{when}", 0.0))
    if still.any():
        found.append(MechanismCheck(f"{int(still.sum())} of {steps} updates{when} are all zeros", 0.0, breaks=False))
    return found


def _shape(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Bound the chance of the largest distance between distribution functions (Dvoretzky, Kiefer, Wolfowitz; Massart).

    The bound is for a normal law that is known; where mean and variance are those of the sample, distances are smaller.
    """
    counts = np.sum([one.histogram for one in seen], axis=0)
    n = int(counts.sum())
    below = np.cumsum(counts)[:-1] / n
    distance = float(np.abs(below - stats.norm.cdf(BINS[1:-1])).max())
    p = min(1.0, 2 * float(np.exp(-2 * n * max(0.0, distance - _ROUNDED) ** 2)))
    return [
        MechanismCheck(f"noise: not Gaussian (its distribution function is {distance:.3f} off, of {n:,} numbers)", p)
    ]


def _tails(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Count far numbers: clamped or redrawn noise has none, heavy tails too many."""
    far = np.sum([one.tails for one in seen], axis=0)
    n, blanks = int(sum(one.histogram.sum() for one in seen)), _blanks(seen[0])
    found = []
    for tail, count in zip(TAILS, far, strict=True):
        chance = beyond(tail, blanks)
        few, many = special.bdtr(int(count), n, chance), special.bdtrc(int(count) - 1, n, chance) if count else 1.0
        p = min(1.0, 2 * float(min(few, many)))
        words = f"{count:,} of {n:,} numbers lie beyond {tail:g} standard deviations, {n * chance:.3g} should"
        found.append(MechanismCheck(f"noise: not Gaussian ({words})", p))
    return found


def beyond(tail: float, n: int) -> float:
    """Return the chance that one of `n` normal numbers lies more than `tail` of their own deviations off their mean."""
    square = tail**2 / (n - 1)
    return float(special.betainc((n - 2) / 2, 0.5, 1 - square)) if square < 1 else 0.0


def _kurtosis(seen: Sequence[Inspection]) -> MechanismCheck:
    """Add up the samples' kurtoses: exact mean and variance under the normal law, one term of Edgeworth's series."""
    n = _blanks(seen[0])
    values = np.concatenate([np.array(one.fourths)[np.array(one.spreads) > 0] for one in seen])
    mean = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    skew = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9)) * np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    z = float((values.mean() - mean) / np.sqrt(variance / len(values)))
    extra = stats.norm.pdf(z) * skew / np.sqrt(len(values)) / 6 * (z * z - 1)
    p = 2 * float(stats.norm.sf(abs(z)) + abs(extra))
    return MechanismCheck(f"noise: not Gaussian (kurtosis {values.mean():.3f}, 3 is normal)", min(1.0, p))


def _spread(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether the noise of a step depends on how many rows it read: who sees it then knows how many."""
    found = []
    for one in seen:
        spreads, batches = np.array(one.spreads), np.array(one.batches, dtype=np.float64)
        usable = (spreads > 0).all(axis=1)
        if usable.sum() < _FEWEST or np.ptp(batches[usable]) == 0:
            continue
        level = np.log(spreads[usable]).mean(axis=1)
        rows = np.log(np.maximum(batches[usable], 0.5))
        if np.ptp(level) < 1e-6:
            continue
        r = float(np.corrcoef(level, rows)[0, 1])
        n = len(level)
        p = 0.0 if abs(r) >= 1 else float(2 * stats.t.sf(abs(r) * np.sqrt((n - 2) / (1 - r * r)), n - 2))
        found.append(
            MechanismCheck(
                f"noise: its size depends on how many rows a step read (correlation {r:+.2f}), as data must not", p
            )
        )
    return found


def _everywhere(seen: Sequence[Inspection]) -> list[MechanismCheck]:
    """Return whether some coordinates get less noise than the blanks, or than the others."""
    found = []
    for one in seen:
        steps, out = one.noisy, ~one.included
        counts = np.array([count.sum(axis=0) for count in one.counts])  # [steps, states]
        squares, noisy = np.array(one.squares), np.array(one.spreads) > 0
        for name, state in (("where an example is out", OUT), ("where a step read an example", READ)):
            found += _ratio(name, squares, counts, noisy, one, state)
        for layer, power in enumerate(one.power):
            if steps[layer] >= 1 and out.sum() >= _FEWEST:
                found.append(_least(layer, power[out], int(steps[layer])))
                found += _uneven(layer, power[out], int(steps[layer]))
    return found


def _ratio(
    name: str, squares: Floats, counts: Floats, noisy: npt.NDArray[np.bool_], one: Inspection, state: int
) -> list[MechanismCheck]:
    """Compare the variance of entries with that of the blanks, step by step; entries that moved lose their mean."""
    sums = np.array(one.sums)  # [steps, layers, kinds, states]
    each = np.array(one.counts)[:, None]
    means = sums[..., state] ** 2 / np.maximum(each[..., state], 1)
    within = squares[..., state] - means.sum(axis=2)
    free = counts[:, None, state] - (each[..., state] > 0).sum(axis=2)
    usable = noisy & (free >= _FEWEST)
    if not bool(usable.any()):
        return []
    m, free = _blanks(one), np.broadcast_to(free, usable.shape)[usable]
    ratio = within[usable] / free * (m - 3) / (m - 1)  # F(free, m - 1) over its mean
    z = float((ratio - 1 + _DIFFERENT).sum() / np.sqrt((2 / free + 2 / (m - 1)).sum()))
    words = f"noise: less of it {name} than elsewhere ({np.sqrt(max(0.0, float(ratio.mean()))):.2f} times)"
    return [MechanismCheck(words, float(stats.norm.cdf(z)))]


def _least(layer: int, power: Floats, steps: int) -> MechanismCheck:
    """Return whether one entry has far too little noise over all steps."""
    least = float(power.min())
    p = min(1.0, len(power) * float(special.chdtr(steps, least / (1 - _DIFFERENT) ** 2)))
    words = f"{np.sqrt(least / steps):.2g} times as much as at the blanks"
    return MechanismCheck(f"noise: an entry of layer {layer + 1} gets too little ({words})", p)


def _uneven(layer: int, power: Floats, steps: int) -> list[MechanismCheck]:
    """Return whether entries differ in noise more than chance does; contiguous parts first, then all by themselves."""
    n = len(power)
    relative = power / power.mean()
    z = float(((relative - 1) ** 2).mean() * steps / 2 - 1) / np.sqrt((2 + 12 / steps) / n)
    parts = [part for part in np.array_split(relative, 16) if len(part) >= _FEWEST]
    means = np.array([part.mean() - 1 for part in parts]) * np.sqrt([len(part) * steps / 2 for part in parts])
    words = f"noise: not the same at all coordinates of layer {layer + 1}"
    found = [MechanismCheck(words, float(stats.norm.sf(z * 0.9)))]  # its upper tail is longer than a normal one
    if len(means):  # few canaries make no part large enough to be looked at
        found.append(MechanismCheck(words, min(1.0, len(parts) * float(stats.norm.cdf(float(means.min()) * 0.97)))))
    return found


def _blanks(one: Inspection) -> int:
    return one.design.entries - one.design.canaries
