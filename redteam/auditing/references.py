"""How reference models compare with the target, for the report: scores are joined with membership here."""

import numpy as np

from redteam.auditing.scoring import ScoreCache
from redteam.core.arrays import BoolArray
from redteam.data import Examples
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.fidelity import Fidelity, fidelity
from redteam.targets.target import Access, label_indices, own_label_log_odds


def compared(
    cache: ScoreCache, pool: Examples, is_member: BoolArray, references: ReferenceScores | None
) -> tuple[Fidelity | None, tuple[str, ...]]:
    """Return whether references answer as the target does, None where that cannot be seen, and lines on it."""
    if references is None:
        return None, ()
    made_by = (references.made_by,) if references.made_by else ()
    if Access.PROBABILITIES not in cache.access:
        return None, made_by
    own = label_indices(cache.labels, pool, name=cache.name)
    answers = cache.log_probabilities(pool)
    found = fidelity(own_label_log_odds(answers, own, cut=np.inf), is_member, references, answers.argmax(axis=1) == own)
    return found, (*made_by, found.words)
