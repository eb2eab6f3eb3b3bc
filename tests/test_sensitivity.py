"""Prediction sensitivity: the oracle by hand, groups that no word tells, and models that cannot be compared."""

import numpy as np
import pytest
import torch

from attacks.controls.placebo import PlaceboSwap
from attacks.fairness import _gradients
from attacks.fairness._status_model import StatusModel, train_status_model
from attacks.fairness.sensitivity import PredictionSensitivity, _directional, _measured
from redteam.auditing.fairness.pairs import pairs_of_rows
from redteam.auditing.fairness.swaps import load_swaps
from redteam.core import DataError
from redteam.data import Examples
from redteam.models.initial import initial_model
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessProbe
from redteam.targets.model import ModelTarget


class ByHand:
    """g = sigma(b.x), b = (3, .5), of a text of one token."""

    def gradient(self, embedded, *, of_odds):
        b = torch.tensor([[3.0, 0.5]])
        q = torch.sigmoid((embedded * b).sum())
        return b if of_odds else q * (1 - q) * b


def answers(x):
    """f = sigma(a.x), a = (1, -2), two classes: gradients of the probabilities and of the log odds, [2, 1, 2]."""
    a = torch.tensor([[1.0, -2.0]])
    p = torch.sigmoid((x * a).sum())
    return torch.stack([-p * (1 - p) * a, p * (1 - p) * a]), torch.stack([-a, a])


@pytest.mark.parametrize(("x", "p"), [((0.0, 0.0), 0.25), ((1.0, 0.25), 0.0378979687)])
def test_the_oracle_by_hand(x, p):
    x = torch.tensor([x])
    steep, odds = answers(x)
    found = _measured(ByHand(), [x], [steep], [odds])
    assert found.p[0] == pytest.approx(p, abs=1e-8)
    assert found.d[0] == pytest.approx(0.6575959492)
    assert found.c[0] == pytest.approx(0.2940858488)
    assert _directional(ByHand(), [x], [odds])[0] == pytest.approx(0.6575959492)


def test_log_odds_of_two_classes_are_the_difference_of_logits():
    logits = torch.tensor([[1.0, 3.0], [0.5, -2.0]])
    assert torch.allclose(
        _gradients._odds(logits), torch.stack([logits[:, 0] - logits[:, 1]] * 2, 1) * torch.tensor([1, -1])
    )


def test_a_gradient_of_the_status_model_is_its_slope():
    torch.manual_seed(0)
    texts = [torch.randn(4, 6) + (1 if i % 2 else -1) for i in range(40)]
    first = np.arange(40) % 2 == 1
    model = train_status_model(texts, first, seed=0)
    assert model.accuracy(texts, first) > 0.9
    doubled = StatusModel(*(each.double() for each in (model.weights, model.offsets, model.last)))
    x, step = texts[0].double(), torch.zeros(4, 6).double()
    step[2, 3] = 1e-6
    slope = (doubled.odds(x + step) - doubled.odds(x - step)) / 2e-6
    assert doubled.gradient(x, of_odds=True)[2, 3] == pytest.approx(float(slope), rel=1e-4)


def rows(count, words=("she", "he")):
    rng = np.random.default_rng(0)
    groups = [int(rng.integers(2)) for _ in range(count)]
    texts = tuple(f"the nurse said that {words[g]} was {('rude', 'careful')[i % 2]}" for i, g in enumerate(groups))
    return Examples(np.arange(count), texts, ("bad", "good") * (count // 2), groups=tuple("ab"[g] for g in groups))


def target(seed=0, learn=None):
    initial = initial_model("tiny", rows(60), learn_from=learn or rows(60), seed=seed, layers=1)
    return ModelTarget(initial.bundle(), name=f"model {seed}")


def test_two_models_compare_and_a_copy_is_as_sensitive():
    model = target()
    pairs = pairs_of_rows(Examples(np.arange(60), tuple(f"{t} {i}" for i, t in enumerate(rows(60).texts))),
                          load_swaps("gender"), PlaceboSwap())  # fmt: skip
    probe = FairnessProbe(pairs=(pairs,), other=model)
    answer = PredictionSensitivity().measure(model, probe, lambda *_: 0.05, AttackContext(0))
    found = {each.measure: each for each in answer.numbers}
    ratio = next(each for name, each in found.items() if "multiple" in name)
    assert ratio.value == pytest.approx(1)
    assert ratio.interval.low == pytest.approx(1)
    assert found["accuracy of the status models, least of 3"].value > 0.9
    assert any(word in name for name in found for word in ("'she'", "'he'"))
    assert answer.evidence == ()
    with pytest.raises(DataError, match="its embeddings lie otherwise"):
        PredictionSensitivity().measure(model, FairnessProbe(pairs=(pairs,), other=target(1)), lambda *_: 0.05,
                                        AttackContext(0))  # fmt: skip


def test_words_that_do_not_tell_the_group_are_refused():
    probe = FairnessProbe(rows=rows(120, words=("who", "who")))
    with pytest.raises(DataError, match=r"RT504: groups: a model of the group is right on \d+% of 60 texts"):
        PredictionSensitivity().measure(target(), probe, lambda *_: 0.05, AttackContext(0))
