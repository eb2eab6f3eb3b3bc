"""How many reference models fit into a time: one is trained, and the others take as long."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from redteam.core import RedteamError, UsageError
from redteam.core.parallel import Failed, attempt
from redteam.references.cache import ReferenceCache
from redteam.references.plan import ReferencePlan
from redteam.references.training import Reference, ReferenceJob, train_reference

STRENGTHS = (16, 8, 4, 2)  # models, the strongest plan first; an odd one has a model without its complement
_LOOK_AFTER = 1.0  # seconds of training before it says how long all of it takes
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class TimeBudget:
    """How long training may take, in seconds of the clock."""

    seconds: float

    @classmethod
    def of(cls, said: str) -> "TimeBudget":
        """Return what 90, 90s, 10m or 1.5h says; UsageError for anything else."""
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smh]?)", said.strip().lower())
        if match is None or float(match[1]) <= 0:
            raise UsageError(f"--time-budget {said!r}: wanted a time such as 90s, 10m or 1.5h")
        return cls(float(match[1]) * _UNITS[match[2]])


class _TooLong(Exception):
    """One model alone would take so many seconds, longer than there are."""


def within(
    budget: TimeBudget,
    plan: ReferencePlan,
    cache: ReferenceCache,
    job: Callable[[int], ReferenceJob],
    workers: int,
    tell: Callable[[str], None],
) -> int:
    """Return how many models of the plan fit into the budget: the most of 16, 8, 4 and 2, or 0; say what is given up.

    The first model is trained, unless it is kept, and timed; it is broken off where it alone would take too long.
    """
    one = job(0)
    wanted = {"with_weights": one.with_weights, "with_gradients": one.with_gradients}
    before = [cache.take(i, half, **wanted) for i, half in enumerate(plan.included)]
    kept = sum(each is not None for each in before)
    first, left = before[0], budget.seconds
    if first is None:
        cache.prepare()
        started = time.monotonic()
        found = attempt(lambda each: _timed(each, budget.seconds), one)
        if isinstance(found, float):
            tell(
                f"one reference model would take about {_said(found)}, and there are {_said(budget.seconds)}: audited "
                "without reference models"
            )
            return 0
        if isinstance(found, Failed):
            raise RedteamError(f"reference model 1 of {len(plan)}: {found.reason}")
        cache.save(0, plan.included[0], found)
        kept, left, each = kept + 1, left - (time.monotonic() - started), time.monotonic() - started
    else:
        each = max(first.seconds, 1e-3)
    most = kept + int(max(0.0, left) / each) * workers
    strengths = [k for k in dict.fromkeys((len(plan), *STRENGTHS)) if k <= len(plan)]
    fits = next((k for k in strengths if k <= most), 0)
    stronger = [k for k in strengths if k > fits]
    cost = f"; given up: {stronger[-1]}, which take about {_said(each * stronger[-1] / workers)}" if stronger else ""
    repeat = f"--references {fits} repeats this" if fits else "audited without reference models"
    tell(f"one reference model takes about {_said(each)}: {fits} fit into {_said(budget.seconds)}{cost}; {repeat}")
    return fits


def _timed(job: ReferenceJob, most: float) -> Reference | float:
    """Train one model; break off as soon as it shows that it would take longer than `most`, and return how long."""
    started = time.monotonic()
    seen: list[tuple[int, float]] = []

    def watch(step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if not seen:
            seen.append((step, now))
        first, since = seen[0]
        if step > first and now - started > _LOOK_AFTER:
            needed = (now - since) / (step - first) * (steps - first)
            if needed > most:
                raise _TooLong(needed)

    try:
        return train_reference(job, watch)
    except _TooLong as found:
        return float(found.args[0])


def _said(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
