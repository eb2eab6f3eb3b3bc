"""The forms a judged report can take: one pure `render(report, verdict, *, policy) -> str` per module.

The modules are imported when they are first used, so that a JSON report never waits for what draws tables.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from redteam.policy.limits import Policy
    from redteam.policy.verdict import Verdict
    from redteam.report.values import AuditReport


class Render(Protocol):
    """What turns a judged report into text; `options` are those of one format, such as a width."""

    def __call__(self, report: "AuditReport", verdict: "Verdict", *, policy: "Policy", **options: Any) -> str:
        """Return the report as text that ends in a newline."""
        ...


def _lazy(name: str) -> Render:
    def render(report: "AuditReport", verdict: "Verdict", *, policy: "Policy", **options: Any) -> str:
        module = importlib.import_module(f"redteam.formats.{name}")
        text: str = module.render(report, verdict, policy=policy, **options)
        return text

    return render


FORMATS: Mapping[str, Render] = MappingProxyType(
    {name: _lazy(name) for name in ("text", "json", "markdown", "sarif", "junit")}
)
