"""What reports on experiments share: cells that failed, and a versioned JSON form."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from redteam import core
from redteam.core import RedteamError, ReportError, read_text

_LARGEST = 64 * 2**20  # bytes; the largest grids write some hundred thousand


@dataclass(frozen=True)
class FailedCell:
    """A cell without numbers, as messages name it, and why."""

    cell: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExperimentReport:
    """What every experiment reports: its settings, the cells that failed, and when which version made it.

    `format`, which each kind of report sets for itself, is `redteam.NAME/VERSION`; no other is read.
    """

    settings: dict[str, Any]
    failures: tuple[FailedCell, ...]
    created: str
    tool_version: str
    format: str = ""

    def to_json(self) -> str:
        """Return the report as indented JSON text ending in a newline."""
        return json.dumps(core.encode(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `to_json` wrote; raise ReportError where it is anything else, or of another format."""
        name = cls.format.removeprefix("redteam.").partition("/")[0]
        try:
            text = read_text(path, most=_LARGEST)
            report = core.parse(cls, text, name, format=cls.format, advice=f"run redteam {name} again")
        except (OSError, ValueError, RedteamError) as error:
            raise ReportError(f"{path}: cannot be read as a report of redteam {name} ({error})") from None
        for contradiction in report.contradictions():
            raise ReportError(f"{path}: contradicts itself: {contradiction}; run redteam {name} again")
        return report

    def contradictions(self) -> Iterator[str]:
        """Yield what in a saved report cannot be so; who forges one with care is not found out."""
        yield from ()


def now() -> str:
    """Return the time of day, as reports write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
