"""Small data and models on which contracts are tested: what leaks for certain, and what certainly does not."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.context import AttackContext
from redteam.plugins.reference_scores import ReferenceScores
from redteam.targets.target import Access, WhiteBox

WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "haven"),
    *("inlet", "jolly", "karma", "lemon", "mango", "noble", "ocean", "pearl"),
)
LABELS = ("a", "b", "c")


def must(holds: object, what: str) -> None:
    """Raise AssertionError, also where Python leaves assertions out."""
    if not holds:
        raise AssertionError(what)


def sentences(count: int, *, seed: int, words: int = 6, labels: Sequence[str] = LABELS) -> Examples:
    """Return random sentences with random labels: no text tells anything about any other."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(10**9, size=count, replace=False) + 10**9  # no text twice, and as long on either side
    texts = tuple(f"{' '.join(rng.choice(WORDS, size=words))} {number}" for number in numbers)
    return Examples(np.arange(count), texts, tuple(rng.choice(list(labels), size=count)))


class RuleTarget:
    """A target that memorised some texts: probability 0.98 and more for their own label, noise for all others.

    Of `memorised` a `share` is known. `asked` holds every text it was asked for.
    """

    kind = "rule"
    digest: str | None = None
    access = Access.PROBABILITIES

    def __init__(
        self,
        memorised: Examples | None = None,
        *,
        labels: tuple[str, ...] = LABELS,
        name: str = "rule",
        share: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Learn the texts of `memorised`."""
        self.name, self.labels, self.seed = name, labels, seed
        self.asked: list[str] = []
        rng = np.random.default_rng(seed)
        known = () if memorised is None else zip(memorised.texts or (), memorised.labels or (), strict=True)
        self.memory = {text: labels.index(label) for text, label in known if rng.random() < share}

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, k]."""
        self.asked += examples.texts or ()
        rows = []
        for text in examples.texts or ():
            p = np.random.default_rng([self.seed, *text.encode()]).dirichlet(np.ones(len(self.labels)))
            if text in self.memory:
                p = 0.02 * p
                p[self.memory[text]] += 0.98
            rows.append(p)
        return np.log(np.array(rows))

    def predict(self, examples: Examples) -> IntArray:
        """Return the index of each most probable label, shape [n]."""
        predicted: IntArray = self.log_probabilities(examples).argmax(axis=1)
        return predicted

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each own label, shape [n]."""
        own = [self.labels.index(label) for label in examples.labels or ()]
        return -self.log_probabilities(examples)[np.arange(len(own)), own]


def equipped(pool: Examples) -> AttackContext:
    """Return what an adversary has at the most: a public encoder, four reference models, and known non-members."""
    if not len(pool):
        return AttackContext(5, encoder=hashed_ngrams())
    others = sentences(150, seed=77, labels=sorted(set(pool.labels or ())))
    return AttackContext(5, encoder=hashed_ngrams(), reference_scores=reference_scores(pool), nonmembers=others)


def reference_scores(pool: Examples, *, pairs: int = 2) -> ReferenceScores:
    """Return what pairs of models say of a pool that memorised complementary halves of it; texts decide on the half."""
    texts, labels = pool.texts or (), pool.labels or ()
    halves = [np.array([sum(text.encode()) * (pair + 3) % 7 % 2 == 0 for text in texts]) for pair in range(pairs)]
    included = np.array([side for half in halves for side in (half, ~half)])
    rows = []
    for model, inside in enumerate(included):
        taught = pool.take(np.flatnonzero(inside).tolist())
        loss = RuleTarget(taught, labels=tuple(sorted(set(labels))), seed=model + 1).losses(pool)
        rows.append(-loss - np.log(-np.expm1(-loss)))
    odds = np.array(rows)
    pull = np.stack([-odds, 0.5 - odds, 0.1 * np.tanh(-odds)], axis=1)  # as of models whose answers say it all
    partner = tuple(model ^ 1 for model in range(2 * pairs))
    return ReferenceScores(odds, included, partner, made_by="by a rule", gradients=pull)


@cache
def small_model() -> WhiteBox:
    """Return a small trained classifier with its weights: what an attack with the most access gets."""
    from redteam.models.initial import initial_model
    from redteam.plugins.registry import choose, discover_defenses

    examples = sentences(40, seed=3)
    (plain,) = choose(discover_defenses(), ["plain"])
    start = initial_model("tiny", examples, learn_from=examples, seed=0)
    return type(plain)(**{**plain.parameters(), "epochs": 1}).fit(start, examples, seed=0).target
