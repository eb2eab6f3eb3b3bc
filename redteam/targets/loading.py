"""Open what a source names, whatever kind of target it is.

A kind is one class, a `TargetKind`, in a module of this package or named by an installed package under the entry-point
group `redteam.targets`; there is no list to edit.
"""

from typing import Any

from redteam.core import TargetError
from redteam.core.discovery import discover
from redteam.targets.kind import TargetKind
from redteam.targets.target import Target

GROUP = "redteam.targets"


def target_kinds() -> tuple[TargetKind, ...]:
    """Return every kind of target; UsageError where a package is broken."""
    found = discover(TargetKind, __package__, GROUP)  # type: ignore[type-abstract]
    return tuple(sorted((kind() for kind in found), key=lambda kind: kind.name))


def load_target(source: str, **options: Any) -> Target:
    """Open what `source` names: model.pt, a Hugging Face directory, module:function, an http(s) URL, or a plug-in's.

    Options are those of the kind (for a model `device`, `batch_size`, `max_length`, `base_model`, `limits`). Raises
    BundleError or TargetError with one line that says what is wrong, also where the source names nothing or several.

    >>> load_target("nowhere")
    Traceback (most recent call last):
    redteam.core.TargetError: nowhere: no such file or directory, and neither a URL nor module:function
    """
    kinds = target_kinds()
    named = [kind for kind in kinds if kind.names(source)]
    named = [kind for kind in named if not kind.general] or named
    if not named:
        looks = " nor ".join(kind.looks for kind in kinds if kind.looks)
        raise TargetError(f"{source}: no such file or directory, and neither {looks}")
    if len(named) > 1:
        both = " and ".join(kind.name for kind in named)
        raise TargetError(f"{source}: is taken for a target of several kinds, {both}; uninstall one of them")
    return named[0].open(source, **options)
