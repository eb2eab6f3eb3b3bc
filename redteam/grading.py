"""How far evidence about membership can be trusted: what the controls saw, and the grade that follows.

A, randomised: every text was put in or left out by an independent coin that was drawn again and agrees. B, split:
the two sides are said to come from one source and the blind control tells them apart no better than chance. C,
unknown: it does, or could not be asked; the membership metrics would measure the data and are refused.
"""

from collections.abc import Sequence

import numpy as np

from redteam.attack import Control
from redteam.data import BoolArray, Examples, Split
from redteam.errors import DataError
from redteam.report import ControlResult, Failure, Grade
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank

# Coins that were drawn again make members and non-members alike by construction, so that there a control above
# chance is nearly always a false alarm; only one this unlikely says that the ledger is not the truth.
_OVERRULES_COINS = 0.001


def run_controls(
    controls: Sequence[Control],
    pool: Examples,
    is_member: BoolArray,
    *,
    randomised: bool,
    alpha: float,
    seed: int,
) -> tuple[list[ControlResult], list[Failure]]:
    """Return what each control saw, with a two-sided interval of level `alpha`, and those that saw nothing.

    With `randomised` membership the level is 0.001 instead.
    """
    results: list[ControlResult] = []
    failures: list[Failure] = []
    level = min(alpha, _OVERRULES_COINS) if randomised else alpha
    for control in controls:
        try:
            scores = control.score(pool, is_member, seed=seed)
            scored = ~np.isnan(scores)  # a fold that was only learned from has no scores
            interval = area_interval(rank(scores[scored], is_member[scored]), alpha=level)
            results.append(ControlResult(control.id, interval))
        except DataError as error:
            failures.append(Failure(control.id, "not_applicable", one_line(error)))
        except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end an audit as a pass
            failures.append(Failure(control.id, "failed", one_line(error)))
    return results, failures


def grade_evidence(split: Split, results: Sequence[ControlResult], failures: Sequence[Failure]) -> tuple[Grade, str]:
    """Return the grade and one sentence that gives its reason."""
    for result in results:
        if result.auc.low > 0.5:
            seen = f"AUC {result.auc.value:.2f} [{result.auc.low:.2f}, {result.auc.high:.2f}]"
            return "C", f"{result.control} tells members from non-members without the target, {seen}"
    if split.randomised:
        return "A", "every text was put in or left out by its own coin, drawn again from the ledger's seed"
    broken = [failure for failure in failures if failure.kind == "failed"]
    if broken:
        return (
            "C",
            f"{broken[0].attack} broke, so nothing says that the two sides are alike: {broken[0].reason}",
        )
    if not results:
        return "B", "the split is taken on trust: no control could compare the two sides"
    names = ", ".join(result.control for result in results)
    return "B", f"{names} tells the two sides apart no better than chance without the target"


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its message, with its type in front where it is not one of ours."""
    from redteam.errors import RedteamError

    message = " ".join(str(error).split())[:300]
    return message if isinstance(error, RedteamError) else f"{type(error).__name__}: {message}"
