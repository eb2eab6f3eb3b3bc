"""The forms a judged report can take: one pure `render(report, verdict, *, policy) -> str` per module.

A format is a module of this package with such a function, or a function that an installed package names under the
entry-point group `redteam.formats`; there is no list to edit. Modules are imported when they are first used.

Names, labels and reasons come from models and data files, and may hold terminal escapes or mentions: the functions here
make them harmless, and drop nothing.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Protocol, cast

from redteam.policy import Policy, Verdict
from redteam.report import NOT_JUDGED, Limit, number, of_either, plural
from redteam.report.metrics import metric
from redteam.report.reading import measured, measured_by, only_fairness
from redteam.report.values import AuditReport, DataSummary, Evidence, Grade
from redteam.statistics import smallest_resolvable_fpr

_MENTION = re.compile(r"(?<!\w)@")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>&#|~$!]")
GROUP = "redteam.formats"


class Render(Protocol):
    """What turns a judged report into text; `options` are those of one format, such as a width."""

    def __call__(self, report: AuditReport, verdict: Verdict, *, policy: Policy, **options: Any) -> str:
        """Return the report as text that ends in a newline."""
        ...


class _Formats(Mapping[str, Render]):
    """Every format by its name; a module is imported when its format is first used."""

    def __getitem__(self, name: str) -> Render:
        """Return the format of a name, ours before any other; UsageError where its package is broken."""
        if _is_ours(name):
            return cast(Render, importlib.import_module(f"{__name__}.{name}").render)
        for entry in entry_points(group=GROUP, name=name):
            from redteam.core.discovery import load  # only where a package brings one

            return cast(Render, load(entry))
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names, sorted."""
        ours = [info.name for info in pkgutil.iter_modules(__path__) if _is_ours(info.name)]
        yield from sorted({*ours, *(entry.name for entry in entry_points(group=GROUP))})

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self)


def _is_ours(name: str) -> bool:
    """Tell by its text whether a module of this package renders: to import them all would cost what one is to save."""
    spec = find_spec(f"{__name__}.{name}") if name.isidentifier() else None
    read = getattr(spec and spec.loader, "get_data", None)  # pytest's loader, under our plug-in for it, has no more
    return bool(spec and spec.origin and read and re.search(rb"^def render\(", read(spec.origin), re.MULTILINE))


FORMATS: Mapping[str, Render] = _Formats()


def clean(text: str) -> str:
    """Return `text` on one line, with everything that does not print written out: no bidi tricks either."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _written_out(c) for c in text)


def clip(text: str, width: int) -> str:
    """Return `text` cleaned and cut to `width` characters, with an ellipsis where something is missing."""
    text = clean(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def in_markdown(text: str) -> str:
    """Return `text` so that Markdown, HTML and GitHub mentions show it as it stands, in a table cell too."""
    escaped = _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", clean(text))
    return _MENTION.sub("@<!-- -->", escaped).replace("://", ":<!-- -->//")


def code(text: str) -> str:
    """Return `text` as a Markdown code span that it cannot break out of."""
    return f"<code>{_MARKDOWN.sub(lambda match: f'&#{ord(match[0])};', clean(text))}</code>"


def json_text(text: str) -> str:
    """Return JSON with characters that do not print as escapes; what it parses to is unchanged."""
    lines = text.split("\n")
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else _utf16(c) for c in line) for line in lines
    )


def _written_out(character: str) -> str:
    point = ord(character)
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


HEADLINES = {"pass": "PASS", "leak": "LEAK", "inconclusive": "INCONCLUSIVE"}

GRADES: dict[Grade, str] = {
    "A": "randomised: every audited {unit} was included at random, and that is on record, so what tells "
    "members from non-members is the training itself, and a lower bound on epsilon from this one "
    "model is valid",
    "B": "split: members and non-members come from one source, so AUC and TPR stand as far as that is true "
    "(the controls test it); an epsilon would only describe, not prove",
    "C": "unknown: members and non-members differ before any model is asked, so membership numbers would "
    "measure the data and not the model; they are refused",
}


def grade_words(report: AuditReport) -> str:
    """Say what the report's grade means, of the examples or of the users that were audited."""
    of_groups = "of groups alone: what differs between them is the answers'; nothing was asked about membership"
    grades = importlib.import_module("redteam.report.clients").GRADES if report.unit == "client" else GRADES
    return of_groups if only_fairness(report) else str(grades[report.grade]).format(unit=report.unit)


