"""From a data file to `model.pt` and its ledger: membership, model, training, files."""

import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from redteam.canary import Planting, canaries_beside, canary_rows, check_tokenizer, learn_from, mark_planted
from redteam.core import DataError, UsageError
from redteam.data import Columns, Examples, Reading, read_examples
from redteam.data.ledger import (
    DataFile,
    Ledger,
    Membership,
    TrainingRecipe,
    assign_membership,
    describe_data,
    ledger_path,
)
from redteam.data.units import how_many
from redteam.models.bundle import save_bundle
from redteam.models.initial import InitialModel, initial_model
from redteam.models.tokens import cut_at
from redteam.plugins.defense import Checkpoint, Defense, PrivateTraining, Progress, Trained
from redteam.report import plural
from redteam.report.values import Guarantee, Unit
from redteam.training.identity import fingerprint_of
from redteam.training.label_canaries import check_labels, label_record, label_request, told
from redteam.training.privatising.record import Privatisation, record_beside
from redteam.training.privatising.rewriting import Rewriting
from redteam.training.privatising.wording import caveats, repeated
from redteam.training.unfinished import finish, finish_cleaning, forget, seed_of


@dataclass(frozen=True)
class ModelChoice:
    """What to train: `spec` is tiny, bilstm, minilm or a directory; None leaves the model's own setting."""

    spec: str = "tiny"
    layers: int | None = None
    freeze_embeddings: bool = False
    dropout: float | None = None
    freeze_encoder: bool = False


@dataclass(frozen=True)
class RandomInclusion:
    """How membership is drawn: the share kept apart, which no attack here uses yet, then the chance to be held out.

    Without a `key` the fingerprint of the data file is the key: one must have all of the data to draw membership again.
    Against somebody who has, choose a secret key or seed.
    """

    holdout: float = 0.5
    reference: float = 0.0
    seed: int = 0
    key: str | None = None


@dataclass(frozen=True)
class TrainedFiles:
    """A finished training: the files written, the users' rows on either side, and what reading or training tells."""

    model: Path
    ledger: Path
    trained: Trained
    members: Examples
    nonmembers: Examples
    notes: tuple[str, ...]


def train(
    data: Path,
    output: Path,
    defense: Defense,
    *,
    columns: Columns = Columns(),
    model: ModelChoice = ModelChoice(),
    inclusion: RandomInclusion = RandomInclusion(),
    restart: bool = False,
    noise_from_seed: bool = False,
    label_canaries: int | None = None,
    canary_key: str | None = None,
    words: Rewriting | None = None,
    progress: Progress | None = None,
) -> TrainedFiles:
    """Train on a random part of the texts, write the model to `output` and the ledger beside it.

    Canaries of `data`, which the file beside it tells from users' rows, are all trained on.
    A private training draws its batches and noise from a secret that is thrown away with the checkpoint, unless
    `noise_from_seed`: for research, since whoever knows the seed can subtract the noise. A training that was broken off
    is taken up where it was, unless `restart`. `label_canaries` are planted as extra labels, each included with
    probability 1/2 as `canary_key` [default: a secret] draws it, and cut off the model that is written. With `words`
    their words are exchanged in what the model sees, for experiments. Raises DataError where a side would be empty,
    UsageError where an unfinished training is of other settings or the model cannot tell the canaries apart.
    """
    _check_output(output, data)
    ready = _prepare(data, output, defense, columns, model, inclusion, noise_from_seed, label_canaries, words)
    if restart:
        forget(ready.checkpoint)
    finish_cleaning(ready.checkpoint, output)
    check_labels(label_canaries, ready.defense, ready.checkpoint)
    planted = replace(ready.initial, canaries=label_request(label_canaries, ready.checkpoint, canary_key))
    chosen = sorted({*ready.sides["members"], *canary_rows(ready.planting)})
    rows = mark_planted(ready.reading.examples, ready.planting).of_rows(chosen)
    how: dict[str, Any] = {"population": ready.expected, "checkpoint": ready.checkpoint, "progress": progress}
    with seed_of(ready.noise, inclusion.seed, ready.checkpoint) as seed:
        trained = ready.defense.fit(planted, rows, seed=seed, **how)
    # Of a trainer that never asks for a secret, the seed is where the noise comes from.
    noise = ready.noise or ({"noise": "seed"} if trained.guarantee is not None else {})
    save_bundle(trained.bundle, output)  # the larger file first: where it does not fit, the old pair stays whole
    ledger = ledger_path(output)
    labels = None if trained.canaries is None else label_record(trained.canaries, output)
    replace(_ledger(ready, trained, model, inclusion, noise), label_canaries=labels).save(ledger)
    finish(ready.checkpoint)
    members, nonmembers = (ready.reading.examples.of_rows(ready.sides[side]) for side in ("members", "nonmembers"))
    notes = (*_told_before(ready, defense, members, nonmembers), *trained.notes)
    notes += (*(_caveats(noise, model) if trained.guarantee else ()), *_planted(ready.planting))
    notes += (*_uncovered(trained.guarantee, ready.reading.examples.users), *told(labels))
    return TrainedFiles(output, ledger, trained, members, nonmembers, notes)


