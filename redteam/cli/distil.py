"""`redteam distil`: a student that learns what a teacher answers, and not what it makes of the group a text names."""

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


How = Annotated[
    Lessons,
    typer.Option(
        "--counterfactual",
        help="Learn the teacher's answers to a text and its swap: their average, or expert, their geometric mean; "
        "augment adds swapped texts with the teacher's own answers, which removes nothing.",
    ),
]


def distil(
    *,
    teacher: Annotated[str, typer.Argument(help="model.pt, a Hugging Face directory, module:function, or a URL.")],
    data: Annotated[Path, typer.Argument(help="Texts to ask the teacher for; labels are not read.")],
    output: o.ModelFile = Path("student.pt"),
    model: o.ModelOptions,
    counterfactual: How = Lessons.none,
    swaps: o.Swaps = None,
    set: o.Set = None,
    seed: o.Seed = 0,
    text_column: o.TextColumn = None,
    opening: o.OpeningOptions,
) -> None:
    """Train a student on the answers of TEACHER to texts."""
    from redteam.auditing.fairness.distil import lesson, start
    from redteam.data.reading import read_texts
    from redteam.models.bundle import save_bundle
    from redteam.targets.loading import load_target
    from redteam.targets.target import Access, classifier

    lists = tuple(swaps or ("gender",))
    if swaps and counterfactual is Lessons.none:
        raise UsageError(f"--swaps {lists[0]}: goes with --counterfactual average or expert")
    if len(lists) > 1:
        raise UsageError("--swaps: one list at a time; put the pairs into one file")
    spec = model.model or "tiny"
    check_output(output, data, Path(teacher), Path(spec))
    texts, trainer = read_texts(data, text_column), _trainer(set or [])
    try_start(spec, opening)
    target = load_target(teacher)
    if Access.PROBABILITIES not in target.access:
        raise UsageError(f"{teacher}: shows {target.access.word}, and a student learns probabilities")
    taught = lesson(classifier(target), texts, counterfactual.value, lists[0])
    initial, order = start(spec, classifier(target).labels, texts, model.layers, model.freeze_embeddings, seed)
    with progress("training") as show:
        trained = trainer.fit_to(initial, taught.versions, taught.targets[:, order], seed=seed, progress=show)
    save_bundle(trained.bundle, output)
    if counterfactual is not Lessons.none:
        say(f"{taught.swapped:,} of {len(texts):,} texts were learned with their swap ({lists[0]}, {counterfactual})")
    say(
        f"wrote {output}; next: redteam fairness {output}, and redteam audit {output} with the teacher's --members and "
        "--nonmembers: what leaks of the teacher may leak through its answers"
    )


def _trainer(given: list[str]) -> "SoftTraining":
    from redteam.plugins.defense import SoftTraining
    from redteam.plugins.registry import discover_defenses
    from redteam.plugins.settings import tune

    (found,) = tune([each for each in discover_defenses() if isinstance(each, SoftTraining)][:1], given)
    return found
