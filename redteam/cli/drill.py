"""`redteam drill`: plant secrets, train and extract, over sentences, repetitions, labels and defences."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli import experiment as e
from redteam.cli import options as o
from redteam.cli.base import check_base
from redteam.cli.numbers import parse_numbers
from redteam.cli.opening import try_start
from redteam.cli.present import ExitZero, exit_code, say
from redteam.core import INCONCLUSIVE, LEAK, PASS, UsageError

if TYPE_CHECKING:
    from redteam.experiments.drill.cells import DrillTask
    from redteam.experiments.drill.report import DrillReport, DrillResult

Opt = typer.Option
Patterns = Annotated[
    list[str] | None, Opt("--pattern", help="call, pin, color, or a sentence with {digit:n} [default: pin].")
]
Lengths = Annotated[str | None, Opt("--length", help="List of lengths n of the secrets [default: 4].")]
Repetitions = Annotated[str | None, Opt("--repetitions", help="List of numbers of copies R [default: 1,10,100].")]
Defenses = Annotated[
    str | None, Opt("--defense", help="List: none, es, d, ce, joined by +, all, any defence [default: none,all].")
]
Canaries = Annotated[
    int | None, Opt("--canaries", min=1, help="Secrets a model, or models of one secret each [default: 20].")
]
Labels = Annotated[
    list[str] | None,
    Opt("--label", help="List: existing, per-canary, fresh, one-per-model, a label of DATA [default: existing]."),
]
Decoys = Annotated[int | None, Opt("--decoys", min=0, help="Look-alikes with other labels for each canary.")]
Seeds = Annotated[int | None, Opt("--seeds", min=1, help="Models, each with canaries of its own [default: 1].")]
DrillEpochs = Annotated[int | None, Opt("--epochs", min=1, help="Passes over the texts [default: by rows and labels].")]
Jobs = Annotated[int, Opt("--jobs", "-j", help="Models trained at once, each on one thread.")]
Quick = Annotated[bool, Opt("--quick", help="A small drill in some minutes; other options still count.")]


class Preset(StrEnum):
    """Grids that have a name."""

    parikh2022 = "parikh2022"


@dataclass(frozen=True, kw_only=True)
class _DrillGrid(e.Grid):
    patterns: tuple[str, ...] = ("pin",)
    lengths: str = "4"
    repetitions: str = "1,10,100"
    defenses: str = "none,all"
    canaries: int = 20
    labels: tuple[str, ...] = ("existing",)
    decoys: int = 0
    seeds: int = 1


_QUICK = _DrillGrid(model="bilstm", repetitions="1,10,30", canaries=12, rows=2000)
# Patterns, lengths and defences are the paper's; its model also tagged slots and took one canary each, as
# --label one-per-model does in twenty times the time.
_PARIKH2022 = _DrillGrid(
    model="bilstm",
    patterns=("call", "pin", "color"),
    lengths="4,6,8,10",
    repetitions="1,3,10,30,100",
    defenses="none,es,d,ce,es+d,es+ce,d+ce,all",
    epochs=20,
    batch_size=64,
)


def drill(
    data: o.LabelledTexts,
    output: e.Folder,
    preset: Annotated[Preset | None, Opt("--preset", help="A known grid; other options still count.")] = None,
    quick: Quick = False,
    model: e.Model = None,
    layers: o.Layers = None,
    freeze_embeddings: o.Freeze = False,
    pattern: Patterns = None,
    length: Lengths = None,
    repetitions: Repetitions = None,
    defense: Defenses = None,
    canaries: Canaries = None,
    label: Labels = None,
    decoys: Decoys = None,
    seeds: Seeds = None,
    attack: o.Attacks = None,
    set: o.Set = None,
    epochs: DrillEpochs = None,
    batch_size: o.TrainingBatch = None,
    learning_rate: o.LearningRate = None,
    rows: e.Rows = None,
    jobs: Jobs = 1,
    restart: e.RestartAll = False,
    exit_zero: ExitZero = False,
    text_column: o.TextColumn = None,
    label_column: o.LabelColumn = None,
) -> None:
    """Plant secrets, train, and extract what was learned.

    Exit 0: nothing proven; 1: extracted; 2: inconclusive.
    """
    if quick and preset is not None:
        raise UsageError("--quick and --preset: each names a grid; give one of them")
    from redteam.experiments.drill import picture, run, table

    given: dict[str, Any] = {
        "model": model,
        "layers": layers,
        "freeze_embeddings": freeze_embeddings or None,
        "rows": rows,
    }
    given |= {"patterns": tuple(pattern or ()) or None, "lengths": length, "repetitions": repetitions}
    given |= {"defenses": defense, "canaries": canaries, "labels": tuple(label or ()) or None, "decoys": decoys}
    given |= {"seeds": seeds, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    size = e.sized(_QUICK if quick else _PARIKH2022 if preset is Preset.parikh2022 else _DrillGrid(), given)
    e.check_means(jobs)
    tasks = _tasks(data, output, (text_column, label_column), size, (attack or [], set or []))
    report = run.report_drill(e.run(tasks, _outcome, jobs=jobs, restart=restart), required=bool(attack))
    delivered = e.write(report, output, table.render_markdown(report), table.render_text, picture.draw)
    raise typer.Exit(exit_code(_code(report), exit_zero=exit_zero, delivered=delivered and not _incomplete(report)))


def _tasks(
    data: Path,
    output: Path,
    columns: tuple[str | None, str | None],
    size: _DrillGrid,
    wanted: tuple[list[str], list[str]],
) -> "tuple[DrillTask, ...]":
    """Check everything that can be checked before the first training, and lay the cells out."""
    from redteam.data import Columns
    from redteam.experiments.drill.grid import choose_defenses, choose_labels, choose_patterns, drill_grid
    from redteam.experiments.drill.run import drill_tasks, labels_of, open_drill
    from redteam.plugins.registry import choose, discover_defenses, discover_extractions
    from redteam.plugins.settings import tune
    from redteam.training.train import ModelChoice

    names, settings = wanted
    attacks = discover_extractions()
    attacks = tune(choose(attacks, names) if names else attacks, settings)
    kept = None if names else [each.id for each in attacks if each != type(each)()]  # set differently, it is wanted
    patterns = choose_patterns(size.patterns, parse_numbers(size.lengths, "--length"))
    asked = {"epochs": size.epochs, "batch_size": size.batch_size, "learning_rate": size.learning_rate}
    trainers = choose_defenses(e.names(size.defenses), discover_defenses(), asked)
    repetitions = parse_numbers(size.repetitions, "--repetitions")
    e.make_folder(output)
    try_start(size.model)
    setup, notes = open_drill(
        data,
        output,
        attacks,
        columns=Columns(*columns),
        model=ModelChoice(size.model, size.layers, size.freeze_embeddings),
        rows=size.rows,
        canaries=size.canaries,
        decoys=size.decoys,
    )
    for note in notes:
        say(note)
    check_base(setup.base, attacks)
    labels = choose_labels(size.labels, labels_of(setup))
    cells = drill_grid(patterns, repetitions, trainers, size.seeds, labels=labels, canaries=size.canaries)
    return drill_tasks(setup, trainers, cells, output, kept=kept)


def _outcome(result: "DrillResult") -> str:
    whole: dict[str, int] = {}
    for one in result.found:
        if one.right is not None:
            whole[one.attack] = whole.get(one.attack, 0) + (one.right == one.places)
    got = ", ".join(f"{attack} {count}" for attack, count in whole.items())
    nothing = ", learned nothing" if result.untrained else ""
    kept = "" if result.kept is None else f", pass {result.kept} kept"
    right = f"{result.right / result.tested:.1%} right{nothing}{kept}"
    return f"{right}; whole secrets of {result.canaries}: {got or 'none guessed'}"


def _code(report: "DrillReport") -> int:
    from redteam.experiments.drill.report import too_few

    if any(row.proven for row in report.rows):
        return LEAK
    unlearned = any(row.untrained for row in report.rows)
    return INCONCLUSIVE if _incomplete(report) or unlearned or any(too_few(report.rows, report.each)) else PASS


def _incomplete(report: "DrillReport") -> bool:
    return bool(report.failures or report.broken)
