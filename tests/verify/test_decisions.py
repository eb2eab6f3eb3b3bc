"""The verdict, what forbids a good one, and what is said beside it."""

import numpy as np
import pytest

from redteam.plugins.defense import Mechanism, PrivateRun
from redteam.report.values import Budget, Guarantee
from redteam.statistics.epsilon import EpsilonBound, Sampled
from redteam.verify.check import MechanismCheck, contradictions, level, worst
from redteam.verify.evidence import Shown
from redteam.verify.noise import _uneven
from redteam.verify.signal_check import SignalCheck, doubt
from redteam.verify.verdict import decide, deciding, doubts, promises, ruled_out, sampled_as_told, stated


def bound(low, attainable):
    return EpsilonBound(low, attainable, "clopper_pearson", "")


def budget(epsilon):
    return Budget(epsilon, 1e-5, "example", "add or remove one", "PLD")


@pytest.mark.parametrize(
    ("low", "attainable", "accounted", "word"),
    [
        (1.0, 9.0, 2.0, "consistent"),
        (2.0, 9.0, 2.0, "consistent"),
        (2.01, 9.0, 2.0, "violated"),
        (1.0, 1.9, 2.0, "inconclusive"),
        (0.0, 2.0, 2.0, "inconclusive"),
        (0.5, 9.0, None, "inconclusive"),
        (0.5, 9.0, float("nan"), "inconclusive"),
    ],
)
def test_verdicts(low, attainable, accounted, word):
    assert decide(None if accounted is None else budget(accounted), bound(low, attainable), alpha=0.05)[0] == word


def test_a_doubt_forbids_consistent_and_hides_no_violation():
    assert decide(budget(2.0), bound(1.0, 9.0), alpha=0.05, doubts=["hidden"]) == ("inconclusive", "hidden")
    assert decide(budget(2.0), bound(2.5, 9.0), alpha=0.05, doubts=["hidden"])[0] == "violated"


def test_what_is_proven_is_a_violation_whatever_the_bound_shows():
    word, reason = decide(budget(2.0), bound(0.1, 1.0), alpha=0.05, proven=["noise: not Gaussian"], doubts=["hidden"])
    assert word == "violated"
    assert "noise: not Gaussian" in reason


def test_checks_share_a_part_of_alpha():
    found = [
        MechanismCheck("certain", 0.0),
        MechanismCheck("odd", level(0.05), breaks=False),
        MechanismCheck("luck", 2 * level(0.05)),
    ]
    assert contradictions([*found, found[0]], 0.05) == (["certain"], ["odd"])
    assert worst([]) == []
    (one,) = worst([MechanismCheck("a", 0.2), MechanismCheck("b", 0.1), MechanismCheck("c", 0.9)])
    assert (one.says, one.p) == ("b", pytest.approx(0.3))


def test_what_exceeds_a_claim_or_needs_independence_is_a_doubt():
    def found(low, independent, *, nominal=2.0, accounted=6.0, gaussian=0.0):
        shown = Shown("s", bound(independent, 9.0), bound(gaussian, 9.0), bound(low, 9.0))
        return doubts(budget(nominal), budget(accounted), shown, shown.one_run)

    assert found(1.0, 1.0) == []
    assert found(2.0, 6.0) == []
    assert ["the claim is broken" in doubt for doubt in found(3.0, 1.0)] == [True]
    assert ["if canaries are independent" in doubt for doubt in found(1.0, 6.5)] == [True]
    assert found(1.0, 1.0, gaussian=6.2) == []
    assert ["if the mechanism is Gaussian" in doubt for doubt in found(1.0, 1.0, gaussian=6.4)] == [True]


def test_what_was_not_asked_for_is_said():
    assert promises(budget(2.0), budget(2.0), bound(2.0, 9.0), asked=(2.0, 1e-5)) == ()
    (more,) = promises(budget(2.0), budget(5.81), bound(1.0, 9.0), asked=(2.0, 1e-5))
    assert more == "it was asked for epsilon 2, and accounts for 5.81"
    assert len(promises(budget(2.0), budget(2.0), bound(1.0, 9.0), asked=(2.0, 1e-6))) == 2
    (broken,) = promises(budget(2.0), budget(2.0), bound(2.5, 9.0), asked=(2.0, 1e-5))
    assert broken.endswith("the claim is broken")


