"""A report that was edited or cut is found out where it no longer agrees with itself."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from canary_rows import DIGITS, draw
from conftest import ROOT, sentences
from enumeration import Enumeration, NoiseModel

from attacks.membership.loss import LossThreshold
from redteam.auditing.run import audit
from redteam.canary import Planting, PlantingPlan
from redteam.canary.evidence import CanaryAudit
from redteam.core import ReportError
from redteam.data import Split
from redteam.plugins.attack import Attack
from redteam.plugins.extraction import ExtractionAttack, NotApplicable
from redteam.report.metrics import metric
from redteam.report.reading import load_report, require_consistent
from redteam.statistics import attainable_epsilon
from redteam.targets.target import Access

LEAKY = (ROOT / "fixtures" / "leaky" / "report.json").read_text(encoding="utf-8")


def edited(tmp_path, change):
    document = json.loads(LEAKY)
    change(document)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_report_as_it_was_written_is_read(tmp_path):
    assert load_report(edited(tmp_path, lambda d: None)).to_json() == LEAKY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["multiplicity"].update(alpha=0.9), "add up to 0.05, not to 0.9"),
        (lambda d: d["multiplicity"]["shares"][0].update(error=0.03), "the shares of the error add up to"),
        (lambda d: d["multiplicity"]["shares"][0].update(id="RT101.auc:gain"), "RT101.auc:gain: has a share"),
        (lambda d: d["multiplicity"].update(primary="RT106"), "RT106: settles limits, but was not asked"),
        (lambda d: d["multiplicity"].update(primary="RT101"), "RT101 settles limits, but of the error of "),
        (lambda d: d["multiplicity"].update(primary=None), "has a share of the error, but no attack settles limits"),
        (lambda d: d["multiplicity"].update(each=1e-4), "of the error, the report says 0.0001"),
        (lambda d: hand_over(d, "tpr@0.01"), "RT103 settles limits, but of the error of tpr@0.01"),
        (lambda d: d["evidence"][0]["interval"].update(alpha=0.9), "has level 0.9"),
        (lambda d: d["evidence"][0]["interval"].update(low=-7.0, value=-6.0, high=-5.0), "is not between 0 and 1"),
        (lambda d: d["evidence"][0].update(members=3), "is of another number of examples"),
        (lambda d: d["evidence"][0].update(attainable=0.1), "is beyond what so many examples can show"),
        (lambda d: [old(d), d["evidence"][1].update(fpr=None)], "RT101.tpr:loss is a TPR at an FPR of None"),
        (lambda d: [old(d), d["evidence"][1].update(fpr=0.0)], "RT101.tpr@0:loss is a TPR at an FPR of 0.0"),
        (lambda d: d["evidence"].append(d["evidence"][0]), "two numbers have the same id"),
        (
            lambda d: d["multiplicity"].update(intervals=2, each=0.025),
            "6 numbers have a share of the error, the report says 2",
        ),
        (
            lambda d: d["evidence"].pop(),
            "1 number of RT103 missing (RT103.epsilon:neighbours), and no failure says why",
        ),
        (
            lambda d: d.update(evidence=d["evidence"][:3]),
            "RT102 and RT103: asked, but neither what was found",
        ),
        (lambda d: d.update(evidence=d["evidence"][3:]), "RT101: asked, but neither what was found nor a failure"),
        (lambda d: d["evidence"][0].update(signal="gain"), "RT101.auc:gain: among the numbers, but was not asked for"),
        (lambda d: d["evidence"][0].update(attack="RT103"), "RT103.auc:loss: among the numbers, but was not asked for"),
        (lambda d: d["controls"].pop(), "RT902: asked, but neither what was found nor a failure is there"),
        (lambda d: d["controls"].append(d["controls"][0]), "the control RT901 is in it 2 times"),
        (lambda d: d["controls"][0].update(control="RT909"), "RT909: in the report, but was not asked"),
        (
            lambda d: d["scope"]["intervals"].remove("RT103.tpr@0.01:neighbours"),
            "RT103.tpr@0.01:neighbours: has a share of the error, but was",
        ),
        (lambda d: d["scope"]["asked"].remove("RT102"), "RT102: in the report, but was not asked"),
        (lambda d: d["data"].update(moved_out=-1), "a count of examples is negative"),
        (lambda d: d["data"].update(skipped_members=2**70), "a count of examples is above 1,000,000,000"),
        (lambda d: d["accuracy"].update(members=2.0), "a share of right answers is not between 0 and 1"),
        (lambda d: d.update(accuracy=None), "the target's accuracy is missing"),
        (lambda d: d["controls"][0]["auc"].update(low=0.8, value=0.9, high=0.95), "RT901 tells the sides apart"),
        (lambda d: d["controls"][0]["auc"].update(low=0.2, value=0.3, high=0.4), "RT901 tells the sides apart"),
    ],
)
def test_an_edited_report_is_refused(tmp_path, change, said):
    with pytest.raises(ReportError, match="contradicts itself") as error:
        load_report(edited(tmp_path, change))
    assert said in str(error.value)


@pytest.mark.parametrize("key", ["evidence", "accuracy"])
def test_a_key_that_stands_twice_is_refused(tmp_path, key):
    (tmp_path / "r.json").write_text(f'{LEAKY.rstrip()[:-1]}, "{key}": null}}', encoding="utf-8")
    with pytest.raises(ReportError, match=f"not JSON \\(key '{key}' occurs twice\\)"):
        load_report(tmp_path / "r.json")


def test_a_report_that_never_ends_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ReportError, match="is a pipe: reading it could wait for ever"):
        load_report(tmp_path / "pipe.json")
    monkeypatch.setattr("redteam.report.reading._LARGEST", 1000)
    for path in (edited(tmp_path, lambda d: None), Path("/dev/zero")):
        with pytest.raises(ReportError, match="more than 1,000 bytes"):
            load_report(path)


def hand_over(document, rule):
    """Move the primary attack's share of the error of a metric to the loss, and set all levels by it."""
    shares = {share["id"]: share for share in document["multiplicity"]["shares"]}
    own = [identifier for identifier in shares if identifier.startswith(f"RT103.{rule}:")]
    shares[f"RT101.{rule}:loss"]["error"] += sum(shares.pop(identifier)["error"] for identifier in own)
    levels = {identifier: share["error"] for identifier, share in shares.items()}
    document["multiplicity"].update(shares=list(shares.values()), intervals=len(shares), each=max(levels.values()))
    for evidence in document["evidence"]:
        if evidence["metric"] == "tpr":
            rule_of = f"{evidence['attack']}.{rule}:{evidence['signal']}"
            evidence["interval"]["alpha"] = level = levels.get(rule_of, document["multiplicity"]["alpha"])
            sizes = evidence["members"], evidence["nonmembers"]
            evidence["attainable"] = metric("tpr").attainable(*sizes, alpha=level, fpr=evidence["fpr"])


