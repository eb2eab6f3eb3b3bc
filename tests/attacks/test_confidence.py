"""RT102's signals against the formulas written out, one row at a time."""

import numpy as np
import pytest

from attacks.membership.confidence import confidence_signals


def naive(p, own):
    """The four signals of one row, straight from the definitions, in extended precision."""
    p = p.astype(np.longdouble)
    entropy = -sum(x * np.log(x) for x in p if x > 0)
    others = [x for i, x in enumerate(p) if i != own]
    modified = -(1 - p[own]) * np.log(p[own]) - sum(x * np.log(1 - x) for x in others)
    return {"confidence": p[own], "entropy": -entropy, "modified_entropy": -modified, "margin": p[own] - max(others)}


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_signals_equal_their_definitions(classes):
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.ones(classes), size=200)
    own = rng.integers(0, classes, size=200)
    signals = confidence_signals(np.log(p), own)
    for i in range(200):
        for name, value in naive(p[i], own[i]).items():
            assert signals[name][i] == pytest.approx(float(value), rel=1e-9, abs=1e-12)


def test_the_order_survives_where_probabilities_round_to_one():
    """Losses of 1e-17 and 1e-18 both mean p = 1.0 in float64; modified entropy must still tell them apart."""
    rest = np.array([1e-17, 1e-18, 1e-30])
    log_p = np.column_stack([-rest, np.log(rest)])
    modified = confidence_signals(log_p, np.zeros(3, dtype=np.int64))["modified_entropy"]
    assert modified[0] < modified[1] < modified[2] <= 0


def test_a_confident_mistake_is_not_taken_for_a_member():
    log_p = np.log(np.array([[0.999, 0.001], [0.001, 0.999], [0.5, 0.5]]))
    signals = confidence_signals(log_p, np.zeros(3, dtype=np.int64))
    assert signals["entropy"][0] == pytest.approx(signals["entropy"][1])
    assert signals["modified_entropy"][1] < signals["modified_entropy"][2] < signals["modified_entropy"][0]


def test_a_probability_of_zero_stays_finite():
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[1.0, 0.0], [0.0, 1.0]]))
    for values in confidence_signals(log_p, np.zeros(2, dtype=np.int64)).values():
        assert np.isfinite(values).all()
        assert values[0] > values[1] or values[0] == values[1] == 0
