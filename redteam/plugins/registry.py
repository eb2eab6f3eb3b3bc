"""What can be run: every attack, control and defence found in `attacks/`, `defenses/` and installed plug-ins.

Adding one is adding a file; there is no list to edit. A plug-in names its class under the entry-point groups
`redteam.attacks` or `redteam.defenses`.
"""

from typing import TypeVar

from redteam.core import UsageError, one_line
from redteam.core.discovery import discover
from redteam.plugins.attack import Attack, Control
from redteam.plugins.defense import Defense
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.fairness import FairnessAttack, SwapControl
from redteam.plugins.latent import VectorMechanism
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.neighbours import check_neighbour
from redteam.plugins.reconstruction import ReconstructionAttack
from redteam.plugins.row_risk import RowRisk
from redteam.plugins.update import UpdateAttack, UpdateControl, UpdateMembership

OfModels = Attack | ExtractionAttack | FairnessAttack | Control | SwapControl | RowRisk | ReconstructionAttack
OfUpdates = UpdateAttack | UpdateMembership | UpdateControl
Plugin = TypeVar("Plugin", bound=OfModels | OfUpdates | Defense | WordMechanism | VectorMechanism)


def discover_attacks() -> tuple[Attack, ...]:
    """Return every attack, each with its default settings, in the order of their ids."""
    return _discover(Attack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_extractions() -> tuple[ExtractionAttack, ...]:
    """Return every attack that extracts canaries, each with its default settings, in the order of their ids."""
    return _discover(ExtractionAttack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_risks() -> tuple[RowRisk, ...]:
    """Return every measure of the risk of rows, each with its default settings, in the order of their ids."""
    return _discover(RowRisk, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_update_attacks() -> tuple[UpdateAttack, ...]:
    """Return every attack on clients' updates, each with its default settings, in the order of their ids."""
    return _discover(UpdateAttack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_update_membership() -> tuple[UpdateMembership, ...]:
    """Return every attack that asks an update for a text, each with its default settings, in the order of their ids."""
    return _discover(UpdateMembership, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_update_controls() -> tuple[UpdateControl, ...]:
    """Return every control of attacks on updates, each with its default settings, in the order of their ids."""
    return _discover(UpdateControl, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_controls() -> tuple[Control, ...]:
    """Return every control, each with its default settings, in the order of their ids."""
    return _discover(Control, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_fairness() -> tuple[FairnessAttack, ...]:
    """Return every measurement of fairness, each with its default settings, in the order of their ids."""
    return _discover(FairnessAttack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_swap_controls() -> tuple[SwapControl, ...]:
    """Return every control of swaps, each with its default settings, in the order of their ids."""
    return _discover(SwapControl, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def discover_defenses() -> tuple[Defense, ...]:
    """Return every defence, each with its default settings, in the order of their ids."""
    return _discover(Defense, "defenses", "redteam.defenses")  # type: ignore[type-abstract]


def discover_mechanisms() -> tuple[WordMechanism, ...]:
    """Return every privatiser of words, each with its default settings, in the order of their ids."""
    return _discover(WordMechanism, "defenses", "redteam.defenses")  # type: ignore[type-abstract]


def discover_vector_mechanisms() -> tuple[VectorMechanism, ...]:
    """Return every privatiser of whole texts, each with its default settings, in the order of their ids."""
    return _discover(VectorMechanism, "defenses", "redteam.defenses")  # type: ignore[type-abstract]


def discover_reconstructions() -> tuple[ReconstructionAttack, ...]:
    """Return every attack on released texts, each with its default settings, in the order of their ids."""
    return _discover(ReconstructionAttack, "attacks", "redteam.attacks")  # type: ignore[type-abstract]


def choose(found: tuple[Plugin, ...], wanted: list[str]) -> tuple[Plugin, ...]:
    """Return those of `found` whose id or name is in `wanted`; raise UsageError for one that is unknown."""
    known = {key.lower(): plugin for plugin in found for key in (plugin.id, plugin.name)}
    for name in wanted:
        if name.lower() not in known:
            ids = ", ".join(plugin.id for plugin in found)
            raise UsageError(f"unknown id {name!r}; known: {ids}, and their names")
    chosen = {known[name.lower()].id for name in wanted}
    return tuple(plugin for plugin in found if plugin.id in chosen)


def _discover(kind: type[Plugin], package: str, group: str) -> tuple[Plugin, ...]:
    check_neighbour(package)
    plugins = [_make(found) for found in discover(kind, package, group)]
    if not plugins:
        raise UsageError(f"no {kind.__name__} found in the package {package!r}: install redteam again")
    by_id = {plugin.id: plugin for plugin in plugins}
    if len(by_id) != len(plugins):
        ids = [plugin.id for plugin in plugins]
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UsageError(f"two plug-ins share the id {twice}; uninstall one of them")
    return tuple(by_id[i] for i in sorted(by_id))


def _make(found: type[Plugin]) -> Plugin:
    """Return the plug-in with its default settings; UsageError where it has no defaults, or breaks."""
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"plug-in {found.__module__}:{found.__qualname__} cannot be made ({one_line(error)}); "
            "repair or uninstall its package"
        ) from None