def old(document):
    """Make it a report of a version that did not write down what was asked."""
    del document["scope"]
    count = len(document["evidence"])
    method = f"Bonferroni: 0.05 shared equally over {count} intervals"
    document["multiplicity"] = {"alpha": 0.05, "intervals": count, "each": 0.05 / count, "method": method}
    for evidence in document["evidence"]:
        evidence["interval"]["alpha"] = 0.05 / count
        if evidence["metric"] == "epsilon":
            most = attainable_epsilon(evidence["members"], evidence["nonmembers"], delta=1e-5, alpha=0.05 / count)
            evidence["attainable"] = evidence["interval"]["high"] = most


def both(*changes):
    return lambda document: [change(document) for change in changes]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["evidence"].pop(), "1 number about members missing, and no failure says why"),
        (lambda d: d.update(evidence=d["evidence"][:1]), "17 numbers about members missing"),
        (lambda d: d["controls"].append(d["controls"][0]), "the control RT901 is in it 2 times"),
        (
            both(
                lambda d: d["evidence"].pop(),
                lambda d: d["failures"].append(failure("RT103", "needs weights, the target gives labels")),
            ),
            "1 number about members missing",
        ),
        (
            both(
                lambda d: d.update(grade="B", grade_reason=f"RT901 and RT902 {ALIKE}"),
                lambda d: d["controls"].pop(),
            ),
            "its grade rests on RT901 and RT902",
        ),
    ],
)
def test_an_older_report_is_held_to_what_it_says(tmp_path, change, said):
    with pytest.raises(ReportError, match="contradicts itself") as error:
        load_report(edited(tmp_path, both(old, change)))
    assert said in str(error.value)


