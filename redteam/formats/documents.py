"""Documents that follow a model: a section for a model card, an annex for a data-protection impact assessment.

They say what was measured and what was not, and certify nothing: evidence supports a statement, or does not, or the
question was not tested.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redteam import formats
from redteam.formats import code, in_markdown
from redteam.policy import Policy, Verdict
from redteam.report import LOW_BOUND, number, plural
from redteam.report.guarantee import broken_claim, status
from redteam.report.metrics import metric
from redteam.report.reading import measured
from redteam.report.values import AuditReport

SUPPORTS, AGAINST, UNTESTED = "supports", "does not support", "not tested"


def card(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return YAML metadata with the `model-index` of a Hugging Face model card, and a section in Markdown."""
    named = _yaml(report.target.name)
    lines = ["---", "model-index:", f"- name: {named}", "  results:", *_results(report), "---", ""]
    lines += ["## Privacy audit", "", in_markdown(formats.summary(verdict)), ""]
    lines += ["| metric | measured | what it means |", "|---|---|---|"]
    for each in formats.strongest(report):
        of = metric(each.metric)
        lines.append(
            f"| {in_markdown(formats.metric_name(each))} | {of.full(each)} | {in_markdown(of.meaning(each))} |"
        )
    lines += ["", f"Data: {in_markdown(formats.data_line(report.data))}. Judged by {code(policy.source)}.", ""]
    if report.guarantee is not None:
        lines += [f"Guarantee: {in_markdown(status(report))}. {LOW_BOUND}", ""]
    lines += ["What the audit could not have seen:", ""]
    lines += [f"- {in_markdown(each)}" for each in formats.blind_spots(report)]
    lines += ["", f"Made by redteam {in_markdown(report.tool_version)}, {in_markdown(report.created)}."]
    return "\n".join(lines) + "\n"


def _results(report: AuditReport) -> Iterator[str]:
    data = "audited members and non-members" if report.data.nonmembers else "audited rows"
    yield from ("  - task:", "      type: text-classification", "    dataset:", f"      name: {data}")
    yield from ("      type: private", "    metrics:")
    found = formats.strongest(report)
    for each in found:
        of = metric(each.metric)
        name = f"{formats.metric_name(each)} by {each.attack} {each.signal}: whether {of.description}"
        value = each.interval.low if of.guaranteed else each.interval.value
        yield f"    - type: {_yaml(each.metric)}"
        yield from (f"      name: {_yaml(name)}", f"      value: {value:.6g}")
    if not found:
        yield "      []"


EDPB, NIST, ISO, OWN = "EDPB Opinion 28/2024", "NIST SP 800-226", "ISO/IEC 27090", "our own"
# What of each document was held against its text, or against accounts of it, and no more: questions are in our words.
SOURCES = (
    f"{EDPB} (17 December 2024): of a claim that a model holds no personal data it asks that extracting them, "
    "directly or by queries, be insignificantly likely; among the attacks that tests should cover it lists attribute "
    "and membership inference, exfiltration, regurgitation of training data, model inversion and reconstruction.",
    f"{NIST} (final, March 2025): how to evaluate a claim of differential privacy; its pyramid begins with epsilon and "
    "the unit of privacy.",
    f"{ISO} (guidance; known to us as the final draft of March 2026, which we have not read whole): by accounts of "
    "its drafts membership inference is among its threats.",
    f'"{OWN}": no document asks it in these words.',
)


@dataclass(frozen=True)
class Inquiry:
    """What whoever releases a model may be asked, on whose subject, and what a report has to say to it."""

    source: str
    asks: str
    answer: str
    evidence: str


def _yaml(text: str) -> str:
    """Return text as a string of YAML; one of JSON is one but for pairs of escapes, as of an emoji."""
    return json.dumps(formats.clean(text), ensure_ascii=False)


