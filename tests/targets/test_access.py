"""What an adversary has is a set: which attacks that lets run, what reports call it, and targets that give little."""

import doctest

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from redteam.auditing.run import audit
from redteam.core import TargetError
from redteam.data import Split
from redteam.plugins.attack import suited
from redteam.plugins.registry import discover_attacks, discover_extractions
from redteam.targets import target as targets
from redteam.targets.target import Access, classifier, labels_of

ALL = {"RT101", "RT102", "RT105", "RT201", "RT202", "RT203", "RT204"}
# What ran when access was a ladder of levels; nobody's audit changed when it became a set.
RUNS = {
    "labels": {"RT105"},
    "losses": {"RT101"},
    "probabilities": {"RT101", "RT102", "RT201"},
    "weights": {"RT101", "RT102", "RT201", "RT202", "RT203", "RT204"},
}


@pytest.mark.parametrize("word", RUNS)
def test_the_same_attacks_run(word):
    access = Access[word.upper()]
    attacks = (*suited(discover_attacks(), access), *discover_extractions())
    assert {attack.id for attack in attacks if attack.needs in access and attack.id in ALL} == RUNS[word]
    assert access.word == word


def test_a_set_says_what_does_not_follow_from_the_rest():
    assert (Access.WEIGHTS | Access.BASE_MODEL).word == "weights and base model"
    assert (Access.LABELS | Access.LOSSES).word == "labels and losses"
    assert Access.LABELS not in Access.LOSSES
    assert Access.UPDATES not in Access.WEIGHTS


def test_the_examples_of_the_docstring():
    assert doctest.testmod(targets).failed == 0


class Tagger:
    """Labels every word of a text, and gives the loss of the whole: no classifier, and all that RT101 needs."""

    name, kind, digest, access = "tagger", "tagger", None, Access.LOSSES

    def __init__(self, memorised):
        self.memorised = set(memorised.texts)

    def losses(self, examples):
        noise = np.random.default_rng(0).exponential(size=len(examples))
        return noise + np.array([0.0 if text in self.memorised else 2.0 for text in examples.texts])


def test_a_target_that_is_no_classifier_is_audited_by_what_it_gives():
    members, others = sentences(120, seed=1), sentences(120, seed=2)
    report = audit(Tagger(members), Split.of(members, others))
    assert {evidence.attack for evidence in report.evidence} == {"RT101"}
    assert (report.target.access, report.target.classes, report.accuracy) == ("losses", 0, None)
    assert report.evidence[0].interval.low > 0.8
    assert {failure.attack: failure.reason for failure in report.failures}["RT102"] == (
        "needs probabilities, the target gives losses"
    )


def test_a_target_is_asked_for_no_more_than_it_gives():
    rows = sentences(3, seed=1)
    assert labels_of(Tagger(rows)) == ()
    with pytest.raises(TargetError, match="tagger: gives losses and no labels: it is no classifier"):
        classifier(Tagger(rows))
    assert classifier(RuleTarget()).labels == ("a", "b", "c")
