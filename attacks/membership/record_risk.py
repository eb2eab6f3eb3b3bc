"""RT108 record risk: the rows that attackers tell best, whichever model of this recipe is trained on them.

An audit asks how well the members of one model are told. Which rows to take out, to rewrite or to protect is another
question: what would any model trained like this one show of a row? Reference models answer it, half of them trained on
the row and half not. How much surer of the row the first are than the second, over how much either scatter, is the risk
of the row, given as the AUC of telling one such model from the other: 0.5 is none, 1 is certainty.

- The gap between the two halves is measured in log-odds log p - log(1 - p), which are taken for normal, with one
  variance a row, drawn to that of all rows (moderated t, Smyth 2004).
- Rows are ranked by the gap drawn to that of a typical row, as far as so few references cannot tell rows apart
  (empirical Bayes): other references give nearly the same list.
- A list of the highest is a list of lucky draws. Its intervals allow for that: of those shown at most a share alpha
  misses, by expectation (false coverage rate, Benjamini and Yekutieli, JASA 2005).

It needs two references on either side of a row, so at least four. It judges nothing: a row at risk is a finding about
the data, and a list without any is no clearance. Its numbers describe the recipe, not the target, whose own answers are
not used; that is what makes the list stable. Taking out the rows on it puts others in their place (Carlini et al., "The
privacy onion effect", NeurIPS 2022).

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

import numpy as np

from redteam.core.arrays import BoolArray
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.row_risk import RowRisk, RowRisks
from redteam.report.values import Taxonomy
from redteam.statistics.membership.moments import moments
from redteam.statistics.membership.record_risk import record_risk

_EACH = 2  # reference models on either side of a row: one has no spread


class RecordRisk(RowRisk):
    """Rank rows by how much surer reference models with the row are than those without it."""

    id = "RT108"
    name = "record risk"
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))

    def lacking(self, references: ReferenceScores) -> str | None:
        """Return that rows have too few references on a side; None where some have enough."""
        if _rated(references).any():
            return None
        return f"needs {_EACH} reference models trained on a row and {_EACH} that were not: --references 4 trains them"

    def list_rows(self, references: ReferenceScores, among: BoolArray, *, most: int, alpha: float) -> RowRisks:
        """Return the rows of the highest expected risk, each interval at level alpha x listed / rows to choose from."""
        asked = np.nonzero(among & _rated(references))[0]
        listed = min(most, len(asked))
        if not listed:
            return RowRisks((), *(np.empty(0),) * 3)
        rated = np.nonzero(_rated(references))[0]  # whose membership is nobody's business: all rows set the typical one
        found = moments(references.log_odds[:, rated], references.included[:, rated])
        risk = record_risk(found, alpha=alpha * listed / len(asked))
        place = np.searchsorted(rated, asked)
        top = place[np.argsort(-risk.expected[place], kind="stable")[:listed]]
        return RowRisks(
            rated[top].tolist(), np.clip(risk.expected, risk.low, risk.high)[top], risk.low[top], risk.high[top]
        )


def _rated(references: ReferenceScores) -> BoolArray:
    """Tell which rows have enough references on either side, shape [n]."""
    n_in = references.included.sum(axis=0)
    enough: BoolArray = np.minimum(n_in, len(references) - n_in) >= _EACH
    return enough
