"""A metric is one file: it is parsed, judged, gated, compared and shown, and nothing else asks which one it is."""

import ast
import importlib
import json
from dataclasses import replace
from datetime import date
from html import unescape

import pytest
from conftest import ROOT, run_redteam

from redteam.core import PolicyError, ReportError
from redteam.formats import FORMATS
from redteam.policy.comparison import compare_reports
from redteam.policy.judge import judge
from redteam.policy.reading import load_policy
from redteam.report import Limit, metrics
from redteam.report.reading import load_report, measured_by
from redteam.report.values import AuditReport, ErrorShare, Evidence
from redteam.statistics import Interval

TODAY = date(2026, 7, 1)
GOLDEN = ROOT / "tests" / "formats" / "golden"
TYPO_RATE = '''
"""Typo rate: how often a prediction changes with a slip of the pen."""

from redteam.report.metrics import Metric


class TypoRate(Metric):
    """The share of pairs that differ in a typo alone whose predictions differ."""

    name, symbol = "typo_rate", "typo rate"
    description = "predictions depend on typos"
    remedy = "train on texts with typos"
    tags = ("toy tag",)
    worst_grade = "C"

    def finding(self, evidence, limit):
        return f"a typo changes the answer: {self.against(evidence.interval, limit, ', limit ')}"

    def meaning(self, evidence):
        return f"{evidence.interval.value:.0%} of people would get another answer with a typo"
'''
WORST_GROUP = '''
"""Worst-group accuracy."""

from redteam.report.metrics import Metric


class WorstGroupAccuracy(Metric):
    """The accuracy of the group that it is lowest for."""

    name, symbol, sense = "worst_group_accuracy", "worst-group accuracy", "min"
    description, remedy = "a group is served worse than allowed", "collect more texts of that group"
    worst_grade = "C"

    def finding(self, evidence, limit):
        return f"a group is served worse: {self.against(evidence.interval, limit, ', limit ')}"

    def meaning(self, evidence):
        return "somebody of that group is misunderstood so often"
'''


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    """Two metrics more, each one file in a folder that the package looks into."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "typo_rate.py").write_text(TYPO_RATE)
    (tmp_path / "more" / "worst_group_accuracy.py").write_text(WORST_GROUP)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path / "more")])
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    metrics.metric.cache_clear()
    yield
    metrics.metric.cache_clear()


def with_metric(name, value, low, high, attainable):
    report = AuditReport.from_json((GOLDEN / "safe.json").read_text(encoding="utf-8"))
    shared = report.multiplicity
    sizes = report.data.members, report.data.nonmembers
    found = Evidence("RT901", "pairs", name, Interval(value, low, high, 0.02), *sizes, attainable)
    shares = (*shared.shares, ErrorShare(found.id, 0.02))
    more = replace(shared, alpha=shared.alpha + 0.02, intervals=len(shares), shares=shares)
    return replace(report, evidence=(*report.judged, found), multiplicity=more)


def policy(text, tmp_path):
    (tmp_path / "redteam.toml").write_text(text)
    return load_policy(tmp_path / "redteam.toml", today=TODAY)


def test_a_toy_metric_is_parsed_judged_gated_compared_and_shown_by_every_format(tmp_path):
    limits = policy("max_auc = 0.6\nmax_typo_rate = 0.1\n", tmp_path)
    assert limits.limits == (Limit("auc", 0.6), Limit("typo_rate", 0.1))
    assert limits.line_of("max_typo_rate") == 2

    leaky, safe = with_metric("typo_rate", 0.3, 0.2, 0.4, 0.99), with_metric("typo_rate", 0.05, 0.02, 0.09, 0.99)
    verdict = judge(leaky, limits, today=TODAY)
    (finding,) = verdict.findings
    assert (verdict.exit_code, finding.id, finding.remedy) == (
        1,
        "RT901.typo_rate:pairs",
        metrics.metric("typo_rate").remedy,
    )
    assert judge(safe, limits, today=TODAY).exit_code == 0
    assert judge(replace(safe, evidence=safe.evidence[:-1]), limits, today=TODAY).exit_code == 2
    assert judge(leaky, limits, today=TODAY, baseline=leaky).findings[0].state == "baseline"
    assert compare_reports(safe, leaky).changes[-1].direction == "worse"

    for name, render in FORMATS.items():
        drawn = " ".join(unescape(render(leaky, verdict, policy=limits)).split())
        assert name == "json" or ("RT901.typo_rate:pairs" in drawn and "0.30 [0.20, 0.40]" in drawn), name
    assert AuditReport.from_json(FORMATS["json"](leaky, verdict, policy=limits)) == leaky
    text = " ".join(FORMATS["text"](leaky, verdict, policy=limits, verbose=True).split())
    assert "typo rate 0.30 [0.20, 0.40] 0.10 LEAK" in text
    assert "30% of people would get another answer" in text
    (rule,) = json.loads(FORMATS["sarif"](leaky, verdict, policy=limits))["runs"][0]["tool"]["driver"]["rules"]
    assert "toy tag" in rule["properties"]["tags"]
    saved = tmp_path / "report.json"
    saved.write_text(leaky.to_json())
    assert load_report(saved) == leaky


@pytest.mark.parametrize(
    ("interval", "attainable", "code"),
    [
        ((0.5, 0.4, 0.6), 0.01, 1),  # below 0.7 for sure
        ((0.8, 0.75, 0.9), 0.01, 0),
        ((0.7, 0.6, 0.8), 0.01, 0),  # either way: a note
        ((0.5, 0.1, 0.9), 0.8, 2),  # so few could never show it
    ],
)
def test_a_metric_that_is_bounded_from_below(tmp_path, interval, attainable, code):
    limits = policy("max_auc = 0.6\nmin_worst_group_accuracy = 0.7\n", tmp_path)
    verdict = judge(with_metric("worst_group_accuracy", *interval, attainable), limits, today=TODAY)
    assert verdict.exit_code == code
    assert bool(verdict.notes) == (interval[0] == 0.7)
    if code == 1:
        assert "0.50 [0.40, 0.60] < 0.70" in FORMATS["text"](
            with_metric("worst_group_accuracy", *interval, attainable), verdict, policy=limits
        )


def test_less_of_what_is_bounded_from_below_is_worse(tmp_path):
    before, after = (with_metric("worst_group_accuracy", x, x - 0.05, x + 0.05, 0.0) for x in (0.9, 0.7))
    assert compare_reports(before, after).changes[-1].direction == "worse"
    assert compare_reports(after, before).changes[-1].direction == "better"
    with pytest.raises(PolicyError, match="unknown key 'max_worst_group_accuracy'"):
        policy("max_worst_group_accuracy = 0.7", tmp_path)


def test_a_report_with_a_metric_that_nobody_brings_is_refused(tmp_path):
    (tmp_path / "report.json").write_text(with_metric("toxicity", 0.3, 0.2, 0.4, 0.9).to_json())
    with pytest.raises(ReportError, match=r"report\.json: unknown metric 'toxicity': known are auc, auc_by_group, "):
        load_report(tmp_path / "report.json")
    done = run_redteam("gate", "report.json", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_every_metric_says_all_that_is_asked_of_one():
    every = metrics.known_metrics()
    assert [each.name for each in every[:5]] == ["auc", "tpr", "epsilon", "exposure", "extraction_rate"]
    for each in every:
        assert all((each.symbol, each.description, each.remedy, each.tags or each.order == 100, each.measured_in))
        assert measured_by(f"RT1.user.{each.name}@0.01:a:b.c@d") is each


# No one else asks which metric it has before it

NAMES = {"auc", "tpr", "epsilon", "exposure", "extraction_rate"}
OTHER = {  # what canaries can show, measures of a drill that bear the name of a metric, and settings of trainers
    ("redteam.canary.evidence", "exposure"),
    ("redteam.canary.evidence", "extraction_rate"),
    ("redteam.canary.render", "exposure"),
    ("redteam.experiments.drill.table", "exposure"),
    ("redteam.cli.train", "epsilon"),
    ("redteam.training.privatising.exchange", "epsilon"),
    ("redteam.training.privatising.rebuilding", "epsilon"),
    ("redteam.experiments.setup", "epsilon"),
    ("redteam.experiments.gap.grid", "epsilon"),
    ("redteam.experiments.gap.run", "epsilon"),
}


def asked(tree):
    """Yield the metrics' names that code compares with, matches, or looks up."""
    for node in ast.walk(tree):
        parts = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parts = node.args if node.func.attr in ("startswith", "endswith", "get") else []
        for part in parts:
            inside = part.elts if isinstance(part, (ast.Tuple, ast.List, ast.Set)) else [part]
            yield from (each.value for each in inside if isinstance(each, ast.Constant) and each.value in NAMES)


def test_core_code_never_branches_on_a_metric():
    found = {
        (".".join(path.relative_to(ROOT).with_suffix("").parts), name)
        for path in (ROOT / "redteam").rglob("*.py")
        if path.parent != ROOT / "redteam" / "report" / "metrics"
        for name in asked(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found <= OTHER, sorted(found - OTHER)
    assert set(asked(ast.parse('a.metric == "auc"; b in ("tpr", 1); {"epsilon": 1}'))) == {"auc", "tpr", "epsilon"}
