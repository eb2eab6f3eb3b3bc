"""RT106 quantile regression: surer of a text than of nearly all non-members like it (Bertran et al., NeurIPS 2023).

From non-members that were kept apart (the third part of a `redteam.data.Split`, given in Python) the adversary learns
which log-odds log p - log(1 - p) the target gives to a text and a label that it was not trained on, and how much they
vary. A row is a member where its own are far above: the score is by how many standard deviations. One query a row, no
reference model.

The paper trains a network for that; here it is a Gaussian process on the texts' vectors of a public encoder and their
labels, which is exact with few rows. It needs at least 100 non-members. Where they are of other texts or labels than
the audited rows, or where quantiles learned from one half of them are wrong about the other half, there is no score,
and the report says why.

The attacker sees probabilities, and has texts like the audited ones that were surely not trained on. RT103 needs none,
and found more wherever both were measured.

It runs only where it is named (`--attack RT106`), even where non-members are kept apart. Whether its quantiles hold is
known once the target has answered, and by then the error is shared: run everywhere, it would take a part of that from
stronger attacks, and each time it has no score the audit would be inconclusive.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Mapping

import numpy as np

from attacks.membership._rows import NO_ENCODER, encoder_name, log_odds
from redteam.core import TargetError
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.statistics.membership.quantiles import Labelled, NonMemberModel, check_calibrated
from redteam.targets.target import Access, Target, label_indices, labels_of


class QuantileRegression(Attack):
    """Score an example by how far its log-odds are above those of known non-members of like text."""

    id = "RT106"
    name = "quantile regression"
    needs = Access.PROBABILITIES
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))
    signals = ("quantile",)
    only_named = True
    reads_texts = True

    def applies(self, access: Access, context: AttackContext) -> str | None:
        """Return why it cannot run: too little access, no encoder, or no non-members to learn from."""
        missing = NO_ENCODER if context.encoder is None else None
        if context.nonmembers is None:
            missing = missing or "needs non-members kept apart from the audit, and the split has none"
        return super().applies(access, context) or missing

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return the surprise of each row in standard deviations, shape [n]; deterministic.

        Raises StatisticsError where the known non-members are too few, or do not tell what to expect.
        """
        known = context.nonmembers
        if known is None or known.texts is None:
            raise TargetError("no texts of non-members kept apart")
        known = known.take(sorted(range(len(known)), key=known.texts.__getitem__))
        # Together, so that an encoder that keeps one set of texts reads each once.
        texts = (*(pool.texts or ()), *(known.texts or ()))
        rows, apart = (_labelled(target, some, texts, context) for some in (pool, known))
        odds = log_odds(target, known)
        check_calibrated(apart, odds)
        model = NonMemberModel(apart, odds)
        model.check_like(rows)
        context.remark(f"quantiles from {len(known):,} known non-members; texts compared by {encoder_name(context)}")
        return {"quantile": model.surprise(rows, log_odds(target, pool))}


def _labelled(target: Target, rows: Examples, texts: tuple[str, ...], context: AttackContext) -> Labelled:
    if context.encoder is None:
        raise TargetError(NO_ENCODER)
    place = {text: i for i, text in enumerate(texts)}
    vectors = context.encoder.embed(texts, context.progress)[[place[text] for text in rows.texts or ()]]
    return Labelled(np.asarray(vectors), label_indices(labels_of(target), rows, name=target.name))
