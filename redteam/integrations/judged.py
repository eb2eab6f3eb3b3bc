"""A report with its verdict, as every integration hands it over, and its numbers by name."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from redteam.integrations.logged import Logged, Numbers, name_of, told_apart, with_ends
from redteam.policy import Policy, Verdict
from redteam.report.values import AuditReport

if TYPE_CHECKING:
    from redteam.auditing.settings import AuditSettings


def policy_of(policy: Policy | Path | str | None) -> Policy:
    """Return a policy as it is, or read it from a file; None: redteam.toml here, else built-in limits."""
    from redteam.policy.reading import load_policy

    if isinstance(policy, Policy):
        return policy
    return load_policy(None if policy is None else Path(policy), today=date.today())


def settings_for(policy: Policy, seed: int) -> "AuditSettings":
    """Return settings that measure what the policy limits, and nothing else."""
    from redteam.auditing.settings import FPRS, AuditSettings

    rates = tuple(dict.fromkeys(limit.fpr for limit in policy.limits if limit.fpr is not None))
    return AuditSettings(fprs=rates or FPRS, seed=seed, limits=policy.limits)


@dataclass(frozen=True)
class Judged:
    """A report, the policy that it was held against, and what came of it."""

    report: AuditReport
    policy: Policy
    verdict: Verdict

    @classmethod
    def of(cls, report: AuditReport, policy: Policy) -> "Judged":
        """Judge a report as of today."""
        from redteam.policy.judge import judge

        return cls(report, policy, judge(report, policy, today=date.today()))

    @property
    def summary(self) -> str:
        """The line that the command says at its end."""
        from redteam.formats import summary

        return summary(self.verdict)

    def render(self, form: str) -> str:
        """Return the report in one of the formats, such as html."""
        from redteam.formats import FORMATS

        return FORMATS[form](self.report, self.verdict, policy=self.policy)

    def numbers(self) -> dict[str, float]:
        """Return the judged numbers with both ends of their intervals, and the exit code, by names trackers take."""
        return dict(told_apart(self._numbers()))

    def logged(self) -> Logged:
        """Return what a tracker is given of it."""
        report = self.report
        said = {"target": report.target.name, "digest": report.target.digest or "", "grade": report.grade}
        return Logged(self.numbers(), {**said, "verdict": self.verdict.status}, self.render("html"))

    def _numbers(self) -> Numbers:
        yield "exit_code", float(self.verdict.exit_code)
        yield "findings", float(len(self.verdict.proven))
        for each in self.report.judged:
            interval = each.interval
            yield from with_ends(name_of(each.id), interval.low, interval.value, interval.high)
