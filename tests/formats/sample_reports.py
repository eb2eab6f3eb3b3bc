"""Reports made by hand, with the policies they are judged by: what the golden files were drawn from."""

from dataclasses import dataclass, replace
from datetime import date

from redteam.policy import Verdict
from redteam.policy.reading import DEFAULT, Limit, Policy, Waiver
from redteam.report.metrics import metric
from redteam.report.metrics.tpr import attainable_tpr
from redteam.report.pictures import Curve, Method, Pictures, RocPoint, saved
from redteam.report.values import (
    AuditReport,
    Budget,
    ClassLeak,
    ControlResult,
    DataSummary,
    ErrorShare,
    Evidence,
    ExposedRow,
    Failure,
    Guarantee,
    Multiplicity,
    TargetSummary,
    Taxonomy,
    Users,
)
from redteam.statistics import Interval, attainable_auc, attainable_epsilon, attainable_extraction_rate

TODAY = date(2026, 7, 1)
ALPHA = 0.05 / 8

# Everything a label could try: markup, terminal escapes, new lines, tables, HTML, mentions, bidi overrides.
HOSTILE = "[red]x[/] \x1b[31m\n| a | `b` <script>@team</script> \u202e&\x9b]]>"


@dataclass(frozen=True)
class Sample:
    report: AuditReport
    policy: Policy
    baseline: AuditReport | None = None

    def judged(self) -> Verdict:
        from redteam.policy.judge import judge

        return judge(self.report, self.policy, today=TODAY, baseline=self.baseline)


def auc(value: float, half: float, signal: str = "loss", attack: str = "RT101", n: int = 2000) -> Evidence:
    interval = Interval(value, round(value - half, 6), round(value + half, 6), ALPHA)
    return Evidence(attack, signal, "auc", interval, n, n, attainable_auc(n, n, alpha=ALPHA))


def tpr(low: float, value: float, high: float, signal: str = "loss", attack: str = "RT101", n: int = 2000) -> Evidence:
    top = attainable_tpr(n, n, alpha=ALPHA, fpr=0.01)
    return Evidence(attack, signal, "tpr", Interval(value, low, high, ALPHA), n, n, top, 0.01)


def epsilon(low: float, signal: str = "loss") -> Evidence:
    top = attainable_epsilon(1000, 1000, alpha=ALPHA, delta=1e-5)
    return Evidence("RT101", signal, "epsilon", Interval(low, low, top, ALPHA), 1000, 1000, top, delta=1e-5)


def _report(*evidence: Evidence, n: int = 2000) -> AuditReport:
    return AuditReport(
        target=TargetSummary("model.pt", "bundle", "class probabilities and labels", 4, "ab" * 32),
        data=DataSummary(n, n, 0, 2, 3),
        grade="B",
        grade_reason="members and non-members come from one file; RT901 finds nothing",
        multiplicity=Multiplicity(0.05, 8, ALPHA, "Bonferroni"),
        evidence=evidence,
        failures=(),
        controls=(ControlResult("RT901", Interval(0.51, 0.47, 0.55, ALPHA), reads_texts=True),),
        classes=(),
        classes_signal=None,
        exposed=(),
        guarantee=None,
        seed=7,
        created="2026-06-30T12:00:00+00:00",
        tool_version="0.1.0",
        not_kept={},
    )


def _pictures(signal: str, attack: str, words: str = "loss threshold") -> dict[str, object]:
    """What pictures of a signal are drawn from."""
    rates = ((0.001, 0.03), (0.01, 0.2), (0.1, 0.7), (0.9, 0.99))
    points = tuple(RocPoint(fpr, tpr, tpr / 2, (1 + tpr) / 2) for fpr, tpr in rates)
    curve = Curve(attack, signal, 0.05, points, (-2.0, -1.0, 0.0), (0.1, 0.9), (0.6, 0.4))
    method = Method(attack, words, "losses", 0, f"{attack} {words}\n\nThe manual page.")
    other = Method("RT102", words, "probabilities", 8, f"RT102 {words}")
    return saved(Pictures((curve,), (method, other), {"python": "3.11", words: words}))


