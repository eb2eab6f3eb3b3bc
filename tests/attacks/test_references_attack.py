"""RT104: which score for how many references, what is said of it, and when there is nothing to run it with."""

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership._rows import log_odds
from attacks.membership.references import PLAIN, ReferenceModels, best_form
from redteam.auditing.run import audit
from redteam.core import StatisticsError
from redteam.data import Split
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.attack import suited
from redteam.plugins.context import AttackContext
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.settings import describe
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.targets.target import Access
from redteam.testing.examples import equipped, reference_scores

POOL, IS_MEMBER = Split.of(sentences(100, seed=1), sentences(100, seed=2)).pool(0)
FORMS = next(each for each in describe(ReferenceModels()) if each.name == "form").wanted.removeprefix("one of ")


def scored(attack, target, scores, remarks=None):
    context = AttackContext(0, encoder=hashed_ngrams(), reference_scores=scores, remark=(remarks or []).append)
    return attack.score(target, POOL, context)["references"]


def some(scores, models):
    """The first models of them."""
    partner = tuple(each if each < models else -1 for each in scores.partner[:models])
    return ReferenceScores(scores.log_odds[:models], scores.included[:models], partner)


@pytest.mark.parametrize(
    ("count", "slope", "form"),
    [
        *[(1, None, "local"), (2, 1.0, "local"), (3, 0.9, "local"), (4, 1.0, "stacked"), (64, 1.34, "stacked")],
        *[(2, 0.8, "other_recipe"), (8, 0.5, "other_recipe"), (8, 1.5, "other_recipe"), (4, None, "stacked")],
    ],
)
def test_the_score_by_the_number_of_references_and_their_slope(count, slope, form):
    assert best_form(count, slope) == form


@pytest.mark.parametrize("form", FORMS.split(", "))
def test_every_score_finds_what_is_memorised_and_nothing_where_nothing_is(form):
    scores, attack = reference_scores(POOL, pairs=4), ReferenceModels(form=form)
    members = POOL.take(np.flatnonzero(IS_MEMBER).tolist())
    leaky = area_interval(rank(scored(attack, RuleTarget(members), scores), IS_MEMBER), alpha=0.01)
    assert leaky.low > 0.8
    null = scored(attack, RuleTarget(seed=40), scores)
    rng = np.random.default_rng(1)
    seen = [area_interval(rank(null, rng.permutation(IS_MEMBER)), alpha=0.05) for _ in range(60)]
    assert sum(not each.low <= 0.5 <= each.high for each in seen) <= 8  # of a binomial of 3, once in 200


@pytest.mark.parametrize("models", [1, 2, 3, 5])
def test_any_number_of_references_will_do(models):
    members = POOL.take(np.flatnonzero(IS_MEMBER).tolist())
    remarks = [""]
    found = scored(ReferenceModels(), RuleTarget(members), some(reference_scores(POOL, pairs=3), models), remarks)
    assert area_interval(rank(found, IS_MEMBER), alpha=0.01).low > 0.8
    assert remarks[1].startswith(f"K = {models} reference models: score ")


def test_it_says_what_it_used():
    remarks = [""]
    scored(ReferenceModels(), RuleTarget(POOL), reference_scores(POOL), remarks)
    assert remarks[1].startswith("K = 4 reference models, by a rule: score ")
    assert "slope of the target on them" in remarks[1]
    assert remarks[1].endswith("texts compared by hashed n-grams")


def test_a_reference_that_is_certain_does_not_break_it():
    scores = reference_scores(POOL)
    certain = scores.log_odds.copy()
    certain[0, 3], certain[1, 5] = np.inf, -np.inf
    made = scored(ReferenceModels(), RuleTarget(POOL), ReferenceScores(certain, scores.included, scores.partner))
    assert np.isfinite(made).all()


def test_the_target_among_its_references_is_found_by_its_answers():
    given, target = reference_scores(POOL), RuleTarget(POOL.take(np.flatnonzero(IS_MEMBER).tolist()))
    own = log_odds(target, POOL)
    leaked = ReferenceScores(
        np.vstack([given.log_odds, own]), np.vstack([given.included, IS_MEMBER]), (*given.partner, -1)
    )
    with pytest.raises(StatisticsError, match="reference model 5 answers every row as the target does"):
        scored(ReferenceModels(), target, leaked)


def test_without_reference_models_it_does_not_apply_and_takes_no_error():
    with_encoder = AttackContext(0, encoder=hashed_ngrams())
    assert "reference models" in ReferenceModels().applies(Access.WEIGHTS, with_encoder)
    assert ReferenceModels().applies(Access.WEIGHTS, equipped(POOL)) is None
    assert "needs probabilities" in ReferenceModels().applies(Access.LABELS, equipped(POOL))
    assert suited((ReferenceModels(),), Access.WEIGHTS) == (ReferenceModels(),)


def test_an_audit_without_references_says_that_it_is_not_applicable(monkeypatch):
    monkeypatch.setattr("redteam.auditing.run.public_encoder", lambda *_: hashed_ngrams())
    report = audit(
        RuleTarget(), Split.of(sentences(40, seed=1), sentences(40, seed=2)), [ReferenceModels()], controls=()
    )
    assert [(f.attack, f.kind) for f in report.failures] == [("RT104", "not_applicable")]
    assert report.multiplicity.intervals == 0


def test_an_audit_with_references(monkeypatch):
    monkeypatch.setattr("redteam.auditing.run.public_encoder", lambda *_: hashed_ngrams())

    class Given:
        def scores(self, pool):
            return reference_scores(pool)

    members = sentences(100, seed=1)
    split = Split.of(members, sentences(100, seed=2))
    report = audit(RuleTarget(members), split, [ReferenceModels()], controls=(), references=Given())
    auc = next(e for e in report.evidence if e.id == "RT104.auc:references")
    assert auc.interval.low > 0.8


def test_the_literature_is_there():
    assert set(PLAIN) == set(FORMS.split(", ")) - {"best", "local", "stacked", "other_recipe"}
