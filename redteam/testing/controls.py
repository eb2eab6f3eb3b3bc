"""The contract of controls: seeded, of the pool alone, and silent about two halves of one source."""

import numpy as np

from redteam.core.arrays import BoolArray
from redteam.data import Examples, Split
from redteam.plugins.attack import Control
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.testing.examples import must, sentences
from redteam.testing.manual import check_manual, made


def check_control(control: type[Control] | Control) -> None:
    """Hold a control to its contract; raise AssertionError with the line it breaks."""
    it = made(control)
    check_manual(it, r"RT9\d\d")
    pool, is_member = _halves()
    first, again = (np.asarray(it.score(pool, is_member, seed=5)) for _ in range(2))
    must(first.shape == (len(pool),), f"{it.id}: shape {first.shape} for {len(pool)} rows")
    must(np.array_equal(first, again, equal_nan=True), f"{it.id}: other scores with the same seed")
    scored = np.isfinite(first)
    must(2 * scored.sum() >= len(pool), f"{it.id}: scores {scored.sum()} of {len(pool)} rows, fewer than half")
    seen = area_interval(rank(first[scored], is_member[scored], may_tie=True), alpha=0.01)
    must(seen.low < 0.5, f"{it.id}: tells two halves of one source apart, AUC of at least {seen.low:.2f}")


def _halves() -> tuple[Examples, BoolArray]:
    return Split.of(sentences(150, seed=1), sentences(150, seed=2)).pool(0)