def _leaky() -> Sample:
    report = replace(
        _report(
            auc(0.93, 0.02),
            tpr(0.15, 0.2, 0.26),
            auc(0.81, 0.03, "entropy", "RT102"),
            tpr(0.02, 0.06, 0.11, "entropy", "RT102"),
        ),
        failures=(Failure("RT104", "not_applicable", "needs reference models: --references 8 trains some"),),
        classes=(
            ClassLeak("sports", 500, 500, Interval(0.72, 0.61, 0.83, 0.0125)),
            ClassLeak("health", 500, 500, Interval(0.97, 0.94, 0.99, 0.0125)),
            ClassLeak("rare", 3, 2, None),
        ),
        classes_signal="RT101 loss",
        taxonomy={each: Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",)) for each in ("RT101", "RT102")},
        exposed=(ExposedRow("train.csv:17", "health", "9f" * 32), ExposedRow("train.csv:4", None, "1c" * 32)),
        pictures=_pictures("loss", "RT101"),
    )
    return Sample(report, replace(DEFAULT, source="redteam.toml", lines=(("max_auc", 3), ("max_tpr", 4))))


def _safe() -> Sample:
    evidence = (
        at(0.02, auc(0.52, 0.02, "modified_entropy", "RT102")),
        at(0.02, tpr(0.004, 0.011, 0.023, "modified_entropy", "RT102")),
        at(0.005, auc(0.5, 0.04)),
        at(0.005, tpr(0.002, 0.014, 0.061)),
        at(0.05, auc(0.51, 0.03, "entropy", "RT102")),
    )
    shares = tuple(ErrorShare(each.id, each.interval.alpha) for each in evidence[:4])
    report = replace(
        _report(*evidence),
        multiplicity=Multiplicity(0.05, 4, 0.02, "Bonferroni", "RT102", shares),
        attack_notes=("RT102: texts compared by nothing at all",),
    )
    return Sample(report, DEFAULT)


def at(error: float, evidence: Evidence) -> Evidence:
    """Return evidence as if its interval had that error."""
    sizes = evidence.members, evidence.nonmembers
    most = metric(evidence.metric).attainable(*sizes, alpha=error, fpr=evidence.fpr)
    assert most is not None
    return replace(evidence, interval=replace(evidence.interval, alpha=error), attainable=most)


def _grade_c() -> Sample:
    report = replace(
        _report(),
        grade="C",
        grade_reason="RT901 tells members from non-members without the model",
        controls=(ControlResult("RT901", Interval(0.88, 0.84, 0.92, ALPHA), reads_texts=True),),
        failures=(Failure("RT101", "refused", "members and non-members differ without the model"),),
    )
    return Sample(report, DEFAULT)


def _unresolvable() -> Sample:
    small = [auc(0.71, 0.19, n=15), auc(0.66, 0.2, "entropy", n=15), tpr(0.0, 0.1, 0.4, n=15)]
    return Sample(_report(*small, n=15), replace(DEFAULT, strict=True))


def _waived() -> Sample:
    waivers = (
        Waiver("RT101.auc", "accepted for the pilot, see ticket 12", date(2027, 1, 31)),
        Waiver("RT999.auc", "left over", date(2026, 12, 31)),
    )
    report = _report(auc(0.66, 0.03), tpr(0.004, 0.011, 0.023), auc(0.64, 0.03, "entropy", "RT102"))
    before = _report(auc(0.62, 0.03), auc(0.63, 0.02, "entropy", "RT102"))
    return Sample(report, replace(DEFAULT, source="ci/red team.toml", waivers=waivers), before)


def _private() -> Sample:
    """A randomised report of a DP training whose claim does not hold."""
    nominal = Budget(1.0, 1e-5, "example", "add or remove one", "RDP")
    accounted = replace(nominal, epsilon=6.0, accountant="PRV")
    report = replace(
        _report(auc(0.58, 0.01), tpr(0.02, 0.03, 0.045), epsilon(1.4)),
        grade="A",
        grade_reason="2,000 examples included independently at random (seed 7)",
        guarantee=Guarantee(nominal, accounted),
    )
    limits = Limit("auc", 0.7), Limit("tpr", 0.05, fpr=0.01), Limit("epsilon", 8.0, delta=1e-5)
    return Sample(report, Policy(limits, source="pyproject.toml"))


def secrets(metric: str, low: float, value: float, high: float, attack: str, copies: int, n: int = 20) -> Evidence:
    top = attainable_extraction_rate(n, alpha=ALPHA) if metric == "extraction_rate" else 13.29
    return Evidence(attack, f"R={copies}", metric, Interval(value, low, high, ALPHA), n, n, top)


def _canaries() -> Sample:
    """A model that leaks what was planted ten times, and not what was planted once."""
    report = _report(
        auc(0.52, 0.03),
        tpr(0.004, 0.011, 0.023),
        secrets("extraction_rate", 0.41, 0.75, 0.95, "RT201", 10),
        secrets("exposure", 11.3, 13.29, 13.29, "RT201", 10),
        secrets("extraction_rate", 0.0, 0.05, 0.38, "RT201", 1),
        secrets("exposure", 0.0, 1.6, 4.1, "RT201", 1),
    )
    failure = Failure("RT204", "not_applicable", "needs --base, the directory of the public encoder")
    return Sample(replace(report, data=replace(report.data, canaries=40), failures=(failure,)), DEFAULT)


def _users() -> Sample:
    """Whole users were drawn, and the guarantee is for examples: a leak of users, and a claim that is not compared."""
    budget = Budget(1.0, 1e-5, "example", "add or remove one", "RDP")
    found = (auc(0.71, 0.05, n=1000), tpr(0.004, 0.02, 0.04, n=1000), epsilon(1.4))
    report = replace(
        _report(*(replace(each, unit="user") for each in found)),
        grade="A",
        grade_reason="every user was included independently at random, drawn again from the ledger's seed and key",
        guarantee=Guarantee(budget, budget),
        users=Users(1000, 1000, 0, 40, 0.62),
        groups=(ClassLeak("comedy", 400, 420, Interval(0.74, 0.68, 0.8, 0.025)), ClassLeak("history", 3, 2, None)),
        classes_signal="RT101:loss",
    )
    return Sample(report, replace(DEFAULT, limits=(*DEFAULT.limits, Limit("epsilon", 8.0, delta=1e-5))))


def _straddling() -> Sample:
    """Rows were drawn each by itself, so that users stand on both sides."""
    return Sample(replace(_safe().report, grade="A", users=Users(3, 2, 395, 20)), DEFAULT)


def _hostile() -> Sample:
    report = _report(auc(0.93, 0.02, HOSTILE), tpr(0.15, 0.2, 0.26, HOSTILE))
    report = replace(
        report,
        target=replace(report.target, name=HOSTILE, access=HOSTILE),
        grade_reason=HOSTILE,
        failures=(Failure(HOSTILE, "failed", HOSTILE), Failure("RT105", "not_applicable", HOSTILE)),
        classes=(ClassLeak(HOSTILE, 9, 9, Interval(0.7, 0.6, 0.8, 0.01)), ClassLeak(HOSTILE, 1, 1, None)),
        groups=(ClassLeak(HOSTILE, 9, 9, Interval(0.7, 0.6, 0.8, 0.01)), ClassLeak(HOSTILE, 1, 1, None)),
        classes_signal=HOSTILE,
        taxonomy={each: Taxonomy((HOSTILE,), (HOSTILE,), (HOSTILE,), HOSTILE) for each in ("RT101", HOSTILE)},
        exposed=(ExposedRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        created=HOSTILE,
        tool_version=HOSTILE,
        pictures=_pictures(HOSTILE, "RT101", HOSTILE),
    )
    waiver = Waiver(f"RT101.tpr@0.01:{HOSTILE}", HOSTILE, date(2027, 1, 1))
    return Sample(report, replace(DEFAULT, source=HOSTILE, waivers=(waiver,)))


SAMPLES: dict[str, Sample] = {
    "leaky": _leaky(),
    "safe": _safe(),
    "grade_c": _grade_c(),
    "unresolvable": _unresolvable(),
    "waived": _waived(),
    "private": _private(),
    "canaries": _canaries(),
    "users": _users(),
    "straddling": _straddling(),
    "hostile": _hostile(),
}
