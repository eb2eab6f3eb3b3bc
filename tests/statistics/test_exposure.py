"""Exposure, extraction measures and the sign test: oracles, naive twins and coverage by simulation."""

import itertools
import math
from operator import eq

import numpy as np
import pytest
from scipy import stats

from redteam.core import StatisticsError
from redteam.statistics import attainable_extraction_rate
from redteam.statistics.exposure import (
    chance,
    compare_heldout,
    exact_exposure,
    fewest_canaries,
    mean_interval,
    median_interval,
    sampled_exposure,
    share_interval,
    whole_secrets_p_value,
)


class TestExact:
    def test_best_and_worst(self):
        losses = np.arange(1024.0)
        assert exact_exposure(0.0, losses).bits == 10.0
        assert exact_exposure(1023.0, losses).bits == 0.0
        assert exact_exposure(1.0, losses).bits == 9.0
        assert exact_exposure(1.0, losses).most == 10.0
        assert exact_exposure(1.0, losses).method == "exact"

    def test_equal_losses_count_against_the_secret(self):
        assert exact_exposure(2.0, [2.0] * 8).bits == 0.0
        assert exact_exposure(1.0, [1.0, 1.0, 3.0, 4.0]).bits == 1.0

    def test_naive_twin(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            losses = rng.integers(0, 30, size=64).astype(float)
            secret = float(rng.choice(losses))
            rank = 1 + sum(1 for x in losses if x < secret) + sum(1 for x in losses if x == secret) - 1
            assert exact_exposure(secret, losses).bits == pytest.approx(math.log2(64) - math.log2(rank))

    def test_a_secret_the_model_knows_nothing_of_has_what_chance_says(self):
        bits = [exact_exposure(float(i), np.arange(10_000.0)).bits for i in range(0, 10_000)]
        assert np.mean(bits) == pytest.approx(chance([10, 10, 10, 10]).exposure, abs=1e-9)

    @pytest.mark.parametrize("losses", [[1.0, float("nan")], [1.0, math.inf], [], [[1.0]]])
    def test_bad_losses(self, losses):
        with pytest.raises(StatisticsError):
            exact_exposure(1.0, losses)

    @pytest.mark.parametrize("loss", [1.5, float("nan"), -1.0])
    def test_a_loss_that_is_not_among_them(self, loss):
        with pytest.raises(StatisticsError, match="not among"):
            exact_exposure(loss, [1.0, 2.0, 3.0])


class TestSampled:
    def test_interpolated_where_the_sample_reaches(self):
        rng = np.random.default_rng(1)
        whole = rng.gamma(2.0, size=200_000)
        for quantile in (0.002, 0.01, 0.1, 0.5, 0.9):
            secret = float(np.quantile(whole, quantile, method="higher"))
            found = sampled_exposure(secret, rng.choice(whole, 20_000), candidates=len(whole))
            assert found.method == "interpolated"
            assert found.bits == pytest.approx(exact_exposure(secret, whole).bits, abs=0.35)

    @pytest.mark.parametrize("degrees", [3, 8, 25, math.inf])
    @pytest.mark.parametrize("share", [1e-6, 1e-7])
    def test_beyond_the_sample_it_is_the_bound_and_never_more_than_the_truth(self, degrees, share):
        """A curve through a sample with another tail says far more bits than are true, however well it seems to fit."""
        tail = stats.norm if degrees == math.inf else stats.t(degrees)
        sample, secret = tail.rvs(size=20_000, random_state=3), float(tail.ppf(share))
        found = sampled_exposure(secret, sample, candidates=10**12)
        assert found.method == "bounded"
        assert found.bits == math.log2(20_001) <= -math.log2(share)
        assert found.at_least < found.bits

    def test_one_candidate_before_it_is_enough_to_interpolate(self):
        found = sampled_exposure(0.5, np.arange(999.0), candidates=10**9)
        assert (found.bits, found.method) == (math.log2(500), "interpolated")

    def test_never_more_than_the_candidates_allow(self):
        sample = np.random.default_rng(5).normal(size=1000)
        assert sampled_exposure(-1e3, sample, candidates=512).bits == 9.0
        assert sampled_exposure(1e3, sample, candidates=4096).bits == pytest.approx(0.0, abs=1e-9)

    def test_equal_losses(self):
        found = sampled_exposure(1.0, np.ones(500), candidates=10**6)
        assert (found.bits, found.method) == (0.0, "interpolated")

    @pytest.mark.parametrize(("loss", "sample"), [(float("nan"), [1.0, 2.0]), (1.0, [1.0]), (1.0, [1.0, math.nan])])
    def test_bad_input(self, loss, sample):
        with pytest.raises(StatisticsError):
            sampled_exposure(loss, sample, candidates=100)


class TestChance:
    def test_four_digits(self):
        found = chance([10] * 4)
        assert (found.token_accuracy, found.success, found.hamming) == pytest.approx((0.1, 1e-4, 3.6))
        assert found.exposure == pytest.approx(1.4427, abs=1e-3)
        assert found.median_exposure == pytest.approx(1.0, abs=1e-3)
        assert found.candidates == 10_000

    def test_naive_twin(self):
        sizes = [2, 3, 4]
        secrets = list(itertools.product(*(range(size) for size in sizes)))
        right = np.array([[a == b for a, b in zip(s, t, strict=True)] for s in secrets for t in secrets])
        found = chance(sizes)
        assert found.token_accuracy == pytest.approx(right.mean())
        assert found.success == pytest.approx(right.all(axis=1).mean())
        assert found.hamming == pytest.approx((~right).sum(axis=1).mean())
        assert found.exposure == pytest.approx(np.mean([math.log2(24 / rank) for rank in range(1, 25)]))

    def test_large_numbers(self):
        assert chance([30_000] * 10).exposure == pytest.approx(1 / math.log(2))
        assert chance([30_000] * 10).success == pytest.approx(30_000.0**-10)
        assert chance([2**24, 2**24]).exposure == pytest.approx(1 / math.log(2), abs=1e-6)

    def test_no_alphabet(self):
        with pytest.raises(StatisticsError):
            chance([])


def misses(make, interval, truth, *, alpha, runs):
    """Share of runs in which the interval does not hold the truth, and the most that chance allows at 1e-6."""
    wrong = 0
    for run in range(runs):
        found = interval(make(np.random.default_rng([7, run])))
        assert found.low <= found.value <= found.high
        wrong += not found.low <= truth <= found.high
    return wrong, stats.binom.ppf(1 - 1e-6, runs, alpha)


class TestIntervals:
    @pytest.mark.parametrize("n", [2, 20])
    @pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.97])
    def test_mean_of_symbols_right(self, n, p):
        wrong, most = misses(
            lambda rng: rng.binomial(4, p, size=n) / 4,
            lambda x: mean_interval(x, low=0.0, high=1.0, alpha=0.1),
            p,
            alpha=0.1,
            runs=800,
        )
        assert wrong <= most

    def test_mean_of_all_or_nothing_values(self):
        """Two-point values spread the most; the bound is careful (it misses 1 % where 10 % is allowed), not idle."""
        wrong, most = misses(
            lambda rng: 10.0 * rng.binomial(1, 0.3, size=15),
            lambda x: mean_interval(x, low=0.0, high=10.0, alpha=0.1),
            3.0,
            alpha=0.1,
            runs=3000,
        )
        assert 0 < wrong <= most

    def test_mean_against_a_grid(self):
        values = np.array([0.0, 0.25, 0.5, 1.0, 0.25])
        found = mean_interval(values, low=0.0, high=1.0, alpha=0.05)
        grid = np.linspace(1e-6, 1 - 1e-6, 100_001)
        mean = values.mean()
        divergence = mean * np.log(mean / grid) + (1 - mean) * np.log((1 - mean) / (1 - grid))
        kept = grid[5 * divergence <= math.log(2 / 0.05)]
        assert (found.low, found.high) == pytest.approx((kept[0], kept[-1]), abs=2e-5)

    def test_mean_at_the_ends(self):
        assert mean_interval([0.0] * 9, low=0.0, high=4.0, alpha=0.05).low == 0.0
        full = mean_interval([4.0] * 9, low=0.0, high=4.0, alpha=0.05)
        assert full.high == 4.0
        assert full.low == pytest.approx(4 * (0.05 / 2) ** (1 / 9), rel=1e-6)

    @pytest.mark.parametrize("n", [3, 6, 20, 51])
    def test_median(self, n):
        for make, truth in (
            (lambda rng: rng.exponential(size=n), math.log(2)),
            (lambda rng: rng.integers(0, 3, size=n).astype(float), 1.0),
        ):
            wrong, most = misses(
                make, lambda x: median_interval(x, low=0.0, high=50.0, alpha=0.1), truth, alpha=0.1, runs=800
            )
            assert wrong <= most

    def test_median_takes_the_narrowest_valid_ends(self):
        values = np.arange(20.0)
        found = median_interval(values, low=-1.0, high=99.0, alpha=0.05)
        assert (found.low, found.high) == (5.0, 14.0)  # P[Bin(20, 1/2) <= 5] = 0.0207, and <= 6 is 0.0577
        few = median_interval(values[:5], low=-1.0, high=99.0, alpha=0.05)
        assert (few.low, few.high) == (-1.0, 99.0)

    def test_share(self):
        found = share_interval(10, 20, alpha=0.05)
        theirs = stats.binomtest(10, 20).proportion_ci(0.95)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))

    @pytest.mark.parametrize("values", [[], [0.5, math.nan], [0.5, 1.5], [-0.1]])
    def test_values_that_are_none(self, values):
        with pytest.raises(StatisticsError):
            mean_interval(values, low=0.0, high=1.0, alpha=0.05)


