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
from redteam.cli.present import ExitZero, Trackers, exit_code, log_to, say
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.experiments.drill.cells import DrillTask
    from redteam.experiments.drill.report import DrillResult
    from redteam.plugins.extraction import ExtractionAttack

Opt = typer.Option
Patterns = Annotated[list[str] | None, Opt("--pattern", help=f"{o.PATTERN} [default: pin].")]
Lengths = Annotated[str | None, Opt("--length", help="List of lengths n of the secrets [default: 4].")]
Repetitions = Annotated[str | None, Opt("--repetitions", help=f"{o.REPETITIONS} [default: 1,10,100].")]
Defenses = Annotated[
    str | None, Opt("--defense", help="List: none, es, d, ce, joined by +, all, any defence [default: none,all].")
]
Canaries = Annotated[int | None, Opt("--canaries", min=1, help=f"{o.CANARIES} [default: 20].")]
Labels = Annotated[
    list[str] | None,
    Opt("--label", help="List: existing, per-canary, fresh, one-per-model, a label of DATA [default: existing]."),
]


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
    *,
    data: o.LabelledTexts,
    output: e.Folder,
    preset: Annotated[Preset | None, Opt("--preset", help="A known grid; other options still count.")] = None,
    quick: e.Quick = False,
    model: o.ModelOptions,
    pattern: Patterns = None,
    length: Lengths = None,
    repetitions: Repetitions = None,
    defense: Defenses = None,
    canaries: Canaries = None,
    label: Labels = None,
    decoys: o.Decoys = 0,
    seeds: e.Seeds = None,
    attack: o.Attacks = None,
    set: o.Set = None,
    rows: e.Rows = None,
    jobs: o.Jobs = None,
    restart: o.Restart = False,
    log: Trackers = None,
    exit_zero: ExitZero = False,
    columns: o.TextOptions,
) -> None:
    """Plant secrets, train, and extract what was learned.

    Exit 0: nothing proven; 1: extracted; 2: inconclusive. --set takes epochs (by default as many as rows and labels
    want), batch_size and training.learning_rate of the training, and the settings of attacks. --pattern also takes
    call, pin and color, and sentences with {digit:n}, where n is each --length. With --label one-per-model there are as
    many models as --canaries, of one secret each.
    """
    from redteam.experiments.drill import page, picture, run, table
    from redteam.integrations.logged import drill_logged

    if quick and preset is not None:
        raise UsageError("--quick and --preset: each names a grid; give one of them")
    usual = _QUICK if quick else _PARIKH2022 if preset is Preset.parikh2022 else _DrillGrid()
    training, attacks, kept = _attacks(attack or [], set or [])
    axes: dict[str, Any] = {"patterns": tuple(pattern or ()), "lengths": length, "repetitions": repetitions}
    axes |= {"defenses": defense, "labels": tuple(label or ()), "canaries": canaries, "decoys": decoys}
    size = e.sized(usual, model, training, **axes, seeds=seeds, rows=rows)
    workers = 1 if jobs is None else jobs
    e.check_means(workers)
    tasks = _tasks(data, output, columns, size, attacks, kept)
    report = run.report_drill(e.run(tasks, _outcome, jobs=workers, restart=restart), required=bool(attack))
    written = {"md": table.render_markdown(report), "html": page.render_page(report)}
    delivered = e.write(report, output, written, table.render_text, picture.draw)
    delivered = log_to(log, lambda: drill_logged(report)) and delivered
    whole = delivered and not (report.failures or report.broken)
    raise typer.Exit(exit_code(e.code(page.outcome(report)), exit_zero=exit_zero, delivered=whole))


def _attacks(
    names: list[str], given: list[str]
) -> "tuple[e.TrainingSettings, tuple[ExtractionAttack, ...], list[str] | None]":
    """Return what is set of the training, the attacks as they are set, and which are run come what may; None: all."""
    from redteam.plugins.registry import choose, discover_extractions
    from redteam.plugins.settings import changes_of, settings_of, tune

    found = discover_extractions()
    found = choose(found, names) if names else found
    for attack in found:
        for each in given:
            name = each.partition("=")[0].replace("-", "_")
            if name in settings_of(attack) and name in settings_of(e.TrainingSettings()):
                both = f"training.{name} or {attack.id}.{name}"
                raise UsageError(f"--set {each}: the training and {attack.id} both have it; say {both}")
    tuned: tuple[Any, ...] = tune((e.TrainingSettings(), *found), given)
    training, *attacks = tuned
    return training, tuple(attacks), None if names else [each.id for each in attacks if changes_of(each)]


def _tasks(
    data: Path,
    output: Path,
    columns: o.TextOptions,
    size: _DrillGrid,
    attacks: "tuple[ExtractionAttack, ...]",
    kept: list[str] | None,
) -> "tuple[DrillTask, ...]":
    """Check everything that can be checked before the first training, and lay the cells out."""
    from redteam.experiments.drill.grid import choose_defenses, choose_labels, choose_patterns, drill_grid
    from redteam.experiments.drill.run import drill_tasks, labels_of, open_drill
    from redteam.plugins.registry import discover_defenses

    patterns = choose_patterns(size.patterns, parse_numbers(size.lengths, "--length"))
    trainers = choose_defenses(e.names(size.defenses), discover_defenses(), size.recipe)
    repetitions = parse_numbers(size.repetitions, "--repetitions")
    e.make_folder(output)
    try_start(size.model)
    setup, notes = open_drill(
        data,
        output,
        attacks,
        columns=columns.columns(),
        model=size.choice,
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
