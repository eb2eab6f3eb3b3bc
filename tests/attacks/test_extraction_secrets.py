"""What every extraction attack must keep to, and that a model which holds secrets leaks them and no other does."""

from dataclasses import replace

import extraction_models as cases
import numpy as np
import pytest
from enumeration import Enumeration
from scipy import stats

from attacks.extraction.embedding_drift import EmbeddingDrift
from attacks.extraction.exposure import ExposureRank
from attacks.extraction.relaxed import RelaxedSearch
from attacks.extraction.search import SwapSearch
from redteam.auditing.scoring import ScoreCache
from redteam.canary.extract import extract
from redteam.canary.run import Attacker, candidates_of, queries_of, run_extraction
from redteam.plugins.context import AttackContext

QUICK = (
    ExposureRank(),
    RelaxedSearch(restarts=4),
    SwapSearch(restarts=1, random_starts=2, rounding_interval=12),
)
ids = {"ids": lambda attack: attack.id}


@pytest.fixture(scope="module")
def planted():
    return cases.planting()


@pytest.fixture(scope="module")
def leaky(planted):
    return cases.train(planted)


@pytest.fixture(scope="module")
def clean(planted):
    return cases.train(planted, with_canaries=False, epochs=4)


@pytest.mark.parametrize("attack", QUICK, **ids)
def test_an_attack_sees_no_membership(attack, planted, leaky):
    """The other secret of each planted: the very same answers, so what was planted can only come from the model."""
    turned = replace(planted, canaries=tuple(replace(c, planted=1 - c.planted) for c in planted.canaries))
    assert run_extraction(attack, leaky, planted, seed=0) == run_extraction(attack, leaky, turned, seed=0)


def success_of(group):
    return next(m for m in group.measures if m.name == "success").planted.value


def test_a_model_that_holds_secrets_leaks_them(planted, leaky):
    report = extract(leaky, planted, QUICK, alpha=0.05)
    assert report.failures == ()
    proven = {(group.attack, comparison.signal) for group, comparison in report.proven}
    by_guess = {(attack, signal) for attack in ("RT201", "RT202", "RT203") for signal in ("guess", "whole")}
    assert proven == by_guess | {("RT201", "rank")}
    success = {group.attack: success_of(group) for group in report.groups}
    assert success["RT201"] >= 0.75
    assert success["RT203"] == success["RT201"]
    assert success["RT202"] >= 0.6 * success["RT201"]


def test_search_finds_what_enumeration_finds(planted, leaky):
    queries = queries_of(planted)
    exact = ExposureRank().extract(leaky, queries, candidates_of(planted), AttackContext(0))
    naive = Enumeration().extract(leaky, queries, candidates_of(planted), AttackContext(0))
    assert [a.guess for a in exact] == [a.guess for a in naive]
    alone = [QUICK[2].extract(leaky, [q], [], AttackContext(0))[0] for q in queries[:4]]
    together = RelaxedSearch().extract(leaky, queries, [], AttackContext(0))
    assert [a.guess for a in alone] == [a.guess for a in exact[:4]]
    assert np.mean([a.guess == b.guess for a, b in zip(together, exact, strict=True)]) >= 0.6


def test_a_model_that_never_saw_them_does_not(clean):
    """The same model against 60 plantings: the sign test fires as rarely as it says."""
    cached, fired, wins, pairs = ScoreCache(clean), 0, 0, 0
    for seed in range(60):
        report = extract(
            cached, cases.planting(seed=seed, template="my pin is {digit:2}"), [ExposureRank()], alpha=0.05
        )
        fired += bool(report.proven)
        rank = report.groups[0].comparisons[2]
        wins, pairs = wins + rank.wins, pairs + rank.wins + rank.losses
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], pairs, 0.5)
    assert low <= wins <= high
    assert fired <= stats.binom.ppf(0.999, 60, 0.05)


def test_guesses_from_a_model_that_never_saw_them(planted, clean):
    report = extract(clean, planted, QUICK, alpha=0.05)
    assert report.failures == ()
    assert report.proven == ()
    assert all(success_of(group) <= 1 / 12 for group in report.groups)


def test_a_reference_is_used_by_all(planted, leaky, clean):
    for attack in QUICK:
        asked = run_extraction(attack, leaky, planted, attacker=Attacker(reference=clean), seed=0)
        assert not asked.failures
        right = [a.guess == c.secret for a, c in zip(asked.answers, planted.canaries, strict=True)]
        assert np.mean(right) >= 0.6


def test_drift_without_a_base_does_not_apply(planted, leaky):
    (failure,) = run_extraction(EmbeddingDrift(), leaky, planted, seed=0).failures
    assert (failure.kind, "needs the public encoder" in failure.reason) == ("not_applicable", True)
