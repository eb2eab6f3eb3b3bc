"""The command line: one file per command; `main` turns every unexpected end into exit code 2."""

import gc
import os
import signal
import sys
import traceback
import warnings
from types import FrameType
from typing import Any, NoReturn

import typer

from redteam.cli.attacks import attacks, defenses
from redteam.cli.audit import audit
from redteam.cli.canary import canary
from redteam.cli.compare import compare
from redteam.cli.drill import drill
from redteam.cli.gap import gap
from redteam.cli.gate import gate
from redteam.cli.pack import pack, unpack
from redteam.cli.present import say, silence, tell
from redteam.cli.selftest import selftest
from redteam.cli.train import train
from redteam.cli.verify import verify
from redteam.core.errors import RedteamError, UsageError
from redteam.core.exit_codes import INCONCLUSIVE, INTERRUPTED
from redteam.plugins.neighbours import check_neighbours

app = typer.Typer(
    name="redteam",
    help="Attack and audit a text classifier for privacy leakage. Exit 0: pass; 1: leak proven; 2: inconclusive.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take "[default: ...]" for markup and drop it
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (audit, train, verify, gap, drill, pack, unpack, gate, compare, attacks, defenses, selftest):
    app.command()(command)
app.add_typer(canary)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    """Attack and audit a text classifier for privacy leakage. Exit 0: pass; 1: leak proven; 2: inconclusive."""
    if show:
        from redteam import __version__

        tell(f"redteam {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        tell(context.get_help())
        raise UsageError("name a command, such as: redteam audit model.pt")
    check_neighbours()


def main() -> NoReturn:
    """Run the command line and exit: 0, 1 or 2 as documented, 130 when interrupted, 2 for anything unforeseen."""
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle workers that spin slow everything else down
    gc.set_threshold(50_000, 20, 100)  # the million objects of torch's import stay: looking through them takes seconds
    _replace_closed_streams()
    if not sys.warnoptions and not os.environ.get("REDTEAM_DEBUG"):
        warnings.simplefilter("ignore")  # what libraries advise is not for whoever runs an audit
    try:
        code = app(prog_name="redteam", standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt, without a word
            raise KeyboardInterrupt
    except RedteamError as error:
        _stop(str(error), INCONCLUSIVE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"{where}{error.strerror or error}; nothing half-written is left", INCONCLUSIVE)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C has nothing left to stop
        again = "starts anew" if sys.argv[1:2] in (["canary"], ["verify"]) else "goes on where it was"
        say(f"redteam: interrupted; the same command {again}")
        silence()
        os._exit(INTERRUPTED)  # a KeyboardInterrupt that passed through C code makes Python end by SIGINT instead
    except (Exception, SystemExit) as error:
        if os.environ.get("REDTEAM_DEBUG"):
            traceback.print_exc()
        _stop(_explain(error), INCONCLUSIVE)
    finally:
        gc.freeze()  # nor does the end of the process have to look through them once more
    sys.exit(code or 0)


def _explain(error: BaseException) -> str:
    """Return what to say about an error that is not ours: typer's are of usage, all others are crashes."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):  # what typer makes of one
        return "nobody reads standard output"
    if isinstance(error, SystemExit):  # a plug-in's or a model's: what they exit with is no verdict of ours
        return f"internal error, nothing was decided: something called sys.exit({error.code!r})"
    if not hasattr(error, "format_message"):
        cause = error.__cause__ if isinstance(error, typer.Abort) and error.__cause__ else error  # typer's for EOFError
        return f"internal error, nothing was decided: {type(cause).__name__}: {cause}"
    message = error.format_message().rstrip(".")
    refused: Any = getattr(error.__cause__, "errors", list)()  # typer leaves out the value that its validator names
    value = f", not {refused[0]['input']!r}" if refused and repr(refused[0]["input"]) not in message else ""
    context = getattr(error, "ctx", None)
    return f"{message}{value}; see: {context.command_path if context else 'redteam'} --help"


def _stop(message: str, code: int) -> NoReturn:
    say(f"redteam: {' '.join(message.split())}")
    silence()
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _replace_closed_streams() -> None:
    """Occupy a closed stdout or stderr, or the next file that is opened takes its number and what is printed there."""
    if sys.stdout is None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 1)  # a stdout on which every write fails, as it should
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
