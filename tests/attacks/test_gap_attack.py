"""RT105: right or wrong, and what intervals make of a score with two values."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import RuleTarget, learnable, sentences
from scipy.stats import binom

from attacks.membership.confidence import Confidence
from attacks.membership.gap import Gap
from redteam.auditing.run import audit
from redteam.data import Examples, Split
from redteam.plugins.attack import suited
from redteam.plugins.context import AttackContext
from redteam.plugins.registry import discover_attacks
from redteam.policy import DEFAULT
from redteam.policy.judge import judge
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.statistics.tpr import tpr_interval
from redteam.targets.target import Access

TODAY = date(2026, 1, 1)
EACH = 0.05 / 2  # of an audit of labels alone: the AUC and one TPR


class Labels:
    """Answers labels only: right on texts it was `taught`, and on others with probability `general`."""

    kind, digest, access, name = "rule", None, Access.LABELS, "labels"
    labels = ("a", "b", "c")

    def __init__(self, taught=(), general=0.5):
        self.taught, self.general = frozenset(taught), general

    def predict(self, examples):
        own = np.array([self.labels.index(label) for label in examples.labels])
        right = [
            t in self.taught or np.random.default_rng([*t.encode()]).random() < self.general for t in examples.texts
        ]
        return np.where(right, own, (own + 1) % 3)


def ranking(right, members, wrongly, others):
    """The ranking of so many right members and so many right non-members."""
    scores = np.repeat([1.0, 0.0, 1.0, 0.0], [right, members - right, wrongly, others - wrongly])
    return rank(scores, np.arange(members + others) < members, may_tie=True)


def test_it_scores_by_whether_the_label_is_right():
    rows = Examples(np.arange(3), ("x", "y", "z"), ("a", "b", "a"))
    target = RuleTarget(rows.take([0, 1]), share=1.0)
    target.memory["z"] = 1
    assert Gap().score(target, rows, AttackContext(0))["correct"].tolist() == [1, 1, 0]


@pytest.mark.parametrize(("right", "wrongly"), [(90, 60), (100, 80), (0, 30), (7, 7)])
def test_the_auc_is_a_half_and_half_the_gap(right, wrongly):
    """The naive twin: all pairs, ties counted half."""
    made = ranking(right, 100, wrongly, 80)
    pairs = np.sign(np.subtract.outer([1] * right + [0] * (100 - right), [1] * wrongly + [0] * (80 - wrongly)))
    expected = float((pairs + 1).mean() / 2)
    assert expected == pytest.approx(0.5 + (right / 100 - wrongly / 80) / 2)
    interval = area_interval(made, alpha=EACH)
    assert interval.value == pytest.approx(expected)
    assert interval.low < expected < interval.high


@pytest.mark.parametrize("alpha", [0.05, EACH, 0.05 / 3])
def test_its_intervals_cover_the_gap_exactly_counted(alpha):
    """Every table of 20 members and 20 non-members, by its probability: neither end misses more than half of alpha."""
    size, rates = 20, (0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.995, 1)
    ends = [[area_interval(ranking(x, size, y, size), alpha=alpha) for y in range(size + 1)] for x in range(size + 1)]
    low, high = (np.array([[getattr(e, end) for e in row] for row in ends]) for end in ("low", "high"))
    for p in rates:
        for q in rates:
            chance = np.outer(binom.pmf(range(size + 1), size, p), binom.pmf(range(size + 1), size, q))
            truth = 0.5 + (p - q) / 2
            assert chance[low > truth + 1e-12].sum() <= alpha / 2, (p, q)
            assert chance[high < truth - 1e-12].sum() <= alpha / 2, (p, q)


def test_the_tpr_is_that_of_a_lot_among_the_right_ones():
    interval = tpr_interval(ranking(90, 100, 60, 100), fpr=0.01, alpha=EACH, seed=0)
    assert interval.value == pytest.approx(0.01 / 0.6 * 0.9)
    plain = tpr_interval(ranking(900, 1000, 0, 1000), fpr=0.01, alpha=EACH, seed=0)
    assert plain.value == pytest.approx(0.9 + 0.01 * 0.1)  # of the wrong ones one in a hundred too
    assert plain.low > 0.8


@pytest.mark.parametrize(("p", "q"), [(0.95, 0.6), (0.9, 0.004), (0.7, 0.7), (1.0, 1.0)])
def test_the_interval_of_the_tpr_covers_a_score_with_two_values(p, q):
    rng, fpr, n, alpha = np.random.default_rng(3), 0.05, 300, 0.1
    truth = p * fpr / q if q >= fpr else p + (1 - p) * (fpr - q) / (1 - q)
    missed = 0
    for seed in range(300):
        made = ranking(rng.binomial(n, p), n, rng.binomial(n, q), n)
        interval = tpr_interval(made, fpr=fpr, alpha=alpha, seed=seed)
        missed += not interval.low <= truth <= interval.high
    assert missed <= 300 * alpha + 3 * np.sqrt(300 * alpha * (1 - alpha))


def test_it_runs_where_labels_are_all_there_is_or_where_it_is_named():
    assert [type(attack) for attack in suited((Gap(), Confidence()), Access.LABELS)] == [Gap, Confidence]
    for access in (Access.LOSSES, Access.PROBABILITIES, Access.WEIGHTS):
        assert [type(attack) for attack in suited((Gap(), Confidence()), access)] == [Confidence]
    split = Split.of(sentences(300, seed=1), sentences(300, seed=2))
    assert "RT105" not in audit(RuleTarget(), split).scope.asked
    assert {e.attack for e in audit(RuleTarget(), split, [Gap()]).evidence} == {"RT105"}
    assert "RT105" in {attack.id for attack in discover_attacks()}


@pytest.mark.parametrize(
    ("taught", "general", "size", "code", "says"),
    [
        (1.0, 0.5, 800, 1, "members from non-members"),
        (0.0, 0.95, 800, 0, ""),
        (0.0, 1.0, 800, 0, ""),  # right on every text: there is no gap
        (0.0, 0.95, 15, 2, "cannot be judged on 15 members and 15 non-members"),
        (0.0, 0.3, 800, 2, "not significantly more than"),
    ],
)
def test_a_target_that_answers_labels_is_judged(taught, general, size, code, says):
    members, others = learnable(size, seed=1), learnable(size, seed=2)
    target = Labels(members.texts[: int(taught * size)], general)
    report = audit(target, Split.of(members, others))
    limits = DEFAULT.limits[:1] if code == 0 else DEFAULT.limits  # on a TPR none is kept without reference models
    verdict = judge(report, replace(DEFAULT, limits=limits), today=TODAY)
    assert verdict.exit_code == code, verdict
    assert says in "; ".join((*verdict.problems, *(finding.message for finding in verdict.findings)))
    assert {e.attack for e in report.evidence} == {"RT105"}
    assert {f.attack for f in report.failures if f.kind == "not_applicable"} >= {"RT101", "RT102", "RT103", "RT104"}
    assert {f.kind for f in report.failures} == {"not_applicable"}
    assert report.multiplicity.each == EACH
