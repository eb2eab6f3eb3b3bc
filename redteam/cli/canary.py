"""`redteam canary`: plant secrets in training data, and try to get them out of the model again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli import group
from redteam.cli import options as o
from redteam.cli.base import check_base
from redteam.cli.numbers import check_alpha, parse_numbers
from redteam.cli.present import (
    ExitZero,
    PlainFormat,
    ReportFile,
    TextOrJson,
    check_output,
    deliver,
    exit_code,
    say,
    terminal,
)
from redteam.cli.progress import progress
from redteam.cli.requests import RequestOptions
from redteam.core import UsageError
from redteam.core.files import open_to_others

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from redteam.canary import Planted, Planting
    from redteam.canary.extract import Extraction
    from redteam.plugins.extraction import ExtractionAttack
    from redteam.targets.target import Target

Opt = typer.Option


def plant(
    *,
    data: o.LabelledTexts,
    output: Annotated[Path, Opt("--output", "-o", help="The planted file to write, in the format of DATA.")],
    pattern: Annotated[list[str], Opt("--pattern", help=f"{o.PATTERN}.")],
    canaries: Annotated[int, Opt("--canaries", min=1, help=f"{o.CANARIES}.")] = 20,
    repetitions: Annotated[str, Opt("--repetitions", help=f"{o.REPETITIONS}.")] = "10",
    label: Annotated[str, Opt("--label", help="existing, fresh, per-canary, or a label of DATA.")] = "existing",
    decoys: o.Decoys = 0,
    seed: o.Seed = 0,
    alphabet: Annotated[list[str] | None, Opt("--alphabet", help="NAME=FILE of one symbol a line.")] = None,
    tokenizer: Annotated[Path | None, Opt("--tokenizer", help="Model whose words {word} takes.")] = None,
    columns: o.RowOptions,
) -> None:
    """Put secrets into DATA; which, only the canary ledger says.

    The canaries are dealt out evenly over the patterns, and over a list of repetitions.
    """
    from redteam.canary import PlantingPlan
    from redteam.canary import plant as run
    from redteam.canary.alphabets import WORDS

    plan = PlantingPlan(tuple(pattern), canaries, parse_numbers(repetitions, "--repetitions"), label, decoys, seed)
    files = _alphabets(alphabet or [])
    if tokenizer is not None and not any(WORDS in one.places for one in plan.check()):
        raise UsageError(f"--tokenizer {tokenizer}: no pattern has a slot {{{WORDS}:COUNT}}")
    _report(run(data, output, plan, columns=columns.columns(), alphabets=files, tokenizer=_tokenizer(tokenizer)))


def extract(
    *,
    target: Annotated[str, typer.Argument(help="model.pt, a Hugging Face directory, module:function, or a URL.")],
    canary_ledger: o.CanaryLedger = None,
    attack: o.Attacks = None,
    reference: Annotated[
        str | None, Opt("--reference", help="Model that never saw the canaries: compare too; may help for few copies.")
    ] = None,
    base: o.Base = None,
    training_data: o.TrainingData = None,
    set: o.Set = None,
    alpha: o.Alpha = 0.05,
    seed: o.Seed = 0,
    format: PlainFormat = TextOrJson.text,
    output: ReportFile = None,
    exit_zero: ExitZero = False,
    show_text: o.ShowText = False,
    token_env: o.TokenVariable = None,
) -> None:
    """Extract canaries: exit 0 none proven, 1 extracted, 2 not settled."""
    from redteam.canary.extract import extract as run
    from redteam.canary.run import Attacker, without_searches
    from redteam.plugins.settings import tune

    check_alpha(alpha)
    ledger = canary_ledger or _beside(target)
    check_output(output, ledger, base, training_data, Path(target), *([Path(reference)] if reference else []))
    planting = _planting(ledger)
    attacks = tune(_chosen(attack), set or ())
    _check_helpers(attacks, base, training_data, reference)
    opened = _open(target, token_env, ledger)
    named = [each.id for each in attacks if attack or each != type(each)()]  # one that was set differently is wanted
    attacks, spared = without_searches(attacks, planting, opened.access, kept=named)
    texts = None if training_data is None else _trained_on(training_data, planting, target, ledger)
    attacker = Attacker(None if reference is None else _reference(reference, opened, planting), base)
    with progress("extracting") as show:
        report = run(
            opened,
            planting,
            attacks,
            attacker=attacker,
            spared=spared,
            required=bool(attack),
            alpha=alpha,
            seed=seed,
            show_text=show_text,
            texts=texts,
            progress=show,
        )
    raise typer.Exit(_present(report, format, output, exit_zero))


def _check_helpers(
    attacks: "tuple[ExtractionAttack, ...]", base: Path | None, data: Path | None, reference: str | None
) -> None:
    """Refuse what would help none of the attacks: it would be taken for having been used."""
    check_base(base, attacks)
    if data is not None and base is None:
        raise UsageError(f"--training-data {data}: needs --base, the encoder from which embeddings moved")
    if data is not None and not any(attack.scores_tokens for attack in attacks):
        raise UsageError(f"--training-data {data}: no attack that is run scores tokens; {_all_that('scores_tokens')}")
    if reference is not None and not any(attack.compares for attack in attacks):
        raise UsageError(f"--reference {reference}: no attack that is run compares with one; {_all_that('compares')}")


def _all_that(what: str) -> str:
    """Return which attacks there are that would do."""
    from redteam.plugins.registry import discover_extractions

    able = [attack.id for attack in discover_extractions() if getattr(attack, what)]
    return f"these do: {', '.join(able)}" if able else "none does"


def _present(report: "Extraction", format: TextOrJson, output: Path | None, exit_zero: bool) -> int:
    from redteam.canary.render import render, summary
    from redteam.formats import json_text

    look = terminal(output)
    as_text = format is TextOrJson.text
    drawn = render(report, width=int(look["width"]), color=bool(look["color"])) if as_text else ""
    private = any(one.secret is not None for one in report.found)
    delivered = deliver(drawn or json_text(report.to_json()), output, private=private)
    say(summary(report))
    return exit_code(report.exit_code, exit_zero=exit_zero, delivered=delivered)


def _report(planted: "Planted") -> None:
    for note in planted.notes:
        say(note)
    planting = planted.planting
    rows = sum(len(c.rows) + sum(len(decoy.rows) for decoy in c.decoys) for c in planting.canaries)
    say(f"planted {len(planting.canaries):,} canaries in {rows:,} of {planting.rows:,} rows of {planted.data}")
    say(
        f"wrote {planted.ledger}, which is private: it holds the secrets; next: redteam train {planted.data}, then "
        f"redteam canary extract MODEL --canary-ledger {planted.ledger}"
    )


def _alphabets(given: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not (name and equals and path) or name in files:
            raise UsageError(f"--alphabet {each}: give each once as NAME=FILE, such as city=cities.txt")
        files[name] = Path(path)
    return files


def _tokenizer(path: Path | None) -> "Tokenizer | None":
    if path is None:
        return None
    from redteam.models.bundle import load_bundle
    from redteam.models.tokens import load_tokenizer, open_tokenizer
    from redteam.models.trial import try_first

    if not path.exists():
        raise UsageError(f"--tokenizer {path}: no such file or directory")
    if not path.is_dir():
        return open_tokenizer(load_bundle(path), name=str(path))
    for note in try_first(lambda: load_tokenizer(path), path, o.USUAL_LIMITS.limits()):
        say(note)
    return load_tokenizer(path)


def _beside(target: str) -> Path:
    from redteam.data.ledger import ledger_path

    if not Path(target).exists():
        raise UsageError(f"{target}: no file, so there is no ledger beside it; say --canary-ledger LEDGER")
    path = ledger_path(Path(target))
    if not path.is_file():
        raise UsageError(f"{target}: no ledger beside it; say --canary-ledger LEDGER, the file that planting wrote")
    return path


def _planting(ledger: Path) -> "Planting":
    from redteam.data.planted import load_planting

    return load_planting(ledger)


def _trained_on(data: Path, planting: "Planting", target: str, ledger: Path) -> tuple[str, ...]:
    """Return the texts of the planted file that the model was trained on: its ledger says, where there is one."""
    from redteam.canary.files import trained_texts
    from redteam.data import Columns
    from redteam.data.ledger import Ledger, ledger_path
    from redteam.data.planted import is_of_model

    own = next((path for path in (ledger, ledger_path(Path(target))) if is_of_model(path)), None)
    if own is None:
        say(f"{data}: no ledger says which of its rows were trained on, so all are taken to have been")
        return trained_texts(data, planting)
    kept = Ledger.load(own)
    if kept.recipe.parameters.get("early_stopping"):
        say(f"{data}: early stopping kept some members apart; they count as trained on, so the AUC of tokens is low")
    return trained_texts(data, planting, members=kept.membership.members, columns=Columns(**kept.data.columns))


def _chosen(wanted: list[str] | None) -> "tuple[ExtractionAttack, ...]":
    from redteam.plugins.registry import choose, discover_extractions

    found = discover_extractions()
    return choose(found, wanted) if wanted else found


def _open(name: str, token_env: str | None, ledger: Path | None) -> "Target":
    """Open a target; LedgerError where the ledger is of a model, and of another one."""
    from redteam.targets.loading import load_target

    target = load_target(name, **RequestOptions(token_env=token_env).settings(name))
    if ledger is not None:
        if (warning := open_to_others(ledger)) is not None:
            say(warning)
        _check_ledger(name, target, ledger)
    return target


def _reference(name: str, target: "Target", planting: "Planting") -> "Target":
    """Open a reference; UsageError for the target itself, or where its ledger says that it saw the canaries."""
    from redteam.data.ledger import Ledger, ledger_path
    from redteam.targets.target import labels_of

    opened = _open(name, None, None)
    if opened.digest is not None and opened.digest == target.digest:
        raise UsageError(f"--reference {name}: is the target itself; give a model that never saw the canaries")
    path = ledger_path(Path(name))
    if path.is_file() and Ledger.load(path).data.sha256 == planting.planted_sha256:
        raise UsageError(f"--reference {name}: was trained on the canaries, says {path}; give a model that was not")
    lacks = sorted({canary.label for canary in planting.canaries} - set(labels_of(opened)))
    if lacks:
        raise UsageError(
            f"--reference {name}: does not know {len(lacks)} labels of the canaries ({', '.join(lacks[:3])}); train it "
            "on the data planted with another --seed, or plant with --label existing"
        )
    return opened


def _check_ledger(name: str, target: "Target", ledger: Path) -> None:
    from redteam.auditing.inputs import check_trained_on
    from redteam.data.ledger import Ledger
    from redteam.data.planted import is_of_model, load_planting

    if is_of_model(ledger):
        Ledger.load(ledger).check_model(target.digest, ledger)
    check_trained_on(load_planting(ledger), target, name)


canary = group(plant, extract, name="canary", help="Plant secrets in training data, extract them from models.")
