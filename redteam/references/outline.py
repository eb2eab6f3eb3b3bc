"""What reference models would take and show, for a dry run: nothing is trained and the target is asked nothing."""

from collections.abc import Iterator

import numpy as np

from redteam.data import Examples
from redteam.references.plan import ReferencePlan, draw_plan
from redteam.references.recipe import LedgerRecipe
from redteam.references.trained import TrainedReferences
from redteam.report import plural
from redteam.statistics.membership.fidelity import forecast
from redteam.statistics.membership.moments import offset
from redteam.statistics.membership.stacking import ReferenceTable


def counted_work(recipe: LedgerRecipe, plan: ReferencePlan) -> float | None:
    """Return weights times tokens times passes of all models of a plan; None where the passes are not known."""
    one = recipe.work(plan.rows.take(np.flatnonzero(plan.included[0])))
    return None if one is None else one * len(plan)


def outline(references: TrainedReferences, pool: Examples) -> Iterator[str]:
    """Yield lines on the plan for a pool: its halves, the counted work, what is kept, and what that lets expect."""
    plan = draw_plan(pool, references.models, seed=references.seed)
    sizes = plan.included.sum(axis=1)
    whole = ", whole users" if plan.unit == "user" else ""
    models = plural(len(plan), "model")
    yield (
        f"references {models} by {references.trainer.name}, in complementary halves of {len(plan.rows):,} audited rows"
        f"{whole} ({sizes.min():,} to {sizes.max():,} a model), seed {references.seed}"
    )
    if isinstance(references.trainer, LedgerRecipe):
        work = counted_work(references.trainer, plan)
        size = "not known before the training" if work is None else f"{work:.2g} weights x tokens x passes in all"
        yield f"work       {size}"
    elif references.with_gradients:
        yield f"gradients  are taken where {references.trainer.name} returns a target with weights"
    if references.budget is not None:
        yield f"           as many of {models} as fit into {references.budget.seconds:g} s are trained"
    kept = references.kept(pool)
    if kept is None:
        yield "kept       none yet"
        return
    yield f"kept       {len(kept)} of {models}"
    table = ReferenceTable(kept.log_odds, kept.included, kept.partner)
    expected = forecast(table, lambda target, others: offset(target, others.moments()))
    if len(expected):
        yield (
            f"forecast   AUC {expected.mean():.3f} by the simplest score with references, each of those kept as the "
            "target; stronger attacks find more"
        )
