"""Reference models, as options of an audit: how many, trained by what, where, and for how long."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli.options import Jobs, OpeningOptions
from redteam.cli.present import say
from redteam.cli.requests import RequestOptions
from redteam.core import RedteamError, UsageError

if TYPE_CHECKING:
    from redteam.auditing.inputs import AuditInputs
    from redteam.data import Examples
    from redteam.data.ledger import Ledger
    from redteam.plugins.reference_scores import ReferenceProvider
    from redteam.references.recipe import LedgerRecipe
    from redteam.references.trained import TrainedReferences
    from redteam.targets.target import Target

Opt = typer.Option

BY_DEFAULT = 8  # models that are trained where nothing is said, the ledger knows how, and an attack uses them
MOST_WORK = 2e11  # weights x tokens x passes of them all: 20 s (MiniLM) to 90 s (`tiny`) on one core
_OF_TRAINING = ("time_budget", "reference_trainer", "engine", "keep", "jobs")


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """Where reference models come from: trained here, as many as asked for or as fit into a time, or given."""

    references: Annotated[
        int | None,
        Opt("--references", min=0, help="Train so many reference models on halves of the audited rows; 0 for none."),
    ] = None
    time_budget: Annotated[
        str | None, Opt("--time-budget", help="Train as many reference models as fit into a time, such as 10m.")
    ] = None
    reference_scores: Annotated[
        Path | None, Opt("--reference-scores", help="Log-odds of reference models, with who was trained on what.")
    ] = None
    reference_model: Annotated[
        list[str] | None, Opt("--reference-model", help="A reference model; can be given several times.")
    ] = None
    reference_members: Annotated[
        list[Path] | None, Opt("--reference-members", help="The texts it was trained on; one file for each model.")
    ] = None
    reference_trainer: Annotated[
        str | None,
        Opt(
            "--reference-trainer",
            help="MODULE:FUNCTION that trains references from examples and a seed; runs your code.",
        ),
    ] = None
    engine: Annotated[
        str | None, Opt("--engine", help="Where references train: processes, ray or dask [default: processes].")
    ] = None
    keep: Annotated[
        str | None, Opt("--keep", help="What is kept of references: scores, or weights too [default: scores].")
    ] = None
    jobs: Jobs = None

    def check(self) -> None:
        """Raise UsageError for options that do not go together, before anything is opened."""
        given = [name for name in ("reference_scores", "reference_model") if getattr(self, name)]
        if self.reference_members and not self.reference_model:
            raise UsageError("--reference-members goes with --reference-model")
        training = [name for name in ("references", *_OF_TRAINING) if getattr(self, name) is not None]
        if len(given) > 1 or (given and training):
            names = [_flag(name) for name in (*given, *training)]
            raise UsageError(f"{names[0]} and {names[1]} exclude each other: references are given or trained")
        if self.references is not None and self.time_budget is not None:
            raise UsageError("--references and --time-budget exclude each other: one says how many, the other how long")
        if self.references == 0:
            self.refuse_idle()
        if self.keep not in (None, "scores", "weights"):
            raise UsageError(f"--keep {self.keep}: must be scores or weights")
        if self.keep == "weights" and self.reference_trainer is not None:
            raise UsageError("--keep weights: models of --reference-trainer are kept by it alone")
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs}: must be at least 1")

    def refuse_idle(self) -> None:
        """Raise UsageError for an option on training where nothing is trained."""
        idle = [name for name in ("engine", "keep", "jobs") if getattr(self, name) is not None]
        if idle and not self.trains:
            raise UsageError(f"{_flag(idle[0])} goes with --references, --time-budget or --reference-trainer")

    @property
    def trains(self) -> bool:
        """Whether somebody asked for models to be trained."""
        asked = self.references if self.references is not None else self.time_budget or self.reference_trainer
        return bool(asked)

    @property
    def files(self) -> tuple[Path | None, ...]:
        """All files that are read, which no report may overwrite."""
        return (self.reference_scores, *(self.reference_members or ()), *map(Path, self.reference_model or ()))


@dataclass(frozen=True)
class ReferenceSources:
    """What references are made from, beside the options: the audit's inputs and how they were named.

    `base` is the directory of a starting model, `folder` where results are kept, `opening` limits other models.
    """

    inputs: "AuditInputs"
    target: str | None
    ledger: Path | None
    base: Path | None
    seed: int
    folder: Path | None
    opening: OpeningOptions

    def open(self, name: str) -> "Target":
        """Open a reference model as the target would be."""
        from redteam.targets.loading import load_target

        return load_target(name, **RequestOptions().settings(name, self.opening))

    def known(self) -> "Ledger | None":
        """Return the ledger that says how the target was trained, the one given or the one beside it; None without."""
        from redteam.auditing.agreement import ledger_beside
        from redteam.data.ledger import Ledger

        if self.ledger is not None:
            return Ledger.load(self.ledger)
        found = None if self.target is None else ledger_beside(self.target, self.inputs.target)
        return None if found is None else found[1]


def provider(
    options: ReferenceOptions, sources: ReferenceSources, *, used: bool = True, gradients: bool = False
) -> "ReferenceProvider | None":
    """Return where the scores of reference models come from; None where there shall be none.

    `used`: an attack that runs makes use of them; else none are trained unasked. `gradients`: one reads these too.
    Raises UsageError where what was asked for cannot be had; nothing is trained yet.
    """
    from redteam.data import Columns
    from redteam.references.given import OpenedReferences, SavedReferences

    if options.reference_scores is not None:
        return SavedReferences(options.reference_scores)
    if options.reference_model:
        models = [sources.open(name) for name in options.reference_model]
        opened = OpenedReferences.open(models, options.reference_members or (), Columns(), sources.inputs.target)
        return replace(opened, with_gradients=gradients)
    found = _trained(options, sources) if options.trains else None
    if found is None and used and options.references is None:
        found = _by_default(options, sources)
    return found and replace(found, with_gradients=gradients)


def _trained(options: ReferenceOptions, sources: ReferenceSources) -> "TrainedReferences":
    from redteam.references.budget import STRENGTHS, TimeBudget
    from redteam.references.own_trainer import OwnTrainer
    from redteam.references.trained import USUAL, TrainedReferences
    from redteam.references.workers import check_engine

    if sources.folder is None:
        raise UsageError("reference models are kept in the user's cache, and there is no home: set XDG_CACHE_HOME")
    engine = options.engine or "processes"
    check_engine(engine)
    budget = None if options.time_budget is None else TimeBudget.of(options.time_budget)
    models = options.references or (USUAL if budget is None else STRENGTHS[0])
    return TrainedReferences(
        _recipe(sources) if options.reference_trainer is None else OwnTrainer.load(options.reference_trainer),
        models,
        sources.folder / "references",
        seed=sources.seed,
        workers=options.jobs or 1,
        engine=engine,
        with_weights=options.keep == "weights",
        budget=budget,
        tell=say,
    )


def _recipe(sources: ReferenceSources) -> "LedgerRecipe":
    from redteam.plugins.registry import discover_defenses
    from redteam.references.recipe import LedgerRecipe

    ledger = sources.known()
    if ledger is None:
        raise UsageError(
            "no ledger says how the target was trained: say --reference-trainer MODULE:FUNCTION, or give "
            "--reference-scores FILE or --reference-model DIR --reference-members FILE"
        )
    rows = len(ledger.membership.members) + len(ledger.canaries)
    return LedgerRecipe.of(ledger.recipe, discover_defenses(), rows=rows, base=sources.base)


def unasked() -> int:
    """Return how many models are trained where nothing is said; the environment's REDTEAM_REFERENCES may say 0."""
    said = os.environ.get("REDTEAM_REFERENCES", str(BY_DEFAULT))
    if said not in ("0", str(BY_DEFAULT)):
        raise UsageError(f"REDTEAM_REFERENCES={said}: must be 0 or {BY_DEFAULT}; --references takes any number")
    return int(said)


