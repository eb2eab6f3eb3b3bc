"""RT102 confidence: sure of what it has seen; confidence, entropy, modified entropy, margin (Song and Mittal 2021).

Four ways to say that the model is too sure of an example, each a threshold attack of one query:

- confidence: the probability of the own label, p_y;
- entropy: minus the Shannon entropy of the probabilities, which does without the label;
- modified entropy: minus Mentr = -(1 - p_y) log p_y - sum over c != y of p_c log(1 - p_c), which is low only where
  the model is sure and right, so that confident mistakes do not look like members;
- margin: p_y minus the largest other probability.

As in the paper (USENIX Security 2021, section 3), every label has a threshold of its own, since a model is surer of
some labels than of others whether it was trained on an example or not. The paper takes these thresholds from shadow
models. Here an example is ranked among the examples of its own label, members and non-members alike, and one
threshold on that rank is a threshold for every label. Nothing but the pool is needed, and who is a member is not
looked at. Labels with fewer than 20 examples share one ranking: a rank among a handful says little.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata

from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of

_SMALLEST = np.finfo(np.float64).tiny
_FEWEST = 20  # examples of a label that are ranked among themselves


class Confidence(Attack):
    """Score an example by four measures of the model's confidence."""

    id = "RT102"
    name = "confidence"
    needs = Access.PROBABILITIES
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))
    signals = ("confidence", "entropy", "modified_entropy", "margin")
    strength = 20
    judged = ("modified_entropy",)

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return the four signals, ranked within each label to between 0 and 1, shape [n] each; deterministic."""
        log_p = classifier(target).log_probabilities(pool)
        own = label_indices(labels_of(target), pool, name=target.name)
        return {signal: rank_within(own, values) for signal, values in confidence_signals(log_p, own).items()}


def rank_within(own: IntArray, values: FloatArray) -> FloatArray:
    """Return where each value stands among those of its own label, between 0 and 1, equal values at one place.

    Labels with fewer than 20 rows are ranked together.
    """
    ranks = np.empty(len(values))
    group = np.where(np.bincount(own)[own] < _FEWEST, -1, own)
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        ranks[rows] = (rankdata(values[rows]) - 0.5) / len(rows)
    return ranks


def confidence_signals(log_p: FloatArray, own: IntArray) -> dict[str, FloatArray]:
    """Return the four signals from log-probabilities [n, k] and the column of each row's own label [n].

    1 - p is summed from the other labels where p is near one: subtracting would lose what tells members apart.
    """
    rows = np.arange(len(own))
    p = np.exp(log_p)
    p_log_p = p * np.where(p > 0, log_p, 0.0)
    log_not = _log_complement(p)
    others = p * log_not
    others[rows, own] = 0.0
    rest = _without_own(p, own)
    not_own = rest.sum(axis=1)
    modified = -not_own * np.maximum(log_p[rows, own], np.log(_SMALLEST)) - others.sum(axis=1)
    return {
        "confidence": p[rows, own],
        "entropy": p_log_p.sum(axis=1),
        "modified_entropy": -modified,
        "margin": p[rows, own] - rest.max(axis=1),
    }


def _without_own(p: FloatArray, own: IntArray) -> FloatArray:
    """Return the probabilities with each row's own label set to zero, shape [n, k]."""
    rest = p.copy()
    rest[np.arange(len(own)), own] = 0.0
    return rest


def _log_complement(p: FloatArray) -> FloatArray:
    """Return log(1 - p), shape [n, k]; where p rounds to one, 1 - p is the sum of the row's other entries."""
    complement = 1.0 - p
    near = np.nonzero(p > 0.5)
    if len(near[0]):
        others = p[near[0]].copy()
        others[np.arange(len(near[0])), near[1]] = 0.0
        complement[near] = others.sum(axis=1)
    return np.log(np.maximum(complement, _SMALLEST))
