"""RT107: gradients among those of reference models find what log-odds do not, and nothing where there is nothing."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import RuleTarget, learnable, sentences

from attacks.membership._rows import log_odds
from attacks.membership.white_box import WhiteBoxGradients
from redteam.auditing.plan import make_plan
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.core import StatisticsError
from redteam.data import Split
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.attack import suited
from redteam.plugins.context import AttackContext
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.registry import discover_attacks, discover_defenses
from redteam.policy import DEFAULT, Limit, Policy
from redteam.policy.judge import judge
from redteam.references.cache import ReferenceCache
from redteam.references.recipe import LedgerRecipe
from redteam.references.trained import TrainedReferences
from redteam.report.reading import load_report
from redteam.statistics.area import area, area_interval
from redteam.statistics.membership.neighbours import NeighbourKernel
from redteam.statistics.membership.stacking import ReferenceTable, stacked_score
from redteam.statistics.ranking import rank
from redteam.targets.gradients import gradient_norms
from redteam.targets.target import Access
from redteam.testing.examples import equipped, reference_scores
from redteam.training.train import ModelChoice

ATTACK, POOL = WhiteBoxGradients(), sentences(40, seed=5)


def world(models, *, lift, rows=300, seed=0):
    """Models whose log-odds tell nothing of who was trained on a row, and whose gradients do by `lift`."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, 8))
    kernel = NeighbourKernel(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rng.integers(0, 4, rows))
    hard, pull = rng.normal(2, 2, rows), rng.normal(0, 1, (2, rows))
    included = np.array([rng.permutation(rows) < rows // 2 for _ in range(models + 1)])
    included[1:models:2] = ~included[0 : models - 1 : 2]
    odds = hard + rng.normal(0, 0.6, (models + 1, rows))
    gradients = pull + rng.normal(0, 0.5, (models + 1, 2, rows))
    gradients[:, 0] -= lift * included  # a trained row pulls less
    partner = tuple((k ^ 1) if (k ^ 1) < models else -1 for k in range(models))
    table = ReferenceTable(odds[:-1], included[:-1], partner, gradients[:-1])
    return kernel, table, odds[-1], gradients[-1], included[-1]


@pytest.mark.parametrize("models", [4, 6])
def test_the_stack_finds_what_gradients_alone_tell(models):
    kernel, table, target, gradients, member = world(models, lift=1.0)
    blind, seen = (stacked_score(target, table, kernel, each) for each in (None, gradients))
    assert area_interval(rank(blind, member), alpha=0.01).low < 0.5
    assert area(rank(seen, member)) > 0.75
    bare = ReferenceTable(table.log_odds, table.included, table.partner)
    np.testing.assert_array_equal(blind, stacked_score(target, bare, kernel))


@pytest.mark.parametrize("models", [4, 6])
def test_nothing_is_found_where_gradients_tell_nothing(models):
    kernel, table, target, gradients, _ = world(models, lift=0.0)
    scores, rng = stacked_score(target, table, kernel, gradients), np.random.default_rng(9)
    seen = [area_interval(rank(scores, rng.permutation(300) < 150), alpha=0.05) for _ in range(100)]
    assert sum(not each.low <= 0.5 <= each.high for each in seen) <= 11  # of a binomial of 5, once in 200


def test_norms_that_are_the_same_for_all_rows_are_passed_over():
    """As of a layer that a model does not use: they would leave no number in the score."""
    kernel, table, target, gradients, _ = world(6, lift=1.0, rows=60)
    flat = replace(table, gradients=np.concatenate([table.gradients, np.full((6, 1, 60), -3.0)], axis=1))
    made = stacked_score(target, flat, kernel, np.vstack([gradients, np.full(60, -3.0)]))
    np.testing.assert_array_equal(made, stacked_score(target, table, kernel, gradients))
    nothing = replace(table, gradients=np.zeros((6, 1, 60)))
    np.testing.assert_array_equal(
        stacked_score(target, nothing, kernel, np.zeros((1, 60))), stacked_score(target, table, kernel)
    )


def test_a_reference_that_plays_the_target_takes_its_gradients_along():
    _, table, *_ = world(6, lift=1.0, rows=40)
    np.testing.assert_array_equal(table.others(2).gradients, table.gradients[[0, 1, 4, 5]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reference_scores": None}, "needs reference models"),
        ({"encoder": None}, "needs a public encoder"),
        ({"reference_scores": "bare"}, "needs the gradients of the reference models, and these give none"),
        ({"reference_scores": "few"}, "needs 4 reference models or more, and there are 2"),
    ],
)
def test_what_it_lacks_is_said_in_a_line(change, said):
    full = equipped(POOL)
    given = full.reference_scores
    scores = {"bare": replace(given, gradients=None), "few": given.without(0), None: None}
    change = {name: scores[value] if name == "reference_scores" else value for name, value in change.items()}
    assert said in ATTACK.applies(Access.WEIGHTS, replace(full, **change))
    assert ATTACK.applies(Access.WEIGHTS, full) is None
    assert ATTACK.applies(Access.PROBABILITIES, full) == "needs weights, the target gives probabilities"


def test_it_runs_only_where_it_is_named_and_is_then_the_strongest():
    known = discover_attacks()
    assert "RT107" not in {each.id for each in suited(known, Access.WEIGHTS)}
    assert max(known, key=lambda each: each.strength).id == "RT107"


def test_norms_that_do_not_fit_the_rows_are_refused():
    given = equipped(POOL).reference_scores
    with pytest.raises(StatisticsError, match=r"norms of gradients of shape \(4, 3, 2\)"):
        ReferenceScores(given.log_odds, given.included, given.partner, gradients=np.zeros((4, 3, 2)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gradients": np.zeros((4, 0, 40))}, r"shape \(4, 0, 40\), not \[models"),
        ({"gradients": np.zeros(40)}, r"shape \(40,\), not \[models"),
        ({"gradients": np.full((4, 3, 40), np.nan)}, "gradients of a reference model are NaN or infinite"),
        ({"gradients": np.full((4, 3, 40), -np.inf)}, "gradients of a reference model are NaN or infinite"),
        ({"included": np.tile([0, 1], (4, 20))}, "inclusion of int64, not of true and false"),
        ({"partner": (1, 0, 9, 2)}, "reference model 2 has the partner 9, of 4 models"),
    ],
)
def test_references_of_another_form_are_refused_before_any_attack(change, said):
    """Numbers 0 and 1 for true and false would be taken for rows that are on both sides."""
    with pytest.raises(StatisticsError, match=said):
        replace(equipped(POOL).reference_scores, **change)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A target and four references of one recipe, with their gradients, and what was said."""
    rows, (plain,) = learnable(60, seed=7), [each for each in discover_defenses() if each.id == "RD100"]
    quick = type(plain)(epochs=12, batch_size=8, learning_rate=3e-3)
    recipe, said = LedgerRecipe(quick, ModelChoice("tiny", layers=1, dropout=0.0), 3, 30), []
    folder = tmp_path_factory.mktemp("kept")
    references = TrainedReferences(recipe, 4, folder, tell=said.append)
    plain_scores = references.scores(rows)
    scores = replace(references, with_gradients=True).scores(rows)
    again = replace(references, with_gradients=True).scores(rows)
    target = recipe.fit(rows.take(range(30)), seed=99, checkpoint=None, progress=None).model
    return rows, target, plain_scores, scores, again, references


def test_gradients_are_kept_and_models_kept_without_are_trained_again(trained):
    rows, _, without, scores, again, references = trained
    assert without.gradients is None
    assert scores.gradients.shape == (4, 3, len(rows))
    np.testing.assert_array_equal(without.log_odds, scores.log_odds)
    np.testing.assert_array_equal(again.gradients, scores.gradients)
    np.testing.assert_array_equal(references.scores(rows).log_odds, scores.log_odds)
    mixed = np.random.default_rng(1).permutation(len(rows))
    moved = replace(references, with_gradients=True).scores(rows.take(mixed))
    np.testing.assert_array_equal(moved.gradients, scores.gradients[..., mixed])


def test_kept_gradients_are_those_of_the_model(trained):
    rows, _, _, scores, _, references = trained
    plan = references.plan(rows)
    job = references.job(plan, 0)
    model = job.trainer.fit(
        plan.rows.take(job.included.nonzero()[0]), seed=job.seed, checkpoint=None, progress=None
    ).model
    np.testing.assert_allclose(gradient_norms(model, rows), scores.gradients[0], atol=1e-4)
    cache: ReferenceCache = references.cache(plan)
    assert cache.take(0, plan.included[0]).gradients is not None


def test_an_attack_on_trained_models(trained):
    rows, target, _, scores, _, _ = trained
    remarks = []
    context = AttackContext(0, encoder=hashed_ngrams(), reference_scores=scores, remark=remarks.append)
    made = ATTACK.score(target, rows, context)["gradients"]
    assert np.isfinite(made).all()
    assert "score without gradients, local, since the references hardly tell their own rows" in remarks[0]


def test_references_of_another_recipe_are_refused(trained):
    rows, target, _, scores, _, _ = trained
    own, noise = log_odds(target, rows), np.random.default_rng(0).normal(0, 0.1, scores.log_odds.shape)
    other = replace(scores, log_odds=20 * (own + noise))
    context = AttackContext(0, encoder=hashed_ngrams(), reference_scores=other)
    with pytest.raises(StatisticsError, match=r"rise with theirs by -?0\.\d\d of what .* gives 0\.85 to 1\.35"):
        ATTACK.score(target, rows, context)


class Weighty(RuleTarget):
    """A rule that says it has weights."""

    access = Access.WEIGHTS


class Bare:
    """References without gradients, as a file of log-odds has them."""

    gives_gradients = False

    def scores(self, pool):
        return replace(reference_scores(pool), gradients=None)


SPLIT = Split.of(sentences(40, seed=1), sentences(40, seed=2))


@pytest.mark.parametrize("gradients", [False, True])
def test_a_plan_knows_whether_references_will_have_gradients(gradients):
    known = {"references": 8, "gradients": gradients}
    text = make_plan(Weighty(), SPLIT, [ATTACK], DEFAULT, AuditSettings(), **known).text
    assert ("RT107      white box: runs" in text) == gradients
    assert ("RT107      white box: cannot run: needs the gradients of the reference models" in text) != gradients


@pytest.mark.parametrize("references", [None, Bare()])
def test_a_saved_report_without_what_was_named_fails_the_gate_too(references, monkeypatch, tmp_path):
    """Beside another attack that passes, under a policy that does not ask for it."""
    monkeypatch.setattr("redteam.auditing.run.public_encoder", lambda *_: hashed_ngrams())
    loss = next(each for each in discover_attacks() if each.id == "RT101")
    report = audit(Weighty(), SPLIT, [loss, ATTACK], controls=(), references=references)
    (tmp_path / "report.json").write_text(report.to_json())
    policy = Policy((Limit("auc", 0.9),), allow_untrained=True)
    verdict = judge(load_report(tmp_path / "report.json"), policy, today=date.today())
    assert verdict.exit_code == 2
    assert any(each.startswith("RT107 failed: needs ") for each in verdict.problems)
    (tmp_path / "report.json").write_text(audit(Weighty(), SPLIT, [loss], controls=()).to_json())
    assert judge(load_report(tmp_path / "report.json"), policy, today=date.today()).exit_code == 0
