"""Scores of label canaries from the final weights and from answers."""

import numpy as np
import pytest
import torch

from redteam.canary.label_scores import scores_by_adversary
from redteam.data.label_canaries import ANSWERS, WEIGHTS
from redteam.models.label_rows import BIAS
from redteam.statistics.area import area
from redteam.statistics.ranking import rank


def drawn(*, count=4000, size=30, far=0.25, pushed=0.0, noise=0.2, seed=0):
    """Rows of canaries that moved along what the layer reads at the end, in noise; all were `pushed` along another way.

    `noise` is that of the other way: optimisers do not step alike along all.
    """
    rng = torch.Generator().manual_seed(seed)
    now, other = (torch.randn(size, generator=rng, dtype=torch.float64) for _ in range(2))
    included = torch.rand(count, generator=rng) < 0.5
    way, across = (torch.cat([each, torch.ones(1)]) for each in (now, other))
    way, across = way / way.norm(), across / across.norm()
    rows = 0.2 * torch.randn(count, size + 1, generator=rng, dtype=torch.float64) + far * included[:, None] * way
    rows = rows + (pushed + noise * torch.randn(count, 1, generator=rng, dtype=torch.float64)) * across
    kept = {"weight": rows[:, :-1], "bias": rows[:, -1] + BIAS}
    found = scores_by_adversary([0.0] * count, kept, now, torch.zeros(3))
    return {name: area(rank(found[name], included.numpy())) for name in (WEIGHTS, ANSWERS)}, area(
        rank((rows @ way).numpy(), included.numpy())
    )


@pytest.mark.parametrize("options", [{}, {"pushed": 5.0}, {"noise": 2.0}])
def test_the_final_weights_tell_what_answers_do_whatever_users_push_all_canaries_by(options):
    found, best = drawn(**options)
    assert found[WEIGHTS] == found[ANSWERS] == best


def test_answers_are_log_probabilities():
    rows = {"weight": torch.randn(50, 4), "bias": torch.full((50,), BIAS)}
    now, users = torch.randn(4), torch.randn(3)
    found = scores_by_adversary([0.0] * 50, rows, now, users)[ANSWERS]
    logits = torch.cat([users, rows["weight"] @ now + rows["bias"]]).double()
    assert found == pytest.approx(logits.log_softmax(0)[3:].numpy(), abs=1e-5)


def test_where_nothing_moved_they_tell_nothing():
    areas = [drawn(far=0.0, count=400, seed=seed)[0][WEIGHTS] for seed in range(40)]
    assert abs(np.mean(areas) - 0.5) < 0.02
    assert all(0.38 < each < 0.62 for each in areas)
