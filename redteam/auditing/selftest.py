"""The tool audits what it must get right: a model that certainly leaks, one that certainly does not, bad data.

A small network is trained on random sentences with random labels until it has overfitted them: nothing about them
can be learned but the sentences themselves, so all it knows is leakage. The same network audited on two halves of
sentences it never saw cannot leak. And a split by sentence length must be refused, whatever the model.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from redteam.auditing.run import audit
from redteam.data import Examples, Split
from redteam.plugins.registry import choose, discover_defenses
from redteam.policy import Policy
from redteam.policy.judge import judge
from redteam.report import Limit, range_of
from redteam.report.metrics import metric
from redteam.targets.target import Target

_SIDE = 800  # examples on either side: enough to resolve a false-positive rate of 1 %
_LABELS = ("left", "middle", "right")
_WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "inlet",
    "jolly",
    "karma",
    "lemon",
    "mango",
    "noble",
    "ocean",
    "pearl",
    "quiet",
    "river",
    "sugar",
    "tiger",
    "umbra",
    "velvet",
    "willow",
    "xenon",
    "yodel",
    "zephyr",
    "almond",
    "breeze",
    "copper",
    "dragon",
]


@dataclass(frozen=True)
class Result:
    """One thing the tool had to get right, and what it said."""

    what: str
    right: bool
    found: str


def run_selftest(*, seed: int = 0, progress: Callable[..., None] | None = None) -> tuple[Result, ...]:
    """Train, audit three times, and compare the exit codes with what is certain: 1, 0 and 2."""
    rng = random.Random(seed)
    members, held_out, unseen = (_sentences(rng, _SIDE, words=8) for _ in range(3))
    target = _memorise(members, seed, progress)
    longer = _sentences(rng, _SIDE, words=12)
    cases = (
        ("a model that certainly leaks is failed", 1, Split.of(members, held_out)),
        ("a model that certainly does not leak is passed", 0, Split.of(held_out, unseen)),
        ("two sides that differ without the model are refused", 2, Split.of(members, longer)),
    )
    return tuple(_check(what, expected, target, split) for what, expected, split in cases)


def _check(what: str, expected: int, target: Target, split: Split) -> Result:
    report = audit(target, split)
    # labels are random, so that on sentences it never saw the model is right by chance alone: that is what is tested
    policy = Policy((Limit("auc", 0.65),), source="selftest", allow_untrained=True)
    verdict = judge(report, policy, today=date.today())
    found = f"exit {verdict.exit_code}, grade {report.grade}"
    if report.evidence:
        first = report.evidence[0]
        found += f", {metric(first.metric).symbol} {range_of(first.interval)}"
    return Result(what, verdict.exit_code == expected, found)


def _memorise(examples: Examples, seed: int, progress: Callable[..., None] | None) -> Target:
    from redteam.models.initial import initial_model

    (plain,) = choose(discover_defenses(), ["plain"])
    trainer = type(plain)(epochs=25, batch_size=32, learning_rate=5e-3)  # type: ignore[call-arg]
    initial = initial_model("bilstm", examples, learn_from=examples, seed=seed, dropout=0.0)
    return trainer.fit(initial, examples, seed=seed, progress=progress).target


def _sentences(rng: random.Random, count: int, *, words: int) -> Examples:
    texts = tuple(" ".join(rng.choices(_WORDS, k=words)) for _ in range(count))
    labels: Sequence[str] = [rng.choice(_LABELS) for _ in range(count)]
    return Examples(rows=np.arange(count), texts=texts, labels=tuple(labels))