class TestSignTest:
    def test_scipy_agrees(self):
        rng = np.random.default_rng(8)
        for _ in range(40):
            planted, heldout = rng.integers(0, 5, size=(2, 17)).astype(float)
            found = compare_heldout(planted, heldout, alpha=0.05)
            assert found.wins + found.losses + found.ties == 17
            decided = found.wins + found.losses
            theirs = stats.binomtest(found.wins, decided, alternative="greater")
            assert found.p_value == pytest.approx(theirs.pvalue)
            assert found.low == pytest.approx(theirs.proportion_ci(0.95).low)
            assert found.proven == (found.low >= 0.5)

    @pytest.mark.parametrize("alpha", [0.05, 0.01])
    def test_size_is_exact_whatever_the_dependence(self, alpha):
        """What was planted alone is random: the values are one shared, dependent, tied mess that stays as it is."""
        rng = np.random.default_rng(9)
        both = np.sort(rng.integers(0, 12, size=(24, 2)).astype(float) + np.arange(24)[:, None], axis=1)
        included = rng.random((20_000, 24)) < 0.5
        fired = 0
        for first in included[:6000]:
            planted, heldout = np.where(first, both[:, 0], both[:, 1]), np.where(first, both[:, 1], both[:, 0])
            fired += compare_heldout(planted, heldout, alpha=alpha).proven
        assert fired <= stats.binom.ppf(1 - 1e-6, 6000, alpha)

    def test_all_level_proves_nothing(self):
        found = compare_heldout(np.ones(30), np.ones(30), alpha=0.05)
        assert (found.wins, found.losses, found.ties, found.p_value, found.low) == (0, 0, 30, 1.0, 0.0)
        assert not found.proven

    def test_it_takes_so_many(self):
        for alpha in (0.05, 0.01, 0.0031, 0.5):
            n = fewest_canaries(alpha)
            assert compare_heldout(np.zeros(n), np.ones(n), alpha=alpha).proven
            assert n == 1 or not compare_heldout(np.zeros(n - 1), np.ones(n - 1), alpha=alpha).proven

    @pytest.mark.parametrize(("planted", "heldout"), [([math.nan], [1.0]), ([1.0], [math.inf]), ([1.0, 2.0], [1.0])])
    def test_what_is_no_number_is_refused(self, planted, heldout):
        with pytest.raises(StatisticsError):
            compare_heldout(planted, heldout, alpha=0.05)


