"""Hand a result over, on standard output or into a file, whole or not at all, and sum it up in one line."""

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from redteam.core import INCONCLUSIVE, LEAK, PASS, RedteamError, UsageError
from redteam.formats import FORMATS, clean

if TYPE_CHECKING:
    from redteam.integrations.logged import Logged
    from redteam.policy import Policy, Verdict
    from redteam.report.values import AuditReport

_WIDEST = 100


def format_name(value: str) -> str:
    """Return the name of a format, ours or a plug-in's; UsageError for one that is unknown."""
    if value not in FORMATS:
        raise UsageError(f"--format {value}: known are {', '.join(FORMATS)}")
    return value


def tracker(value: str) -> str:
    """Return the name of a tracker; UsageError where it is unknown or not installed: before the work, not after it."""
    from redteam.integrations.trackers import tracker_name

    return tracker_name(value)


class TextOrJson(StrEnum):
    """The formats of what is no report of an audit."""

    text = "text"
    json = "json"


FORMAT = "How to print the result."
PlainFormat = Annotated[TextOrJson, typer.Option("--format", "-f", help=FORMAT)]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="TOML file of limits [default: ./redteam.toml, ./pyproject.toml, built-in limits]."),
]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", help="Older report whose proven leaks do not fail this one.")
]
ReportFormat = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        parser=format_name,
        metavar="[text|json|markdown|html|sarif|junit|...]",
        help=FORMAT,
    ),
]
ReportFile = Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of standard output.")]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        parser=tracker,
        metavar="[mlflow|wandb|tensorboard]",
        help="Tracker to log numbers and the page to; can be given several times.",
    ),
]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit 0 instead of 1; what is inconclusive still exits 2.")]


@dataclass(frozen=True, kw_only=True)
class JudgingOptions:
    """What a report is judged by."""

    policy: PolicyFile = None
    baseline: Baseline = None

    def load(self, today: date) -> "tuple[Policy, AuditReport | None]":
        """Return the policy and the older report, if there is one."""
        from redteam.policy.reading import load_policy
        from redteam.report.reading import load_report

        return load_policy(self.policy, today=today), None if self.baseline is None else load_report(self.baseline)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How a judged report is handed over."""

    format: ReportFormat = "text"
    output: ReportFile = None
    log: Trackers = None
    exit_zero: ExitZero = False

    def present(
        self, report: "AuditReport", policy: "Policy", today: date, *, baseline: "AuditReport | None" = None
    ) -> int:
        """Judge a report, write it to `output` or stdout, sum it up on stderr, and return the exit code."""
        from redteam.formats import summary
        from redteam.policy.judge import judge

        verdict = judge(report, policy, today=today, baseline=baseline)
        text = FORMATS[self.format](report, verdict, policy=policy, verbose=is_verbose(), **terminal(self.output))
        delivered = deliver(text, self.output) and log_to(self.log, lambda: _judged(report, policy, verdict))
        if delivered or verdict.exit_code == LEAK:
            say(summary(verdict), logging.INFO if delivered else logging.ERROR)
        return exit_code(verdict.exit_code, exit_zero=self.exit_zero, delivered=delivered)


def log_to(trackers: list[str] | None, made: "Callable[[], Logged]") -> bool:
    """Log what is made of a report to each tracker that was named; say on stderr what failed and return False."""
    if not trackers:
        return True
    from redteam.integrations.trackers import log

    logged, done = made(), True
    for name in trackers:
        try:
            log(name, logged)
        except RedteamError as error:
            done = False
            say(f"redteam: {error}", logging.ERROR)
    return done


def _judged(report: "AuditReport", policy: "Policy", verdict: "Verdict") -> "Logged":
    from redteam.integrations.judged import Judged

    return Judged(report, policy, verdict).logged()


def exit_code(code: int, *, exit_zero: bool, delivered: bool) -> int:
    """Return the exit code: a proven leak stays one whatever fails after it, unless it was to be let off."""
    if code == LEAK and not exit_zero:
        return LEAK
    return max(PASS if code == LEAK else code, PASS if delivered else INCONCLUSIVE)


def deliver(text: str, output: Path | None, *, private: bool = False) -> bool:
    """Write `text`, in one piece where it goes to a file; say on stderr what failed and return False.

    A `private` file can be read by its owner only.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        if output is None:
            _print(text)
        else:
            from redteam.core.files import write_atomic

            write_atomic(output, text, mode=0o600 if private else 0o666)
    except BrokenPipeError:  # whoever was reading has seen enough
        silence()
    except OSError as error:
        silence()
        where = "standard output" if output is None else str(output)
        say(f"redteam: cannot write {where}: {error.strerror or error}: give -o a place with room", logging.ERROR)
        return False
    return True


