"""What is audited, from how it was named: a target, the split of its data, and the guarantee it claims."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redteam.data import Columns, Split, read_examples, read_split
from redteam.errors import RedteamError, TargetError, UsageError
from redteam.ledger import Ledger, ledger_path
from redteam.report import Guarantee
from redteam.target import Target, load_target


@dataclass(frozen=True)
class Sources:
    """Where the examples come from; at most one of ledger, members with nonmembers, data, scores is used.

    Without any, the ledger beside the model. `data` together with a ledger says where its data file is now.
    """

    members: Path | None = None
    nonmembers: Path | None = None
    reference: Path | None = None
    data: Path | None = None
    ledger: Path | None = None
    scores: Path | None = None
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True)
class Case:
    """A target with the examples to attack it with; `notes` say what was guessed on the way."""

    target: Target
    split: Split
    guarantee: Guarantee | None
    notes: tuple[str, ...]


def open_case(name: str | None, sources: Sources, options: dict[str, Any]) -> Case:
    """Open a target by name and its examples; raise UsageError where the two cannot be told from what was said."""
    _check(name, sources)
    if sources.scores is not None:
        from redteam.targets.saved import load_scores

        saved, split, notes = load_scores(sources.scores, columns=sources.columns)
        return Case(saved, split, None, notes)
    assert name is not None  # _check saw to it
    if sources.members is not None and sources.nonmembers is not None:
        split, notes = _from_files(sources.members, sources.nonmembers, sources)
        return Case(load_target(name, **options), split, None, notes)
    if sources.data is not None and sources.ledger is None:
        split, notes = read_split(sources.data, sources.columns)
        return Case(load_target(name, **options), split, None, notes)
    return _from_ledger(name, sources, options)


def _check(name: str | None, sources: Sources) -> None:
    if (name is None) == (sources.scores is None):
        raise UsageError("name one thing to audit: a model, an endpoint or a function, or --scores FILE")
    if (sources.members is None) != (sources.nonmembers is None):
        raise UsageError("--members and --nonmembers go together")
    ways = {"--members": sources.members, "--scores": sources.scores}
    ways["--ledger"] = sources.ledger
    if sources.ledger is None:
        ways["--data"] = sources.data
    given = [option for option, path in ways.items() if path is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: each says which examples to audit")
    if sources.reference is not None and sources.members is None:
        raise UsageError("--reference goes with --members and --nonmembers")
    if sources.columns.split is not None and sources.members is not None:
        raise UsageError("--split-column goes with --data or --scores: --members and --nonmembers say it already")


def _from_files(members: Path, nonmembers: Path, sources: Sources) -> tuple[Split, tuple[str, ...]]:
    inside, outside = (read_examples(path, sources.columns) for path in (members, nonmembers))
    notes = inside.notes + outside.notes
    if sources.reference is None:
        return Split.of(inside.examples, outside.examples), notes
    apart = read_examples(sources.reference, sources.columns)
    return Split.of(inside.examples, outside.examples, apart.examples), notes + apart.notes


def _from_ledger(name: str, sources: Sources, options: dict[str, Any]) -> Case:
    path = sources.ledger or ledger_path(Path(name))
    if sources.ledger is None and not path.is_file():
        raise _no_ledger(name, path)
    if sources.columns != Columns():
        raise UsageError("the ledger says which columns hold what; leave out --text-column and the like")
    target = load_target(name, **options)
    ledger = Ledger.load(path)
    ledger.check_model(target.digest, path)
    split, notes = ledger.split(path, data=sources.data)
    if target.digest != ledger.model:  # nothing shows that this is the model the ledger speaks of
        split = replace(split, randomised=False)
        unknown = f"{target.name}: cannot be recognised as the ledger's model: grade B, and no guarantee is taken over"
        return Case(target, split, None, (*notes, unknown))
    return Case(target, split, None if _is_void(ledger) else ledger.guarantee, (*notes, *_caveats(ledger)))


def _is_void(ledger: Ledger) -> bool:
    """Tell whether the noise of a private training follows from a seed that the ledger, and anyone, can name."""
    return ledger.recipe.parameters.get("noise") == "seed"


def _caveats(ledger: Ledger) -> Iterator[str]:
    """Yield what the ledger's guarantee does not cover."""
    if ledger.guarantee is None:
        return
    if _is_void(ledger):
        yield "the noise follows from the seed, so whoever knows it can subtract the noise: no guarantee is taken over"
    elif isinstance(model := ledger.recipe.parameters.get("model"), dict) and model.get("spec") in ("tiny", "bilstm"):
        yield "the guarantee does not cover the vocabulary, which was learned from the members' texts"


def _no_ledger(name: str, path: Path) -> RedteamError:
    """Say what is missing; a URL is not repeated, it may hold a password."""
    if not Path(name).exists() and ":" not in name:
        return TargetError(f"{name}: no such file or directory, and neither module:function nor a URL")
    where = f"no ledger at {path}, so nothing" if Path(name).exists() else "nothing"
    return UsageError(
        f"{where} says who was a member: "
        "give --ledger FILE, --members A --nonmembers B, or --data D with a split column"
    )
