"""Every attack, control, defence, metric and format keeps to its contract, whoever wrote it."""

import gc
from dataclasses import fields
from types import FunctionType, MethodType, ModuleType

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from redteam.auditing.run import audit
from redteam.data import Examples, Split
from redteam.formats import FORMATS
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.plugins.registry import (
    discover_attacks,
    discover_controls,
    discover_defenses,
    discover_extractions,
)
from redteam.report.metrics import known_metrics
from redteam.targets.loading import target_kinds
from redteam.targets.target import Access
from redteam.testing import check_attack, check_control, check_defense, check_format, check_metric

ATTACKS, CONTROLS, DEFENSES = discover_attacks(), discover_controls(), discover_defenses()
EXTRACTIONS = discover_extractions()
QUICK = {
    "RT202": {"restarts": 2, "rounding_interval": 6},
    "RT203": {"restarts": 1, "random_starts": 2, "rounding_interval": 6},
}
ids = {"ids": lambda plugin: plugin.id}


def test_there_are_attacks_controls_and_defences():
    assert {"RT101", "RT102", "RT105"} <= {attack.id for attack in ATTACKS}
    assert {"RT901", "RT902"} <= {control.id for control in CONTROLS}
    assert {"RT201", "RT202", "RT203", "RT204"} <= {attack.id for attack in EXTRACTIONS}
    assert {"RD100", "RD101", "RD102", "RD110"} <= {defense.id for defense in DEFENSES}
    assert set(FORMATS) == {"text", "json", "markdown", "sarif", "junit", "html"}
    assert {kind.name for kind in target_kinds()} == {"endpoint", "function", "model", "scores"}


@pytest.mark.parametrize("attack", ATTACKS + EXTRACTIONS, **ids)
def test_attacks(attack):
    check_attack(type(attack)(**QUICK.get(attack.id, {})))


@pytest.mark.parametrize("control", CONTROLS, **ids)
def test_controls(control):
    check_control(control)


@pytest.mark.parametrize("defense", DEFENSES, **ids)
def test_defences(defense):
    passes = "epochs" if any(each.name == "epochs" for each in fields(defense)) else "rounds"
    check_defense(defense, **{passes: 1})


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name):
    check_format(FORMATS[name])


LIMITED = [metric for metric in known_metrics() if metric.name != "canary_epsilon"]  # that is held against max_epsilon


@pytest.mark.parametrize("metric", LIMITED, ids=lambda metric: metric.name)
def test_metrics(metric):
    settings = {"tpr": {"fpr": 0.01, "limit": 0.05}, "auc": 0.6}
    check_metric(metric, settings.get(metric.name, 0.5))


class Spy(Attack):
    """Keeps what it is given."""

    id, name, needs, signals = "RT199", "spy", Access.PROBABILITIES, ("one",)

    def score(self, target, pool, context):
        self.given = (target, pool, context)
        return {"one": np.arange(len(pool))}


def reachable(start):
    """All that can be had from an object, by whatever it holds; modules, classes and globals are nobody's secret."""
    seen, todo = {}, [start]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, (ModuleType, type)):
            continue
        seen[id(each)] = each
        if isinstance(each, FunctionType):
            todo += [cell.cell_contents for cell in each.__closure__ or ()] + [each.__defaults__, each.__kwdefaults__]
        elif isinstance(each, MethodType):
            todo += [each.__self__, each.__func__]
        else:
            todo += gc.get_referents(each)
    return seen.values()


def tells_membership(given, split, is_member):
    """Whether a side of the split, or a mask of who is a member, is anywhere in it."""
    masks = (is_member.tolist(), (~is_member).tolist())
    for each in reachable(given):
        if isinstance(each, Split) or each is split.members or each is split.nonmembers:
            return True
        if isinstance(each, Examples) and {*each.texts} in ({*split.members.texts}, {*split.nonmembers.texts}):
            return True
        if isinstance(each, np.ndarray) and each.shape == is_member.shape and each.astype(bool).tolist() in masks:
            return True
    return False


def test_nothing_that_an_attack_is_given_tells_membership():
    split = Split.of(sentences(40, seed=1), sentences(50, seed=2))
    spy, seen = Spy(), []
    audit(RuleTarget(), split, [spy], controls=(), progress=lambda done, total: seen.append(done))
    is_member = split.pool(0)[1]
    assert spy.given[2].seed == 0
    assert not tells_membership(spy.given, split, is_member)


@pytest.mark.parametrize("leak", ["mask", "split", "side", "closure"])
def test_what_tells_membership_is_found(leak):
    split = Split.of(sentences(40, seed=1), sentences(50, seed=2))
    is_member = split.pool(0)[1]
    held = {"mask": is_member.astype(float), "split": split, "side": split.members, "closure": None}[leak]
    watch = (lambda done, total: split) if leak == "closure" else (lambda done, total: None)
    context = AttackContext(0, watch, references=(held,))
    assert tells_membership((context,), split, is_member)


class TestContracts:
    """A plug-in that breaks its contract is told which line of it."""

    def test_an_attack_that_draws_without_its_seed(self):
        class Drawn(Spy):
            def score(self, target, pool, context):
                return {"one": np.random.default_rng().random(len(pool))}

        with pytest.raises(AssertionError, match="docstring must begin 'RT199 spy: "):
            check_attack(Drawn)

    @pytest.mark.parametrize(
        ("score", "words"),
        [
            (lambda pool, context: {}, "gives [], and declares ['one']"),
            (
                lambda pool, context: {"one": np.random.default_rng().random(len(pool))},
                "other scores with the same seed",
            ),
            (lambda pool, context: {"one": np.arange(len(pool))}, "depends on its place in the pool"),
            (lambda pool, context: {"one": np.full(len(pool), np.nan)}, "a score is not finite"),
            (lambda pool, context: {"one": np.zeros(3)}, r"shape (3,) for 300 rows"),
            (lambda pool, context: {"one": np.array([len(t) for t in pool.texts])}, "RT199: AUC of at least"),
        ],
    )
    def test_attacks(self, monkeypatch, score, words):
        monkeypatch.setattr(f"{__name__}.__doc__", "RT199 spy: keeps what it is given.")
        broken = type("Broken", (Spy,), {"score": lambda self, target, pool, context: score(pool, context)})
        broken.__module__ = __name__
        with pytest.raises(AssertionError) as caught:
            check_attack(broken)
        assert words in str(caught.value)
