"""How groups fare, as the cells of tables: what describes them beside what is judged."""

from collections.abc import Iterator

from redteam.formats import clip
from redteam.report import range_of
from redteam.report.values import AuditReport, FairnessNumber

HEADERS = ("of", "what", "rows", "value")
_MOST = 16  # rows of a table, unless more than usual is wanted
Rows = list[tuple[str, str, str, str]]


def tables(report: AuditReport, *, verbose: bool) -> Iterator[tuple[str, Rows, list[str]]]:
    """Yield for each measurement a title, rows under `HEADERS`, and what was left out of a long table."""
    for attack in dict.fromkeys(each.attack for each in report.fairness):
        own = [each for each in report.fairness if each.attack == attack]
        shown = own if verbose else own[:_MOST]
        rows = [(clip(e.subject, 40), clip(e.measure, 50), f"{e.count:,}", cell(e)) for e in shown]
        left = [f"and {len(own) - len(shown):,} more; -v shows all"] if len(shown) < len(own) else []
        yield f"How groups fare by {attack} (described, each interval by itself)", rows, left


def cell(number: FairnessNumber) -> str:
    """Write a number, with its interval where it has one."""
    if number.interval is not None:
        return range_of(number.interval)
    return f"{number.value:.2f}" if abs(number.value) >= 0.01 or number.value == 0 else f"{number.value:.2e}"
