"""Is the noise coarser than the sums that it hides?

Rounding what is released is harmless: it comes after the noise. Noise that is rounded before it is added (drawn in half
precision, say) is not: where nothing was added, updates lie on the grid of the noise; where something was, beside it.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from redteam.verify.calibration import Values
from redteam.verify.check import MechanismCheck

_COARSE = 0.02  # of the blanks have a value that another one has too; of normal float32 numbers hardly one in 10,000
_BANDS = np.linspace(-2.0, 2.0, 17)  # standard deviations; in one of them, what moved is compared with blanks
_GRANTED = 0.5  # of the values that are met where rounding came last: a band is not all alike


class ValueGrid:
    """Counts how often blanks share their values with each other, and how often entries that moved do with them."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        bands = len(_BANDS) + 1
        self.met, self.hit = np.zeros((2, bands)), np.zeros((2, bands))  # how many met another's value, of how many

    def observe(self, blanks: Sequence[Values], moved: Sequence[Values]) -> None:
        """Take in one step, [blanks] and [entries that moved] for each layer."""
        for still, other in zip(blanks, moved, strict=True):
            if len(np.unique(still)) > (1 - _COARSE) * len(still):
                continue
            known, spread = np.unique(still[::2]), float(still.std())  # the other half is new to it, as `moved` is
            for counts, values in ((self.met, still[1::2]), (self.hit, other)):
                band = np.searchsorted(_BANDS, values / spread)
                same = known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values
                counts += [np.bincount(band, weights, minlength=counts.shape[1]) for weights in (same, None)]

    def checks(self) -> list[MechanismCheck]:
        """Return whether entries that moved lie off a grid on which the blanks lie."""
        inner = slice(1, -1)  # farther out there is nothing to compare
        (met, of), (hit, tried) = self.met[:, inner], self.hit[:, inner]
        expected, found, total = float((tried * met / np.maximum(of, 1)).sum()), int(hit.sum()), int(tried.sum())
        if not expected:
            return []
        p = float(special.bdtr(found, total, _GRANTED * expected / total))
        shown = f"{found / total:.0%} of the values that examples moved lie on it, {expected / total:.0%} should"
        return [MechanismCheck(f"noise: rounded to a grid before it is added ({shown})", p)]
