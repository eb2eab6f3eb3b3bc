"""The forms a judged report can take: one pure `render(report, verdict, *, policy) -> str` per module.

A format is a module of this package with such a function, or a function that an installed package names under the
entry-point group `redteam.formats`; there is no list to edit. Modules are imported when they are first used, so that a
JSON report never waits for what draws tables.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from importlib.abc import InspectLoader
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from redteam.core.discovery import load

if TYPE_CHECKING:
    from redteam.policy.limits import Policy
    from redteam.policy.verdict import Verdict
    from redteam.report.values import AuditReport

GROUP = "redteam.formats"


class Render(Protocol):
    """What turns a judged report into text; `options` are those of one format, such as a width."""

    def __call__(self, report: "AuditReport", verdict: "Verdict", *, policy: "Policy", **options: Any) -> str:
        """Return the report as text that ends in a newline."""
        ...


class _Formats(Mapping[str, Render]):
    """Every format by its name; a module is imported when its format is first used."""

    def __getitem__(self, name: str) -> Render:
        """Return the format of a name, ours before any other; UsageError where its package is broken."""
        if _is_ours(name):
            return cast(Render, importlib.import_module(f"{__name__}.{name}").render)
        for entry in entry_points(group=GROUP, name=name):
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
    source = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
    return re.search(r"^def render\(", source or "", re.MULTILINE) is not None


FORMATS: Mapping[str, Render] = _Formats()