def data_line(data: DataSummary) -> str:
    """Say how many texts were audited, and how many were left out of it for cause."""
    if not data.nonmembers:  # of fairness alone: there is no membership without those who are none
        return plural(data.members, "row") if data.members else "templates, no rows"
    line = f"{plural(data.members, 'member')}, {plural(data.nonmembers, 'non-member')}"
    line += f", {data.reference:,} kept apart" if data.reference else ""
    line += f"; left out: {data.moved_out:,} that moved, {plural(data.duplicates, 'duplicate')}"
    if data.skipped_members or data.skipped_nonmembers:
        refused = plural(data.skipped_members, "member"), plural(data.skipped_nonmembers, "non-member")
        line += f", {' and '.join(refused)} refused"
    return line + (f"; {plural(data.canaries, 'canary', 'canaries')} planted besides" if data.canaries else "")


def unmeasured_users(report: AuditReport) -> bool:
    """Tell whether users have rows on both sides, so that single rows were measured and nothing about a user."""
    return report.unit == "example" and report.users is not None and report.users.both > 0


def user_line(report: AuditReport) -> str | None:
    """Say how the rows belong to users, where that is known."""
    users = report.users
    if users is None:
        return None
    stand = (
        f"{plural(users.members, 'user')} among members, {users.nonmembers:,} among non-members, "
        f"{users.both:,} on both sides, up to {plural(users.most, 'row')} each"
    )
    if users.most == 1:
        return f"{stand}: a row is a user"
    if report.unit == "example":
        return f"{stand}: NOT MEASURED, the numbers are about single rows" if users.both else stand
    left_out = " (left out)" if users.both else ""
    if users.rows_auc is None:
        return f"{stand}{left_out}; each is measured by all rows"
    return (
        f"{stand}{left_out}; each is measured by all rows. Row by row the AUC of {report.classes_signal} is "
        f"{number(users.rows_auc)}, which is not judged: the rows of a user are no independent draws"
    )


def summary(verdict: Verdict) -> str:
    """Return the verdict in one sentence, with the worst number or the first problem."""
    checks = plural(len(verdict.checks), "check")
    if verdict.status == "leak":
        worst = verdict.proven[0]
        leaks, of = plural(len(verdict.proven), "leak"), measured_by(worst.rule)
        shown = of.against(worst.interval, worst.limit, " > " if of.sense == "max" else " < ")
        return f"LEAK: {leaks} proven in {checks}, worst {worst.id} {shown}"
    if verdict.status == "inconclusive":
        return f"INCONCLUSIVE: {plural(len(verdict.problems), 'problem')}, first: {verdict.problems[0]}"
    excused = len(verdict.findings)
    inconclusive = sum(check.outcome == "inconclusive" for check in verdict.checks)
    beyond = f" beyond {excused} waived or in the baseline" if excused else ""
    return f"PASS: no leak proven in {checks}{beyond}" + (f", {inconclusive} inconclusive" if inconclusive else "")


def metric_name(evidence: Evidence) -> str:
    """Return the short name of what was measured, such as `TPR@0.01`."""
    of = "" if evidence.unit == "example" else f" per {evidence.unit}"
    return metric(evidence.metric).symbol + ("" if evidence.fpr is None else f"@{evidence.fpr:g}") + of


def strongest(report: AuditReport) -> tuple[Evidence, ...]:
    """Return for each metric that the grade lets stand the judged evidence with the highest lower bound.

    Of a metric that is only described it is the first signal of the attack that settles limits: each such interval
    holds by itself, and the highest of several need not.
    """
    best: dict[str, Evidence] = {}
    judged, first = report.judged, report.multiplicity.primary
    named = {metric_name(each) for each in judged}
    for evidence in (*judged, *(each for each in report.evidence if metric_name(each) not in named)):
        name = metric_name(evidence)
        if not metric(evidence.metric).admits(report.grade) or (name not in named and evidence.attack != first):
            continue
        of = metric(evidence.metric)
        if name not in best or (
            name in named and of.turned(evidence.interval).low > of.turned(best[name].interval).low
        ):
            best[name] = evidence
    return tuple(best.values())


def legend(report: AuditReport) -> tuple[str, ...]:
    """Say how to read the numbers of the metrics that take a word."""
    return tuple(line for each in measured(report) if (line := each.legend(report)) is not None)


