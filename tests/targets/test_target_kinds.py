"""Every kind of target keeps to its contract, and one that breaks it is told where."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT
from loopback import send, serve

from redteam.core import TargetError
from redteam.targets.endpoint import EndpointKind
from redteam.targets.function import FunctionKind
from redteam.targets.kind import TargetKind
from redteam.targets.loading import load_target, target_kinds
from redteam.targets.model import ModelKind
from redteam.targets.saved import ScoresKind
from redteam.targets.target import Access
from redteam.testing import RuleTarget, check_target

FUNCTION = """
def probabilities(texts):
    return [{"a": 1 / (1 + len(text)), "b": 1 - 1 / (1 + len(text))} for text in texts]

def labels(texts):
    return ["a" if len(text) % 2 else "b" for text in texts]
"""


def test_a_model():
    check_target(ModelKind, str(ROOT / "fixtures" / "safe" / "model.pt"), device="cpu")


@pytest.mark.parametrize("name", ["probabilities", "labels"])
def test_a_function(tmp_path, monkeypatch, name):
    (tmp_path / f"contract_{name}.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    check_target(FunctionKind, f"contract_{name}:{name}", labels=["a", "b"])


def test_an_endpoint():
    def reply(handler, body):
        lengths = [len(text) for text in json.loads(body)["texts"]]
        answers = [{"a": 1 / (1 + length), "b": 1 - 1 / (1 + length)} for length in lengths]
        send(handler, json.dumps({"probabilities": answers}).encode())

    with serve(reply) as url:
        check_target(EndpointKind, url)


def test_scores_say_how_they_are_read(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("member,loss\n1,0.5\n")
    assert [kind.name for kind in target_kinds() if kind.names(str(path)) and not kind.general] == ["scores"]
    with pytest.raises(TargetError, match=r"a file of scores; say --scores"):
        load_target(str(path))
    assert not ScoresKind().names(str(tmp_path / "absent.csv"))


class ToyKind(TargetKind):
    name = "toy"

    def names(self, source):
        return source.endswith(".toy")

    def open(self, source, **changes):
        target = RuleTarget()
        for name, value in changes.items():
            setattr(target, name, value)
        return target


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"kind": ""}, "a target has a name and a kind"),
        ({"access": Access(0)}, "gives nothing"),
        ({"access": Access.LABELS}, "gives losses that its access does not hold"),
        ({"losses": lambda rows: [math.nan] * len(rows)}, "a loss is not finite"),
        ({"losses": lambda rows: [1.0]}, r"losses of shape \(1,\) for 12 rows"),
        ({"predict": lambda rows: [7] * len(rows)}, "a label that it does not name"),
        ({"predict": lambda rows: [0] * len(rows)}, "another label than the most probable"),
        ({"log_probabilities": lambda rows: np.zeros((len(rows), 3))}, "do not add up to one"),
    ],
)
def test_what_breaks_the_contract_is_named(changes, words):
    if words is None:
        return check_target(ToyKind, "x.toy", **changes)
    with pytest.raises(AssertionError, match=words):
        check_target(ToyKind, "x.toy", **changes)
    return None


def test_a_kind_that_takes_everything():
    greedy = type("Greedy", (ToyKind,), {"names": lambda self, source: True})
    with pytest.raises(AssertionError, match="takes any name for one of its own"):
        check_target(greedy, "x.toy")
