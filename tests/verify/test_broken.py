"""Bugs that pass by the bound on epsilon alone: each is caught, and what is merely unusual is left in peace."""

import copy

import broken
import doubles
import numpy as np
import pytest

from redteam.verify import correlation, moves, noise, side
from redteam.verify.calibration import Reader
from redteam.verify.check import MOST, contradictions, level
from redteam.verify.dirac_canaries import Design
from redteam.verify.inspection import Inspection
from redteam.verify.run import VerificationPlan, verify

SMALL = VerificationPlan(canaries=500, epochs=2)
OPEN = broken.named("SkipsEmpty", "DropsLarge", "SkipsNotFinite", "Zeros")  # seen, and not proven to leak
SOME = (
    *broken.named("Antithetic", "Projected", "FirstRow", "Rescues", "BareEmpty", "RealBatch", "FromAbove", "Late"),
    *OPEN,
)


@pytest.mark.parametrize("trainer", [*broken.NAMED, *SOME], ids=lambda trainer: trainer.name)
def test_a_broken_trainer_is_caught(trainer):
    result = verify(trainer(), SMALL, seed=3)
    assert result.verdict == ("inconclusive" if trainer in OPEN else "violated"), result.reason


CAREFUL = ("MoreNoise", "FewerRows", "Smaller", "SmallerAndNoisier", "SmallerL1")  # more so than they say
UNUSUAL = broken.named(*CAREFUL, "Autograd", "ReleasedBf16", "L1", "NotAmplified", "AsksTwice", "SaysShuffled")


@pytest.mark.parametrize("trainer", UNUSUAL, ids=lambda trainer: trainer.name)
def test_an_unusual_honest_trainer_is_consistent(trainer):
    result = verify(trainer(), VerificationPlan(canaries=1_000, epochs=4), seed=3)
    assert result.verdict == "consistent", result.reason


def seen(seed, *, steps=8, canaries=300, draw=None):
    """An inspection of a training that releases noise alone."""
    rng, design = np.random.default_rng(seed), Design(canaries)
    reader = Reader(design)
    one = Inspection(design, design.sample_inclusion(rng), reader)
    for _ in range(steps):
        reader.read(np.flatnonzero(rng.random(canaries) < 0.3))
        drawn = [(draw or rng.standard_normal)(design.entries).astype(np.float32) for _ in range(2)]
        one.observe(drawn)
        reader.turn()
    return one


def test_p_values_of_normal_noise_are_no_smaller_than_they_say():
    """Over many trainings of noise alone; 1 in 20 may lie below 0.05, and none at the level that is used."""
    found = {}
    for seed in range(120):
        one = seen(seed)
        checks = [*noise._tails([one]), *noise._shape([one]), noise._kurtosis([one]), *one.neighbours.checks()]
        checks += [*side.across([one.kept]), *noise._everywhere([one]), *noise._spread([one])]
        checks += moves._farthest([one], 0.0)
        for at, check in enumerate(checks):
            found.setdefault(at, []).append(check.p)
    for ps in found.values():
        assert np.mean(np.array(ps) <= 0.05) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 120)
        assert min(ps) > level(0.01)


def test_the_overlap_of_noises_has_the_tail_that_is_used():
    """p is uniform where noises are independent; half the coordinates twice, shuffled, are far off."""
    rng, ps = np.random.default_rng(0), []
    for _ in range(1_000):
        noise = rng.standard_normal((24, 256))
        noise -= noise.mean(axis=1, keepdims=True)
        noise /= noise.std(axis=1, keepdims=True)
        ps.append(correlation._overlap((noise @ noise.T / 256)[np.triu_indices(24, 1)], 256).p)
    for alpha in (0.5, 0.05, 0.01):
        assert np.mean(np.array(ps) <= alpha) <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / 1_000)
    assert np.mean(np.array(ps) <= 0.5) > 0.4
    where = rng.permutation(300)
    twice = {step: np.tile(rng.standard_normal((2, 150)), 2)[:, where].astype(np.float32) for step in range(12)}
    (check,) = correlation.across([twice])
    assert check.p < level(0.01)
    assert "as if it had" in check.says


def test_the_kurtosis_has_the_tail_that_is_used():
    """Importance sampling: numbers from a slightly heavier law, weighted back, say how often p is as small."""
    rng, n, runs, inflated, share = np.random.default_rng(0), 2048, 4_000, 2.0, 0.004
    z = rng.standard_normal((runs, n)) * np.where(rng.random((runs, n)) < share, inflated, 1.0)
    ratio = 1 - share + share / inflated * np.exp(z**2 / 2 * (1 - inflated**-2))
    weights = np.exp(-np.log(ratio).sum(axis=1))
    centred = z - z.mean(axis=1, keepdims=True)
    fourths = (centred**4).mean(axis=1) / (centred**2).mean(axis=1) ** 2
    one = seen(0, steps=1)
    p = np.array([noise._kurtosis([replaced(one, [[value]])]).p for value in fourths])
    for alpha in (1e-3, 1e-4):
        rare = weights * ((p <= alpha) & (fourths > 3))
        error = rare.std() / np.sqrt(runs)
        assert rare.sum() > 0
        assert rare.mean() <= 3 * alpha + 3 * error  # one sample of 2,048; a verification adds up 40 at least


def replaced(one, fourths):
    """The same inspection with other kurtoses."""
    other = copy.copy(one)
    other.fourths, other.spreads = [np.array(each) for each in fourths], [np.ones(1)]
    return other


def test_far_numbers_are_as_rare_as_they_should_be():
    drawn = np.random.default_rng(0).standard_normal((20_000, 50))
    own = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)
    for tail in (1.0, 2.0, 3.0):
        expected = noise.beyond(tail, 50)
        assert np.mean(np.abs(own) > tail) == pytest.approx(expected, abs=5 * np.sqrt(expected / own.size))


def test_no_more_checks_are_made_than_share_the_error(monkeypatch):
    counted = []

    def counting(checks, alpha):
        kept = list(checks)
        counted.append(len(kept))
        return contradictions(kept, alpha)

    monkeypatch.setattr("redteam.verify.run.contradictions", counting)
    verify(doubles.Honest(), SMALL, seed=0)
    assert 20 < counted[0] <= MOST
