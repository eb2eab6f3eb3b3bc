"""RT107 white box: how hard a text pulls at the weights, beside how sure the model is of it, among reference models.

Whoever has the weights can take the gradient of the loss of each row (Nasr, Shokri and Houmansadr, S&P 2019): a model
at the end of its training lies where its own rows pull no more. The norm is taken by the weights of the last layer, by
the vector that this layer reads, and by the embeddings of the text's tokens, for the target and for every reference
model. RT104's stacked score then has them as further columns, each against what models say that were trained on the row
and that were not, and learns from the references how much each is worth.

It takes four reference models or more that are trained like the target and whose weights are at hand while they are
asked: `--references 8`, or `--reference-model DIR` for each. Their norms are kept with what else they say, so the
weights need not be; models that were kept without are trained again. Files of log-odds hold no gradients. Where the
target's log-odds do not rise with the references' as these do with each other's there is no score, since norms of
another training mean something else: theirs was another recipe, or one whose models differ more than these few show, as
where some are sure of every row.

It costs a pass forwards and one backwards for each model and row, and adds little to RT104: so it runs only where it is
named (`--attack RT107`), and then settles limits before all others.

The attacker sees the weights, all audited rows, and has data like the training data and the recipe.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership, and AML.T0005, create proxy AI model. NIST AI 100-2
(2025) NISTAML.033, membership inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np

from attacks.membership._rows import NO_ENCODER, NO_REFERENCES, encoder_name, log_odds, public_rows, table
from attacks.membership.references import UNSHOWN, best_form, check_other_models, described
from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.statistics.membership.fidelity import fidelity_slope, slopes_of_one_recipe
from redteam.statistics.membership.stacking import FEWEST, ReferenceTable, stack
from redteam.targets.target import Access, Target, WhiteBox

_NO_GRADIENTS = "needs the gradients of the reference models, and these give none: --references 8 trains some that do"


class WhiteBoxGradients(Attack):
    """Score an example by the target's log-odds and norms of gradients among those of reference models."""

    id = "RT107"
    name = "white box"
    needs = Access.WEIGHTS
    taxonomy = Taxonomy(("AML.T0024.000", "AML.T0005"), ("NISTAML.033",), ("ML04:2023",))
    signals = ("gradients",)
    only_named = True
    reads_texts = True
    uses_references = True
    reads_gradients = True
    strength = 60

    def applies(self, access: Access, context: AttackContext) -> str | None:
        """Return why it cannot run: too little access, too few reference models or none with weights, no encoder."""
        given = context.reference_scores
        if given is None or not len(given):
            return super().applies(access, context) or NO_REFERENCES
        missing = NO_ENCODER if context.encoder is None else None
        if given.gradients is None:
            missing = _NO_GRADIENTS
        if len(given) < FEWEST:
            missing = f"needs {FEWEST} reference models or more, and there are {len(given)}"
        return super().applies(access, context) or missing

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return the score of each row among the references, shape [n]; deterministic.

        Raises StatisticsError where the references do not answer as the target does, TargetError where the model has no
        linear last layer or cannot be run backwards.
        """
        from redteam.targets.gradients import LAYERS, gradient_norms

        given = context.reference_scores
        assert given is not None  # or it does not apply
        own, references = log_odds(target, pool), table(given)
        check_other_models(own, references)
        slope, window = fidelity_slope(own, references), slopes_of_one_recipe(references)
        if slope is not None and best_form(len(references), slope, window) != "stacked":
            raise StatisticsError(_unlike(own, references, slope, window))
        gradients = gradient_norms(cast(WhiteBox, target), pool, progress=context.progress)
        found = stack(own, references, public_rows(pool, context).neighbours, gradients)
        form = f"stacked with gradients by {', '.join(LAYERS)}" if found.learned else f"without gradients, {UNSHOWN}"
        context.remark(described(given, form, slope, encoder_name(context)))
        return {"gradients": found.score}


def _unlike(own: FloatArray, references: ReferenceTable, slope: float, window: tuple[float, float]) -> str:
    """Return what to say of references whose gradients cannot stand beside the target's."""
    spread = np.sort(references.log_odds.std(axis=1))
    return (
        f"the target does not answer as its references do: its log-odds rise with theirs by {slope:.2f} of what these "
        f"rise with each other's, and one recipe gives {window[0]:.2f} to {window[1]:.2f} (they vary over the rows by "
        f"{own.std():.2g}, the references' by {spread[0]:.2g} to {spread[-1]:.2g}). Theirs is another recipe, or one "
        "that varies more than these few show, and gradients cannot be compared: train references like the target, or "
        "more of them; RT104 allows for it: audit without --attack RT107"
    )
