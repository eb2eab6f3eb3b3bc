"""Read saved reports."""

from pathlib import Path

from redteam.core.errors import ReportError
from redteam.core.files import read_text
from redteam.report.consistency import require_consistent
from redteam.report.values import AuditReport


def load_report(path: Path) -> AuditReport:
    """Read a report file; raise ReportError where there is none, or it contradicts itself."""
    try:
        report = AuditReport.from_json(read_text(path), source=str(path))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: cannot be read (not UTF-8 text, byte {error.start})") from None
    require_consistent(report, source=str(path))
    return report
