"""How a function becomes a command: its dataclasses of options are spread out, and what all commands have is added."""

import dataclasses
import functools
import inspect
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from redteam.cli.present import listen, say_more
from redteam.core.errors import UsageError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(TyperCommand):
    """A command with --quiet and --verbose, which refuses what is given twice and says how a setting is given."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Add the options that all commands have to those of this one."""
        super().__init__(*arguments, **settings)
        self.params += [
            _switch("--quiet", "-q", "Print results, warnings and errors only."),
            _switch("--verbose", "-v", "Print more: what is opened and run, warnings of libraries, where it fails."),
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
        say_more(f"redteam {version('redteam')}, Python {platform.python_version()}, {platform.platform()}")
        started = time.monotonic()
        try:
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
