"""Words made for a mechanism: a claim must hold for any vectors, and some show what others hide.

On a line of words that stand close together, what does not change smoothly from one word to the next shows at once:
the edge of a radius, an output set of one word alone. Lengths are in units of 1 / epsilon, so that the line goes well
beyond where such a mechanism cuts off. On islands every other word is far, and what is done with far words alone, which
elsewhere are hardly ever drawn, is done as often as the mechanism can.
"""

import numpy as np

from redteam.core import UsageError
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import WordMechanism

_LENGTH = 60.0  # of the line, in units of 1 / epsilon


def made_up(mechanism: WordMechanism) -> tuple[WordVectors, ...]:
    """Return a line of even steps, one of steps that grow, a cloud, and islands; those with which it can work."""
    unit = 1 / mechanism.epsilon
    grows = np.cumsum(np.geomspace(1, 40, 80))
    cloud = np.random.default_rng(0).normal(size=(120, 3))
    kinds = {
        "an even line": np.linspace(0, _LENGTH, 150)[:, None],
        "an uneven line": (grows / grows[-1] * _LENGTH)[:, None],
        "a cloud": cloud * _LENGTH / 6,
        "islands": np.arange(8.0)[:, None] * _LENGTH,
    }
    tables = (
        WordVectors(name, tuple(f"{name.replace(' ', '-')}-{i}" for i in range(len(at))), at * unit)
        for name, at in kinds.items()
    )
    return tuple(table for table in tables if _works(mechanism, table))


def _works(mechanism: WordMechanism, table: WordVectors) -> bool:
    try:
        mechanism.promise(table)
    except UsageError:
        return False
    return True
