"""Are the packages `attacks` and `defenses` that Python finds those that came with this one?

Their names are plain, and a user may have her own: what is found there would be taken for all that there is.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import redteam
from redteam.core import UsageError

PACKAGES = ("attacks", "defenses")


def check_neighbours() -> None:
    """Raise UsageError where `attacks` or `defenses` is another package than the one beside `redteam`."""
    for package in PACKAGES:
        check_neighbour(package)


def check_neighbour(package: str) -> None:
    """Raise UsageError where `package` is not the one that lies beside `redteam`; nothing of it is run."""
    own = Path(redteam.__file__).resolve().parents[1] / package
    try:
        found = find_spec(package)
    except ValueError:  # a module that somebody put there by hand
        found = None
    folders = [Path(place).resolve() for place in (found and found.submodule_search_locations) or ()]
    if folders == [own]:
        return
    there = folders[0] if folders else found.origin if found else getattr(sys.modules.get(package), "__file__", None)
    what = f"is {there}" if there else "cannot be found"
    raise UsageError(
        f"package {package!r} {what}, and should be {own}: rename yours, or run from another folder (PYTHONPATH), or "
        "install redteam again"
    )
