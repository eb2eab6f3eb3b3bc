"""Reference models trained here: planned, trained over workers, kept, and taken up again after a kill."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from redteam.core import RedteamError
from redteam.core.arrays import FloatArray
from redteam.core.parallel import Failed, attempt
from redteam.data import Examples
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.budget import TimeBudget, within
from redteam.references.cache import ReferenceCache
from redteam.references.plan import ReferencePlan, draw_plan
from redteam.references.recipe import ReferenceTrainer, seed_of_model
from redteam.references.training import Reference, ReferenceJob
from redteam.references.workers import check_engine, train_references
from redteam.report import plural
from redteam.targets.target import own_label_log_odds

_ALIKE = 0.1  # share by which the rows of the target and of references may differ unsaid
USUAL = 8  # models: beyond so many an attack gains little


def unheard(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class TrainedReferences:
    """So many `models`, each trained by `trainer` on half of the pool's rows; what they say is kept under `folder`.

    `seed` decides halves and trainings. `with_gradients` keeps the norms of each row's gradients, of models that have
    weights. With a `budget`, `models` is the most there may be, and the time decides.
    `optional`: where they cannot be trained the audit does without. `tell` hears what is re-used and given up,
    `progress(done, total)` is called as models come on: 1.5 are done where one is and another by half.
    """

    trainer: ReferenceTrainer
    models: int
    folder: Path
    seed: int = 0
    workers: int = 1
    engine: str = "processes"
    with_weights: bool = False
    with_gradients: bool = False
    budget: TimeBudget | None = None
    optional: bool = False
    tell: Callable[[str], None] = field(default=unheard, compare=False)
    progress: Callable[[float, int], None] = field(default=lambda done, total: None, compare=False)

    @property
    def gives_gradients(self) -> bool:
        """Whether they are asked for, and it is not known that the models have no weights."""
        return self.with_gradients

    def scores(self, pool: Examples) -> ReferenceScores | None:
        """Train what is not kept yet, and return what all models say; None where a budget has room for none.

        Raises RedteamError where a training fails or its result cannot be written; what is finished is kept. Where they
        are `optional` that is told and there are none.
        """
        if self.optional:
            try:
                return replace(self, optional=False).scores(pool)
            except RedteamError as error:
                self.tell(f"audited without reference models: {error}")
                return None
        check_engine(self.engine)
        plan = self.plan(pool)
        cache = self.cache(plan)
        cache.stale(plan)
        self._warn(plan)
        if self.budget is not None:
            fits = within(self.budget, plan, cache, lambda model: self.job(plan, model), self.workers, self.tell)
            if not fits:
                return None
            return replace(self, models=fits, budget=None).scores(pool)
        found = self._kept(plan, cache)
        if found:
            self.tell(f"re-using {len(found)} of {plural(len(plan), 'reference model')}, kept in {cache.folder}")
        self._train(plan, cache, found)
        return self._joined(plan, found)

    def _warn(self, plan: ReferencePlan) -> None:
        """Say where references see another number of rows than the target did."""
        theirs, own = int(plan.included[0].sum()), getattr(self.trainer, "rows", None)
        if own is not None and abs(own - theirs) > _ALIKE * own:
            self.tell(
                f"the target was trained on {own:,} rows and each reference model on {theirs:,}, since references know "
                "the audited rows alone: the report says how alike they are"
            )

    def plan(self, pool: Examples) -> ReferencePlan:
        """Return which rows of a pool each model is trained on."""
        return draw_plan(pool, self.models, seed=self.seed)

    def job(self, plan: ReferencePlan, model: int) -> ReferenceJob:
        """Return what trains one model of a plan by itself."""
        half = plan.included[model]
        unfinished = self.cache(plan).checkpoint(model, half) if self.engine == "processes" else None
        keep = {"with_weights": self.with_weights, "with_gradients": self.with_gradients}
        return ReferenceJob(self.trainer, plan.rows, half, seed_of_model(self.seed, model), unfinished, **keep)

    def cache(self, plan: ReferencePlan) -> ReferenceCache:
        """Return where the models of a plan are kept."""
        return ReferenceCache.of(self.folder, plan, self.trainer.identity(), seed=self.seed, tell=self.tell)

    def kept(self, pool: Examples) -> ReferenceScores | None:
        """Return what finished models say of the pool, nothing trained; None where there are none."""
        plan = self.plan(pool)
        found = self._kept(plan, self.cache(plan))
        return self._joined(plan, found) if found else None

    def _kept(self, plan: ReferencePlan, cache: ReferenceCache) -> dict[int, Reference]:
        wanted = {"with_weights": self.with_weights, "with_gradients": self.with_gradients}
        taken = {i: cache.take(i, half, **wanted) for i, half in enumerate(plan.included)}
        return {i: reference for i, reference in taken.items() if reference is not None}

    def _train(self, plan: ReferencePlan, cache: ReferenceCache, found: dict[int, Reference]) -> None:
        """Train what is not in `found`, and put it there once it is kept."""
        left = [model for model in range(len(plan)) if model not in found]
        jobs = [self.job(plan, model) for model in left]
        if jobs:
            cache.prepare()
        self.progress(len(found), len(plan))
        whole = self.with_weights or self.with_gradients
        if left and not whole and self._together(plan, cache, left, found):
            return

        def watch(under_way: float) -> None:
            self.progress(len(found) + under_way, len(plan))

        with closing(train_references(jobs, workers=self.workers, engine=self.engine, watch=watch)) as outcomes:
            for position, outcome in outcomes:
                model = left[position]
                if isinstance(outcome, Failed):
                    kept = f"; {len(found)} finished ones are kept" if found else ""
                    raise RedteamError(f"reference model {model + 1} of {len(plan)}: {outcome.reason}{kept}")
                cache.save(model, plan.included[model], outcome)
                found[model] = replace(outcome, bundle=None)
                self.progress(len(found), len(plan))

    def _together(
        self, plan: ReferencePlan, cache: ReferenceCache, left: list[int], found: dict[int, Reference]
    ) -> bool:
        """Train all at once, where the trainer can; say whether it did."""
        outcome = attempt(self._answers, (plan, left))
        if isinstance(outcome, Failed):
            raise RedteamError(f"reference models: {outcome.reason}")
        if outcome is None:
            return False
        labels = {label: i for i, label in enumerate(sorted(set(plan.rows.labels or ())))}
        own = np.array([labels[label] for label in plan.rows.labels or ()])
        for model, answers in zip(left, outcome, strict=True):
            found[model] = Reference(own_label_log_odds(answers, own), answers.argmax(axis=1) == own)
            cache.save(model, plan.included[model], found[model])
        self.progress(len(found), len(plan))
        return True

    def _answers(self, what: tuple[ReferencePlan, list[int]]) -> FloatArray | None:
        plan, left = what
        seeds = [seed_of_model(self.seed, model) for model in left]
        return self.trainer.together(plan.rows, plan.included[left], seeds)

    def _joined(self, plan: ReferencePlan, found: dict[int, Reference]) -> ReferenceScores:
        models = sorted(found)
        place = {model: i for i, model in enumerate(models)}
        what = plural(len(models), "reference model")
        gradients = [found[model].gradients for model in models]
        return ReferenceScores(
            plan.back(np.array([found[model].log_odds for model in models])),
            plan.back(plan.included[models]),
            tuple(place.get(plan.partner[model], -1) for model in models),
            plan.back(np.array([found[model].correct for model in models])),
            f"{what} trained by {self.trainer.name} on halves of {len(plan.rows):,} audited rows",
            plan.back(np.array(gradients)) if all(each is not None for each in gradients) else None,
        )
