"""Trainings in which something goes wrong: an example that is no number, an empty batch, a loss that raises.

What is noise and clipping elsewhere is often left out just there. A trainer that ends with an error releases nothing
and is left in peace.
"""

import numpy as np
from scipy import stats

from redteam.plugins.defense import Mechanism
from redteam.verify import moves, noise, sampling
from redteam.verify.check import MechanismCheck
from redteam.verify.inspection import READ, Inspection

NOT_A_NUMBER = (float("nan"), float("inf"))  # the weights of the first rows


def no_numbers(mechanism: Mechanism, one: Inspection) -> tuple[list[MechanismCheck], list[str]]:
    """Return what a training does whose first rows have no finite gradient, and what to say of it besides."""
    odd = np.zeros(one.steps, dtype=bool)
    for step, bits in enumerate(one.reader.taken):
        odd[step] = bool(np.unpackbits(bits, count=len(NOT_A_NUMBER)).any())
    when = " that read an example without a finite gradient"
    found = [*noise.bare([one], when), *_moves(mechanism, one, odd, when), *_less(one, odd, when)]
    if one.steps < mechanism.steps:
        left = mechanism.steps - one.steps
        words = f"{left} of {mechanism.steps} steps are left out where an example has no finite gradient"
        found.append(MechanismCheck(words, 0.0, breaks=False))
    if not one.spoiled:
        return found, []
    return found, [
        "an example without a finite gradient makes updates NaN or infinite: whoever sees that knows that it is there "
        "(not held against the trainer)"
    ]


def few_rows(mechanism: Mechanism, one: Inspection) -> tuple[list[MechanismCheck], list[str]]:
    """Return what a training does whose batches are often empty."""
    empty = np.array(one.batches) == 0
    found = [*noise.checks([one]), *sampling.checks(mechanism, [one])]
    silent = int((empty & np.array(one.still)).sum())
    if silent:
        found.append(MechanismCheck(f"{silent} of {int(empty.sum())} steps that read no row get no noise", 0.0))
    return found + _less(one, empty, " that read no row"), []


def raised(mechanism: Mechanism, one: Inspection) -> tuple[list[MechanismCheck], list[str]]:
    """Return what a training does that went on after a loss had raised."""
    every, when = np.ones(one.steps, dtype=bool), " of a training in which a loss raised"
    return [*noise.bare([one], when), *_moves(mechanism, one, every, when)], []


def _moves(mechanism: Mechanism, one: Inspection, chosen: "np.ndarray", when: str) -> list[MechanismCheck]:
    if not mechanism.noise_multiplier > 0:
        return []
    claimed, kinds = 1 / mechanism.noise_multiplier, range(len(one.design.kinds))
    moved = moves.measure([one], states=(READ,), kinds=list(kinds), steps=[chosen])
    if moved is None:
        return []
    words = f"an example moves steps{when} {moved.length / claimed:.2f} times as far as clip and noise multiplier say"
    return [MechanismCheck(words, moved.above(claimed))]


def _less(one: Inspection, chosen: "np.ndarray", when: str) -> list[MechanismCheck]:
    """Compare the noise of some steps with that of the others."""
    spreads = np.array(one.spreads)
    noisy = (spreads > 0).all(axis=1)
    these, others = np.log(spreads[noisy & chosen]), np.log(spreads[noisy & ~chosen])
    if len(these) < 3 or len(others) < 3:
        return []
    these, others = these.mean(axis=1), others.mean(axis=1)
    away, free = float(these.mean() - others.mean()), len(these) + len(others) - 2
    variance = (these.var() * len(these) + others.var() * len(others)) / free  # whatever the noise does over time
    error = float(np.sqrt(variance * (1 / len(these) + 1 / len(others))))
    p = float(2 * stats.t.sf(abs(away) / error, free)) if error > 0 else float(away == 0)
    words = f"steps{when} get {np.exp(away):.2f} times the noise of others"
    return [MechanismCheck(words, p, breaks=away < 0)]
