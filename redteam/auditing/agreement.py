"""Does what a user says about membership agree with the ledger that lies beside the model?

A ledger whose digest is the model's knows every text that it was trained on. Members that were held out, and
non-members that were trained on, would hide the leak that the ledger's own split shows, so a contradiction is refused;
a part of the members, or fresh non-members, is an audit of its own and goes on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redteam.core import LedgerError
from redteam.data import Columns, Examples, Split, fingerprint, read_examples, text_key
from redteam.data.ledger import Ledger, ledger_path
from redteam.data.planting import canary_rows
from redteam.report import plural
from redteam.targets.target import Target


@dataclass(frozen=True)
class _Sides:
    """Fingerprints of the texts that a model was trained on, and of those that its training left out."""

    trained: frozenset[bytes]
    apart: frozenset[bytes]


def ledger_beside(name: str, target: Target) -> tuple[Path, Ledger] | None:
    """Return the ledger beside a model, None where there is none or it is of another; LedgerError where it is broken.

    A ledger that cannot be read may be the one that contradicts what is said of the members.
    """
    path = ledger_path(Path(name))
    if target.digest is None or not path.is_file():
        return None
    ledger = Ledger.load(path)
    return (path, ledger) if ledger.model == target.digest else None


def check_agreement(path: Path, ledger: Ledger, split: Split, files: Iterable[Path | None]) -> tuple[str, ...]:
    """Raise LedgerError where `split` contradicts the ledger at `path`; return notes on what was compared.

    Texts are compared where the ledger's data is where it was, or is one of `files`; else only how many there are.
    """
    if split.members.texts is None or split.nonmembers.texts is None:
        return ()
    members, nonmembers = _keys(split.members), _keys(split.nonmembers)
    sides = _sides(path, ledger, files)
    if sides is None:
        return _counted(path, ledger, len(members))
    held_out, trained = len(members & sides.apart), len(nonmembers & sides.trained)
    unknown = len(members - sides.trained - sides.apart)
    wrong = [
        f"{held_out:,} of the {len(members):,} members were held out of its training" if held_out else "",
        f"{unknown:,} of the {len(members):,} members are not in its data" if unknown else "",
        f"{trained:,} of the {len(nonmembers):,} non-members were trained on" if trained else "",
    ]
    if any(wrong):
        said = ", ".join(each for each in wrong if each)
        raise LedgerError(
            f"{path}: is the ledger of this very model and contradicts what is said of it: {said}; name no members, "
            "data or other ledger, or move this one away if it is the one that is wrong"
        )
    if len(members) < len(sides.trained):
        all_ = len(sides.trained)
        return (f"{path.name}: agrees; of the {all_:,} texts that it was trained on, {len(members):,} are audited",)
    return (f"{path.name}: agrees on who was a member",)


def _keys(examples: Examples) -> frozenset[bytes]:
    return frozenset(text_key(text) for text in examples.texts or ())


def _counted(path: Path, ledger: Ledger, members: int) -> tuple[str, ...]:
    most = len(ledger.membership.members) + len(canary_rows(ledger.planting(path)))
    if members > most:
        raise LedgerError(
            f"{path}: is the ledger of this very model, which was trained on {plural(most, 'row')}, and contradicts "
            f"{members:,} members; name no members or data"
        )
    return (f"{path.name}: its data is not where it was, so what is said of the members was not compared with it",)


def _sides(path: Path, ledger: Ledger, files: Iterable[Path | None]) -> _Sides | None:
    """Return what the ledger knows of each text, None where its data is nowhere."""
    known = path.resolve().parent / ledger.data.path
    for file in (known, *files):
        if file is not None and file.exists() and fingerprint(file) == ledger.data.sha256:
            return _divided(path, ledger, read_examples(file, Columns(**ledger.data.columns)).examples)
    return None


def _divided(path: Path, ledger: Ledger, examples: Examples) -> _Sides:
    sides, planted = ledger.membership, canary_rows(ledger.planting(path))
    try:
        trained = _keys(examples.of_rows(sorted({*sides.members, *planted})))
        apart = _keys(examples.of_rows([*sides.nonmembers, *sides.reference]))
    except IndexError:
        raise LedgerError(f"{path}: names a row beyond those of {ledger.data.path}: the ledger was edited") from None
    return _Sides(trained, apart - trained)
