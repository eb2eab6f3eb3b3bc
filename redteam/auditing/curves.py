"""What a saved report keeps for pictures: ROC points and binned scores of its judged signals, methods, environment."""

import importlib.util
import inspect
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from redteam import __version__
from redteam.auditing.measure import Measured
from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray
from redteam.data.grouping import Grouping
from redteam.plugins.attack import Attack
from redteam.plugins.extraction import ExtractionAttack
from redteam.report.pictures import Curve, Method, Pictures, RocPoint, saved
from redteam.statistics.ranking import Ranking, rank
from redteam.statistics.tpr import tpr_interval

_POINTS, _BINS = 17, 24
_TAIL = 0.005  # of all scores, on either side, are put into the outermost bins
_PARTS = ("numpy", "scipy", "torch", "transformers")


def pictures(
    measured: Sequence[Measured],
    judged: Sequence[str],
    units: Grouping,
    attacks: Sequence[Attack | ExtractionAttack],
    *,
    references: int,
    alpha: float,
    seed: int,
) -> dict[str, Any]:
    """Return what pictures need of the signals whose ids are `judged`, or of the first signal where none is.

    Each interval of a curve is at `alpha` by itself. `references` models were used by the attacks that take some.
    """
    named = {identifier.partition(".")[0] + ":" + identifier.partition(":")[2] for identifier in judged}
    shown = [one for one in measured if f"{one.attack}:{one.signal}" in named] or list(measured[:1])
    curves = tuple(_curves(shown, units, alpha, seed))
    methods = tuple(_method(attack, references) for attack in attacks)
    return saved(Pictures(curves, methods, environment()))


def environment() -> dict[str, str]:
    """Return the versions that a number may depend on."""
    found = {"redteam": __version__, "python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in _PARTS:
        if name in sys.modules and importlib.util.find_spec(name) is not None:
            found[name] = metadata.version(name)
    return found


def _curves(shown: Sequence[Measured], units: Grouping, alpha: float, seed: int) -> Iterator[Curve]:
    for one in shown:
        values = np.asarray(units.score(one.scores), dtype=np.float64)
        try:
            ranking = rank(values, units.is_member, may_tie=True)
        except StatisticsError:
            continue
        yield Curve(one.attack, one.signal, alpha, _roc(ranking, alpha, seed), *_bins(values, units))


def _roc(ranking: Ranking, alpha: float, seed: int) -> tuple[RocPoint, ...]:
    points = []
    for fpr in np.geomspace(max(1 / ranking.n_nonmembers, 1e-4), 0.9, _POINTS).tolist():
        found = tpr_interval(ranking, fpr=fpr, alpha=alpha, seed=seed)
        points.append(RocPoint(*(round(each, 6) for each in (fpr, found.value, found.low, found.high))))
    return tuple(points)


def _bins(values: FloatArray, units: Grouping) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    low, high = np.quantile(values, (_TAIL, 1 - _TAIL))
    edges = np.linspace(low, high, _BINS + 1)
    edges = np.unique([float(f"{edge:.6g}") for edge in edges])
    if len(edges) < 2:  # nearly all scores are one
        edges = np.array([low - 0.5, low + 0.5])
    sides = []
    for side in (values[units.is_member], values[~units.is_member]):
        counts, _ = np.histogram(np.clip(side, edges[0], edges[-1]), edges)
        sides.append(tuple(np.round(counts / len(side), 6).tolist()))
    return tuple(edges.tolist()), sides[0], sides[1]


def _method(attack: Attack | ExtractionAttack, references: int) -> Method:
    manual = inspect.getdoc(sys.modules[type(attack).__module__]) or "no manual page"
    models = references if getattr(attack, "uses_references", False) else 0
    needs = getattr(attack, "needs", None)  # an attack on released texts asks no model
    return Method(attack.id, attack.name, "released texts" if needs is None else needs.word, models, manual)
