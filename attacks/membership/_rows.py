"""What the attacks that compare rows share: the target's log-odds, and the rows by texts and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.core import StatisticsError, TargetError
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.progress import Progress, phase
from redteam.data import Examples
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.context import AttackContext, Encoder
from redteam.plugins.reference_scores import ReferenceScores
from redteam.statistics.membership.neighbours import NeighbourKernel, agreement
from redteam.statistics.membership.stacking import ReferenceTable, finite
from redteam.targets.target import Target, classifier, label_indices, labels_of, own_label_log_odds

_SAME = 1e-12  # of the largest log-odds: no more than rounding
NO_ENCODER = "needs a public encoder of texts, and the audit has none"
NO_REFERENCES = "needs reference models: --references 8 trains some"


def log_odds(target: Target, pool: Examples) -> FloatArray:
    """Return log p - log(1 - p) of each row's own label, shape [n], finite.

    Where a target rounds p to 1 or 0, the row lies beyond all others by log 2. Raises StatisticsError where all rows
    have one value: of what is left after a correction, rounding alone would rank them.
    """
    log_p = classifier(target).log_probabilities(pool)
    own = label_indices(labels_of(target), pool, name=target.name)
    odds = own_log_odds(log_p, own)
    if len(odds) and np.ptp(odds) <= _SAME * max(1.0, float(np.abs(odds).max())):
        raise StatisticsError(f"all {len(odds)} log-odds are equal ({odds[0]:g}); they rank nobody")
    return odds


def own_log_odds(log_p: FloatArray, own: IntArray) -> FloatArray:
    """Return log p - log(1 - p) from log-probabilities [n, k] and each row's own column [n].

    Where p was rounded to 1 or 0 they are as `finite` has them.
    """
    return finite(own_label_log_odds(log_p, own, cut=np.inf))


def encoder_name(context: AttackContext) -> str:
    """Return what a report calls the public encoder."""
    return "no encoder" if context.encoder is None else context.encoder.name


@dataclass(frozen=True)
class PublicRows:
    """What the public knows of the rows: how they neighbour, and how well each label fits its text, arrays of [n]."""

    neighbours: NeighbourKernel
    fit: tuple[FloatArray, ...]


def public_rows(pool: Examples, context: AttackContext) -> PublicRows:
    """Return what texts and labels of the pool tell, computed once for all attacks of an audit.

    How well a label fits is seen twice, by the encoder and by the words as they are: what a target knows of a text may
    be either.
    """
    if context.encoder is None or pool.texts is None:
        raise TargetError(NO_ENCODER)
    key = "public rows", context.encoder.name, pool.texts, pool.labels
    if key not in context.kept:
        assert pool.labels is not None  # log-odds are of them
        context.kept[key] = compared(context.encoder, pool.texts, pool.labels, context.progress)
    kept: PublicRows = context.kept[key]
    return kept


def compared(encoder: Encoder, texts: Sequence[str], named: Sequence[str], progress: Progress) -> PublicRows:
    """Return how rows of these texts and labels neighbour, and how well the labels fit."""
    labels = np.unique(np.array(named, dtype=object), return_inverse=True)[1].reshape(-1).astype(np.int64)
    spelling = hashed_ngrams()
    meant = encoder.embed(texts, progress)
    fit = agreement(meant, labels, progress=phase(progress, "comparing texts"))
    if encoder.name != spelling.name:
        spelt = spelling.embed(texts)
        fit = (*fit, *agreement(spelt, labels, progress=phase(progress, "comparing spellings")))
    shown = phase(progress, "learning what like texts share")
    return PublicRows(NeighbourKernel(meant, labels, progress=shown), fit)


def table(given: ReferenceScores) -> ReferenceTable:
    """Return the references as statistics take them."""
    return ReferenceTable.of(given.log_odds, given.included, given.partner, given.gradients)
