"""LiRA and RMIA of PrivacyGuard on fresh arrays: the same scores to 1e-9."""

import numpy as np
import pytest
from conftest import needs
from scipy.special import expit

from redteam.statistics.membership.likelihood import lira
from redteam.statistics.membership.moments import moments, ratio, ratio_offline

pytestmark = [pytest.mark.integration, needs("privacy_guard")]

MODELS, ROWS, POPULATION = 16, 600, 300


def drawn(rows, rng):
    log_odds = rng.normal(2, 2, rows) + rng.normal(0, 0.8, (MODELS + 1, rows))
    return log_odds[0], log_odds[1:]


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(11)
    included = np.empty((MODELS, ROWS), dtype=bool)
    included[::2] = rng.random((MODELS // 2, ROWS)) < 0.5
    included[1::2] = ~included[::2]
    return drawn(ROWS, rng), drawn(POPULATION, rng), included


def scored(attack):
    """What an attack of theirs says of the rows, in their order."""
    import pandas as pd

    found = attack.run_attack()
    both = pd.concat([found.df_train_user, found.df_test_user])
    return both.sort_values("user_id").score.to_numpy()


def halves(columns):
    """Frames of the first and of the second half of the rows."""
    import pandas as pd

    frame = pd.DataFrame({"user_id": np.arange(ROWS), **columns})
    return frame[: ROWS // 2].copy(), frame[ROWS // 2 :].copy()


def test_lira(arrays):
    from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
    from privacy_guard.attacks.lira_attack import LiraAttack

    (target, log_odds), _, included = arrays
    columns = {"score_orig": target}
    for side, there in (("in", included), ("out", ~included)):
        only = np.where(there, log_odds, np.nan)
        columns |= {f"score_mean_{side}": np.nanmean(only, 0), f"score_std_{side}": np.nanstd(only, 0)}
    theirs = scored(LiraAttack(*halves(columns), AggregationType.NONE, online_attack=True))
    np.testing.assert_allclose(lira(target, moments(log_odds, included)), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("online", [True, False])
def test_rmia(arrays, online):
    import pandas as pd
    from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
    from privacy_guard.attacks.rmia_attack import RmiaAttack

    def columns(target, log_odds, there):
        made = {"score_orig": expit(target)}
        made |= {f"score_ref_{k}": expit(each) for k, each in enumerate(log_odds)}
        return made | {f"member_ref_{k}": each for k, each in enumerate(there)}

    rows, population, included = arrays
    others = pd.DataFrame(columns(*population, np.zeros((MODELS, POPULATION), dtype=bool)))
    models = MODELS if online else MODELS // 2
    settings = {"num_reference_models": models, "online": online, "alpha_coefficient": 0.3}
    theirs = scored(RmiaAttack(*halves(columns(*rows, included)), others, AggregationType.NONE, **settings))
    # Offline it takes of the population, which no reference was trained on, the largest half.
    smaller = np.argsort(np.argsort(population[1], axis=0), axis=0) < MODELS // 2
    own = ratio(*rows) if online else ratio_offline(*rows, included)
    of_population = ratio(*population) if online else ratio_offline(*population, smaller)
    np.testing.assert_allclose((own[:, None] > of_population).mean(axis=1), theirs, atol=1e-9)