@dataclass(frozen=True)
class _Ready:
    """All that is known before a training begins; `expected` is the public number of rows."""

    reading: Reading
    source: DataFile
    planting: Planting | None
    privatised: Privatisation | None
    words: Rewriting | None
    key: str
    unit: Unit
    sides: dict[str, tuple[int, ...]]
    expected: int
    initial: InitialModel
    defense: Defense
    noise: dict[str, str]
    checkpoint: Checkpoint


def _prepare(
    data: Path,
    output: Path,
    defense: Defense,
    columns: Columns,
    model: ModelChoice,
    inclusion: RandomInclusion,
    noise_from_seed: bool,
    label_canaries: int | None,
    words: Rewriting | None,
) -> _Ready:
    """Read the data, draw who is a member, and build the model."""
    reading = read_examples(data, columns)
    source = describe_data(data, reading.columns, reading.rows, beside=ledger_path(output))  # as it is now
    key = source.sha256 if inclusion.key is None else inclusion.key
    planting = canaries_beside(data)
    planted = canary_rows(planting)
    unit, sides = draw_sides(data, reading.examples, inclusion, key, planted)
    reading = replace(reading, examples=words(reading.examples)) if words else reading
    members = reading.examples.of_rows(sides["members"])
    users = len(reading.examples) - len(planted)
    expected = max(1, round(users * (1 - inclusion.reference) * (1 - inclusion.holdout))) + len(planted)
    expected += (label_canaries or 0) // 2
    initial = _initial_model(model, reading.examples, members, planting, inclusion.seed)
    defense = defense.settled(initial, expected)
    noise = _noise_of(defense, from_seed=noise_from_seed)
    shape = [_shape(model), initial.fingerprint(), *([label_canaries] if label_canaries else [])]
    shape += [] if words is None else [words.summary(source.sha256), words.seed]
    identity = fingerprint_of(source, planting, defense, [*shape, asdict(inclusion)], noise)
    checkpoint = Checkpoint(output.with_name(f"{output.name}.checkpoint"), identity)
    drawn: dict[str, Any] = {"key": key, "unit": unit, "sides": sides, "expected": expected}
    built: dict[str, Any] = {"initial": initial, "defense": defense, "noise": noise, "checkpoint": checkpoint}
    return _Ready(reading, source, planting, record_beside(data), words, **drawn, **built)


def _ledger(
    ready: _Ready, trained: Trained, model: ModelChoice, inclusion: RandomInclusion, noise: dict[str, str]
) -> Ledger:
    drawn: dict[str, Any] = {"key": ready.key, "unit": ready.unit, **ready.sides}
    settings = {"model": portable(model), **ready.defense.parameters()} | noise
    return Ledger(
        model=trained.bundle.digest(),
        data=ready.source,
        membership=Membership(True, inclusion.seed, inclusion.holdout, inclusion.reference, **drawn),
        recipe=TrainingRecipe(ready.defense.id, settings, inclusion.seed),
        guarantee=trained.guarantee,
        salt=secrets.token_hex(16),
        canaries=ready.planting.encoded() if ready.planting else (),
        clients=dict(trained.clients),
        rounds=tuple(map(dict, trained.rounds)),
        privatised=_privatised(ready),
    )


def _privatised(ready: _Ready) -> dict[str, Any] | None:
    made = ready.privatised.summary if ready.privatised else None
    return ready.words.summary(ready.source.sha256) if ready.words else made


def _told_before(ready: _Ready, asked: Defense, members: Examples, nonmembers: Examples) -> Iterator[str]:
    """Say what was known before the training began."""
    yield from (*ready.reading.notes, *ready.initial.notes)
    yield from () if ready.privatised is None else caveats(ready.privatised)
    yield from _drawn(ready.unit, members, nonmembers)
    yield from _chosen(asked, ready.defense, ready.expected, ready.initial)


