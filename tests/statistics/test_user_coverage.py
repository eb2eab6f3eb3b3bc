"""Intervals over users hold where the rows of a user are alike, and intervals over rows would not.

At the level that an audit of saved scores uses: 0.05 shared over the AUC and the TPR of one signal, and an epsilon.
"""

import numpy as np
import pytest
from scipy.stats import binom

from redteam.data import Examples
from redteam.data.grouping import Grouping
from redteam.statistics.roc import auc_interval, tpr_at_fpr

ALPHA, FPR = 0.05 / 3, 0.1
RUNS = 250


def population(rng, users, shift):
    """Scores of users with 1 to 40 rows: most of the spread is between users, and rounding ties a good part."""
    sizes = np.minimum(1 + rng.geometric(0.12, users), 40)
    own = rng.normal(size=users) + shift
    owners = np.repeat(np.arange(users), sizes)
    return np.round(2 * (own[owners] + 0.4 * rng.normal(size=len(owners)))) / 2, owners


def means(scores, owners):
    pool = Examples(np.arange(len(owners)), users=tuple(f"u{i}" for i in owners))
    return Grouping.of(pool, np.ones(len(owners), dtype=bool), "user").score(scores)


def truth(shift):
    """AUC and TPR of the users' means, from so many users that their error is far below an interval's width."""
    rng = np.random.default_rng(77)
    inside, outside = (means(*population(rng, 60_000, by)) for by in (shift, 0.0))
    ranks = np.searchsorted(np.sort(outside), inside), np.searchsorted(np.sort(outside), inside, side="right")
    auc = (ranks[0] + ranks[1]).mean() / (2 * len(outside))
    mark = np.quantile(outside, 1 - FPR)
    above, at = ((outside > mark).mean(), (outside == mark).mean())
    tpr = (inside > mark).mean() + (FPR - above) / at * (inside == mark).mean() if at else (inside > mark).mean()
    return auc, tpr


def misses(shift, *, seed):
    auc, tpr = truth(shift)
    rng, found = np.random.default_rng(seed), {"auc": 0, "tpr": 0, "rows": 0}
    for _ in range(RUNS):
        (inside, own), (outside, others) = population(rng, 45, shift), population(rng, 70, 0.0)
        member = np.arange(115) < 45
        scores = np.concatenate([means(inside, own), means(outside, others)])
        interval = auc_interval(scores, member, alpha=ALPHA)
        found["auc"] += not interval.low <= auc <= interval.high
        interval = tpr_at_fpr(scores, member, fpr=FPR, alpha=ALPHA, seed=0)
        found["tpr"] += not interval.low <= tpr <= interval.high
        rows = auc_interval(
            np.concatenate([inside, outside]), np.arange(len(inside) + len(outside)) < len(inside), alpha=ALPHA
        )
        found["rows"] += not rows.low <= auc <= rows.high  # of rows the AUC is the same where nothing leaks
    return found


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_intervals_over_users_miss_no_more_than_they_may(shift):
    found = misses(shift, seed=5)
    most = binom.isf(1e-3, RUNS, ALPHA)
    assert found["auc"] <= most
    assert found["tpr"] <= most
    if shift == 0:
        assert found["rows"] > 10 * RUNS * ALPHA  # taking rows for draws
