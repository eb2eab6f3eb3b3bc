"""What can be run: every attack, control and defence found in `attacks/`, `defenses/` and installed plug-ins.

Adding one is adding a file; there is no list to edit. A plug-in names its class under the entry-point groups
`redteam.attacks` or `redteam.defenses`.
"""

import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TypeVar

from redteam.core.errors import UsageError
from redteam.plugins.attack import Attack, Control
from redteam.plugins.defense import Defense
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.neighbours import check_neighbour

Plugin = TypeVar("Plugin", bound=Attack | ExtractionAttack | Control | Defense)


def discover_attacks() -> tuple[Attack, ...]:
    """Return every attack, each with its default settings, in the order of their ids."""
    return _discover(Attack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_extractions() -> tuple[ExtractionAttack, ...]:
    """Return every attack that extracts canaries, each with its default settings, in the order of their ids."""
    return _discover(ExtractionAttack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_controls() -> tuple[Control, ...]:
    """Return every control, each with its default settings, in the order of their ids."""
    return _discover(Control, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_defenses() -> tuple[Defense, ...]:
    """Return every defence, each with its default settings, in the order of their ids."""
    return _discover(Defense, "defenses", "redteam.defenses")  # type: ignore[type-abstract]


def choose(found: tuple[Plugin, ...], wanted: list[str]) -> tuple[Plugin, ...]:
    """Return those of `found` whose id or name is in `wanted`; raise UsageError for one that is unknown."""
    known = {key.lower(): plugin for plugin in found for key in (plugin.id, plugin.name)}
    for name in wanted:
        if name.lower() not in known:
            ids = ", ".join(f"{plugin.id} ({plugin.name})" for plugin in found)
            raise UsageError(f"unknown id {name!r}; known: {ids}")
    chosen = {known[name.lower()].id for name in wanted}
    return tuple(plugin for plugin in found if plugin.id in chosen)


def _discover(kind: type[Plugin], package: str, group: str) -> tuple[Plugin, ...]:
    classes = [
        member
        for module in _modules(package)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__
    ]
    plugins = [c() for c in classes if issubclass(c, kind) and not inspect.isabstract(c)]
    for entry in entry_points(group=group):
        plugins += _installed(entry, kind)
    if not plugins:
        raise UsageError(f"no {kind.__name__} found in the package {package!r}: install redteam again")
    by_id = {plugin.id: plugin for plugin in plugins}
    if len(by_id) != len(plugins):
        ids = [plugin.id for plugin in plugins]
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UsageError(f"two plug-ins share the id {twice}; uninstall one of them")
    return tuple(by_id[i] for i in sorted(by_id))


def _installed(entry: EntryPoint, kind: type[Plugin]) -> list[Plugin]:
    """Return the plug-in of an entry point if it is of that kind; UsageError where somebody's package is broken."""
    try:
        found = entry.load()
        return [found()] if issubclass(found, kind) and not inspect.isabstract(found) else []
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"plug-in {entry.name} = {entry.value} cannot be loaded ({type(error).__name__}: {error}); "
            "repair or uninstall its package"
        ) from None


def _modules(package: str) -> list[ModuleType]:
    check_neighbour(package)
    root = importlib.import_module(package)
    names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.")]
    return [importlib.import_module(name) for name in names]
