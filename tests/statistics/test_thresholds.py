import numpy as np
import pytest
from populations import allowed
from scipy import stats

from redteam.core import StatisticsError
from redteam.statistics.advantage import advantage, advantage_bound
from redteam.statistics.binomial import clopper_pearson_high
from redteam.statistics.thresholds import Bonferroni, Explicit, MultiSplit, SingleSplit

STRATEGIES = [
    Explicit(0.3),
    SingleSplit(seed=0),
    SingleSplit(seed=0, fraction=0.2),
    MultiSplit(seed=0, splits=11),
    Bonferroni((-1.0, 0.0, 1.0, 2.0)),
    Bonferroni(1),
    Bonferroni(20),
]


def best_of_all(in_scores, out_scores, bound, alpha):
    """What most peers do: the best bound over every threshold, with no correction."""
    tried = np.concatenate([in_scores, out_scores])
    tp = np.array([np.sum(in_scores >= t) for t in tried])
    fp = np.array([np.sum(out_scores >= t) for t in tried])
    return float(bound(tp, len(in_scores), fp, len(out_scores), alpha).max())


def null_pairs(runs, n, digits=None):
    """Members and non-members from one distribution: the true advantage is 0 at every threshold."""
    for run in range(runs):
        scores = np.random.default_rng([17, run]).normal(0, 1, 2 * n)
        yield (scores if digits is None else scores.round(digits)).reshape(2, n)


def false_alarms(lower_bound, pairs):
    return sum(lower_bound(members, others) > 0 for members, others in pairs)


def test_the_best_of_all_thresholds_breaks_the_level():
    wrong = false_alarms(lambda a, b: best_of_all(a, b, advantage_bound, 0.2), null_pairs(150, 400))
    print(f"no correction: {wrong} of 150 at alpha 0.2")
    assert wrong > allowed(0.2, 150)  # observed 66


@pytest.mark.parametrize("digits", [None, 0])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_every_strategy_keeps_the_level(strategy, digits):
    wrong = false_alarms(
        lambda a, b: strategy.lower_bound(a, b, advantage_bound, alpha=0.2), null_pairs(300, 400, digits)
    )
    print(f"{strategy}: {wrong} of 300 at alpha 0.2")
    assert wrong <= allowed(0.2, 300)


@pytest.mark.parametrize("levels", [None, 3, 10])
@pytest.mark.parametrize("r", [1, 5, 30])
def test_a_fixed_rank_of_the_nonmembers_keeps_the_level_of_their_bound(r, levels):
    rng, n, runs, wrong = np.random.default_rng(4), 60, 2000, 0
    for _ in range(runs):
        scores = rng.random(n) if levels is None else rng.integers(0, levels, n) / levels
        threshold = np.sort(scores)[-r]
        found = np.sum(scores >= threshold)
        wrong += clopper_pearson_high(found, n, 0.1) < 1 - threshold
    assert wrong <= allowed(0.1, runs)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_every_strategy_finds_a_leak(strategy):
    rng = np.random.default_rng(1)
    bound = strategy.lower_bound(rng.normal(1.5, 1, 2000), rng.normal(0, 1, 2000), advantage_bound, alpha=0.05)
    best = 2 * stats.norm.cdf(0.75) - 1
    assert 0.3 < bound < best


def test_an_explicit_threshold_counts_scores_at_or_above_it():
    seen = {}

    def bound(tp, n_in, fp, n_out, alpha):
        seen.update(tp=tp.tolist(), n_in=n_in, fp=fp.tolist(), n_out=n_out, alpha=alpha)
        return np.zeros(len(tp))

    Explicit(2.0).lower_bound([1, 2, 3], [0, 2], bound, alpha=0.05)
    assert seen == {"tp": [2], "n_in": 3, "fp": [1], "n_out": 2, "alpha": 0.05}


def test_bonferroni_divides_the_error_by_the_thresholds_it_tries():
    alphas = []

    def bound(tp, n_in, fp, n_out, alpha):
        alphas.append((len(tp), alpha))
        return np.zeros(len(tp))

    Bonferroni((1.0, 2.0)).lower_bound([1, 2], [3, 4], bound, alpha=0.05)
    Bonferroni(50).lower_bound(np.arange(1000), np.arange(1000), bound, alpha=0.05)
    Bonferroni(50).lower_bound(np.arange(9), np.ones(7), bound, alpha=0.05)
    for count, alpha in alphas:
        assert alpha == 0.05 / count
    assert alphas[0][0] == 2
    assert 30 <= alphas[1][0] <= 50
    assert alphas[2][0] == 7  # ties do not make it cheaper: the number may not depend on the scores


def test_multisplit_takes_the_lower_median_of_its_splits_at_half_the_error():
    rng = np.random.default_rng(2)
    members, others = rng.normal(1, 1, 200), rng.normal(0, 1, 200)
    seeds = np.random.SeedSequence(3).generate_state(4, np.uint64)
    each = sorted(SingleSplit(int(s)).lower_bound(members, others, advantage_bound, alpha=0.025) for s in seeds)
    found = MultiSplit(3, splits=4).lower_bound(members, others, advantage_bound, alpha=0.05)
    assert found == each[1]
    assert found == MultiSplit(3, splits=4).lower_bound(members, others, advantage_bound, alpha=0.05)


def test_a_split_judges_on_scores_that_did_not_choose():
    sizes = []

    def bound(tp, n_in, fp, n_out, alpha):
        sizes.append((len(tp), n_in, n_out))
        return np.asarray(tp, dtype=float)

    SingleSplit(0, fraction=0.25).lower_bound(np.arange(40), np.arange(20), bound, alpha=0.05)
    assert sizes[0][1:] == (10, 5)
    assert sizes[1] == (1, 30, 15)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_hundred_thousand_canaries(strategy):
    rng = np.random.default_rng(0)
    members, others = rng.normal(0.3, 1, 100_000), rng.normal(0, 1, 100_000)
    found = strategy.lower_bound(members, others, advantage_bound, alpha=0.05)
    assert 0.05 < found <= 0.1192 + 1e-3  # 2 Phi(0.15) - 1, the largest advantage there is


@pytest.mark.parametrize(
    "make",
    [
        lambda: Explicit(float("nan")),
        lambda: SingleSplit(0, fraction=1.0),
        lambda: MultiSplit(0, splits=0),
        lambda: Bonferroni(0),
        lambda: Bonferroni(()),
        lambda: Bonferroni((1.0, float("inf"))),
    ],
)
def test_an_impossible_strategy_is_refused(make):
    with pytest.raises(StatisticsError):
        make()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_scores_that_cannot_be_used_are_refused(strategy):
    for members, others in (([], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0])):
        with pytest.raises(StatisticsError, match="in_scores"):
            strategy.lower_bound(members, others, advantage_bound, alpha=0.05)
    with pytest.raises(StatisticsError, match="alpha"):
        strategy.lower_bound([1.0, 2.0], [1.0, 2.0], advantage_bound, alpha=0.0)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_the_advantage_is_an_interval(strategy):
    rng = np.random.default_rng(5)
    is_member = np.arange(600) < 300
    scores = rng.normal(0, 1, 600) + 1.5 * is_member
    found = advantage(scores, is_member, alpha=0.05, threshold=strategy)
    gaps = [np.mean(scores[is_member] >= t) - np.mean(scores[~is_member] >= t) for t in scores]
    assert found.value == pytest.approx(max(gaps))
    assert -1 <= found.low <= found.value
    assert found.high == 1.0
