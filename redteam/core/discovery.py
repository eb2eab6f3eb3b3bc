"""Find what plugs in: classes in the modules of a package, and those that installed packages name as entry points.

Adding one is adding a file; there is no list to edit.
"""

import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from redteam.core import UsageError

T = TypeVar("T")


def discover(kind: type[T], package: str, group: str) -> tuple[type[T], ...]:
    """Return every class of a kind that can be made: those of the modules of `package`, then those of `group`.

    Raises UsageError where somebody's package is broken.
    """
    root = importlib.import_module(package)
    names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.")]
    found = [
        member
        for module in map(importlib.import_module, names)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__
    ]
    found += [load(entry) for entry in entry_points(group=group)]
    return tuple(
        each for each in found if inspect.isclass(each) and issubclass(each, kind) and not inspect.isabstract(each)
    )


def load(entry: EntryPoint) -> Any:
    """Return what an entry point names; UsageError where it cannot be had."""
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"plug-in {entry.name} = {entry.value} cannot be loaded ({type(error).__name__}: {error}); "
            "repair or uninstall its package"
        ) from None
