"""Attack clients' updates and report which shares of their texts are recovered, beside updates that never saw these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from redteam import __version__
from redteam.auditing.updates.scoring import RecoveredCount, TextOverlap, What, counts, texts
from redteam.auditing.updates.senders import Sender, described
from redteam.auditing.updates.telling import Told, run_membership
from redteam.auditing.updates.truth import Truth
from redteam.core import UsageError, one_line
from redteam.core.progress import Progress, unwatched
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate, Recovered, UpdateAttack, UpdateControl, UpdateMembership
from redteam.report import plural
from redteam.report.clients import attainable
from redteam.report.values import (
    AuditReport,
    ControlResult,
    DataSummary,
    Evidence,
    Failure,
    Multiplicity,
    Scope,
    TargetSummary,
)
from redteam.statistics import Interval
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.exposure import mean_interval
from redteam.targets.target import Access, WhiteBox, labels_of

_METRIC: Mapping[What, str] = {
    "tokens": "tokens_recovered",
    "places": "tokens_recovered",
    "exact": "sentences_recovered",
    "verified": "sentences_recovered",
}


@dataclass
class _Outcome:
    """What one attack gave for each client, or why it gave nothing."""

    attack: UpdateAttack
    answers: list[Recovered | None] = field(default_factory=list)
    counted: dict[What, list[RecoveredCount]] = field(default_factory=dict)
    overlaps: list[TextOverlap] = field(default_factory=list)
    failure: Failure | None = None


@dataclass(frozen=True)
class UpdateAudit:
    """The report, and what each attack recovered of each update, in the order of the updates: texts, so not in it."""

    report: AuditReport
    recovered: Mapping[str, tuple[Recovered, ...]]


def audit_updates(
    model: WhiteBox,
    sent: Sequence[Sender],
    attacks: Sequence[UpdateAttack | UpdateMembership],
    control: UpdateControl,
    *,
    left: Sequence[Truth] = (),
    alpha: float = 0.01,
    seed: int = 0,
    progress: Progress = unwatched,
) -> UpdateAudit:
    """Attack what every sender sent and hold what is recovered against the texts behind it.

    `left` are texts of users of whom there is no update, for attacks that ask who took part.

    All intervals together miss at most `alpha` of the time. Raises UsageError for an alpha that is none.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha}: give a number between 0 and 1")
    readers = [each for each in attacks if isinstance(each, UpdateAttack)]
    runs = [
        _Attacking(model, sent, control, seed).run(attack, _part(progress, i, len(attacks)))
        for i, attack in enumerate(readers)
    ]
    asked = [
        run_membership(model, each, sent, left, control, seed=seed)
        for each in attacks
        if isinstance(each, UpdateMembership)
    ]
    progress(100, 100)
    report = _report(model, sent, runs, asked, control, alpha=alpha, seed=seed)
    return UpdateAudit(report, {run.attack.id: tuple(each or Recovered() for each in run.answers) for run in runs})


def _report(
    model: WhiteBox,
    sent: Sequence[Sender],
    runs: Sequence[_Outcome],
    asked: Sequence[Told],
    control: UpdateControl,
    *,
    alpha: float,
    seed: int,
) -> AuditReport:
    measured = [(run.attack, what, all_of) for run in runs for what, all_of in run.counted.items()]
    ran: tuple[_Outcome | Told, ...] = (*runs, *asked)
    each = alpha / max(1, len(measured) + sum(len(told.right) for told in asked))
    evidence = tuple(_evidence(attack, what, all_of, each) for attack, what, all_of in measured)
    evidence += tuple(one for told in asked for one in told.evidence(each))
    checked = _control(control, measured, alpha)
    found = sum(count.unseen for _, what, all_of in measured if what == "exact" for count in all_of)
    return AuditReport(
        target=_target(model, sent),
        data=DataSummary(sum(len(each.truth.texts) for each in sent), 0, 0, 0, 0),
        grade="C" if found else "B",
        grade_reason=f"{control.id} finds {plural(found, 'text')} in updates that never saw the client's",
        multiplicity=Multiplicity(alpha, max(1, len(evidence)), each, f"shared equally over {len(evidence)} numbers"),
        evidence=evidence,
        failures=tuple(run.failure for run in ran if run.failure is not None),
        controls=checked,
        classes=(),
        classes_signal=None,
        exposed=(),
        guarantee=None,
        seed=seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        scope=Scope(
            (*(run.attack.id for run in ran), *(one.control for one in checked)),
            tuple(one.id for one in evidence),
            guarantee=False,
            accuracy=False,
        ),
        attack_notes=(
            *(line for run in runs for line in _notes(run, control, alpha)),
            *(line for told in asked for line in told.notes(control, alpha)),
        ),
        taxonomy={run.attack.id: run.attack.taxonomy for run in ran if run.attack.taxonomy is not None},
    )


def _target(model: WhiteBox, sent: Sequence[Sender]) -> TargetSummary:
    access = (Access.WEIGHTS | Access.UPDATES).word
    return TargetSummary(model.name, f"{model.kind}, {described(sent)}", access, len(labels_of(model)), model.digest)


def _part(progress: Progress, at: int, of: int) -> Callable[[int], None]:
    """Return a function that shows how many updates one of several attacks has read, in hundredths."""
    return lambda share: progress(100 * at + share, 100 * of)


