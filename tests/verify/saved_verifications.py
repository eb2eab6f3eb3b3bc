"""Verifications made by hand, of a trainer and of a privatiser, as `redteam verify -f json` writes them."""

import json
from dataclasses import replace

from redteam.plugins.defense import Mechanism
from redteam.report.values import Budget
from redteam.statistics.epsilon import EpsilonBound
from redteam.verify.text import as_json
from redteam.verify.verdict import Verification
from redteam.verify.words.bounds import PairBound
from redteam.verify.words.render import as_json as words_as_json
from redteam.verify.words.run import PrivatiserVerification


def bound(low, method="clopper_pearson"):
    return EpsilonBound(low, 6.0, method, "the scores are independent of each other")


BUDGET = Budget(2.0, 1e-5, "example", "add or remove one", "PLD")
TRAINER = Verification(
    subject="trainers:mine",
    verdict="consistent",
    reason="epsilon is at least 0.35 at 99% confidence, not above the 2.00 that it accounts for",
    nominal=BUDGET,
    accounted=BUDGET,
    mechanism=Mechanism(1.0, 2.3, 0.2, 25),
    clopper_pearson=bound(0.35),
    gdp=bound(1.1, "gdp"),
    one_run=bound(0.5, "one_run"),
    subsampled=bound(0.9, "subsampled"),
    decides="clopper_pearson",
    score="likelihood",
    findings=("the score that told most was: likelihood",),
    canaries=4000,
    family=1,
    alpha=0.01,
    delta=1e-5,
    seed=0,
    tool_version="0.1.0",
)
VIOLATED = replace(TRAINER, verdict="violated", reason="epsilon is at least 3.00", clopper_pearson=bound(3.0))
PRIVATISER = PrivatiserVerification(
    subject="words:mine",
    verdict="consistent",
    reason="draws show no more than it claims",
    claimed=8.0,
    accounted=None,
    accounted_plain=None,
    infinite=False,
    pairs=(PairBound(("cat", "dog"), 0.4, 2.5, 9.0, 3), PairBound(("tea", "sea"), 0.5, 0.0, 8.5, 1)),
    findings=(),
    words=400,
    asked=24,
    draws=10_000,
    alpha=0.01,
    seed=0,
    tool_version="0.1.0",
)


def document(verification, **changes):
    """A saved verification as a parsed document, with some of its keys changed."""
    write = as_json if isinstance(verification, Verification) else words_as_json
    return json.loads(write(verification)) | changes
