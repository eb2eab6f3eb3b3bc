"""How far evidence about membership can be trusted: what the controls saw, and the grade that follows.

A, randomised: every text, or every user with all rows, was included independently at random, and that was drawn
again and agrees or that the caller vouches for. B, split:
the two sides are said to come from one source and the controls tell them apart no better than chance. C, unknown:
they do, or could not be asked; the membership metrics would measure the data and are refused. A control that does
worse than chance is as bad a sign: near-copies of the same texts stand on both sides, which hides leaks. Where only the
labels of the sides differ, both are matched by label and looked at again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from redteam.auditing.matching import match_by_label
from redteam.core import DataError, StatisticsError, one_line
from redteam.core.arrays import BoolArray
from redteam.data import Examples, Split
from redteam.data.grouping import Grouping
from redteam.plugins.attack import Control
from redteam.report import plural, range_of
from redteam.report.values import ControlResult, Failure, Grade
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank

# Two-sided level of each control's interval, whatever the report's own: some 1.5 % of honest splits are refused.
_LEVEL = 0.01
# Membership that was drawn again makes members and non-members alike by construction, so that there a control above
# chance is nearly always a false alarm; only one this unlikely says that the ledger is not the truth.
_OVERRULES_RANDOMISED = 0.001


@dataclass(frozen=True, eq=False)
class Looked:
    """What is audited of a split, in the order of its pool, what the controls say of it, and its grade.

    `matched` says what matching by label left of it, and is empty where nothing was matched.
    """

    split: Split
    pool: Examples
    is_member: BoolArray
    units: Grouping
    controls: tuple[ControlResult, ...]
    failures: tuple[Failure, ...]
    grade: Grade
    reason: str
    matched: str = ""


def look(split: Split, controls: Sequence[Control], *, seed: int, before: str = "") -> Looked:
    """Shuffle a split, run the controls and grade it; where its labels alone tell the sides apart, match them first.

    `before` is what matching did to the split already.
    """
    looked = _look(split, controls, seed)
    of_labels = {control.id for control in controls if control.reads_labels}
    told = [result for result in looked.controls if result.control in of_labels and result.auc.low > 0.5]
    found = match_by_label(split, seed=seed) if told else None
    if found is not None:
        looked = _look(found[0], controls, seed)
        before += f"; {found[1]}; before that {_saw(told[0])}"
    return replace(looked, reason=looked.reason + before, matched=before)


def _look(split: Split, controls: Sequence[Control], seed: int) -> Looked:
    pool, is_member = split.pool(seed)
    units = Grouping.of(pool, is_member, split.unit)
    looked_at = units.control_pool(pool, seed=seed)
    results, failures = run_controls(controls, looked_at, units.is_member, randomised=split.randomised, seed=seed)
    grade, reason = grade_evidence(split, results, failures)
    return Looked(split, pool, is_member, units, tuple(results), tuple(failures), grade, reason)


def run_controls(
    controls: Sequence[Control], pool: Examples, is_member: BoolArray, *, randomised: bool, seed: int
) -> tuple[list[ControlResult], list[Failure]]:
    """Return what each control saw, with an interval, and those that saw nothing."""
    results: list[ControlResult] = []
    failures: list[Failure] = []
    level = _OVERRULES_RANDOMISED if randomised else _LEVEL
    for control in controls:
        try:
            scores = control.score(pool, is_member, seed=seed)
            scored = ~np.isnan(scores)  # a fold that was only learned from has no scores
            interval = area_interval(rank(scores[scored], is_member[scored]), alpha=level)
            results.append(ControlResult(control.id, interval, control.may_be_below_chance, control.reads_texts))
        except (DataError, StatisticsError) as error:  # nothing to compare by, or no difference between any two rows
            failures.append(Failure(control.id, "not_applicable", one_line(error)))
        except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end an audit as a pass
            failures.append(Failure(control.id, "failed", one_line(error)))
    return results, failures


def grade_evidence(split: Split, results: Sequence[ControlResult], failures: Sequence[Failure]) -> tuple[Grade, str]:
    """Return the grade of what is measured, of rows or of users, and one sentence that gives its reason."""
    grade, reason = _grade(split, results, failures)
    return grade, reason + _about_users(split)


def _saw(result: ControlResult) -> str:
    """Return what a control saw, in its numbers."""
    return f"{result.control} saw AUC {range_of(result.auc)}"


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
        seen = f"AUC {range_of(result.auc)}"
        if result.auc.low > 0.5:
            return "C", f"{result.control} tells members from non-members without the target, {seen}"
        if result.auc.high < 0.5 and not result.may_be_below_chance:
            what = "near-copies of the same texts seem to stand on both sides"
            return "C", f"{result.control} does worse than chance, {seen}: {what}, which would hide leaks"
    beside = "".join(f"; {_saw(result)}" for result in results)
    if split.randomised and split.redrawn:
        said = f"every {one} was included independently at random, drawn again from the ledger's seed and key"
        return "A", said + beside
    if split.randomised:
        said = f"every {one} is said to have been included independently at random"
        return "A", f"{said}; this was taken on the caller's word, nothing was drawn again{beside}"
    broken = [failure for failure in failures if failure.kind == "failed"]
    if broken:
        what = "so nothing says that the two sides are alike"
        return "C", f"{broken[0].attack} broke, {what}: {broken[0].reason}{beside}"
    if not any(result.reads_texts for result in results):
        return "B", f"the split is taken on trust: no control could compare the texts of the two sides{beside}"
    names = " and ".join(result.control for result in results)
    return "B", f"{names} cannot tell the two sides apart without the target{beside}"