def draw_sides(
    data: Path | str, examples: Examples, inclusion: RandomInclusion, key: str, planted: frozenset[int] = frozenset()
) -> tuple[Unit, dict[str, tuple[int, ...]]]:
    """Assign every user to a side where rows say whose they are, else every text; DataError for an empty side."""
    unit: Unit = "example" if examples.users is None else "user"
    shares = {"holdout": inclusion.holdout, "reference": inclusion.reference}
    sides = assign_membership(examples, **shares, seed=inclusion.seed, key=key, planted=planted, unit=unit)
    for side in ("members", "nonmembers"):
        if len(sides[side]) < 2:
            few = f"{len(sides[side])} {side} of {len(examples)} rows: not enough data"
            raise DataError(f"{data}: {few}{repeated(examples.texts or (), record_beside(data))}")
        if unit == "user" and how_many(examples.of_rows(sides[side]).users) < 2:
            users = plural(how_many(examples.users), "user")
            raise DataError(f"{data}: a random split of {users} leaves fewer than 2 {side}: not enough users")
    return unit, sides


def _drawn(unit: Unit, members: Examples, nonmembers: Examples) -> Iterator[str]:
    if unit == "user":
        inside, outside = how_many(members.users), how_many(nonmembers.users)
        yield f"users were drawn with all of their rows: {inside:,} were trained on, {outside:,} were held out"


def _check_output(output: Path, data: Path) -> None:
    """Raise UsageError for what would otherwise only come to light when the training is done."""
    if not output.resolve().parent.is_dir():
        raise UsageError(f"{output}: the folder does not exist")
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file in it, such as {output / 'model.pt'}")
    if data.resolve() in (output.resolve(), ledger_path(output).resolve()):
        raise UsageError(f"{output}: would overwrite the data; name another file with -o")


def _initial_model(
    model: ModelChoice, examples: Examples, members: Examples, planting: Planting | None, seed: int
) -> InitialModel:
    """Build the model to train; raise UsageError where its tokenizer would mix the canaries' secrets up."""
    known = learn_from(members, planting)
    initial = initial_model(model.spec, examples, learn_from=known, seed=seed, **_shape(model))
    if planting is not None:
        cut_at(initial.tokenizer, initial.max_length)
        check_tokenizer(planting, initial.tokenizer, name=model.spec)
    return initial


def _chosen(asked: Defense, settled: Defense, rows: int, initial: InitialModel) -> Iterator[str]:
    """Say which settings were chosen where none were given."""
    before = asked.parameters()
    chosen = {name: v for name, v in settled.parameters().items() if before.get(name) is None and v is not None}
    if chosen:
        values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
        yield f"chosen for about {rows:,} rows and {len(initial.labels):,} labels: {values}"


def _planted(planting: Planting | None) -> Iterator[str]:
    if planting is not None:
        rows = len(canary_rows(planting))
        yield f"{len(planting.canaries):,} canaries in {rows:,} rows were trained on too, whatever was held out"


def _noise_of(defense: Defense, *, from_seed: bool) -> dict[str, str]:
    """Return where the randomness of a private training comes from, for the ledger; nothing for one that is not."""
    if isinstance(defense, PrivateTraining):
        return {"noise": "seed" if from_seed else "secret"}
    if from_seed:
        raise UsageError(f"--noise-from-seed: {defense.id} ({defense.name}) adds no noise")
    return {}


def _uncovered(guarantee: Guarantee | None, users: tuple[str, ...] | None) -> Iterator[str]:
    """Say that a guarantee for examples is none for users who have several."""
    if guarantee is not None and guarantee.accounted.unit == "example" and users and how_many(users) < len(users):
        yield "the guarantee is for each example: it does not cover all rows of a user together"


def _caveats(noise: dict[str, str], model: ModelChoice) -> Iterator[str]:
    """Yield what a guarantee does not cover."""
    if model.spec in ("tiny", "bilstm"):
        yield f"the vocabulary of {model.spec} is learned from the members' texts, which the guarantee does not cover"
    if noise == {"noise": "seed"}:
        yield "the noise follows from the seed: whoever knows the seed can subtract it, and the guarantee is void"


def _shape(model: ModelChoice) -> dict[str, Any]:
    return {key: value for key, value in asdict(model).items() if key != "spec"}


def portable(model: ModelChoice) -> dict[str, Any]:
    """Return a choice of model as ledgers and reports name it: of a directory only its name, since paths differ."""
    said = asdict(replace(model, spec=Path(model.spec).name))
    return {name: value for name, value in said.items() if value or name != "freeze_encoder"}  # as ledgers without it
