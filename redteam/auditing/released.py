"""Open a privatised file for an audit of the model that was trained on it, with its texts as they were.

The attacked texts are those of members, at most 2,000 of them; the attacker's own are those of non-members, which the
model was not trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from redteam.auditing.inputs import AuditInputs
from redteam.auditing.knowledge import knowledge, language
from redteam.auditing.rebuilding import ReleasedAudit
from redteam.core import LedgerError, UsageError
from redteam.data import Columns, Examples, Split, fingerprint, read_examples
from redteam.data.ledger import Ledger, ledger_path
from redteam.data.words import words_of
from redteam.models.word_vectors import WordVectors, load_word_vectors
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.reconstruction import ReconstructionAttack
from redteam.plugins.registry import choose, discover_mechanisms, discover_reconstructions
from redteam.training.privatising.exchange import Exchange
from redteam.training.privatising.record import Privatisation, load_record
from redteam.training.privatising.wording import caveats

_MOST_TEXTS = 2000


def parted(
    wanted: list[str] | None, released: Path | None
) -> tuple[tuple[ReconstructionAttack, ...], list[str] | None]:
    """Return the attacks on released texts that are wanted, all where none is named, and what else is, None for all."""
    everything = discover_reconstructions()
    known = {key.lower() for attack in everything for key in (attack.id, attack.name)}
    named = [name for name in wanted or () if name.lower() in known]
    if named and released is None:
        raise UsageError(f"--attack {named[0]}: tries released texts; give --released FILE")
    chosen = choose(everything, named) if named else everything
    return chosen, None if wanted is None else [name for name in wanted if name not in named]


def open_released(
    path: Path, inputs: AuditInputs, name: str | None, ledger: Path | None, attacks: Sequence[ReconstructionAttack]
) -> AuditInputs:
    """Return the inputs with texts as they were before `path` was released, and with `attacks` to try on the release.

    `ledger` is that of the model called `name`, None where it lies beside it. Raises LedgerError where the files are
    not of one another.
    """
    record = load_record(path)
    ledger = ledger or ledger_path(Path(name or ""))
    own = Ledger.load(ledger)
    if own.data.sha256 != record.released_sha256:
        raise LedgerError(f"{path}: {ledger.name} says that the model was trained on another file; give that one")
    source = (path.resolve().parent / record.source.path).resolve()
    if not source.exists() or fingerprint(source) != record.source.sha256:
        raise LedgerError(f"{path}: the texts as they were, {source}, are not there or changed; put them back")
    raw = read_examples(source, Columns(**record.source.columns)).examples
    released = read_examples(path, Columns(**own.data.columns)).examples
    split = _with_raw(inputs.split, raw)
    notes = (*inputs.notes, *caveats(record), f"membership attacks ask with the texts of {source.name} as they were")
    audit = _released(record, split, released, attacks)
    return replace(inputs, split=split, notes=notes, released=audit)


def _with_raw(split: Split, raw: Examples) -> Split:
    """Return the split of the same rows with texts as they were."""
    inside, outside = (raw.of_rows(side.rows.tolist()) for side in (split.members, split.nonmembers))
    inside, outside = (replace(a, labels=b.labels) for a, b in ((inside, split.members), (outside, split.nonmembers)))
    how = {"randomised": split.randomised, "salt": split.salt, "inclusion": split.inclusion, "redrawn": split.redrawn}
    return Split.of(inside, outside, None, unit=split.unit, **how)  # type: ignore[arg-type]


def _released(
    record: Privatisation, split: Split, released: Examples, attacks: Sequence[ReconstructionAttack]
) -> ReleasedAudit:
    if record.unit == "text":
        return _of_whole_texts(split, released, attacks)
    exchange = Exchange(mechanism_of(record), _vectors(record), record.unknown)
    return released_audit(exchange, split, released, attacks)


def _of_whole_texts(split: Split, released: Examples, attacks: Sequence[ReconstructionAttack]) -> ReleasedAudit:
    """Return what is tried where no word stands for one word: to read the words at their places."""
    pairs = list(_pairs(split, released))
    cut = tuple((*text, *[""] * len(own))[: len(own)] for text, own in pairs)
    known = language(split.nonmembers.texts or ())
    able = tuple(attack for attack in attacks if not attack.needs_channel)
    left = tuple(attack for attack in attacks if attack.needs_channel)
    return ReleasedAudit(cut, tuple(own for _, own in pairs), known, able, left)


def released_audit(
    exchange: Exchange, split: Split, released: Examples, attacks: Sequence[ReconstructionAttack]
) -> ReleasedAudit:
    """Return what is tried on the released texts of members, `released` being rows of the same numbers as `split`'s."""
    pairs = list(_pairs(split, released))
    seen = sorted({word for text, _ in pairs for word in text})
    known = knowledge(exchange, split.nonmembers.texts or (), seen)
    return ReleasedAudit(tuple(a for a, _ in pairs), tuple(b for _, b in pairs), known, tuple(attacks))


def _pairs(split: Split, released: Examples) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the words of some members' texts, released and as they were."""
    rows = np.random.default_rng(0x401).permutation(split.members.rows)[:_MOST_TEXTS]
    texts = released.of_rows(rows.tolist()).texts or ()
    members = {int(row): text for row, text in zip(split.members.rows, split.members.texts or (), strict=True)}
    for row, text in zip(rows, texts, strict=True):
        own = tuple(words_of(members[int(row)]))
        if own:
            yield tuple(text.split()), own


def _vectors(record: Privatisation) -> WordVectors:
    table = load_word_vectors(record.embeddings)
    if table.digest != record.embeddings_sha256:
        raise LedgerError(f"--embeddings {record.embeddings}: changed since the texts were privatised; restore it")
    return table


def mechanism_of(record: Privatisation) -> WordMechanism:
    """Return the mechanism of a record with its settings; LedgerError for one that is not installed."""
    for mechanism in discover_mechanisms():
        if mechanism.id == record.mechanism:
            return replace(mechanism, **record.settings)  # type: ignore[type-var]
    raise LedgerError(f"mechanism {record.mechanism} is not installed; install the package that brings it")
