"""How reference models compare with the target, for the report: scores are joined with membership here."""

from redteam.auditing.scoring import ScoreCache
from redteam.core.arrays import BoolArray
from redteam.data import Examples
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.fidelity import fidelity
from redteam.targets.target import Access, label_indices, own_label_log_odds


def compared(
    cache: ScoreCache, pool: Examples, is_member: BoolArray, references: ReferenceScores | None
) -> tuple[str, ...]:
    """Return lines on where the references come from and whether they answer as the target does; none without any."""
    if references is None:
        return ()
    made_by = (references.made_by,) if references.made_by else ()
    if Access.PROBABILITIES not in cache.access:
        return made_by
    own = label_indices(cache.labels, pool, name=cache.name)
    answers = cache.log_probabilities(pool)
    found = fidelity(own_label_log_odds(answers, own), is_member, references, answers.argmax(axis=1) == own)
    return made_by if found is None else (*made_by, found.words)
