"""TPR at an FPR: how many members can be named at a price in false accusations (Carlini et al. 2022)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from redteam.report import LUCK, SAME_FPR, Limit, accusation, read_number, require_keys, share
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import attainable_tpr, smallest_resolvable_fpr, tpr_examples_needed

_EXAMPLE = "{ fpr = 0.01, limit = 0.05 }"


class Tpr(Metric):
    """The share of members above the threshold that a share `fpr` of non-members passes; luck gives the FPR."""

    name, symbol, order = "tpr", "TPR", 20
    description = "single members of the training data can be named at a low false-positive rate"
    remedy = (
        "a few examples are memorised: find them in the breakdown by label, remove duplicates and "
        "outliers, stop earlier, or train with differential privacy (DP-SGD), which protects every single "
        "example; then audit again"
    )
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 membership inference", "OWASP LLM02:2025")
    given_by = "a membership attack (RT1xx)"

    def read(self, table: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Return one limit an FPR, from a table or a list of such."""
        value = table[self.key]
        tables = value if isinstance(value, list) else [value]
        if not tables:
            raise ValueError(f"{self.key} = [] sets no limit: give {_EXAMPLE} or leave the key out")
        limits = tuple(map(self._read_one, tables))
        for index, each in enumerate(limits):
            if any(abs(each.fpr - other.fpr) <= SAME_FPR for other in limits[:index] if each.fpr and other.fpr):
                raise ValueError(f"{self.key}: fpr = {each.fpr:g} stands there twice: keep one")
        return limits

    def _read_one(self, value: Any) -> Limit:
        require_keys(value, ("fpr", "limit"), self.key, _EXAMPLE)
        fpr = read_number(f"{self.key}.fpr", value["fpr"], "above 0 and below 1", lambda x: 0 < x < 1)
        limit = read_number(f"{self.key}.limit", value["limit"], self.allowed, self.allows)
        if limit <= fpr:
            raise ValueError(
                f"{self.key}.limit = {limit:g} is not above fpr = {fpr:g}: random guessing has a TPR equal to the "
                f"FPR, so even a model that leaks nothing could not pass; give a limit above {fpr:g}"
            )
        return Limit(self.name, limit, fpr)

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float | None:
        """Return the lower bound that complete separation supports at `fpr`."""
        return None if fpr is None else attainable_tpr(members, nonmembers, fpr=fpr, alpha=alpha)

    def examples_needed(self, limit: Limit, *, alpha: float) -> tuple[int, int] | None:
        """Return how many members carry the bound and how many non-members resolve the FPR."""
        return None if limit.fpr is None else tpr_examples_needed(limit.limit, fpr=limit.fpr, alpha=alpha)

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved TPR cannot be so, an FPR that is none among it."""
        if not (evidence.fpr is not None and 0 < evidence.fpr < 1):
            yield f"{evidence.id} is a TPR at an FPR of {evidence.fpr}"
            return
        yield from super().contradictions(evidence, report)

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that an outsider singles out members."""
        fpr, whom, rows = evidence.fpr or 1.0, "members", ""
        if evidence.unit == "user":
            whom, rows = "users whose rows were trained on", " (mean over all rows of a user)"
        numbers = f"TPR {self.against(evidence.interval, limit, f' at FPR {fpr:g}, limit ')}"
        price = accusation(fpr, evidence.unit)
        return f"an outsider who thresholds {evidence.signal}{rows} singles out {whom} at a price of {price}: {numbers}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how many people are exposed at which price."""
        fpr, low = evidence.fpr or 1.0, evidence.interval.low
        sure = f"and at least {share(low)} on the cautious reading" if low > fpr else LUCK
        whom = "members" if evidence.unit == "example" else "users who were trained on"
        return (
            f"{share(evidence.interval.value)} {whom} are exposed at a price of {accusation(fpr, evidence.unit)}, "
            f"{sure}; a coin exposes {share(fpr)}"
        )

    def legend(self, report: AuditReport) -> str | None:
        """Say what a rate of scores that have two values is."""
        if report.target.access != "labels":
            return None
        return (
            "a label is right or wrong, so no threshold reaches the FPR exactly: the TPR is that of an attacker who "
            "accuses some of those whose label is right, drawn by lot"
        )

    def missing(self, limit: Limit, report: AuditReport) -> str:
        """Say that a report has no TPR at the FPR of a limit."""
        return f"{limit.name}: the report has no TPR at FPR {limit.fpr:g}: audit again with --fpr {limit.fpr:g}"

    def way_out(self, limit: Limit, evidence: Evidence) -> str:
        """Say how many examples could break the limit, or at which larger FPR the same could."""
        return super().way_out(limit, evidence) + self._other_fpr(limit, evidence)

    def _other_fpr(self, limit: Limit, evidence: Evidence) -> str:
        """Offer the smallest FPR at which the same examples could break the same limit, where there is one."""
        have, alpha = (evidence.members, evidence.nonmembers), evidence.interval.alpha
        if limit.fpr is None or have[1] < 1 or not 0 < alpha < 1:
            return ""
        least = math.ceil(1000 * smallest_resolvable_fpr(have[1], alpha=alpha)) / 1000
        if not limit.fpr < least < 0.5 or attainable_tpr(*have, fpr=least, alpha=alpha) <= limit.limit:
            return ""
        if self.examples_needed(limit, alpha=alpha) is None:
            return ""
        return f", or limit the TPR at an FPR of {least:g} or more"
