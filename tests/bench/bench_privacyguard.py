"""LiRA and RMIA scores of this project and of PrivacyGuard on the same arrays: the same numbers, and the time of each.

100,000 rows, 64 reference models in complementary pairs, RMIA against a population of 100 rows. Both begin with
log-odds [models, rows] and end with a score of each row. PrivacyGuard takes columns of a frame, for LiRA means and
deviations, which numpy makes; they are in its time, which is given without them too. Needs PrivacyGuard, as `make
test-integrations` installs it.

Wanted: the same to 1e-9. Prints processor seconds and their ratio.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from redteam.core.arrays import BoolArray, FloatArray
from redteam.statistics.membership.likelihood import lira
from redteam.statistics.membership.moments import moments, ratio

ROUNDS, CLOSE = 3, 1e-9


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least processor seconds of some rounds, and what the last one made."""
    seconds, made = [], None
    for _ in range(ROUNDS):
        started = time.process_time()
        made = work()
        seconds.append(time.process_time() - started)
    return min(seconds), made


def halves(columns: dict[str, Any]) -> tuple[Any, Any]:
    """Return frames of the first and of the second half of the rows."""
    import pandas as pd

    rows = len(columns["score_orig"])
    frame = pd.DataFrame({"user_id": np.arange(rows), **columns})
    return frame[: rows // 2].copy(), frame[rows // 2 :].copy()


def in_order(found: Any) -> FloatArray:
    """Return what an attack of theirs says of the rows, in their order."""
    import pandas as pd

    both = pd.concat([found.df_train_user, found.df_test_user])
    scores: FloatArray = both.sort_values("user_id").score.to_numpy()
    return scores


def their_lira(target: FloatArray, sides: dict[str, FloatArray]) -> FloatArray:
    from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
    from privacy_guard.attacks.lira_attack import LiraAttack

    frames = halves({"score_orig": target, **sides})
    return in_order(LiraAttack(*frames, AggregationType.NONE, online_attack=True).run_attack())


def deviations(log_odds: FloatArray, included: BoolArray) -> dict[str, FloatArray]:
    """Return means and deviations in and out, as their LiRA takes them."""
    made = {}
    for side, there in (("in", included), ("out", ~included)):
        only = np.where(there, log_odds, np.nan)
        made |= {f"score_mean_{side}": np.nanmean(only, 0), f"score_std_{side}": np.nanstd(only, 0)}
    return made


def their_rmia(
    target: FloatArray, log_odds: FloatArray, included: BoolArray, others: tuple[FloatArray, FloatArray]
) -> FloatArray:
    import pandas as pd
    from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
    from privacy_guard.attacks.rmia_attack import RmiaAttack

    def columns(own: FloatArray, said: FloatArray, there: BoolArray) -> dict[str, Any]:
        made = {"score_orig": expit(own)} | {f"score_ref_{k}": expit(each) for k, each in enumerate(said)}
        return made | {f"member_ref_{k}": each for k, each in enumerate(there)}

    population = pd.DataFrame(columns(*others, np.zeros(others[1].shape, dtype=np.bool_)))
    frames = halves(columns(target, log_odds, included))
    how = {"num_reference_models": len(log_odds), "online": True, "alpha_coefficient": 0.3}
    return in_order(RmiaAttack(*frames, population, AggregationType.NONE, **how).run_attack())


def our_rmia(target: FloatArray, log_odds: FloatArray, others: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Return the share of the population that lies below each row."""
    ladder = np.sort(ratio(*others))
    below: FloatArray = np.searchsorted(ladder, ratio(target, log_odds), side="left") / len(ladder)
    return below


def compare(name: str, ours: tuple[float, FloatArray], theirs: tuple[float, FloatArray], besides: float = 0.0) -> bool:
    """Print both times and their ratio; return whether the scores are the same."""
    apart = float(np.abs(ours[1] - theirs[1]).max())
    own, other = ours[0], theirs[0] + besides
    alone = f" ({theirs[0]:.2f} s without means and deviations)" if besides else ""
    print(
        f"{name:<5} ours {own:.2f} s, PrivacyGuard {other:.2f} s{alone}: {other / own:.1f} times; apart by {apart:.1e}"
    )
    return apart <= CLOSE * max(1.0, float(np.abs(theirs[1]).max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--population", type=int, default=100)
    chosen = parser.parse_args()
    try:
        import privacy_guard  # noqa: F401
    except ImportError:
        print("skipped: needs PrivacyGuard, which make test-integrations installs")
        return
    rng = np.random.default_rng(0)

    def drawn(rows: int) -> tuple[FloatArray, FloatArray]:
        odds = rng.normal(2, 2, rows) + rng.normal(0, 0.8, (chosen.models + 1, rows))
        return odds[0], odds[1:]

    (target, log_odds), others = drawn(chosen.rows), drawn(chosen.population)
    included = np.empty(log_odds.shape, dtype=np.bool_)
    included[::2] = rng.random((chosen.models // 2, chosen.rows)) < 0.5
    included[1::2] = ~included[::2]
    besides, sides = clocked(lambda: deviations(log_odds, included))
    ours = clocked(lambda: lira(target, moments(log_odds, included)))
    same = [compare("LiRA", ours, clocked(lambda: their_lira(target, sides)), besides)]
    ours = clocked(lambda: our_rmia(target, log_odds, others))
    same += [compare("RMIA", ours, clocked(lambda: their_rmia(target, log_odds, included, others)))]
    print("the same scores" if all(same) else "NOT the same scores")
    sys.exit(not all(same))


if __name__ == "__main__":
    main()
