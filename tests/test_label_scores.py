"""Scores of label canaries from the final weights."""

import numpy as np
import pytest
import torch

from redteam.canary.label_scores import scores_by_adversary
from redteam.data.label_canaries import ANSWERS, WEIGHTS
from redteam.models.label_rows import BIAS
from redteam.statistics.area import area
from redteam.statistics.ranking import rank


def drawn(share, *, count=4000, size=30, far=0.25, pushed=0.0, seed=0):
    """Rows of canaries that moved `share` of the way from the first direction to the last, in noise.

    Users' rows pushed all of them `pushed` along the first.
    """
    rng = torch.Generator().manual_seed(seed)
    before, now = (torch.randn(size, generator=rng, dtype=torch.float64) for _ in range(2))
    included = torch.rand(count, generator=rng) < 0.5
    ends = [torch.cat([each, torch.ones(1)]) for each in (before, now)]
    way = (1 - share) * ends[0] / ends[0].norm() + share * ends[1] / ends[1].norm()
    rows = 0.2 * torch.randn(count, size + 1, generator=rng, dtype=torch.float64) + far * included[:, None] * way
    rows = rows + pushed * ends[0] / ends[0].norm()
    kept = {"weight": rows[:, :-1], "bias": rows[:, -1] + BIAS, "before": before}
    found = scores_by_adversary([0.0] * count, kept, now, torch.zeros(3))
    best = (rows @ way).numpy()
    return {name: area(rank(found[name], included.numpy())) for name in (WEIGHTS, ANSWERS)}, area(
        rank(best, included.numpy())
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_final_weights_tell_nearly_what_the_true_direction_does(share):
    found, best = drawn(share)
    assert found[WEIGHTS] > best - 0.01
    assert found[WEIGHTS] > found[ANSWERS] - 0.01


def test_what_users_push_all_canaries_by_hides_nothing():
    found, best = drawn(1.0, pushed=5.0)
    assert found[WEIGHTS] > max(best, found[ANSWERS]) - 0.01


def test_a_frozen_body_has_one_direction():
    rows = {"weight": torch.tensor([[1.0], [0.0]] * 20), "bias": torch.full((40,), BIAS), "before": torch.ones(1)}
    found = scores_by_adversary([0.0] * 40, rows, torch.ones(1), torch.zeros(2))
    assert area(rank(found[WEIGHTS], np.arange(40) % 2 == 0)) == 1.0


def test_where_nothing_moved_they_tell_nothing():
    areas = [drawn(0.5, far=0.0, count=400, seed=seed)[0][WEIGHTS] for seed in range(40)]
    assert abs(np.mean(areas) - 0.5) < 0.02
    assert all(0.38 < each < 0.62 for each in areas)