@dataclass(frozen=True)
class _Attacking:
    """What was sent with the texts behind it, and what is a control for each."""

    model: WhiteBox
    sent: Sequence[Sender]
    control: UpdateControl
    seed: int

    def run(self, attack: UpdateAttack, show: Callable[[int], None]) -> _Outcome:
        """Return what one attack recovers of every update; a crash is a failure of the report."""
        made, reasons = _Outcome(attack), list[str]()
        try:
            for at, each in enumerate(self.sent):
                found, reason = self._recover(attack, each.updates)
                made.answers.append(None if reason else found)
                reasons += [reason] if reason else []
                show(80 * (at + 1) // len(self.sent))
            if reasons:
                some = f"to {len(reasons)} of {len(self.sent)}: " if len(reasons) < len(self.sent) else ""
                made.failure = Failure(attack.id, "not_applicable", f"{some}{reasons[0]}")
            for at, answer in enumerate(made.answers):
                if answer is not None:  # nothing recovered where nothing can be is no number
                    self._count(made, at, answer)
            show(100)
        except KeyboardInterrupt:
            raise
        except Exception as error:  # of an attack, which may be anybody's
            made.counted, made.overlaps = {}, []
            made.failure = Failure(attack.id, "failed", one_line(error))
        return made

    def _recover(self, attack: UpdateAttack, updates: Sequence[ClientUpdate]) -> tuple[Recovered, str | None]:
        try:
            return attack.recover_rounds(self.model, updates, AttackContext(self.seed)), None
        except NotApplicable as error:
            return Recovered(), one_line(error)

    def _count(self, made: _Outcome, at: int, found: Recovered) -> None:
        """Count what was recovered of one sender's texts, beside what the control gives."""
        truth, others = self.sent[at].truth, [*self.sent[at + 1 :], *self.sent[:at]]
        lengths, firsts = [len(text) for text in truth.texts], [each.updates[0] for each in others]
        unseen = self.control.unseen(self.model, lengths, firsts, seed=self.seed + at)
        known = [i for i, each in enumerate(self.sent) if any(one is unseen for one in each.updates)]
        by_chance = made.answers[known[0]] if known else self._recover(made.attack, [unseen])[0]
        by_chance = by_chance or Recovered()
        other = self.sent[known[0]].truth if known else None
        for count in counts(made.attack, truth, found, by_chance, other):
            made.counted.setdefault(count.what, []).append(count)
        if "sentences" in made.attack.gives:
            made.overlaps.append(texts(truth, found, by_chance))


def _evidence(attack: UpdateAttack, what: What, all_of: Sequence[RecoveredCount], alpha: float) -> Evidence:
    """Return the mean share of a client's that was recovered; nothing is proven where chance would do as well."""
    interval = mean_interval([count.share for count in all_of], low=0.0, high=1.0, alpha=alpha)
    found, unseen = sum(count.found for count in all_of), sum(count.unseen for count in all_of)
    half = float(clopper_pearson_low(found, found + unseen, alpha / 2)) if found else 0.0
    if half <= 0.5:  # as likely in an update that never saw the texts
        interval = Interval(interval.value, 0.0, interval.high, alpha)
    most = attainable(len(all_of), alpha)
    clients = len(all_of)
    return Evidence(attack.id, what, _METRIC[what], interval, clients, clients, most, unit="client")


def _control(
    control: UpdateControl, measured: Sequence[tuple[UpdateAttack, What, list[RecoveredCount]]], alpha: float
) -> tuple[ControlResult, ...]:
    """Return how well whole texts found in an update tell whose it is not: an AUC of 0.5 where none is found."""
    for _, what, all_of in measured:
        if what == "exact":
            found, of = sum(count.unseen for count in all_of), sum(count.of for count in all_of)
            ends = [float(end(found, of, alpha / 2)) for end in (clopper_pearson_low, clopper_pearson_high)]
            low, value, high = (0.5 + share / 2 for share in (ends[0], found / of, ends[1]))
            return (ControlResult(control.id, Interval(value, low, high, alpha), reads_texts=True),)
    return ()


def _notes(run: _Outcome, control: UpdateControl, alpha: float) -> Iterator[str]:
    """Say how many things were named and how many of them are wrong, and what kept an attack from more."""
    for what, all_of in run.counted.items():
        found, of, unseen = (sum(getattr(count, name) for count in all_of) for name in ("found", "of", "unseen"))
        claimed, wrong = (sum(getattr(count, name) for count in all_of) for name in ("claimed", "wrong"))
        right = [1 - count.wrong / count.claimed for count in all_of if count.claimed]
        held = mean_interval(right, low=0.0, high=1.0, alpha=alpha) if right else None
        precision = "" if held is None else f", precision {held.value:.2f} [{held.low:.2f}, {held.high:.2f}]"
        yield (
            f"{run.attack.id} {what}: {found:,} of {of:,} found, {claimed:,} named and {wrong:,} of them "
            f"wrong{precision}; {control.id}: {unseen:,}"
        )
    if run.overlaps:
        own, chance = (np.mean([getattr(each, name) for each in run.overlaps], axis=0) for name in ("own", "unseen"))
        scores = [" / ".join(f"{value:.2f}" for value in each) for each in (own, chance)]
        yield f"{run.attack.id} ROUGE-1 / 2 / L: {scores[0]}; {control.id}: {scores[1]}"
    notes = dict.fromkeys(note for answer in run.answers if answer for note in answer.notes)
    yield from (f"{run.attack.id}: {note}" for note in notes)