def _by_default(options: ReferenceOptions, sources: ReferenceSources) -> "TrainedReferences | None":
    """Return references where the ledger knows how to train them and that is little work; else say what it would be."""
    from redteam.references.outline import counted_work
    from redteam.references.plan import draw_plan
    from redteam.references.recipe import LedgerRecipe

    many = unasked()
    if not many or sources.known() is None:
        options.refuse_idle()
        return None
    try:
        made = replace(_trained(replace(options, references=many), sources), optional=True)
        assert isinstance(made.trainer, LedgerRecipe)
        work = counted_work(made.trainer, draw_plan(pool_of(sources.inputs, sources.seed), many, seed=sources.seed))
    except RedteamError as error:
        say(f"audited without reference models: {error}")
        return None
    if work is not None and work <= MOST_WORK:
        return made
    times = f"{work:.2g} weights x tokens x passes, {work / MOST_WORK:.1f} times what" if work else "more than"
    say(f"audited without reference models, a weaker attack: --references {many} takes {times} is trained unasked")
    return None


def pool_of(inputs: "AuditInputs", seed: int) -> "Examples":
    """Return the rows that an audit would look at, as far as that is known before the target is asked."""
    from redteam.auditing.grading import look
    from redteam.plugins.registry import discover_controls

    return look(inputs.split, [each for each in discover_controls() if each.reads_labels], seed=seed).pool


def foreseen(compared: "ReferenceProvider | None", inputs: "AuditInputs", seed: int) -> dict[str, Any]:
    """Return how many reference models there will be and whether with gradients, as far as that is known by now."""
    return {
        "references": _count_of(compared, inputs, seed),
        "gradients": bool(getattr(compared, "gives_gradients", False)),
    }


def _count_of(compared: "ReferenceProvider | None", inputs: "AuditInputs", seed: int) -> int:
    from redteam.references.given import OpenedReferences
    from redteam.references.trained import TrainedReferences

    if isinstance(compared, TrainedReferences):
        return compared.models
    if isinstance(compared, OpenedReferences):
        return len(compared.models)
    found = None if compared is None else compared.scores(pool_of(inputs, seed))
    return 0 if found is None else len(found)


def outline_of(compared: "ReferenceProvider | None", inputs: "AuditInputs", seed: int) -> Iterator[str]:
    """Yield what a dry run says of references."""
    from redteam.references.outline import outline
    from redteam.references.trained import TrainedReferences

    if isinstance(compared, TrainedReferences):
        yield from outline(compared, pool_of(inputs, seed))
    elif compared is not None and (found := compared.scores(pool_of(inputs, seed))) is not None:
        yield f"references {found.made_by}"


def watched(compared: "ReferenceProvider | None", show: Callable[..., None]) -> "ReferenceProvider | None":
    """Return references whose training is seen in the progress of the audit."""
    from redteam.references.trained import TrainedReferences

    if not isinstance(compared, TrainedReferences):
        return compared
    return replace(compared, progress=partial(show, what="training reference models"))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def kept_answers() -> Path | None:
    """Return where answers of a broken-off scoring are kept until the audit is taken up again, if there is a place."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "redteam"
    except RuntimeError:  # a user without a home, as in some containers
        return None
