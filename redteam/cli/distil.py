"""`redteam distil`: a student that learns what a teacher answers, and not what it makes of the group a text names."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli import options as o
from redteam.cli.opening import try_start
from redteam.cli.present import check_output, say
from redteam.cli.progress import progress
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.plugins.defense import SoftTraining


class Lessons(StrEnum):
    """What of a text and its swap the student learns."""

    none = "none"
    average = "average"
    expert = "expert"
    augment = "augment"
    mean = "mean"
    max = "max"


class TeacherTask(StrEnum):
    """What the teacher does."""

    classify = "classify"
    lm = "lm"


OF_TASK = {
    TeacherTask.classify: (Lessons.none, Lessons.average, Lessons.expert, Lessons.augment),
    TeacherTask.lm: (Lessons.none, Lessons.mean, Lessons.max, Lessons.expert),
}
How = Annotated[
    Lessons,
    typer.Option(
        "--counterfactual",
        help="Learn the teacher's answers to a text and its swap: their average, or expert, their geometric mean; "
        "augment adds swapped texts with the teacher's own answers, which removes nothing. lm: mean, max or expert.",
    ),
]
ToDo = Annotated[TeacherTask, typer.Option("--task", help="lm: TEACHER is a causal language model's directory.")]
Reversed = Annotated[bool, typer.Option("--role-reversed", help="lm: read texts with the groups exchanged besides.")]


@dataclass(frozen=True)
class _Way:
    """How to teach: what of a text and its swap, by which list, with which settings."""

    how: Lessons
    swaps: str
    given: list[str]
    seed: int
    restart: bool

    def begins(self, checkpoint: Path) -> None:
        """Forget an unfinished training where it is to begin anew."""
        if self.restart:
            checkpoint.unlink(missing_ok=True)


def distil(
    *,
    teacher: Annotated[str, typer.Argument(help="model.pt, a Hugging Face directory, module:function, or a URL.")],
    data: Annotated[Path, typer.Argument(help="Texts to ask the teacher for; labels are not read.")],
    output: o.ModelFile = Path("student.pt"),
    model: o.ModelOptions,
    task: ToDo = TeacherTask.classify,
    counterfactual: How = Lessons.none,
    role_reversed: Reversed = False,
    swaps: o.Swaps = None,
    set: o.Set = None,
    seed: o.Seed = 0,
    text_column: o.TextColumn = None,
    opening: o.OpeningOptions,
    restart: o.Restart = False,
) -> None:
    """Train a student on the answers of TEACHER to texts."""
    from redteam.data.reading import read_texts

    if counterfactual not in OF_TASK[task]:
        raise UsageError(f"--counterfactual {counterfactual}: with --task {task} one of {', '.join(OF_TASK[task])}")
    lists = tuple(swaps or ("gender",))
    reverses = counterfactual is not Lessons.none or role_reversed
    if swaps and not reverses:
        raise UsageError(f"--swaps {lists[0]}: goes with --counterfactual {OF_TASK[task][1]} or expert")
    if len(lists) > 1:
        raise UsageError("--swaps: one list at a time; put the pairs into one file")
    if task is TeacherTask.lm and output.exists():
        raise UsageError(f"--output {output}: is there already; a language model is written to a directory of its own")
    spec = model.model or "tiny"
    check_output(output, data, Path(teacher), Path(spec))
    texts = read_texts(data, text_column)
    way = _Way(counterfactual, lists[0], set or [], seed, restart)
    if task is TeacherTask.lm:
        if model.model or model.freeze_embeddings:
            raise UsageError("--task lm: the student is the teacher with fewer --layers; leave out other model options")
        return _language(Path(teacher), texts, output, way, role_reversed=role_reversed, layers=model.layers)
    if role_reversed:
        raise UsageError("--role-reversed: is for --task lm; of classifiers say --counterfactual average")
    try_start(spec, opening)
    return _classifier(teacher, texts, output, way, spec=spec, model=model)


def _classifier(
    teacher: str, texts: tuple[str, ...], output: Path, way: _Way, *, spec: str, model: o.ModelOptions
) -> None:
    from redteam.auditing.fairness.distil import checkpoint_for, lesson, start
    from redteam.auditing.scoring import ScoreCache
    from redteam.cli.references import kept_answers
    from redteam.models.bundle import save_bundle
    from redteam.targets.loading import load_target
    from redteam.targets.target import Access, classifier

    trainer, target = _trainer(way.given), load_target(teacher)
    if Access.PROBABILITIES not in target.access:
        raise UsageError(f"{teacher}: shows {target.access.word}, and a student learns probabilities")
    with progress("asking") as show:
        cache = ScoreCache(target, folder=kept_answers(), progress=show, restart=way.restart, tell=say)
        taught = lesson(classifier(cache), texts, way.how.value, way.swaps)  # type: ignore[arg-type]
    initial, order = start(spec, classifier(target).labels, texts, model.layers, model.freeze_embeddings, way.seed)
    checkpoint = checkpoint_for(output, taught.key, spec, model, trainer, way.seed)
    way.begins(checkpoint.path)
    with progress("training") as show:
        aims = taught.targets[:, order]
        trained = trainer.fit_to(initial, taught.versions, aims, seed=way.seed, checkpoint=checkpoint, progress=show)
    save_bundle(trained.bundle, output)
    checkpoint.path.unlink(missing_ok=True)
    if way.how is not Lessons.none:
        say(f"{taught.swapped:,} of {len(texts):,} texts were learned with their swap ({way.swaps}, {way.how})")
    say(
        f"wrote {output}; next: redteam fairness {output}, and redteam audit {output} with the teacher's --members and "
        "--nonmembers: what leaks of the teacher may leak through its answers"
    )


def _language(
    teacher: Path, texts: tuple[str, ...], output: Path, way: _Way, *, role_reversed: bool, layers: int | None
) -> None:
    """Distil a language model into a directory."""
    from redteam.auditing.fairness.distil import checkpoint_for
    from redteam.auditing.fairness.language import (
        DistilledLanguage,
        open_language_model,
        save_language_model,
        student_of,
    )
    from redteam.plugins.settings import tune

    (trainer,) = tune([DistilledLanguage(way.how.value, role_reversed)], way.given)  # type: ignore[arg-type]
    opened = open_language_model(teacher)
    rows, swapped, unlike = trainer.rows(opened, texts, way.swaps)
    student = student_of(opened, layers, way.seed)
    checkpoint = checkpoint_for(output, repr(rows).encode(), teacher.resolve(), layers, trainer, way.swaps, way.seed)
    way.begins(checkpoint.path)
    with progress("training") as show:
        trainer.fit(opened, student, rows, swaps=way.swaps, seed=way.seed, checkpoint=checkpoint, progress=show)
    save_language_model(student, opened.tokenizer, output)
    checkpoint.path.unlink(missing_ok=True)
    if trainer.how != "none" or trainer.role_reversed:
        say(
            f"{swapped:,} of {len(texts):,} texts have a reversal ({way.swaps}), {unlike:,} of them in another number "
            "of tokens, which were learned as they are"
        )
    say(f"wrote {output}; what is built on it is not fair by that: measure each classifier with redteam fairness")


def _trainer(given: list[str]) -> "SoftTraining":
    from redteam.plugins.defense import SoftTraining
    from redteam.plugins.registry import discover_defenses
    from redteam.plugins.settings import tune

    (found,) = tune([each for each in discover_defenses() if isinstance(each, SoftTraining)][:1], given)
    return found
