"""Logical batches: honest draws, public sizes, and parts that change nothing but memory."""

import numpy as np
import pytest

from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import USUAL_LENGTH, Sampler, parts_of, steps_of_a_pass
from redteam.core import UsageError
from redteam.plugins.defense import SHARE_BATCHES


def sampler(seed=0, **changes):
    settings = {"size": 1000, "population": 1000, "sample_rate": 0.1} | changes
    return Sampler(NoiseSource(seed), **settings)


class TestPoisson:
    def test_every_row_is_drawn_independently(self):
        steps, size, rate = 4000, 50, 0.2
        drawn = sampler(size=size, population=size, sample_rate=rate)
        seen = np.zeros((steps, size))
        for step in range(steps):
            seen[step, drawn.rows(step)] = 1
        spread = np.sqrt(rate * (1 - rate) / steps)
        assert np.abs(seen.mean(axis=0) - rate).max() < 4.5 * spread  # each row as often as it should be
        pairs = np.corrcoef(seen, rowvar=False)[np.triu_indices(size, 1)]
        assert np.abs(pairs).max() < 5 / np.sqrt(steps)  # and no two of them together
        counts = seen.sum(axis=1)
        assert counts.var() == pytest.approx(size * rate * (1 - rate), rel=0.12)  # a fixed size would have none
        later = np.corrcoef(seen[:-1].ravel(), seen[1:].ravel())[0, 1]
        assert abs(later) < 5 / np.sqrt(steps * size)  # nor from one step to the next

    def test_empty_batches_happen_as_often_as_they_should(self):
        drawn = sampler(size=20, population=20, sample_rate=0.05)
        empty = np.mean([len(drawn.rows(step)) == 0 for step in range(3000)])
        assert empty == pytest.approx(0.95**20, abs=0.04)

    def test_repeats_itself_and_follows_the_seed_and_the_step(self):
        first, again, other = (sampler(seed).rows(7) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert not np.array_equal(first, sampler(1).rows(8))

    def test_where_batches_are_shared_they_follow_the_seed_and_the_step_alone(self):
        def drawn(history):
            one = sampler(3)
            one.source.history = history
            return one.rows(5)

        assert not np.array_equal(drawn(b"one"), drawn(b"another"))
        token = SHARE_BATCHES.set(True)
        try:
            np.testing.assert_array_equal(drawn(b"one"), drawn(b"another"))
        finally:
            SHARE_BATCHES.reset(token)

    def test_rate_one_takes_all(self):
        np.testing.assert_array_equal(sampler(sample_rate=1.0).rows(0), np.arange(1000))

    def test_the_rate_does_not_follow_the_realised_size(self):
        sizes = [len(sampler(size=2000, sample_rate=0.1).rows(step)) for step in range(200)]
        assert np.mean(sizes) == pytest.approx(200, rel=0.03)

    @pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan")])
    def test_impossible_rates(self, rate):
        with pytest.raises(UsageError, match="cannot be larger than the data"):
            sampler(sample_rate=rate)
        with pytest.raises(UsageError, match="population 0"):
            sampler(population=0)
        with pytest.raises(UsageError, match="must be poisson or shuffled"):
            sampler(sampling="cyclic")


class TestShuffled:
    @pytest.mark.parametrize(("drop_last", "steps"), [(False, 11), (True, 10)])
    def test_each_row_once_in_a_pass(self, drop_last, steps):
        drawn = sampler(size=105, population=105, sample_rate=10 / 105, sampling="shuffled", drop_last=drop_last)
        assert drawn.steps_per_pass == steps
        passes = [[drawn.rows(p * steps + i) for i in range(steps)] for p in range(3)]
        for one in passes:
            rows = np.concatenate(one)
            assert len(rows) == len(set(rows)) == (100 if drop_last else 105)
            assert [len(batch) for batch in one] == [10] * 10 + ([] if drop_last else [5])
        assert not np.array_equal(np.concatenate(passes[0]), np.concatenate(passes[1]))

    def test_steps_can_be_asked_for_in_any_order(self):
        one, other = (sampler(3, sampling="shuffled") for _ in range(2))
        ahead = {step: one.rows(step) for step in (25, 3, 14, 3)}
        for step, rows in ahead.items():
            np.testing.assert_array_equal(rows, other.rows(step))

    def test_the_steps_of_a_pass_do_not_follow_the_realised_size(self):
        for size in (950, 1050):
            drawn = sampler(size=size, sampling="shuffled")
            rows = np.concatenate([drawn.rows(i) for i in range(10)])
            assert drawn.steps_per_pass == 10
            assert len(set(rows)) == len(rows) == min(size, 1000)
        assert steps_of_a_pass(1.0, 7) == steps_of_a_pass(1.0, 7, drop_last=True) == 1


class TestParts:
    def test_nothing_is_lost_and_every_part_fits(self):
        rng = np.random.default_rng(0)
        lengths = rng.integers(0, 200, 3000)
        rows = np.flatnonzero(rng.random(3000) < 0.3)
        parts = parts_of(rows, lengths, at_once=8)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), rows)
        for part in parts:
            assert len(part) * max(1, lengths[part].max()) <= 8 * USUAL_LENGTH or len(part) == 1
        padded = sum(len(part) * lengths[part].max() for part in parts)
        assert padded < 1.1 * lengths[rows].sum()  # like went with like

    def test_without_lengths_by_rows(self):
        parts = parts_of(np.arange(10), None, at_once=4)
        assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_a_row_too_long_for_any_part_is_one_by_itself(self):
        parts = parts_of(np.array([0, 1, 2]), np.array([10_000, 1, 20_000]), at_once=1)
        assert [part.tolist() for part in parts] == [[1], [0], [2]]

    def test_an_empty_batch_has_no_parts(self):
        assert parts_of(np.array([], dtype=np.int64), None, at_once=4) == []
        assert parts_of(np.array([], dtype=np.int64), np.array([3]), at_once=4) == []


def test_a_million_rows():
    drawn, lengths = sampler(size=10**6, population=10**6), np.ones(10**6, dtype=np.int64)
    rows = drawn.rows(0)
    assert np.array_equal(np.sort(np.concatenate(parts_of(rows, lengths, at_once=64))), np.sort(rows))