ALIKE = "cannot tell the two sides apart without the target"


def failure(attack, reason, kind="not_applicable"):
    return {"attack": attack, "kind": kind, "reason": reason}


def test_an_older_report_as_it_was_written_is_read(tmp_path):
    assert load_report(edited(tmp_path, old)).scope is None


# Reports of audits in which something was planted, is not allowed or broke


class Crashing(Attack):
    id, name, needs, signals = "RT198", "crashing", Access.PROBABILITIES, ("one", "two")

    def score(self, target, pool, context):
        raise ValueError("broke")


class HalfBroken(Crashing):
    id = "RT199"

    def score(self, target, pool, context):
        return {"one": target.losses(pool)}


class Weights(Crashing):
    id, needs = "RT197", Access.UPDATES


class Absent(ExtractionAttack):
    id, name, needs = "RT298", "absent", Access.PROBABILITIES

    def extract(self, target, queries, candidates, context):
        raise NotApplicable("needs an encoder")


@pytest.fixture(scope="module")
def report():
    """An audit with numbers, with and without canaries, and every kind of failure; judged, it passes."""
    canaries = draw(PlantingPlan(("my pin is {digit:2}",), canaries=12, repetitions=(5, 10), label="a"))
    planting = Planting("s", "p", 10_000, 0, "k", DIGITS, canaries).sealed()
    split = Split.of(sentences(80, seed=21), sentences(80, seed=22))
    attacks = (LossThreshold(), HalfBroken(), Crashing(), Weights())
    planted = CanaryAudit(planting, (Enumeration(), Absent()))
    found = audit(NoiseModel("abc"), split, attacks, planted=planted)
    assert [each.attack for each in found.failures] == ["RT199", "RT198", "RT197", "RT298"]
    require_consistent(found, source="r")
    return found


def without(part, *positions):
    def cut(report):
        return replace(report, **{part: tuple(v for i, v in enumerate(getattr(report, part)) if i not in positions)})

    return cut


def twice(part):
    return lambda report: replace(report, **{part: (*getattr(report, part), getattr(report, part)[0])})


CUTS = {
    "one number of an attack": without("evidence", 1),
    "one attack": without("evidence", 0, 1),
    "half of a signal of a half broken attack": without("evidence", 2),
    "a signal of a half broken attack": without("evidence", 2, 3),
    "one number of canaries": without("evidence", 4),
    "one number of repetitions": without("evidence", 4, 5),
    "all canaries": without("evidence", 4, 5, 6, 7),
    "all canaries and their number": lambda r: replace(
        without("evidence", 4, 5, 6, 7)(r), data=replace(r.data, canaries=0)
    ),
    "the number of canaries": lambda r: replace(r, data=replace(r.data, canaries=11)),
    "one control": without("controls", 0),
    "all controls": lambda r: replace(r, controls=()),
    "a number twice": twice("evidence"),
    "a control twice": twice("controls"),
    "a failure twice": twice("failures"),
    "a crash called impossible": lambda r: replace(
        r, failures=tuple(replace(f, kind="not_applicable") if f.attack == "RT198" else f for f in r.failures)
    ),
} | {f"failure {i}": without("failures", i) for i in range(4)}


@pytest.mark.parametrize("cut", CUTS)
def test_whatever_is_cut_is_missed(report, cut):
    found = CUTS[cut](report)
    assert found != report
    with pytest.raises(ReportError, match="contradicts itself"):
        require_consistent(found, source="r")