def confidence(report: AuditReport) -> str:
    """Say how the allowed error of the report was shared among its intervals."""
    shared = report.multiplicity
    others = f"those of the labels among themselves, {'those of the groups, ' if report.groups else ''}each control's"
    described = "" if len(report.judged) == len(report.evidence) else " and each that is only described"
    return (
        f"an error of {shared.alpha:g} is allowed to the report as a whole, up to {shared.each:.3g} to each of "
        f"{plural(shared.intervals, 'judged number')} ({shared.method}): no limit that is kept is found broken with a "
        f"confidence of {100 * (1 - shared.alpha):g}%; {others}{described} by itself"
    )


def resolution(report: AuditReport, verdict: Verdict) -> Iterator[str]:
    """Say of each limit which leak the audit would have proven, had there been one."""
    settling = {each.id: each for each in report.judged if report.settles(each)}
    said = set[str]()
    for check in verdict.checks:
        evidence = settling.get(check.id)
        if evidence is None or check.outcome in NOT_JUDGED:
            continue
        of = metric(evidence.metric)
        limit = Limit(of.name, check.limit, evidence.fpr, evidence.delta, sense=of.sense)
        sizes = evidence.members, evidence.nonmembers
        least = of.detectable(limit, *sizes, alpha=evidence.interval.alpha) if 0 < evidence.interval.alpha < 1 else None
        if least is not None and limit.name not in said:
            said.add(limit.name)
            yield (
                f"{limit.name}: with {evidence.attack} {evidence.signal} this sample proves {of.symbol} {least:.3f} or "
                "more with a probability of 0.8; less may be there unproven"
            )


def blind_spots(report: AuditReport) -> Iterator[str]:
    """Say what this audit could not have seen: a pass is the absence of proof, not a proof of absence."""
    attacks = sorted({evidence.attack for evidence in report.evidence})
    kind = "clients" if report.unit == "client" else "fairness" if only_fairness(report) else None
    if kind is not None:  # modules that an audit of members has no use for
        yield from importlib.import_module(f"redteam.report.{kind}").NOT_SEEN
        return
    yield (
        f"a stronger attack than those run ({', '.join(attacks) or 'none'}): a pass says that these attacks "
        "failed, it is no proof of privacy"
    )
    if not report.references:
        yield "attacks that train reference models on similar data (LiRA, RMIA); they are the strongest known"
    if not any(each.of_canaries for each in measured(report)):
        yield "training text that can be read out of the model: no extraction was tried"
    elif report.data.canaries:
        canaries = plural(report.data.canaries, "planted canary", "planted canaries")
        yield f"what is repeated more often than the {canaries}, or is easier to learn than they are"
    yield "members that stand out by looking less trained-on than anyone: the TPR is measured in one direction"
    yield "what near-copies hide: a non-member that repeats a member in other words makes the two harder to tell apart"
    if report.target.access == "labels":
        yield "what the labels of changed texts tell (label-only attacks by distance), or the probabilities behind them"
    if report.data.skipped_members or report.data.skipped_nonmembers:
        yield "the texts that the target refused"
    if unmeasured_users(report):
        yield "what all rows of a user together tell: they stand on both sides, and only single rows were measured"
    members, nonmembers = report.data.members, report.data.nonmembers
    if report.unit == "user" and report.users is not None:
        members, nonmembers = report.users.members, report.users.nonmembers
        yield "a single row that is remembered among many of its user's: all rows of a user give one score, their mean"
    if nonmembers > 0 and 0 < report.multiplicity.each < 1:
        smallest = smallest_resolvable_fpr(nonmembers, alpha=report.multiplicity.each)
        non = plural(nonmembers, "non-member") if report.unit == "example" else plural(nonmembers, "held-out user")
        yield f"leaks that show only below a false-positive rate of {smallest:.2g}: {non} resolve no less"
    yield f"anyone outside the {of_either(members, nonmembers, report.unit)} that were audited"


def next_steps(report: AuditReport, verdict: Verdict) -> tuple[str, ...]:
    """Say what to do about the verdict, most urgent first."""
    remedies = tuple(dict.fromkeys(finding.remedy for finding in verdict.findings))
    if verdict.problems:
        remedies += ("put the problems above right and audit again: until then nothing is proven either way",)
    if verdict.status != "pass":
        return remedies
    inconclusive = any(check.outcome == "inconclusive" for check in verdict.checks)
    more = ("audit more examples to settle what is inconclusive, and set strict = true to insist on it",)
    keep = ("keep this report: it is the baseline of the next one", "audit again after every training")
    return (*remedies, *(more if inconclusive else ()), *keep)
