"""What is planted where: secrets, labels, decoys and positions, all drawn from a key and a seed."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redteam.core import DataError, UsageError
from redteam.data import fold, text_key
from redteam.data.pattern import Pattern
from redteam.data.planting import Canary, Decoy, assign_secret

EXISTING, FRESH, PER_CANARY = "existing", "fresh", "per-canary"

_MOST_ROWS = 10_000_000  # to be planted; a slip of the hand would fill the memory
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_PERMUTED = 100_000  # candidates up to which secrets are dealt from a shuffled pack


@dataclass(frozen=True)
class PlantingPlan:
    """What to plant: `canaries` sentences in all, shared over `patterns` and equally over `repetitions`.

    `label` is `existing` (of each canary one of the data's, at random), `fresh` (a new one for all), `per-canary` (a
    new one for each) or a label of the data. Each canary has `decoys` look-alikes, repeated as often as it is, with
    other secrets and other labels. Without a `key` the fingerprint of the data file is the key, so one must have all
    of the data to draw the secrets; against somebody who has, choose a secret one.
    """

    patterns: tuple[str, ...]
    canaries: int = 20
    repetitions: tuple[int, ...] = (10,)
    label: str = EXISTING
    decoys: int = 0
    seed: int = 0
    key: str | None = None

    def check(self) -> tuple[Pattern, ...]:
        """Return the patterns read; raise UsageError for a number that will not do, or one pattern twice."""
        patterns = tuple(Pattern.parse(template) for template in self.patterns)
        if not patterns:
            raise UsageError("no pattern: give one, such as --pattern 'my pin code is {digit:4}'")
        if len({fold(template) for template in self.patterns}) != len(patterns):
            raise UsageError("one pattern is given twice; leave it out, or raise the number of canaries")
        if not self.repetitions or min(self.repetitions) < 1:
            raise UsageError(f"repetitions {list(self.repetitions)}: each must be at least 1")
        if len(set(self.repetitions)) != len(self.repetitions):
            raise UsageError(f"repetitions {list(self.repetitions)}: one value is there twice")
        shares = len(self.repetitions)
        if self.canaries < 1 or self.canaries % shares:
            fits = max(1, math.ceil(self.canaries / shares)) * shares
            raise UsageError(
                f"{self.canaries} canaries cannot be shared equally over {shares} numbers of repetitions; {fits} can"
            )
        if len(patterns) > self.canaries // shares:
            raise UsageError(
                f"{self.canaries} canaries for {len(patterns)} patterns: at least {len(patterns) * shares}"
            )
        if sum(self.repetitions) * self.canaries // shares * (1 + max(0, self.decoys)) > _MOST_ROWS:
            raise UsageError(f"repetitions {list(self.repetitions)}: more than {_MOST_ROWS:,} rows in all; plant fewer")
        if self.decoys < 0 or self.seed < 0:
            raise UsageError(f"{self.decoys} decoys with seed {self.seed}: neither may be negative")
        return patterns


def draw_canaries(
    plan: PlantingPlan,
    alphabets: Mapping[str, tuple[str, ...]],
    *,
    texts: Sequence[str],
    labels: Sequence[str],
    key: str,
) -> tuple[Canary, ...]:
    """Draw what `plan` asks for, to go among data with these texts and labels.

    Raises UsageError where the secrets or labels do not suffice, DataError where a sentence is in the data already.
    """
    patterns = plan.check()
    shares = len(plan.repetitions)
    of_pattern = [(i // shares) % len(patterns) for i in range(plan.canaries)]
    decks = [
        _deal(pattern, alphabets, of_pattern.count(p) * (2 + plan.decoys), _rng(plan.seed, key, f"secrets {p}"))
        for p, pattern in enumerate(patterns)
    ]
    of_labels = _labels(plan, labels, of_pattern, _rng(plan.seed, key, "labels"))
    repeated = [plan.repetitions[i % shares] for i in range(plan.canaries)]
    rows = _positions(repeated, plan.decoys, len(texts), _rng(plan.seed, key, "positions"))
    canaries = []
    for i, p in enumerate(of_pattern):
        name, (own, others) = f"C{i + 1:03d}", of_labels[i]
        secrets = (next(decks[p]), next(decks[p]))
        decoys = tuple(Decoy(next(decks[p]), label, next(rows)) for label in others)
        planted = assign_secret(key, plan.seed, name)
        canaries.append(Canary(name, plan.patterns[p], own, repeated[i], secrets, planted, next(rows), decoys))
    _check_new(canaries, texts)
    return tuple(canaries)


def _rng(seed: int, key: str, what: str) -> np.random.Generator:
    digest = hashlib.sha256(f"redteam canary {what} {seed} {key}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def _deal(
    pattern: Pattern, alphabets: Mapping[str, tuple[str, ...]], count: int, rng: np.random.Generator
) -> Iterator[tuple[str, ...]]:
    """Return `count` different secrets in random order: any two of them are drawn alike."""
    places = [alphabets[name] for name in pattern.places]
    size = math.prod(len(symbols) for symbols in places)
    if size < count:
        raise UsageError(
            f"pattern {pattern.template!r} has {size:,} secrets, {count:,} are needed (two for each canary, one for "
            "each decoy): make the secret longer, or plant fewer"
        )
    if size <= _PERMUTED:
        numbers = rng.permutation(size)[:count].tolist()
        return iter([_secret(places, number) for number in numbers])
    drawn: dict[tuple[str, ...], None] = {}
    while len(drawn) < count:
        drawn[tuple(symbols[int(rng.integers(len(symbols)))] for symbols in places)] = None
    return iter(drawn)


def _secret(places: Sequence[tuple[str, ...]], number: int) -> tuple[str, ...]:
    """Return the secret of a number: its digits, where each place counts to the size of its alphabet."""
    symbols = []
    for known in reversed(places):
        number, digit = divmod(number, len(known))
        symbols.append(known[digit])
    return tuple(reversed(symbols))


def _labels(
    plan: PlantingPlan, labels: Sequence[str], of_pattern: Sequence[int], rng: np.random.Generator
) -> list[tuple[str, list[str]]]:
    """Return for each canary its label, and the labels of its decoys, which are others.

    Those of the data are dealt out, so that as few canaries as can be share both sentence and label.
    """
    known = sorted(set(labels))
    fresh = _fresh_labels(known, plan.canaries if plan.label == PER_CANARY else 1)
    if plan.label not in (EXISTING, FRESH, PER_CANARY, *known):
        some = ", ".join(repr(label) for label in known[:5]) + (", ..." if len(known) > 5 else "")
        raise UsageError(f"--label {plan.label!r}: unknown; the data has {some}; or say existing, fresh or per-canary")
    dealt = {p: _dealt(known, of_pattern.count(p), rng) for p in sorted(set(of_pattern))}
    owns = []
    for i, p in enumerate(of_pattern):
        new = {FRESH: fresh[0], PER_CANARY: fresh[i % len(fresh)], EXISTING: next(dealt[p])}
        owns.append(new.get(plan.label, plan.label))
    if not plan.decoys:
        return [(own, []) for own in owns]
    taken = {p: {label for label, q in zip(owns, of_pattern, strict=True) if q == p} for p in set(of_pattern)}
    free = {p: [label for label in known if label not in labels] for p, labels in taken.items()}
    drawn = []
    for own, p in zip(owns, of_pattern, strict=True):
        others = free[p] or [label for label in known if label != own]
        if not others:
            raise UsageError(f"--decoys {plan.decoys}: the data has no label but {own!r}, and a decoy needs another")
        drawn.append((own, [others[int(rng.integers(len(others)))] for _ in range(plan.decoys)]))
    return drawn


def _dealt(labels: Sequence[str], count: int, rng: np.random.Generator) -> Iterator[str]:
    """Yield labels in random order, each as often as any other or once more; `count` at least."""
    for _ in range(0, count, len(labels)):
        yield from (labels[i] for i in rng.permutation(len(labels)).tolist())


def _fresh_labels(known: Sequence[str], count: int) -> list[str]:
    """Return labels that the data lacks; where its labels are whole numbers, those that follow."""
    if all(_WHOLE.fullmatch(label) for label in known):
        return [str(max(map(int, known)) + 1 + i) for i in range(count)]
    names = (f"canary-{i}" for i in range(1, count + len(known) + 1))
    return [name for name in names if name not in known][:count]


def _positions(repeated: Sequence[int], decoys: int, users: int, rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """Yield the rows of each decoy and each canary, in the order in which they are made; uniform over all places."""
    total = sum(repeated) * (1 + decoys)
    places = rng.permutation(rng.choice(users + total, size=total, replace=False))
    taken = 0
    for count in repeated:
        for _ in range(1 + decoys):
            yield tuple(sorted(places[taken : taken + count].tolist()))
            taken += count


def of_users(pattern: Pattern, alphabets: Mapping[str, tuple[str, ...]], texts: Sequence[str]) -> int:
    """Return how many different texts are the pattern's sentence with a secret of its alphabets."""
    gap = "\ue000"  # in no text that is read
    written = re.escape(fold(pattern.fill((gap,) * len(pattern.places)))).replace(gap, r"(\S+?)")
    known = [{fold(symbol) for symbol in alphabets[name]} for name in pattern.places]
    found = {text for text in map(fold, texts) if (match := re.fullmatch(written, text)) and _among(match, known)}
    return len(found)


def _among(match: re.Match[str], known: Sequence[set[str]]) -> bool:
    return all(symbol in symbols for symbol, symbols in zip(match.groups(), known, strict=True))


def _check_new(canaries: Sequence[Canary], texts: Sequence[str]) -> None:
    """Refuse a sentence that a user wrote, planted or not, and one that two patterns make; show none of them."""
    users: dict[bytes, int] = {}
    for row, text in enumerate(texts):
        users.setdefault(text_key(text), row)
    seen: set[bytes] = set()
    for canary in canaries:
        fill = Pattern.parse(canary.template).fill
        for secret in (*canary.secrets, *(decoy.secret for decoy in canary.decoys)):
            key = text_key(fill(secret))
            if key in users:
                raise DataError(
                    f"row {users[key] + 1} of the data is already a sentence drawn for {canary.template!r}: what is "
                    "planted must be new; choose another --seed or a pattern that nobody wrote"
                )
            if key in seen:
                raise UsageError(f"pattern {canary.template!r} and another make the same sentence; leave one out")
            seen.add(key)
