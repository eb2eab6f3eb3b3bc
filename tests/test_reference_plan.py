"""Halves for reference models: complementary, the same for the same rows, blind, and fair to every label."""

import numpy as np
import pytest
from conftest import sentences

from redteam.core import DataError, UsageError
from redteam.data import Examples
from redteam.references.plan import draw_plan

POOL = sentences(120, seed=4)


def included_by_text(plan):
    return {text: plan.included[:, i].tolist() for i, text in enumerate(plan.rows.texts)}


def test_models_come_in_pairs_of_complementary_halves():
    plan = draw_plan(POOL, 5, seed=1)
    assert plan.partner == (1, 0, 3, 2, -1)
    assert (plan.included[0] != plan.included[1]).all()
    assert plan.included.sum(axis=1).tolist() == [60] * 5


def test_the_order_of_the_rows_does_not_matter_and_a_longer_plan_begins_with_the_shorter():
    mixed = POOL.take(np.random.default_rng(0).permutation(len(POOL)))
    plan, longer = draw_plan(POOL, 3, seed=1), draw_plan(mixed, 6, seed=1)
    short, long = included_by_text(plan), included_by_text(longer)
    assert all(short[text] == long[text][:3] for text in short)
    assert included_by_text(draw_plan(POOL, 3, seed=2)) != short


def test_values_come_back_in_the_order_of_the_pool():
    plan = draw_plan(POOL, 2, seed=0)
    texts = plan.back(np.array([plan.rows.texts, plan.rows.texts], dtype=object))
    assert tuple(texts[1]) == POOL.texts


def test_whole_users_are_on_one_side():
    users = tuple(f"u{i % 30}" for i in range(len(POOL)))
    plan = draw_plan(Examples(POOL.rows, POOL.texts, POOL.labels, users=users), 4, seed=0)
    sides = {
        user: {tuple(plan.included[:, i]) for i in np.flatnonzero(np.array(plan.rows.users) == user)} for user in users
    }
    assert plan.unit == "user"
    assert all(len(side) == 1 for side in sides.values())
    assert all(sum(inside[k] for (inside,) in sides.values()) == 15 for k in range(4))


def test_each_label_stands_in_both_halves_however_rare_it_is():
    labels = ["rare"] * 2 + ["rarer"] * 2 + ["pair"] * 2 + ["common"] * 114
    for seed in range(20):
        plan = draw_plan(Examples(POOL.rows, POOL.texts, tuple(labels)), 2, seed=seed)
        for half in plan.included:
            assert {label for label, there in zip(plan.rows.labels, half, strict=True) if there} == set(labels)
            assert half.sum() == 60


def test_halves_are_not_drawn_label_by_label():
    """With fixed counts a label's other rows would tell the side of each."""
    counts = [
        sum(half[np.array(plan.rows.labels) == "a"])
        for plan in [draw_plan(POOL, 60, seed=0)]
        for half in plan.included[::2]
    ]
    assert np.std(counts) > 1


def test_what_cannot_be_halved_is_refused_in_one_line():
    one = Examples(POOL.rows, POOL.texts, ("only", *["b"] * 119))
    with pytest.raises(DataError, match="1 label of 2 with one row only"):
        draw_plan(one, 2, seed=0)
    with pytest.raises(DataError, match="10 audited rows: reference models need at least 20"):
        draw_plan(POOL.take(range(10)), 2, seed=0)
    with pytest.raises(DataError, match="texts and the labels"):
        draw_plan(Examples(POOL.rows, None, POOL.labels), 2, seed=0)
    with pytest.raises(UsageError, match="--references 0"):
        draw_plan(POOL, 0, seed=0)
    with pytest.raises(DataError, match="of one user"):
        draw_plan(Examples(POOL.rows, POOL.texts, POOL.labels, users=("u",) * 120), 2, seed=0)
