"""What every discovered attack, control and defence must keep to, whoever wrote it."""

import re

import numpy as np
import pytest
import torch
from conftest import RuleTarget, sentences

from redteam.data import Split
from redteam.plugins.attack import Attack, Control
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.registry import (
    choose,
    discover_attacks,
    discover_controls,
    discover_defenses,
    discover_extractions,
)
from redteam.targets.target import Access

ATTACKS, CONTROLS, DEFENSES = discover_attacks(), discover_controls(), discover_defenses()
EXTRACTIONS = discover_extractions()
POOL, IS_MEMBER = Split.of(sentences(150, seed=1), sentences(150, seed=2)).pool(0)
# Of so many labels nothing is right by chance: what is known by heart shows in the predicted labels alone.
MANY = tuple(f"label {i:02d}" for i in range(40))
LEAKED, INSIDE = Split.of(sentences(150, seed=1, labels=MANY), sentences(150, seed=2, labels=MANY)).pool(0)
ids = {"ids": lambda plugin: plugin.id}


@pytest.fixture(scope="module")
def model():
    """A small trained model: what an attack with access to weights gets."""
    examples = sentences(40, seed=3)
    from redteam.models.starting import start_model

    (plain,) = choose(DEFENSES, ["RD100"])
    start = start_model("tiny", examples, learn_from=examples, seed=0)
    return type(plain)(epochs=1).fit(start, examples, seed=0).target


def test_there_are_attacks_controls_and_defences():
    assert {"RT101", "RT102", "RT105"} <= {attack.id for attack in ATTACKS}
    assert "RT901" in {control.id for control in CONTROLS}
    assert {"RT201", "RT202", "RT203", "RT204"} <= {attack.id for attack in EXTRACTIONS}
    assert {"RD100", "RD110"} <= {defense.id for defense in DEFENSES}


@pytest.mark.parametrize("plugin", ATTACKS + EXTRACTIONS + CONTROLS + DEFENSES, **ids)
def test_ids_and_manual_pages(plugin):
    pattern = {Attack: r"RT[13-8]\d\d", ExtractionAttack: r"RT2\d\d", Control: r"RT9\d\d"}
    expected = next((p for kind, p in pattern.items() if isinstance(plugin, kind)), r"RD[12]\d\d")
    assert re.fullmatch(expected, plugin.id)
    module = __import__(type(plugin).__module__, fromlist=["_"])
    first = module.__doc__.splitlines()[0]
    assert first.startswith(f"{plugin.id} ")
    assert ": " in first


@pytest.mark.parametrize("attack", ATTACKS, **ids)
def test_an_attack_is_finite_complete_and_seeded(attack, model):
    first, again = (attack.score(model, POOL, AttackContext(5)) for _ in range(2))
    assert set(first) == set(attack.signals)
    for signal in attack.signals:
        assert first[signal].shape == (len(POOL),)
        assert np.isfinite(first[signal]).all()
        np.testing.assert_array_equal(first[signal], again[signal])


@pytest.mark.parametrize("attack", ATTACKS, **ids)
def test_an_attack_scores_a_row_by_itself_not_by_its_place(attack, model):
    """Blind: shuffling the pool shuffles the scores and nothing else, so position cannot carry membership."""
    order = np.random.default_rng(0).permutation(len(POOL))
    straight, shuffled = (
        attack.score(model, POOL, AttackContext(0)),
        attack.score(model, POOL.take(order), AttackContext(0)),
    )
    for signal in attack.signals:
        np.testing.assert_allclose(shuffled[signal], straight[signal][order], atol=1e-5)


@pytest.mark.parametrize("attack", ATTACKS, **ids)
def test_an_attack_leaves_the_target_unchanged(attack, model):
    before, grad = model.weights_digest(), torch.is_grad_enabled()
    attack.score(model, POOL, AttackContext(0))
    assert model.weights_digest() == before
    assert not model.model.training
    assert torch.is_grad_enabled() == grad
    assert all(p.grad is None for p in model.model.parameters())


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.needs in Access.PROBABILITIES], **ids)
def test_an_attack_finds_a_certain_leak_and_none_where_there_is_none(attack):
    from redteam.statistics.roc import auc_interval

    members = LEAKED.take(np.nonzero(INSIDE)[0])
    leaky = attack.score(RuleTarget(members, labels=MANY), LEAKED, AttackContext(0))
    assert max(auc_interval(s, INSIDE, alpha=0.01).low for s in leaky.values()) > 0.9
    for scores in attack.score(RuleTarget(), POOL, AttackContext(0)).values():
        interval = auc_interval(scores, IS_MEMBER, alpha=0.01)
        assert interval.low < 0.5 < interval.high


@pytest.mark.parametrize("control", CONTROLS, **ids)
def test_a_control_is_seeded_and_takes_no_target(control):
    first, again = (control.score(POOL, IS_MEMBER, seed=5) for _ in range(2))
    assert first.shape == (len(POOL),)
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).sum() >= len(POOL) // 2


@pytest.mark.parametrize("defense", DEFENSES, **ids)
def test_a_defence_is_seeded_and_returns_a_working_model(defense):
    from redteam.models.starting import start_model

    examples = sentences(40, seed=3)
    settings = defense.parameters() | {"epochs": 1}
    digests = []
    for _ in range(2):
        start = start_model("tiny", examples, learn_from=examples, seed=0)
        trained = type(defense)(**settings).fit(start, examples, seed=4)
        digests.append(trained.bundle.digest())
        assert np.isfinite(trained.target.log_probabilities(examples)).all()
    assert digests[0] == digests[1]
    other = type(defense)(**settings).fit(start_model("tiny", examples, learn_from=examples, seed=0), examples, seed=5)
    assert other.bundle.digest() != digests[0]