def annex(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return an annex in Markdown: questions on the subjects of three documents, and what answers them."""
    lines = [
        f"# Annex: privacy audit of {in_markdown(report.target.name)}",
        "",
        "This annex lists what a data-protection impact assessment may take from one audit. It certifies nothing: "
        '"supports" means that the evidence speaks for the statement, "does not support" that it speaks against it or '
        'settles nothing, "not tested" that nothing was measured. The questions are in our words; each names the '
        "document whose subject it is on, and fulfils none of it.",
        "",
        f"- Verdict: {in_markdown(formats.summary(verdict))}",
        f"- Data: {in_markdown(formats.data_line(report.data))}",
        f"- Evidence of grade {report.grade}: {in_markdown(formats.grade_words(report))}",
        f"- Limits: {code(policy.source)}",
        "",
        "| on the subject of | question | answer | evidence |",
        "|---|---|---|---|",
    ]
    for each in _questions(report, verdict):
        lines.append(f"| {each.source} | {each.asks} | **{each.answer}** | {each.evidence} |")
    lines += ["", "## What is named here of each document", "", *(f"- {each}" for each in SOURCES)]
    lines += ["", "## What the audit could not have seen", ""]
    lines += [f"- {in_markdown(each)}" for each in formats.blind_spots(report)]
    lines += ["", "## What to do next", ""]
    lines += [f"- {in_markdown(each)}" for each in formats.next_steps(report, verdict)]
    lines += ["", f"Made by redteam {in_markdown(report.tool_version)}, {in_markdown(report.created)}."]
    return "\n".join(lines) + "\n"


def _questions(report: AuditReport, verdict: Verdict) -> Iterator[Inquiry]:
    membership = [each for each in report.evidence if not metric(each.metric).of_canaries]
    planted = [each for each in report.evidence if metric(each.metric).of_canaries]
    yield Inquiry(
        EDPB,
        "Membership inference: did the attacks that ran find no more than the limits allow?",
        _answer(bool(membership), verdict, of_canaries=False),
        _numbers(report, of_canaries=False),
    )
    yield Inquiry(
        EDPB,
        "Extraction, directly or by queries: was no more obtained of planted secrets than the limits allow?",
        _answer(bool(planted), verdict, of_canaries=True),
        _numbers(report, of_canaries=True),
    )
    yield Inquiry(
        EDPB,
        "Was membership inference tried with the strongest attacks known to us, which train reference models?",
        SUPPORTS if membership and report.references else AGAINST if membership else UNTESTED,
        f"{plural(len({each.attack for each in report.evidence}), 'attack')}, "
        f"{plural(report.references, 'reference model')}; attribute inference and exfiltration of the model were not "
        "tried",
    )
    yield from _of_guarantee(report)
    yield Inquiry(
        ISO,
        "Is the risk of membership inference measured, by named attacks and with its uncertainty?",
        SUPPORTS if membership and report.grade != "C" else UNTESTED,
        in_markdown(formats.confidence(report)),
    )
    yield Inquiry(
        OWN,
        "Is the exposure of single groups of people looked at?",
        UNTESTED if not (report.classes or report.groups) else SUPPORTS,
        f"{plural(len(report.classes), 'label')} and {plural(len(report.groups), 'group')} were looked at alone, "
        "which does not say that they are safe",
    )


def _of_guarantee(report: AuditReport) -> Iterator[Inquiry]:
    asks = "Is epsilon stated with unit, neighbouring relation, delta and accountant, and refuted by no measurement?"
    if report.guarantee is None:
        yield Inquiry(NIST, asks, UNTESTED, "the training gives no guarantee")
        return
    accounted = report.guarantee.accounted
    shown = (
        f"epsilon {number(accounted.epsilon)} at delta {accounted.delta:g} for each {accounted.unit}, "
        f"{accounted.neighbouring}, by {accounted.accountant}; {status(report)}"
    )
    tested = any(metric(each.metric).guaranteed and accounted.covers(each.unit) for each in report.evidence)
    stands = broken_claim(report) is None
    yield Inquiry(NIST, asks, AGAINST if not stands else SUPPORTS if tested else UNTESTED, in_markdown(shown))


def _answer(tested: bool, verdict: Verdict, *, of_canaries: bool) -> str:
    """Say what evidence says of a statement: a pass supports it, whatever is proven or open does not."""
    if not tested:
        return UNTESTED
    from redteam.report.reading import measured_by

    own = [check for check in verdict.checks if measured_by(check.rule).of_canaries == of_canaries]
    against = [check for check in own if check.outcome not in ("within", "weaker")]
    kept = any(check.outcome == "within" for check in own)
    return SUPPORTS if kept and not against and verdict.status == "pass" else AGAINST


def _numbers(report: AuditReport, *, of_canaries: bool) -> str:
    shown = [
        f"{formats.metric_name(each)} {metric(each.metric).full(each)} by {each.attack} {each.signal}"
        for each in formats.strongest(report)
        if metric(each.metric).of_canaries == of_canaries
    ]
    if not shown:
        return "nothing was measured" if not measured(report) else "no such number stands"
    return in_markdown("; ".join(shown))
