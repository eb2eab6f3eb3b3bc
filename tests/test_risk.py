"""Which rows an audit lists: by reference models, with the risk of each; and the warning that needs none."""

from datetime import date

import numpy as np
import pytest

from redteam.auditing.risk import tail_warning
from redteam.auditing.run import audit
from redteam.auditing.scoring import ScoreCache
from redteam.data import Examples, Split
from redteam.formats import FORMATS
from redteam.plugins.reference_scores import ReferenceScores
from redteam.policy import Policy
from redteam.policy.judge import judge
from redteam.report import AuditReport, Limit
from redteam.targets.target import Access
from redteam.testing.examples import RuleTarget, sentences

ROWS = sentences(240, seed=3)
MEMBERS, OTHERS = ROWS.take(range(120)), ROWS.take(range(120, 240))
SPLIT = Split(MEMBERS, OTHERS, salt="0" * 32)
AT_RISK = frozenset(MEMBERS.texts[:5])


class Given:
    """Reference models that are much surer of five rows once they were trained on them, and of no other."""

    def __init__(self, models):
        self.models = models

    def scores(self, pool):
        rng = np.random.default_rng(0)
        order = np.argsort(pool.texts)  # the same for the same rows, in whichever order they come
        included = np.empty((self.models, len(pool)), dtype=bool)
        included[::2, order] = rng.random((self.models // 2, len(pool))) < 0.5
        included[1::2] = ~included[::2]
        odds = np.empty(included.shape)
        odds[:, order] = rng.normal(0, 0.5, included.shape)
        told = np.array([text in AT_RISK for text in pool.texts])
        partner = tuple(model + 1 - 2 * (model % 2) for model in range(self.models))
        return ReferenceScores(odds + 9.0 * (included & told), included, partner)


@pytest.fixture(scope="module")
def report():
    return audit(RuleTarget(MEMBERS, share=0.6), SPLIT, references=Given(8))


def test_the_members_at_most_risk_come_first_with_intervals(report):
    first = report.exposed[:5]
    assert {row.id for row in first} == {MEMBERS.name(i) for i in range(5)}
    assert all(row.risk.low > 0.8 for row in first)
    assert len(report.exposed) == 10
    assert all(row.risk.low <= row.risk.value <= row.risk.high for row in report.exposed)
    assert all(row.hash and row.text is None for row in report.exposed)


def test_the_saved_report_holds_them_and_the_text_shows_them(report):
    again = AuditReport.from_json(report.to_json())
    assert again.exposed == report.exposed
    policy = Policy((Limit("auc", 0.6),))
    shown = FORMATS["text"](again, judge(again, policy, today=date(2026, 1, 1)), policy=policy, verbose=True)
    assert "any model trained like this one leaks most" in shown
    assert not any(text in shown for text in ROWS.texts)


@pytest.mark.parametrize("models", [None, 2])
def test_without_enough_models_the_list_is_the_attackers_own(models):
    given = None if models is None else Given(models)
    found = audit(RuleTarget(MEMBERS, share=0.6), SPLIT, references=given).exposed
    assert len(found) == 10
    assert {row.risk for row in found} == {None}


class Graded:
    """A target whose log-odds of each text's own label are given."""

    name, kind, digest, labels, access = "graded", "rule", None, ("a", "b"), Access.PROBABILITIES

    def __init__(self, odds):
        self.odds = odds

    def log_probabilities(self, examples):
        odds = np.array([self.odds[text] for text in examples.texts])
        own = np.array([label == "b" for label in examples.labels])
        return -np.logaddexp(0, np.stack([np.where(own, 1, -1) * odds, np.where(own, -1, 1) * odds], axis=1))

    def predict(self, examples):
        return self.log_probabilities(examples).argmax(axis=1)


@pytest.mark.parametrize(("spread", "warned"), [(1.0, False), (3.0, True)])
def test_a_tail_that_non_members_have_to_themselves_is_a_warning(spread, warned):
    rng, n = np.random.default_rng(2), 400
    texts = tuple(f"text {i}" for i in range(2 * n))
    is_member = np.arange(2 * n) < n
    odds = np.where(is_member, rng.normal(2, 1, 2 * n), rng.normal(2, spread, 2 * n))
    cache = ScoreCache(Graded(dict(zip(texts, odds, strict=True))))
    pool = Examples(np.arange(2 * n), texts, tuple("ab"[i % 2] for i in range(2 * n)))
    said = tail_warning(cache, pool, is_member, alpha=0.05, seed=0)
    assert [line[:8] for line in said] == ["warning:"] * warned
    naive = (odds[~is_member] < np.quantile(odds[is_member], 0.01)).mean()
    assert not warned or abs(float(said[0].split()[1].rstrip("%")) / 100 - naive) < 0.02
