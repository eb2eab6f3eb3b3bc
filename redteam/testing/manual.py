"""What every plug-in with an id keeps to: an id of its kind, and a manual page."""

import re
import sys
from typing import Any, TypeVar

from redteam.testing.examples import must

T = TypeVar("T")


def made(plugin: type[T] | T) -> T:
    """Return the plug-in itself, of a class the one with its default settings."""
    return plugin() if isinstance(plugin, type) else plugin


def check_manual(plugin: Any, pattern: str) -> None:
    """Hold id, name and the module's docstring, which is the manual page, to their form."""
    must(re.fullmatch(pattern, plugin.id), f"id {plugin.id!r}: must be like {pattern}")
    page = sys.modules[type(plugin).__module__].__doc__ or ""
    first = next(iter(page.splitlines()), "")
    wanted = f"{plugin.id} {plugin.name}: what it does, in one line"
    must(re.match(rf"{plugin.id} [^:]+: .", first), f"{plugin.id}: its module's docstring must begin {wanted!r}")
