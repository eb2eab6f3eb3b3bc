"""Paired differences, gaps between groups and the worst of them: known values, naive twins, coverage."""

import itertools
import math

import numpy as np
import pytest

from redteam.core import StatisticsError
from redteam.statistics import Interval
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.fairness import (
    attainable_gap,
    attainable_mean,
    attainable_paired,
    bounded_mean,
    group_rate,
    lowest,
    newcombe,
    paired_difference,
    widest_difference,
    worst_gap,
)

ALPHAS = (0.05, 0.05 / 6)  # a number by itself, and one of six that share the error of a report


def near(interval, value, low, high):
    assert (interval.value, interval.low, interval.high) == pytest.approx((value, low, high), abs=1e-4)


def test_known_values():
    near(newcombe((56, 70), (48, 80), alpha=0.05), 0.2, 0.0524, 0.3339)
    near(group_rate((0, 50), alpha=0.05), 0, 0, 0.0711217)
    near(group_rate((3, 50), alpha=0.05), 0.06, 0.0125486, 0.1654819)
    near(bounded_mean([1] * 10, least=0, most=1, alpha=0.05), 1, 0.025 ** (1 / 10), 1)


def test_a_mean_of_zeros_and_ones_has_the_ends_of_clopper_and_pearson():
    for k, n in ((0, 12), (3, 30), (30, 60), (59, 60)):
        found = bounded_mean([1] * k + [0] * (n - k), least=0, most=1, alpha=0.05)
        exact = group_rate((k, n), alpha=0.05)
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.005)


def test_a_paired_difference_is_that_of_its_naive_twin():
    for first, second, n in ((9, 2, 40), (0, 0, 25), (5, 5, 10), (30, 0, 30), (1, 7, 90)):
        found = paired_difference(first, second, n, alpha=0.05)
        lows = [_naive_low(*pair, n, 0.025) for pair in ((first, second), (second, first))]
        near(found, (first - second) / n, min(lows[0], found.value), max(-lows[1], found.value))


def _naive_low(first, second, n, error):
    """The smallest difference that both bounds allow, found on a grid of shares and directions."""
    m = first + second
    lean = float(clopper_pearson_low(first, m, 0.8 * error)) if m else 0.0
    shares = (float(clopper_pearson_low(m, n, 0.2 * error)), float(clopper_pearson_high(m, n, 0.2 * error)))
    return min(share * (2 * theta - 1) for share in shares for theta in np.linspace(lean, 1, 101))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    ("n", "first", "second"), [(20, 0.1, 0.1), (60, 0.4, 0.4), (500, 0.01, 0.01), (200, 0.7, 0.05)]
)
def test_a_paired_difference_covers(n, first, second, alpha):
    drawn = np.random.default_rng([n, 7]).multinomial(n, [first, second, 1 - first - second], 1500)
    pairs, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    ends = [paired_difference(int(a), int(b), n, alpha=alpha) for a, b in pairs]
    missed = sum(int(c) for one, c in zip(ends, counts, strict=True) if not one.low <= first - second <= one.high)
    assert missed <= _allowed(1500, alpha)


def _allowed(runs, alpha):
    return runs * alpha + 3 * math.sqrt(runs * alpha)


SIZES = [(20, 20), (50,) * 5, (20,) * 10, (20, 2000, 20, 2000)]


@pytest.mark.parametrize("rate", [0.02, 0.3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_no_gap_is_seen_where_there_is_none(sizes, rate):
    rng = np.random.default_rng([len(sizes), 3])
    runs = 150
    for alpha in ALPHAS:
        seen = [worst_gap([(int(rng.binomial(n, rate)), n) for n in sizes], alpha=alpha)[1] for _ in range(runs)]
        assert sum(one.low > 0 for one in seen) <= _allowed(runs, alpha)


def test_the_largest_gap_is_that_of_its_naive_twin():
    counts = [(10, 40), (22, 50), (3, 60), (15, 30)]
    pair, found = worst_gap(counts, alpha=0.05)
    each = [newcombe(a, b, alpha=0.05 / 6, exact=True) for a, b in itertools.permutations(counts, 2)]
    assert found.low == pytest.approx(max(one.low for one in each))
    assert found.high == pytest.approx(max(one.high for one in each))
    assert pair == (3, 2)
    assert found.value == pytest.approx(15 / 30 - 3 / 60)


def test_a_true_gap_is_covered():
    rates, sizes, rng = (0.2, 0.5, 0.35), (40, 60, 100), np.random.default_rng(5)
    seen = [
        worst_gap([(int(rng.binomial(n, p)), n) for n, p in zip(sizes, rates, strict=True)], alpha=0.05)[1]
        for _ in range(300)
    ]
    assert sum(not one.low <= 0.3 <= one.high for one in seen) <= _allowed(300, 0.05)


def templates(count, rng, spread):
    """Mean differences of `count` templates, whose own rates differ and which have 40 fillings each."""
    own = rng.beta(spread, spread, count)
    return (rng.binomial(40, own) - rng.binomial(40, own)) / 40


@pytest.mark.parametrize("count", [12, 30, 60])
@pytest.mark.parametrize("spread", [0.1, 2])
def test_a_mean_over_templates_covers(count, spread):
    rng = np.random.default_rng([count, 11])
    for alpha in ALPHAS:
        seen = [bounded_mean(templates(count, rng, spread), least=-1, most=1, alpha=alpha) for _ in range(25)]
        assert sum(not one.low <= 0 <= one.high for one in seen) <= _allowed(25, alpha)


def test_a_mean_of_rare_large_values_covers():
    rng = np.random.default_rng(2)
    seen = [bounded_mean(rng.random(60) < 0.03, least=-1, most=1, alpha=0.05) for _ in range(60)]
    assert sum(not one.low <= 0.03 <= one.high for one in seen) <= _allowed(60, 0.05)


def test_what_a_sample_could_have_shown():
    assert attainable_paired(80, alpha=0.05) == paired_difference(80, 0, 80, alpha=0.05).low
    found = bounded_mean([1.0] * 30, least=-1, most=1, alpha=0.05).low
    assert attainable_mean(30, least=-1, most=1, alpha=0.05) == pytest.approx(found, abs=0.005)
    assert attainable_gap((30, 50), alpha=0.05) == worst_gap([(30, 30), (0, 50)], alpha=0.05)[1].low
    assert (attainable_paired(0, alpha=0.05), attainable_mean(0, least=-1, most=1, alpha=0.05)) == (-1, -1)


def test_the_lowest_of_groups():
    groups = [Interval(0.8, 0.7, 0.9, 0.025), Interval(0.6, 0.2, 0.95, 0.025)]
    assert lowest(groups, alpha=0.05) == (0, Interval(0.8, 0.2, 0.9, 0.05))
    pair, gap = widest_difference([*groups, Interval(0.1, 0.05, 0.2, 0.025)], alpha=0.05)
    assert pair == (0, 2)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.7, 0.5, 0.9))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: paired_difference(3, 3, 5, alpha=0.05),
        lambda: paired_difference(0, 0, 0, alpha=0.05),
        lambda: newcombe((3, 2), (1, 2), alpha=0.05),
        lambda: worst_gap([(1, 2)], alpha=0.05),
        lambda: widest_difference([], alpha=0.05),
        lambda: lowest([], alpha=0.05),
        lambda: bounded_mean([2.0], least=0, most=1, alpha=0.05),
        lambda: bounded_mean([math.nan], least=0, most=1, alpha=0.05),
    ],
)
def test_what_is_no_count_is_refused(wrong):
    with pytest.raises(StatisticsError):
        wrong()
