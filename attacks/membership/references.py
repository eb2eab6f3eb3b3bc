"""RT104 reference models: surer of a text than models trained like the target with and without it.

K reference models of the target's recipe are each trained on half of some rows, in complementary pairs; what each says
of a row, and whether it was trained on it, is known. The target is never among them. Which score uses them best depends
on K:

- one reference: a regression of the target's log-odds log p - log(1 - p) on the reference's, and on all that RT103
  knows of the row;
- two or three: how much likelier the target's log-odds are in than out, the middle between the references that were
  trained on the row and those that were not its own, gap and spread those of rows as easy as it;
- from four on, a logistic regression on several such scores, likelihood ratios among them. It learns how they add up
  where each reference plays the target, itself and its complement left out of the references. Where they hardly tell
  the rows that they were trained on themselves there is nothing to learn, and the score is that of two or three.

What neighbours share is taken off first, as in RT103: models of one recipe differ by label and by region of
the texts, which is not the row's own membership.

Where the references are of another recipe, their log-odds mean something else. That shows in how the target's log-odds
rise with theirs, against how theirs rise with each other's: outside 0.85 to 1.35 (or as far as six or more references
differ among each other) the score is a regression on what they say, whatever K is. The report says which score it was,
with K and that slope.

The scores of the literature can be asked for with the setting `form`, and are then judged instead: `ratio` is RMIA
(Zarifzadeh et al., ICML 2024), and BASE (Lassila et al. 2025); `ratio_offline` the same from references that were not
trained on the row; `offset` the middle alone; `lira` (Carlini et al., S&P 2022) with a variance for each row,
`lira_pooled` with one for all, `lira_offline` against references that were not trained on the row; `moderated_t` LiRA
with the variance of each row drawn to that of all.

The attacker sees the probabilities of all audited rows, and has data like the training data and the recipe.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership, and AML.T0005, create proxy AI model. NIST AI 100-2
(2025) NISTAML.033, membership inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from attacks.membership._rows import NO_ENCODER, NO_REFERENCES, encoder_name, log_odds, public_rows, table
from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.settings import Setting
from redteam.report.values import Taxonomy
from redteam.statistics.membership.fidelity import SAME_RECIPE, fidelity_slope, slopes_of_one_recipe
from redteam.statistics.membership.likelihood import lira, lira_offline, moderated_t
from redteam.statistics.membership.moments import offset, ratio, ratio_offline
from redteam.statistics.membership.stacking import (
    FEWEST,
    ReferenceTable,
    local_score,
    other_recipe_score,
    stack,
)
from redteam.targets.target import Access, Target

_SAME = 1e-3  # of log-odds, as of a model that was saved with other decimals
UNSHOWN = "local, since the references hardly tell their own rows from others and no stacked score is learned from them"
Plain = Callable[[FloatArray, ReferenceTable], FloatArray]
PLAIN: dict[str, Plain] = {
    "ratio": lambda target, references: ratio(target, references.log_odds),
    "ratio_offline": lambda target, references: ratio_offline(target, references.log_odds, references.included),
    "offset": lambda target, references: offset(target, references.moments()),
    "lira": lambda target, references: lira(target, references.moments()),
    "lira_pooled": lambda target, references: lira(target, references.moments(), pooled=True),
    "lira_offline": lambda target, references: lira_offline(target, references.moments()),
    "moderated_t": lambda target, references: moderated_t(target, references.moments()),
}


@dataclass(frozen=True)
class ReferenceModels(Attack):
    """Score an example by the target's log-odds among those of reference models."""

    form: Literal[
        "best", "local", "stacked", "other_recipe",
        "ratio", "ratio_offline", "offset", "lira", "lira_pooled", "lira_offline", "moderated_t",
    ] = Setting("The score; best is the strongest that the references allow.").default("best")  # fmt: skip

    id = "RT104"
    name = "references"
    needs = Access.PROBABILITIES
    taxonomy = Taxonomy(("AML.T0024.000", "AML.T0005"), ("NISTAML.033",), ("ML04:2023",))
    signals = ("references",)
    reads_texts = True
    uses_references = True
    strength = 50

    def applies(self, access: Access, context: AttackContext) -> str | None:
        """Return why it cannot run: too little access, no reference models, or no encoder."""
        if context.reference_scores is None or not len(context.reference_scores):
            return super().applies(access, context) or NO_REFERENCES
        return super().applies(access, context) or (NO_ENCODER if context.encoder is None else None)

    def weakened(self) -> str | None:
        """Return that another score than the strongest was asked for."""
        return None if self.form == "best" else f"{self.id} gave the score {self.form}, and form=best may find more"

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return the score of each row among the references, shape [n]; deterministic."""
        given = context.reference_scores
        assert given is not None  # or it does not apply
        own, references = log_odds(target, pool), table(given)
        check_other_models(own, references)
        slope = fidelity_slope(own, references)
        form = self.form if self.form != "best" else best_form(len(references), slope, slopes_of_one_recipe(references))
        remark = partial(described, given, slope=slope, encoder=encoder_name(context))
        if form in PLAIN:
            context.remark(remark(form))
            return {"references": PLAIN[form](own, references)}
        rows = public_rows(pool, context)
        if form == "stacked":
            found = stack(own, references, rows.neighbours)
            context.remark(remark(form if found.learned else UNSHOWN))
            return {"references": found.score}
        context.remark(remark(form))
        strongest = other_recipe_score if form == "other_recipe" else local_score
        return {"references": strongest(own, references, rows.neighbours, rows.fit)}


def check_other_models(own: FloatArray, references: ReferenceTable) -> None:
    """Raise StatisticsError where a reference is the target itself, whose answers say who its members are."""
    for number, said in enumerate(references.log_odds, start=1):
        if np.abs(said - own).max() <= _SAME:
            raise StatisticsError(
                f"reference model {number} answers every row as the target does: it is the target, which must not be "
                "among its references"
            )


def best_form(count: int, slope: float | None, window: tuple[float, float] = SAME_RECIPE) -> str:
    """Return the strongest score for so many references whose slope is that; one has none to compare with."""
    if slope is not None and not window[0] <= slope <= window[1]:
        return "other_recipe"
    return "stacked" if count >= FEWEST else "local"


def described(given: ReferenceScores, form: str, slope: float | None, encoder: str) -> str:
    """Return what the report says of the references."""
    made = f", {given.made_by}" if given.made_by else ""
    alike = "" if slope is None else f"; slope of the target on them {slope:.2f} (1 for the same recipe)"
    if slope is None and len(given) > 1:
        alike = "; no slope of the target on them, since they say nothing of each other's rows"
    seen = "" if form in PLAIN else f"; texts compared by {encoder}"
    return f"K = {len(given)} reference models{made}: score {form}{alike}{seen}"
