"""The command line: one file per command, imported when it is named; `main` makes of any unexpected end exit code 2.

How a function becomes a command: its dataclasses of options are spread out, and what all commands have is added.
"""

import dataclasses
import functools
import gc
import inspect
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from redteam import __version__
from redteam.cli.present import at_work, is_verbose, listen, say, say_more, silence, tell
from redteam.core import INCONCLUSIVE, INTERRUPTED, RedteamError, UsageError
from redteam.core.interrupts import insist

_LONGEST = 1000  # letters of what stopped a command
_MODULES = {"unpack": "pack", "defenses": "attacks"}  # of commands that stand in another's file
_COMMANDS = (
    *(
        "init",
        "audit",
        "fairness",
        "distil",
        "train",
        "privatise",
        "updates",
        "verify",
        "gap",
        "drill",
        "pack",
        "unpack",
        "gate",
        "compare",
        "report",
        "attacks",
        "defenses",
    ),
    *("selftest", "canary"),
)
_OF_REPORTS = (
    "init",
    "gate",
    "compare",
    "report",
)  # they reach no attack, so that nobody's package can stand in for ours
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(TyperCommand):
    """A command with --quiet and --verbose, which refuses what is given twice and says how a setting is given."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Add the options that all commands have to those of this one."""
        super().__init__(*arguments, **settings)
        self.params += [
            _switch("--quiet", "-q", "Print results, warnings and errors only."),
            _switch("--verbose", "-v", "Print more: whole tables, what is run, warnings of libraries, where it fails."),
        ]

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse; UsageError for an option that is unknown, or given twice where one of the two would be forgotten."""
        try:
            order: list[Any] = self.make_parser(ctx).parse_args(args=list(args))[2]
        except Exception as error:
            raise self._advised(error, args) from None
        for each in order:
            if each.param_type_name == "option" and not each.multiple and not each.is_flag and order.count(each) > 1:
                raise UsageError(f"{max(each.opts, key=len)}: is given twice; see: {ctx.command_path} --help")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command at the loudness asked for."""
        quiet, verbose = ctx.params.pop("quiet"), ctx.params.pop("verbose")
        if quiet and verbose:
            raise UsageError("--quiet and --verbose exclude each other; leave one out")
        listen(quiet=quiet, verbose=verbose)
        say_more(f"redteam {__version__}, Python {platform.python_version()}, {platform.platform()}")
        started = time.monotonic()
        try:
            with at_work(ctx.info_name not in _OF_REPORTS):
                return super().invoke(ctx)
        finally:
            say_more(f"{ctx.command_path}: {time.monotonic() - started:.1f} s")

    def _advised(self, error: Exception, args: list[str]) -> Exception:
        """Return an error of parsing with how a setting is given, where an option is unknown that might be one."""
        wrong = str(getattr(error, "option_name", ""))
        if not wrong.startswith("--") or "set" not in {each.name for each in self.params}:
            return error
        after = next((after for each, after in zip(args, [*args[1:], ""], strict=True) if each == wrong), "")
        inside = next((each.partition("=")[2] for each in args if each.startswith(f"{wrong}=")), "")
        value = inside or (after if after and not after.startswith("-") else "VALUE")
        error.message = f"{error.message.rstrip('.')}; a setting is given as --set {_setting(wrong)}={value}"  # type: ignore[attr-defined]
        return error


def group(*functions: Callable[..., None], **settings: Any) -> typer.Typer:
    """Return an application of these commands, a single one without a name of its own."""
    made = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT, **settings)
    for function in functions:
        made.command(cls=Command)(spread(function))
    return made


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function with the fields of its parameters that are dataclasses as parameters of their own."""
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(function).parameters.values():
        if each.name in groups:
            parameters += inspect.signature(groups[each.name]).parameters.values()
        else:
            parameters.append(each.replace(annotation=hints[each.name]))
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]

    @functools.wraps(function)
    def run(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        function(**given, **made)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _switch(long: str, short: str, help: str) -> Any:
    return TyperOption(param_decls=[long, short], is_flag=True, default=False, help=help)


def _setting(option: str) -> str:
    return option.lstrip("-").partition("=")[0].replace("-", "_")


class _Lazy(Mapping[str, Any]):
    """Every command by its name, imported when it is first looked at: judging a report needs none of the others."""

    def __getitem__(self, name: str) -> Any:
        """Return a command, or a group of them."""
        if name not in _COMMANDS:
            raise KeyError(name)
        found = getattr(import_module(f"{__name__}.{_MODULES.get(name, name)}"), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        return typer.main.get_command(group(found))

    def __iter__(self) -> Iterator[str]:
        """Yield the names as help lists them."""
        return iter(_COMMANDS)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(_COMMANDS)


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Lazy()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


HELP = "Attack and audit a text classifier for privacy leakage. Exit 0: pass; 1: leak proven; 2: inconclusive."
app = typer.Typer(
    name="redteam",
    cls=_Group,
    help=HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take "[default: ...]" for markup and drop it
    context_settings=CONTEXT,
)


@app.callback(invoke_without_command=True, help=HELP)
def version(
    context: typer.Context,
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    """Print the version, or the help where no command is named."""
    if show:
        tell(f"redteam {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        tell(context.get_help())
        raise UsageError("name a command, such as: redteam audit model.pt")
    if context.invoked_subcommand not in _OF_REPORTS:
        from redteam.plugins.neighbours import check_neighbours

        check_neighbours()


def main() -> NoReturn:
    """Run the command line and exit: 0, 1 or 2 as documented, 130 when interrupted, 2 for anything unforeseen."""
    signal.signal(signal.SIGTERM, _interrupt)
    insist()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle workers that spin slow everything else down
    gc.set_threshold(50_000, 20, 100)  # the million objects of torch's import stay: looking through them takes seconds
    _replace_closed_streams()
    if "_REDTEAM_COMPLETE" in os.environ or sys.argv[1:2] in (["--install-completion"], ["--show-completion"]):
        _complete()
    if not sys.warnoptions and not os.environ.get("REDTEAM_DEBUG"):
        warnings.simplefilter("ignore")  # what libraries advise is not for whoever runs an audit
        # What a thread of somebody's function dies of may hold the texts that it was given; what is missing is found.
        threading.excepthook = lambda arguments: None
        insist(lambda unraisable: None)
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
        say(f"redteam: interrupted; the same command {again}", logging.ERROR)
        silence()
        os._exit(INTERRUPTED)  # a KeyboardInterrupt that passed through C code makes Python end by SIGINT instead
    except BaseException as error:  # also what is no Exception: Python's own exit code for it would mean a leak
        if os.environ.get("REDTEAM_DEBUG") or (is_verbose() and not hasattr(error, "format_message")):
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
    said = " ".join(message.split())
    if len(said) > _LONGEST:  # a name of thousands of letters hides what is wrong and what would do, at both ends
        said = f"{said[: _LONGEST - 300]} [...] {said[-300:]}"
    say(f"redteam: {said}", logging.ERROR)
    silence()
    sys.exit(code)


def _complete() -> NoReturn:
    """Serve the shell's completion, or install or print it, and exit: whatever fails there, it is no leak."""
    try:
        app(prog_name="redteam")
    except SystemExit as end:
        sys.exit(INCONCLUSIVE if end.code else 0)
    sys.exit(0)


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