@pytest.mark.parametrize(
    ("main", "trial", "says"),
    [
        ((1.0, 0.05), None, None),
        ((0.80, 0.05), None, None),
        ((0.79, 0.05), None, "only 0.79"),
        ((1.0, 0.14), None, "so few canaries"),
        ((1.0, 0.14), (1.0, 0.02), None),
        ((1.0, 0.14), (0.85, 0.02), "only 0.85"),
        ((1.0, 0.05), (0.85, 0.02), "only 0.85"),
        ((0.79, 0.05), (1.0, 0.02), "only 0.79"),
        ((1.0, 0.14), (1.0, 0.14), "so few canaries"),
        ((float("nan"), 0.05), None, "only nan"),
        ((1.0, float("nan")), (1.0, 0.02), "so few canaries"),
        ((2.0, 0.01), None, None),
    ],
)
def test_a_canary_has_to_reach_the_updates(main, trial, says):
    for nominal in (1.0, 3.0):
        measured = [
            None if one is None else SignalCheck(one[0] * nominal, one[1] * nominal, nominal) for one in (main, trial)
        ]
        reason = doubt(*measured)
        assert reason is None if says is None else says in reason


def test_what_promises_nothing_is_not_judged():
    mechanism = Mechanism(1.0, 0.0, 0.1, 10)
    assert stated(PrivateRun(mechanism, None)) == (None, None)
    assert stated(PrivateRun(mechanism, Guarantee(budget(1.0), budget(np.inf)))) == (None, None)


def test_who_accounts_for_more_than_nominal_is_judged_by_the_bound_without_assumptions():
    mechanism = Mechanism(1.0, 1.0, 0.1, 10)
    assert deciding(PrivateRun(mechanism, Guarantee(budget(2.0), budget(2.0)))) == "clopper_pearson"
    assert deciding(PrivateRun(mechanism, Guarantee(budget(2.0), budget(9.0)))) == "one_run"


class Seen:
    """An adversary that saw this noise at each step of two layers."""

    def __init__(self, *noise):
        self.noise = [(each, each) for each in noise]


def told(nominal=2.0, accounted=2.0, **mechanism):
    of = {"clip": 1.0, "noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10} | mechanism
    return PrivateRun(Mechanism(**of), Guarantee(budget(nominal), budget(accounted)))


def test_gaussian_steps_on_poisson_samples_are_judged_by_the_noise_that_is_ruled_out():
    assert sampled_as_told(told(), Seen(1.0, 1.1, 0.9)) == Sampled(0.1, 10)
    for run in (
        told(accounted=9.0),
        told(sampling="shuffled"),
        told(noise_multiplier=0.0),
        told(sample_rate=1.5),
        told(steps=10**6),
    ):
        assert sampled_as_told(run, Seen(1.0)) is None


def test_noise_that_changes_is_not_judged_so():
    assert sampled_as_told(told(), Seen(1.0, 0.6)) is None


def test_noise_that_is_ruled_out_is_proven_where_it_is_clear():
    def found(low):
        shown = Shown("s", bound(0.5, 9.0), bound(0.5, 9.0), bound(0.5, 9.0), low and bound(low, 99.0))
        return ruled_out(budget(2.0), shown)

    assert found(None) == found(2.0) == found(2.09) == ruled_out(None, Shown(*["s", *[bound(1, 2)] * 4])) == []
    (said,) = found(3.0)
    assert "epsilon 3.00" in said
    assert decide(budget(2.0), bound(0.5, 9.0), alpha=0.05, proven=[said])[0] == "violated"


@pytest.mark.parametrize("entries", [20, 100, 479, 481, 2000])
def test_even_noise_at_few_entries_is_no_contradiction(entries):
    """Fewer than 480 entries make no part that is large enough to compare: nothing is said of parts then."""
    rng, steps = np.random.default_rng(entries), 25
    least = [min(check.p for check in _uneven(0, rng.chisquare(steps, entries), steps)) for _ in range(200)]
    assert min(least) > 1e-5
