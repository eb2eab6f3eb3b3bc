"""The contract of defences: seeded, and what they return is a model that answers."""

from typing import Any

import numpy as np

from redteam.plugins.defense import Defense, Trained
from redteam.testing.examples import must, sentences
from redteam.testing.manual import check_manual, made


def check_defense(defense: type[Defense] | Defense, **settings: Any) -> None:
    """Hold a defence to its contract, with `settings` such as `epochs=1`; raise AssertionError with what it breaks.

    It trains a small classifier on 40 sentences three times.
    """
    it = made(defense)
    check_manual(it, r"RD[1-4]\d\d")
    it = type(it)(**{**it.parameters(), **settings})
    first, again, other = (_trained(it, seed) for seed in (4, 4, 5))
    answers = first.target.log_probabilities(sentences(40, seed=3))
    must(np.isfinite(answers).all(), f"{it.id}: the model it returns answers with numbers that are not finite")
    must(first.bundle.digest() == again.bundle.digest(), f"{it.id}: other weights with the same seed")
    must(first.bundle.digest() != other.bundle.digest(), f"{it.id}: the seed changes nothing")


def _trained(defense: Defense, seed: int) -> Trained:
    from redteam.models.initial import initial_model

    examples = sentences(40, seed=3)
    start = initial_model("tiny", examples, learn_from=examples, seed=0)
    return defense.fit(start, examples, seed=seed)
