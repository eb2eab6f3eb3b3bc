"""Lower bounds on epsilon from the scores of an attack: one import for all of it.

Each function takes the scores of canaries that training had and of canaries that it did not have, and returns an
`EpsilonBound` that is wrong at most `alpha` of the time (one-sided) where its assumption holds. A variant
`*_from_counts` takes the counts at a rule that was fixed in advance. A low bound is not evidence of privacy: it may
only say that the attack was weak or the sample small, so the largest attainable bound stands beside every bound.
"""

from redteam.statistics.epsilon.bayesian import bayesian, bayesian_from_counts
from redteam.statistics.epsilon.bound import EpsilonBound
from redteam.statistics.epsilon.gaussian import gdp_epsilon
from redteam.statistics.epsilon.guessing import Guesses
from redteam.statistics.epsilon.one_run import one_run, one_run_from_counts
from redteam.statistics.epsilon.one_run_fdp import one_run_fdp, one_run_fdp_from_counts
from redteam.statistics.epsilon.planned import PlannedRules, plan, planned_bounds
from redteam.statistics.epsilon.rates import clopper_pearson, clopper_pearson_from_counts, gdp, gdp_from_counts
from redteam.statistics.epsilon.subsampled import Sampled, subsampled_from_counts
from redteam.statistics.epsilon.thinning import fair_inclusion

__all__ = [
    "EpsilonBound",
    "Guesses",
    "PlannedRules",
    "Sampled",
    "bayesian",
    "bayesian_from_counts",
    "clopper_pearson",
    "clopper_pearson_from_counts",
    "fair_inclusion",
    "gdp",
    "gdp_epsilon",
    "gdp_from_counts",
    "one_run",
    "one_run_fdp",
    "one_run_fdp_from_counts",
    "one_run_from_counts",
    "plan",
    "planned_bounds",
    "subsampled_from_counts",
]
