"""What trackers are given of reports of every kind."""

import dataclasses
import re

import pytest
from conftest import ROOT
from gap_doubles import cell, report_of, with_planted
from verify.saved_verifications import PRIVATISER, TRAINER

from redteam.data.label_canaries import ACCESSES
from redteam.experiments.drill.report import DrillReport
from redteam.experiments.gap.report import GapReport
from redteam.integrations.judged import Judged
from redteam.integrations.logged import (
    changes_logged,
    drill_logged,
    gap_logged,
    name_of,
    privatiser_logged,
    told_apart,
    verification_logged,
)
from redteam.policy import Policy
from redteam.policy.comparison import compare_reports
from redteam.report.reading import load_report

GOLDEN, RECORDS = ROOT / "tests" / "formats" / "golden", ROOT / "docs" / "records"
NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def gap():
    return gap_logged(GapReport.load(RECORDS / "gap-snips.json"))


def drill():
    return drill_logged(DrillReport.load(RECORDS / "drill-labels.json"))


def changes():
    older, newer = (load_report(GOLDEN / f"{name}.json") for name in ("safe", "leaky"))
    return changes_logged(compare_reports(older, newer), 1)


MADE = {
    "gap": gap,
    "drill": drill,
    "compare": changes,
    "verify": lambda: verification_logged(TRAINER),
    "text": lambda: privatiser_logged(PRIVATISER),
}


@pytest.mark.parametrize("kind", MADE)
def test_names_are_what_every_tracker_takes_and_there_is_a_page(kind):
    logged = MADE[kind]()
    assert logged.numbers["exit_code"] in (0, 1, 2)
    assert len(logged.numbers) > 3
    for name, value in logged.numbers.items():
        assert NAME.fullmatch(name)
        assert len(name) < 200
        assert isinstance(value, float)
    folders = {name.rpartition("/")[0] for name in logged.numbers}  # MLflow's files: no number is a folder of others
    assert not folders & set(logged.numbers)
    assert logged.about["verdict"]
    assert logged.page.lower().startswith("<!doctype html>")


def test_each_row_of_a_gap_has_its_own_numbers_the_strongest_signal_of_each_metric():
    report = report_of([cell("plain", None, auc=0.8), with_planted("dpsgd", 8.0, (1.5, 0.5, 0.1), accounted=8.0)])
    numbers = gap_logged(report).numbers
    assert numbers["gap/plain.inf/auc"] == 0.8
    private = next(row for row in report.rows if row.trainer == "dpsgd")
    best = private.best("auc")
    assert numbers["gap/dpsgd.8/auc"] == best.spread.mean
    assert numbers["gap/dpsgd.8/auc.low"] == best.spread.low
    assert numbers["gap/dpsgd.8/accounted"] == private.accounted.epsilon
    assert [numbers[f"gap/dpsgd.8/canary_epsilon.{name_of(each)}"] for each in ACCESSES] == [1.5, 0.5, 0.1]


def test_numbers_whose_names_read_alike_are_all_there():
    """Labels in other scripts have no letter that a tracker takes."""
    report = load_report(GOLDEN / "leaky.json")
    first = next(each for each in report.judged if each.metric == "auc")
    signals = ("男", "女")
    own = tuple(dataclasses.replace(first, signal=name) for name in signals)
    others = tuple(each for each in report.evidence if each not in report.judged)
    report = dataclasses.replace(report, evidence=(*own, *others))
    numbers = Judged.of(report, Policy()).numbers()
    values = [value for name, value in numbers.items() if name.startswith(first.rule) and value == first.interval.value]
    assert len(values) == len(signals)


def test_what_is_missing_or_infinite_is_not_logged():
    numbers = verification_logged(dataclasses.replace(TRAINER, accounted=None, nominal=None)).numbers
    assert not {"verify/accounted", "verify/nominal"} & set(numbers)
    assert numbers["verify/shown"] == TRAINER.bound.low
    assert dict(told_apart([("a", float("inf")), ("b", float("nan")), ("c", 1.0)])) == {"c": 1.0}
