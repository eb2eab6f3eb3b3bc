"""How far evidence about membership can be trusted: what the controls saw, and the grade that follows.

A, randomised: every text, or every user with all rows, was put in or left out by an independent coin, that was drawn
again and agrees or that the caller vouches for. B, split:
the two sides are said to come from one source and the controls tell them apart no better than chance. C, unknown:
they do, or could not be asked; the membership metrics would measure the data and are refused. A control that does
worse than chance is as bad a sign: near-copies of the same texts stand on both sides, which hides leaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.attack import Control
from redteam.data import BoolArray, Examples, Split
from redteam.errors import DataError, StatisticsError
from redteam.grouping import Grouping
from redteam.report import BLIND_CONTROL, ControlResult, Failure, Grade
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.wording import plural

# Two-sided level of each control's interval, whatever the report's own: some 1.5 % of honest splits are refused.
_LEVEL = 0.01
# Coins that were drawn again make members and non-members alike by construction, so that there a control above
# chance is nearly always a false alarm; only one this unlikely says that the ledger is not the truth.
_OVERRULES_COINS = 0.001


@dataclass(frozen=True, eq=False)
class Looked:
    """A split in the order of its pool, what the controls say of it, and its grade."""

    pool: Examples
    is_member: BoolArray
    units: Grouping
    controls: tuple[ControlResult, ...]
    failures: tuple[Failure, ...]
    grade: Grade
    reason: str


def look(split: Split, controls: Sequence[Control], *, seed: int) -> Looked:
    """Shuffle a split, run the controls on it, and grade it."""
    pool, is_member = split.pool(seed)
    units = Grouping.of(pool, is_member, split.unit)
    looked_at = units.control_pool(pool, seed=seed)
    results, failures = run_controls(controls, looked_at, units.is_member, randomised=split.randomised, seed=seed)
    grade, reason = grade_evidence(split, results, failures)
    return Looked(pool, is_member, units, tuple(results), tuple(failures), grade, reason)


def run_controls(
    controls: Sequence[Control], pool: Examples, is_member: BoolArray, *, randomised: bool, seed: int
) -> tuple[list[ControlResult], list[Failure]]:
    """Return what each control saw, with an interval, and those that saw nothing."""
    results: list[ControlResult] = []
    failures: list[Failure] = []
    level = _OVERRULES_COINS if randomised else _LEVEL
    for control in controls:
        try:
            scores = control.score(pool, is_member, seed=seed)
            scored = ~np.isnan(scores)  # a fold that was only learned from has no scores
            interval = area_interval(rank(scores[scored], is_member[scored]), alpha=level)
            results.append(ControlResult(control.id, interval, control.may_be_below_chance))
        except (DataError, StatisticsError) as error:  # nothing to compare by, or no difference between any two rows
            failures.append(Failure(control.id, "not_applicable", one_line(error)))
        except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end an audit as a pass
            failures.append(Failure(control.id, "failed", one_line(error)))
    return results, failures


def grade_evidence(split: Split, results: Sequence[ControlResult], failures: Sequence[Failure]) -> tuple[Grade, str]:
    """Return the grade of what is measured, of rows or of users, and one sentence that gives its reason."""
    grade, reason = _grade(split, results, failures)
    return grade, reason + _about_users(split)


def _about_users(split: Split) -> str:
    """Say what the grade is not about, where users stand on both sides, and who was moved out where they are judged."""
    users = split.users
    if users is None or not users.both:
        return ""
    if split.unit == "user":
        return f"; {plural(users.both, 'user')} with rows on both sides were left out"
    of = plural(users.members + users.nonmembers + users.both, "user")
    return (
        f"; that is about single rows: {users.both:,} of {of} have rows on both sides, so for a user nothing "
        "is measured, at any grade"
    )


def _grade(split: Split, results: Sequence[ControlResult], failures: Sequence[Failure]) -> tuple[Grade, str]:
    one = "user" if split.unit == "user" else "text"
    for result in results:
        seen = f"AUC {result.auc.value:.2f} [{result.auc.low:.2f}, {result.auc.high:.2f}]"
        if result.auc.low > 0.5:
            return "C", f"{result.control} tells members from non-members without the target, {seen}"
        if result.auc.high < 0.5 and not result.may_be_below_chance:
            what = "near-copies of the same texts seem to stand on both sides"
            return "C", f"{result.control} does worse than chance, {seen}: {what}, which would hide leaks"
    if split.randomised and split.redrawn:
        return "A", f"every {one} was put in or left out by its own coin, drawn again from the ledger's seed and key"
    if split.randomised:
        said = f"every {one} is said to have been put in or left out by its own coin"
        return "A", f"{said}; this was taken on the caller's word, no coin was drawn again"
    broken = [failure for failure in failures if failure.kind == "failed"]
    if broken:
        what = "so nothing says that the two sides are alike"
        return "C", f"{broken[0].attack} broke, {what}: {broken[0].reason}"
    if all(result.control != BLIND_CONTROL for result in results):
        return "B", "the split is taken on trust: no control could compare the texts of the two sides"
    names = " and ".join(result.control for result in results)
    return "B", f"{names} cannot tell the two sides apart without the target"


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its message, with its type in front where it is not one of ours."""
    from redteam.errors import RedteamError

    message = " ".join(str(error).split())[:300]
    return message if isinstance(error, RedteamError) else f"{type(error).__name__}: {message}"
