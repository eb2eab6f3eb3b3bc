"""What is audited, from how it was named: a target, the split of its data, and the guarantee it claims."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redteam.auditing.agreement import check_agreement, ledger_beside
from redteam.auditing.fairness.run import FairnessAudit
from redteam.auditing.rebuilding import ReleasedAudit
from redteam.canary.label_evidence import LabelAudit
from redteam.core import LedgerError, RedteamError, TargetError, UsageError
from redteam.core.files import open_to_others
from redteam.data import Columns, Split, read_examples, read_split, without
from redteam.data.in_memory import Dataset, file_of
from redteam.data.labels import read_label_map, relabel
from redteam.data.ledger import Ledger, ledger_path
from redteam.data.planted import canaries_beside, load_planting
from redteam.data.planting import Planting, canaries_path, canary_texts
from redteam.report.values import Guarantee
from redteam.targets.loading import load_target
from redteam.targets.target import Target, label_index, labels_of


@dataclass(frozen=True)
class Sources:
    """Where the examples come from; at most one of ledger, members with nonmembers, data, scores is used.

    Members, nonmembers, reference and data may be a `datasets.Dataset` as well as a file. Without any, the ledger
    beside the model. `training_data` says where the data file of that ledger is now. `canaries`
    is the canary ledger of a model trained elsewhere, where it is not beside the members or the data. `label_map` is a
    JSON file that says what labels of the data are called in the model. `released` is the privatised file that the
    model was trained on.
    """

    members: Path | Dataset | None = None
    nonmembers: Path | Dataset | None = None
    reference: Path | Dataset | None = None
    data: Path | Dataset | None = None
    ledger: Path | None = None
    scores: Path | None = None
    canaries: Path | None = None
    training_data: Path | None = None
    columns: Columns = field(default_factory=Columns)
    label_map: Path | None = None
    released: Path | None = None


@dataclass(frozen=True)
class AuditInputs:
    """A target with the examples to attack it with, and the canaries that its data holds, if any.

    `notes` say what was guessed on the way.
    """

    target: Target
    split: Split
    guarantee: Guarantee | None
    notes: tuple[str, ...]
    planting: Planting | None = None
    labels: LabelAudit | None = None
    released: ReleasedAudit | None = None
    fairness: FairnessAudit | None = None


def open_inputs(name: str | None, sources: Sources, options: dict[str, Any]) -> AuditInputs:
    """Open the target called `name`, with `options` of its kind, and its examples from `sources`.

    Without a name the sources are saved scores. Raises UsageError where the two cannot be told from what was said,
    DataError for examples that cannot be read, and TargetError, BundleError or LedgerError for what cannot be opened.
    """
    _check(name, sources)
    if sources.scores is not None:
        from redteam.targets.saved import load_scores

        renamed = None if sources.label_map is None else read_label_map(sources.label_map)
        saved, split, notes = load_scores(sources.scores, columns=sources.columns, label_map=renamed)
        return AuditInputs(saved, split, None, notes)
    assert name is not None  # _check saw to it
    if sources.members is not None and sources.nonmembers is not None:
        planting = _canaries(sources, file_of(sources.members))
        split, notes = _from_files(sources.members, sources.nonmembers, sources, planting)
    elif sources.data is not None:
        planting = _canaries(sources, file_of(sources.data))
        split, notes = read_split(sources.data, sources.columns, planted=canary_texts(planting))
    else:
        return _from_ledger(name, sources, options)
    target = load_target(name, **options)
    check_trained_on(planting, target, name)
    split, renamed_labels = _relabelled(split, target, sources)
    notes += renamed_labels
    found = ledger_beside(name, target)
    if found is not None:
        planting, split = _known_canaries(planting, split, *found)
        notes += check_agreement(*found, split, map(file_of, (sources.members, sources.nonmembers, sources.data)))
    beside = [canaries_path(data) for data in map(file_of, (sources.members, sources.data)) if data is not None]
    private = _open_to_others(ledger_path(Path(name)), sources.canaries, *beside)
    notes = (*private, *_opening_notes(target), *notes)
    return AuditInputs(target, split, None, notes, planting)


def _open_to_others(*paths: Path | None) -> tuple[str, ...]:
    """Return a warning for each ledger that others may read."""
    said = (open_to_others(path) for path in dict.fromkeys(paths) if path is not None)
    return tuple(warning for warning in said if warning is not None)


def _relabelled(split: Split, target: Target, sources: Sources) -> tuple[Split, tuple[str, ...]]:
    """Return the split with its labels in the words of the target, and what was done to that end."""
    given = None if sources.label_map is None else read_label_map(sources.label_map)
    in_order = getattr(target, "labels_in_order", True)
    names = labels_of(target) if in_order else ()
    return relabel(split, label_index(names), names, given=given, in_order=in_order)


def _opening_notes(target: Target) -> tuple[str, ...]:
    """Return what was left out when a model was opened; other targets have nothing to leave out."""
    notes: tuple[str, ...] = getattr(target, "notes", ())
    return notes


def _check(name: str | None, sources: Sources) -> None:
    if (name is None) == (sources.scores is None):
        raise UsageError("name one thing to audit: a model, an endpoint or a function, or --scores FILE")
    if (sources.members is None) != (sources.nonmembers is None):
        raise UsageError("--members and --nonmembers go together")
    ways = {"--members": sources.members, "--scores": sources.scores}
    ways |= {"--ledger": sources.ledger, "--data": sources.data}
    given = [option for option, path in ways.items() if path is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: each says which examples to audit")
    if sources.training_data is not None and given not in ([], ["--ledger"]):
        raise UsageError(f"--training-data goes with a ledger, which says who was a member, and not with {given[0]}")
    if sources.released is not None and given not in ([], ["--ledger"]):
        raise UsageError(f"--released goes with the ledger of a model that was trained on it, and not with {given[0]}")
    if sources.reference is not None and sources.members is None:
        raise UsageError("--reference goes with --members and --nonmembers")
    if sources.columns.split is not None and sources.members is not None:
        raise UsageError("--split-column goes with --data or --scores: --members and --nonmembers say it already")
    if sources.canaries is not None and sources.scores is not None:
        raise UsageError("--canary-ledger goes with a target: saved scores answer no further questions")


def _canaries(sources: Sources, data: Path | None) -> Planting | None:
    """Return the canaries of the ledger that is named or lies beside the data; LedgerError where those are two."""
    beside = None if data is None else canaries_beside(data)
    if sources.canaries is None:
        return beside
    named = load_planting(sources.canaries)
    if data is not None and beside is not None and beside.digest != named.digest:
        raise LedgerError(f"{sources.canaries}: not the canaries of {data}, beside which is {canaries_path(data).name}")
    return named


def check_trained_on(planting: Planting | None, target: Target, name: str) -> None:
    """Raise LedgerError where the ledger beside the model `name` says that the target never saw these canaries.

    There is nothing to check where there is no such ledger, or `planting` is None.
    """
    path = ledger_path(Path(name))
    if planting is None or not path.is_file():
        return
    ledger = Ledger.load(path)
    if target.digest != ledger.model:
        return
    if ledger.data.sha256 != planting.planted_sha256:
        raise LedgerError(f"{path}: the model was trained on other data than these canaries are in; give those of that")
    known = ledger.planting(path)
    if known is not None and known.digest != planting.digest:
        raise LedgerError(f"{path}: the model was trained on other canaries than these; give the ledger of those")
    if known is None:
        raise LedgerError(
            f"{path}: the model was trained without the canary ledger beside its data, so that canaries were held out "
            "as users' rows do; put it there and train again"
        )


def _known_canaries(
    planting: Planting | None, split: Split, path: Path, ledger: Ledger
) -> tuple[Planting | None, Split]:
    """Return the canaries that the model's own ledger knows of, where nothing else does, and the split without them.

    Else secrets that the model was trained on would be audited as users' rows, and never asked for.
    """
    known = ledger.planting(path)
    if planting is not None or known is None:
        return planting, split
    texts = canary_texts(known)
    inside, outside = without(split.members, texts), without(split.nonmembers, texts)
    left = Split.of(inside, outside, split.reference, unit=split.unit)
    users = left.users
    if users is not None and split.users is not None and split.unit == "user":
        users = replace(users, both=split.users.both)  # who were moved out before
    return known, replace(left, moved_out=split.moved_out, duplicates=split.duplicates, alone=None, users=users)


def _from_files(
    members: Path | Dataset, nonmembers: Path | Dataset, sources: Sources, planting: Planting | None
) -> tuple[Split, tuple[str, ...]]:
    """Read both sides; canaries are no members, since the held-out ones are nowhere."""
    inside, outside = (read_examples(path, sources.columns) for path in (members, nonmembers))
    users, notes = without(inside.examples, canary_texts(planting)), inside.notes + outside.notes
    if (users.users is None) != (outside.examples.users is None):
        either = " and ".join(
            "the dataset" if (file := file_of(each)) is None else file.name for each in (members, nonmembers)
        )
        notes += (f"only one of {either} says whose its rows are: users are not looked at",)
    if sources.reference is None:
        return Split.of(users, outside.examples), notes
    apart = read_examples(sources.reference, sources.columns)
    return Split.of(users, outside.examples, apart.examples), notes + apart.notes


def _from_ledger(name: str, sources: Sources, options: dict[str, Any]) -> AuditInputs:
    path = sources.ledger or ledger_path(Path(name))
    if sources.ledger is None and not path.is_file():
        raise _no_ledger(name, path)
    columns = sources.columns
    if replace(columns, user=None, group=None) != Columns():
        raise UsageError("the ledger says which columns hold what; leave out all but --user-column and --group-column")
    if sources.canaries is not None:
        raise UsageError("--canary-ledger goes with --members or --data: the model's ledger says what was planted")
    target = load_target(name, **options)
    ledger = Ledger.load(path)
    if options.get("max_length") is not None and target.digest not in (None, ledger.model):
        cut = options["max_length"]
        raise UsageError(f"--max-length {cut}: {path} is of the model as it cuts texts itself; leave it out")
    labels = None if ledger.label_canaries is None else LabelAudit.open(ledger.label_canaries, path, target)
    ledger.check_model(target.digest, path)
    split, notes = ledger.split(path, data=sources.training_data, user=columns.user, group=columns.group)
    split, renamed = _relabelled(split, target, sources)
    notes += renamed
    beside = ledger_beside(name, target)
    if beside is not None and beside[0].resolve() != path.resolve():
        notes += check_agreement(*beside, split, (sources.training_data,))
    planted = canaries_path(ledger.data_path(path, sources.training_data))
    notes = (*_open_to_others(path, planted), *_opening_notes(target), *notes)
    planting = ledger.planting(path)
    if target.digest != ledger.model:  # nothing shows that this is the model the ledger speaks of
        split = replace(split, randomised=False)
        unknown = f"{target.name}: cannot be recognised as the ledger's model: grade B, and no guarantee is taken over"
        return AuditInputs(target, split, None, (*notes, unknown), planting)
    asked_as_they_were = (ledger.privatised or {}).get("source_sha256") == ledger.data.sha256
    if ledger.privatised is not None and sources.released is None and not asked_as_they_were:
        notes += (
            f"trained on texts that {ledger.privatised.get('mechanism')} privatised, and asked with these: what it "
            "tells of the texts as they were, --released FILE shows",
        )
    guarantee = None if _is_void(ledger) else ledger.guarantee
    return AuditInputs(target, split, guarantee, (*notes, *_caveats(ledger)), planting, labels)


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
        return TargetError(f"{name}: no such file or directory, and neither a URL nor module:function")
    where = f"no ledger at {path}, so nothing" if Path(name).exists() else "nothing"
    return UsageError(
        f"{where} says who was a member: "
        "give --ledger FILE, --members A --nonmembers B, or --data D with a split column"
    )
