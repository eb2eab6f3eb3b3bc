"""The command line: one file per command; `main` turns every unexpected end into exit code 2."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from redteam.cli.attacks import attacks, defenses
from redteam.cli.audit import audit
from redteam.cli.compare import compare
from redteam.cli.gate import gate
from redteam.cli.pack import pack, unpack
from redteam.cli.selftest import selftest
from redteam.cli.train import train
from redteam.errors import RedteamError

NOT_AUDITED = 2
INTERRUPTED = 130

app = typer.Typer(
    name="redteam",
    help="Attack and audit a text classifier for privacy leakage. Exit 0: pass; 1: leak proven; 2: not audited.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (audit, train, pack, unpack, gate, compare, attacks, defenses, selftest):
    app.command()(command)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    """Attack and audit a text classifier for privacy leakage. Exit 0: pass; 1: leak proven; 2: not audited."""
    if show:
        from redteam import __version__

        typer.echo(f"redteam {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line and exit: 0, 1 or 2 as documented, 130 when interrupted, 2 for anything unforeseen."""
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle workers that spin slow everything else down
    try:
        code = app(prog_name="redteam", standalone_mode=False)
    except RedteamError as error:
        _stop(str(error), NOT_AUDITED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"{where}{error.strerror or error}; nothing half-written is left", NOT_AUDITED)
    except (KeyboardInterrupt, typer.Abort):
        _stop("interrupted; the same command goes on where it was", INTERRUPTED)
    except Exception as error:
        if os.environ.get("REDTEAM_DEBUG"):
            raise
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer's, with its own help
            error.show()
            sys.exit(NOT_AUDITED)
        _stop(f"internal error, nothing was decided: {type(error).__name__}: {error}", NOT_AUDITED)
    sys.exit(code or 0)


def _stop(message: str, code: int) -> NoReturn:
    print("redteam:", " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
