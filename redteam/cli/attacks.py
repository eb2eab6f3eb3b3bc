"""`redteam attacks` and `redteam defenses`: what there is, with the manual page of each."""

import inspect
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli.present import tell, terminal

if TYPE_CHECKING:
    from redteam.plugins.attack import Attack, Control
    from redteam.plugins.defense import Defense
    from redteam.plugins.extraction import ExtractionAttack
    from redteam.plugins.fairness import FairnessAttack, SwapControl
    from redteam.plugins.latent import VectorMechanism
    from redteam.plugins.mechanism import WordMechanism
    from redteam.plugins.reconstruction import ReconstructionAttack
    from redteam.plugins.row_risk import RowRisk
    from redteam.plugins.update import UpdateAttack, UpdateControl, UpdateMembership

    OfModels = Attack | ExtractionAttack | FairnessAttack | RowRisk | ReconstructionAttack | Control | SwapControl
    Plugin = OfModels | UpdateAttack | UpdateMembership | UpdateControl | Defense | WordMechanism | VectorMechanism

Wanted = Annotated[str | None, typer.Argument(help="An id or a name: print its manual page and settings.")]


def attacks(wanted: Wanted = None) -> None:
    """List attacks and controls, or print the manual page of one."""
    from redteam.plugins.registry import (
        discover_attacks,
        discover_controls,
        discover_extractions,
        discover_fairness,
        discover_reconstructions,
        discover_risks,
        discover_swap_controls,
        discover_update_attacks,
        discover_update_controls,
        discover_update_membership,
    )

    rows: list[tuple[Plugin, str]] = [(a, f"needs {a.needs.word}") for a in discover_attacks()]
    rows += [(a, f"needs {a.needs.word} and canaries") for a in discover_extractions()]
    rows += [(a, "needs reference models, no access") for a in discover_risks()]
    rows += [(a, "needs released texts, no access") for a in discover_reconstructions()]
    rows += [(a, "needs clients' updates") for a in discover_update_attacks()]
    rows += [(a, "needs clients' updates and texts") for a in discover_update_membership()]
    rows += [(c, "control, never sees the target") for c in discover_controls()]
    rows += [(c, "control of attacks on updates") for c in discover_update_controls()]
    rows += [(a, f"fairness, needs {a.needs.word}") for a in discover_fairness()]
    rows += [(c, "control, beside swaps of groups") for c in discover_swap_controls()]
    _show(sorted(rows, key=lambda row: row[0].id), wanted)


def defenses(wanted: Wanted = None) -> None:
    """List defences, or print the manual page of one."""
    from redteam.plugins.registry import discover_defenses, discover_mechanisms, discover_vector_mechanisms

    rows: list[tuple[Plugin, str]] = [(d, "") for d in discover_defenses()]
    rows += [(m, "privatises texts word by word, before training") for m in discover_mechanisms()]
    rows += [(m, "privatises whole texts, before training") for m in discover_vector_mechanisms()]
    _show(rows, wanted)


def _show(rows: "list[tuple[Plugin, str]]", wanted: str | None) -> None:
    width = int(terminal(None)["width"])
    if wanted is not None:
        from redteam.plugins.registry import choose

        plugins = tuple(plugin for plugin, _ in rows)
        (chosen,) = choose(plugins, [wanted])
        tell(f"{_manual(chosen)}\n\n{_settings(chosen, width)}")
        return
    lines = []
    for plugin, note in rows:
        lines.append(f"{plugin.id}  {plugin.name}" + (f" ({note})" if note else ""))
        says = _manual(plugin).partition("\n")[0].partition(": ")[2]
        lines += _filled(says, width)
    tell("\n".join(lines))


def _manual(plugin: "Plugin") -> str:
    """Return a plug-in's manual page: the docstring of its module."""
    return inspect.getdoc(sys.modules[type(plugin).__module__]) or f"{plugin.id} {plugin.name}: no manual page"


def _settings(plugin: "Plugin", width: int) -> str:
    """Return a paragraph on each setting: its default, what a value must be, its unit, and what it does."""
    from redteam.plugins.settings import describe

    lines = [f"Settings, each as --set NAME=VALUE or --set {plugin.id}.NAME=VALUE:"]
    for each in describe(plugin):
        unit = f" ({each.setting.unit})" if each.setting.unit else ""
        lines += ["", f"  {each.name}={each.shown}", *_filled(f"{each.wanted}{unit}. {each.setting.does}", width)]
    return "\n".join(lines) if len(lines) > 1 else "No settings."


def _filled(text: str, width: int) -> list[str]:
    return textwrap.wrap(text[:1].upper() + text[1:], width, initial_indent=" " * 7, subsequent_indent=" " * 7)