class TestWholeSecrets:
    def test_by_hand(self):
        assert whole_secrets_p_value(0, 20, 100) == 1.0
        assert whole_secrets_p_value(1, 1, 100) == pytest.approx(0.01)
        assert whole_secrets_p_value(2, 20, 10_000) == pytest.approx(190e-8, rel=2e-3)
        assert whole_secrets_p_value(3, 20, 10**400) == 0.0
        assert whole_secrets_p_value(5, 5, 1) == whole_secrets_p_value(5, 5, 0) == 1.0
        with pytest.raises(StatisticsError):
            whole_secrets_p_value(3, 2, 100)

    @pytest.mark.parametrize("left", [2, 7, 1000, 10**30])
    def test_it_is_the_tail_of_a_binomial(self, left):
        for canaries in (1, 5, 100, 3000):
            for hits in (1, 2, canaries // 3, canaries):
                if 1 <= hits <= canaries:
                    naive = stats.binom.sf(hits - 1, canaries, 1 / left)
                    assert whole_secrets_p_value(hits, canaries, left) == pytest.approx(naive, rel=1e-9, abs=1e-300)

    def test_it_asks_for_no_more_than_it_must(self):
        """20 secrets left and 100 canaries: a union over all ways to choose the right ones asked for some ten more."""
        least = next(k for k in range(101) if whole_secrets_p_value(k, 100, 20) <= 1e-4)
        assert least == int(stats.binom.isf(1e-4, 100, 1 / 20)) + 1

    @pytest.mark.parametrize(("candidates", "canaries"), [(12, 6), (12, 12), (40, 20), (25, 5)])
    @pytest.mark.parametrize("guesses", ["one", "each", "few", "without replacement", "random", "learned decoys"])
    def test_no_guess_that_knows_nothing_is_right_as_often_as_that(self, candidates, canaries, guesses):
        """Secrets dealt without replacement; guesses all the same, all different, or in between, as a model likes."""
        rng, fired = np.random.default_rng(0), np.zeros(3)
        decoys = 2 if guesses == "learned decoys" and candidates >= canaries + 2 else 0
        left = candidates - canaries - decoys + 1
        levels = np.array([whole_secrets_p_value(k, canaries, left) for k in range(canaries + 1)])
        fixed = {"one": np.zeros(canaries), "each": np.arange(canaries), "few": np.arange(canaries) % 5}
        runs, at = 10_000, np.array([0.05, 0.01, 0.001])
        for _ in range(runs):
            dealt = rng.permutation(candidates)
            secrets, known = dealt[:canaries], dealt[canaries : canaries + decoys]
            if guesses in fixed:
                guessed = fixed[guesses]
            elif guesses == "without replacement":
                guessed = rng.permutation(candidates)[:canaries]
            elif guesses == "random":
                guessed = rng.integers(candidates, size=canaries)
            else:  # the decoys are known and tried by none: each guesses among all others
                guessed = rng.choice(np.setdiff1d(np.arange(candidates), known), size=canaries)
            fired += levels[int((secrets == guessed).sum())] <= at
        assert (fired <= stats.binom.ppf(1 - 1e-6, runs, at)).all()

    def test_every_dealing_of_a_small_deck_agrees(self):
        """The chance by counting all permutations, for all guesses up to names: never above the tail."""
        for candidates, canaries in ((4, 2), (5, 3), (5, 5)):
            left = candidates - canaries + 1
            deals = list(itertools.permutations(range(candidates), canaries))
            for guess in itertools.product(range(candidates), repeat=canaries):
                hits = np.bincount([sum(map(eq, deal, guess)) for deal in deals], minlength=canaries + 1) / len(deals)
                for k in range(1, canaries + 1):
                    assert hits[k:].sum() <= whole_secrets_p_value(k, canaries, left) + 1e-12

    def test_it_takes_so_few(self):
        assert fewest_canaries(0.01) == 7
        assert fewest_canaries(0.01, left=100) == 1
        assert fewest_canaries(0.009, left=100) == 2
        assert fewest_canaries(0.01, left=1) == 7
        assert attainable_extraction_rate(1, alpha=0.05) == pytest.approx(0.025)


class TestWhatASampleProves:
    def test_it_is_all_where_the_rank_is_exact(self):
        found = exact_exposure(0.0, np.arange(8.0))
        assert (found.bits, found.at_least, found.provable) == (3.0, 3.0, 3.0)

    @pytest.mark.parametrize("fraction", [1e-5, 1e-3, 0.02, 0.3])
    def test_it_is_no_more_than_the_truth(self, fraction):
        """The share of a sample at or below a loss that a share of all is at or below: over many samples."""
        rng = np.random.default_rng(1)
        for below in rng.binomial(2000, fraction, size=400):
            sample = np.concatenate([np.zeros(below), np.ones(2000 - below)])
            found = sampled_exposure(0.5, sample, candidates=10**9)
            assert found.at_least <= -math.log2(fraction)
            assert found.at_least <= found.bits + 1e-9
            assert found.at_least <= found.provable <= found.most

    def test_a_heavy_tail_is_not_taken_for_proof(self):
        """What the sample proves is less than ten bits where 19 are true."""
        sample = stats.t.rvs(25, size=10_000, random_state=5)
        found = sampled_exposure(-6.0, sample, candidates=10**12)
        assert found.at_least <= -math.log2(stats.t.cdf(-6.0, 25))
        assert found.at_least == pytest.approx(found.provable)
