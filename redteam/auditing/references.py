"""How reference models compare with the target: what they say, and what they were trained on, meet membership here."""

import numpy as np

from redteam.auditing.scoring import ScoreCache
from redteam.core import DataError
from redteam.core.arrays import BoolArray
from redteam.data import Examples
from redteam.data.grouping import Grouping
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.fidelity import Fidelity, fidelity
from redteam.statistics import same_share
from redteam.targets.target import Access, label_indices, own_label_log_odds

_CHANCE = 1e-4  # that references whose rows were drawn from both sides alike are refused


def check_drawn_from_both(references: ReferenceScores | None, units: Grouping) -> None:
    """Raise DataError where what references were trained on tells who is a member of the target's training data.

    Attacks are told which rows each reference knows, and would read membership off that: a target that leaks nothing
    would be called a leak, and one that leaks might pass. As with references that were trained on the target's own
    members, or on parts of these alone. Of users the mean over their rows is looked at.
    """
    if references is None:
        return
    error, member = _CHANCE / (len(references) + 1), units.is_member
    known = [units.score(inside.astype(np.float64)) for inside in references.included]
    for number, shares in enumerate(known, start=1):
        if _tells(shares > 0.5, member, error):
            raise DataError(
                f"reference model {number} was trained on {shares[member].mean():.0%} of the members and "
                f"{shares[~member].mean():.0%} of the non-members: which rows it knows tells who is a member; draw the "
                "rows of each reference from all audited rows alike, members or not"
            )
    total = np.sum(known, axis=0)
    if _tells(total > np.median(total), member, error):
        raise DataError(
            "how many reference models were trained on a row tells who is a member: draw the rows of each from all "
            "audited rows alike, members or not"
        )


def _tells(marked: BoolArray, is_member: BoolArray, error: float) -> bool:
    """Tell whether more or fewer members are marked than non-members, wrongly with probability `error`."""
    inside, outside = marked[is_member], marked[~is_member]
    return same_share(int(inside.sum()), int(outside.sum()), len(inside), len(outside)) < error


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