def tell(text: str) -> None:
    """Print what was asked for, a list or a plan; exit 2 where it cannot be printed."""
    if not deliver(text, None):
        raise typer.Exit(INCONCLUSIVE)


class _Stderr(logging.Handler):
    """Write one line to stderr, with nothing in it that a terminal would obey; one that is full hears less.

    Nothing is raised: an exit code must not depend on whether anybody could be told of it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        for each in before_a_line:
            each()
        try:
            print(_encodable(clean(record.getMessage()), sys.stderr.encoding), file=sys.stderr, flush=True)
        except OSError:
            silence(sys.stderr)


before_a_line: list[Callable[[], None]] = []  # what takes something off the terminal before a line is written to it

_LOGGER = logging.getLogger("redteam")
_LOGGER.addHandler(_Stderr())
_LOGGER.setLevel(logging.INFO)
_LOGGER.propagate = False


def listen(*, quiet: bool, verbose: bool) -> None:
    """Say results, warnings and errors only, or more than usual: then also what libraries warn of."""
    _LOGGER.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    if verbose:
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").addHandler(_Stderr())
        warnings.simplefilter("default")


def is_quiet() -> bool:
    """Tell whether notes and progress are not wanted."""
    return not _LOGGER.isEnabledFor(logging.INFO)


def is_verbose() -> bool:
    """Tell whether more than usual is wanted."""
    return _LOGGER.isEnabledFor(logging.DEBUG)


def at_work(wanted: bool) -> AbstractContextManager[None]:
    """Return what shows on a terminal, where it is wanted, that something is at work though nothing is said."""
    if not wanted or is_quiet() or not sys.stderr.isatty():
        return nullcontext()
    from redteam.cli.waiting import watched

    return watched(before_a_line)


def say(line: str, level: int = logging.INFO) -> None:
    """Write one line to stderr: a note, unless it is a warning or an error, which --quiet leaves."""
    _LOGGER.log(level, "%s", line)


def say_more(line: str) -> None:
    """Write one line to stderr where more than usual is wanted."""
    _LOGGER.debug("%s", line)


def terminal(output: Path | None, environment: Mapping[str, str] = os.environ) -> dict[str, bool | int]:
    """Return `color` and `width` for where the text goes: plain and 100 columns unless it is a terminal."""
    if output is not None or not sys.stdout.isatty():
        return {"color": False, "width": _WIDEST}
    plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
    columns = shutil.get_terminal_size((_WIDEST, 24)).columns
    return {"color": not plain, "width": max(40, min(columns, _WIDEST))}


def _print(text: str) -> None:
    for each in before_a_line:
        each()
    sys.stdout.write(_encodable(text, sys.stdout.encoding))
    sys.stdout.flush()  # a full disk shows here, and not after the exit code is decided


def _encodable(text: str, encoding: str | None) -> str:
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def silence(stream: TextIO | None = None) -> None:
    """Point a stdout (or `stream`) that cannot be written at nothing: a flush at exit would change the exit code."""
    stream = stream or sys.stdout
    try:
        stream.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_output(output: Path | None, *inputs: Path | None) -> None:
    """Raise UsageError where writing is bound to fail or would replace an input: before the work, not after it."""
    if output is None:
        return
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist")
    if output.is_dir():
        raise UsageError(f"--output {output}: is a folder; name a file")
    refuse_overwriting(output, *inputs)


def refuse_overwriting(output: Path | None, *inputs: Path | None) -> None:
    """Raise UsageError where the output would replace one of the files that are read, or one in a folder of them."""
    if output is None or not output.is_file():
        return
    for path in inputs:
        if path is not None and path.exists() and (output.samefile(path) or path.resolve() in output.resolve().parents):
            raise UsageError(f"--output {output} would overwrite an input: give another file")
