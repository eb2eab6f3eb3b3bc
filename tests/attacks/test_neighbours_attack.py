"""RT103: what a row's label and its neighbours explain goes, what is its own stays."""

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership._rows import own_log_odds
from attacks.membership.loss import LossThreshold
from attacks.membership.neighbours import NeighbourCorrected
from redteam.auditing.run import audit
from redteam.core import StatisticsError
from redteam.data import Examples, Split
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.attack import suited
from redteam.plugins.context import AttackContext
from redteam.statistics.area import area, area_interval
from redteam.statistics.ranking import rank
from redteam.targets.target import Access

TOPICS, LABELS = 40, ("a", "b", "c", "d")


class Regional:
    """Sure of a row by its topic, and by `lift` surer where it was trained on it."""

    kind, digest, access, name, labels = "rule", None, Access.PROBABILITIES, "regional", LABELS

    def __init__(self, members, *, lift, seed=0):
        self.members, self.lift = frozenset(members), lift
        rng = np.random.default_rng(seed)
        self.of_topic, self.noise = rng.normal(0, 2, TOPICS), rng.normal(0, 0.5, 10_000)

    def log_probabilities(self, examples):
        rows = []
        for text, label in zip(examples.texts, examples.labels, strict=True):
            topic, number = (int(part) for part in text.split()[-2:])
            odds = self.of_topic[topic] + self.noise[number] + self.lift * (text in self.members)
            p = np.full(len(LABELS), 1 / (1 + np.exp(odds)) / (len(LABELS) - 1))
            p[LABELS.index(label)] = 1 / (1 + np.exp(-odds))
            rows.append(np.log(p))
        return np.array(rows)


def regional_rows(count):
    """Texts of 40 topics, each known by words of its own."""
    topics = np.arange(count) % TOPICS
    texts = tuple(f"{f'topic{t}word ' * 3}about{t} {t} {i}" for i, t in enumerate(topics))
    return Examples(np.arange(count), texts, tuple(LABELS[t % len(LABELS)] for t in topics))


def scored(rows, member, *, lift):
    target = Regional([text for text, inside in zip(rows.texts, member, strict=True) if inside], lift=lift)
    context = AttackContext(0, encoder=hashed_ngrams())
    (scores,) = NeighbourCorrected().score(target, rows, context).values()
    return area(rank(scores, member)), area(rank(LossThreshold().score(target, rows, context)["loss"], member))


Regional.losses = lambda self, examples: (
    -self.log_probabilities(examples)[np.arange(len(examples)), [LABELS.index(label) for label in examples.labels]]
)


def test_it_finds_what_the_topic_hides():
    rows, member = regional_rows(400), np.random.default_rng(1).random(400) < 0.5
    neighbours, loss = scored(rows, member, lift=1.0)
    assert loss < 0.70
    assert neighbours > 0.80  # 0.92 if what a topic gives were known, and not estimated from ten rows


def test_no_leak_is_found_where_there_is_none():
    """A hundred times other members of the same rows: as many intervals miss one half as may."""
    rows, rng = regional_rows(200), np.random.default_rng(2)
    target = Regional([], lift=0.0)
    (scores,) = NeighbourCorrected().score(target, rows, AttackContext(0, encoder=hashed_ngrams())).values()
    seen = [area_interval(rank(scores, rng.permutation(200) < 100), alpha=0.05) for _ in range(100)]
    assert sum(not each.low <= 0.5 <= each.high for each in seen) <= 11  # of a binomial of 5, once in 200


@pytest.mark.parametrize("classes", [2, 5])
def test_log_odds_are_those_of_the_definition(classes):
    rng = np.random.default_rng(classes)
    p, own = rng.dirichlet(np.ones(classes), size=50), rng.integers(0, classes, size=50)
    naive = [np.log(p[i, own[i]]) - np.log(1 - p[i, own[i]]) for i in range(50)]
    np.testing.assert_allclose(own_log_odds(np.log(p), own), naive, rtol=1e-9)


def test_log_odds_keep_the_order_where_p_rounds_to_one_and_stay_finite_where_it_is_one():
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[1.0, 1e-20], [1.0, 1e-30], [1.0, 0.0], [0.0, 1.0]]))
    odds = own_log_odds(log_p, np.zeros(4, dtype=np.int64))
    assert odds[3] < odds[0] < odds[1] < odds[2]
    assert odds[2] - odds[1] == pytest.approx(np.log(2))


def test_it_is_part_of_every_audit_and_gets_an_encoder(monkeypatch):
    monkeypatch.setattr("redteam.auditing.run.public_encoder", lambda *_: hashed_ngrams())
    assert [attack.id for attack in suited((NeighbourCorrected(),), Access.WEIGHTS)] == ["RT103"]
    split = Split.of(sentences(60, seed=1), sentences(60, seed=2))
    report = audit(RuleTarget(), split, [NeighbourCorrected()], controls=())
    assert {e.id for e in report.evidence} >= {"RT103.auc:neighbours"}


def test_without_an_encoder_it_is_not_applicable():
    assert "encoder" in NeighbourCorrected().applies(Access.WEIGHTS, AttackContext(0))
    assert "needs probabilities" in NeighbourCorrected().applies(Access.LABELS, AttackContext(0))


def test_attacks_of_one_audit_decompose_the_rows_once(monkeypatch):
    rows, context = regional_rows(60), AttackContext(0, encoder=hashed_ngrams())
    NeighbourCorrected().score(Regional([], lift=0.0), rows, context)
    monkeypatch.delattr("attacks.membership._rows.NeighbourKernel")
    NeighbourCorrected().score(Regional([], lift=1.0), rows, context)


def test_a_target_that_is_as_sure_of_every_row_ranks_nobody():
    rows = regional_rows(60)
    same = Regional((), lift=0.0)
    same.of_topic, same.noise = np.full(TOPICS, 1.3), np.zeros(10_000)
    with pytest.raises(StatisticsError, match=r"all 60 log-odds are equal \(1.3\)"):
        NeighbourCorrected().score(same, rows, AttackContext(0, encoder=hashed_ngrams()))
