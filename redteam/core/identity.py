"""What numbers depend on, as a document: the code of others that made them, and where two such documents differ."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from redteam.core.files import sha256

_OURS = ("attacks", "defenses", "redteam")  # whose version such a document names


def foreign_code(plugins: Iterable[object]) -> dict[str, str]:
    """Return the fingerprint of the file of each plug-in that is not of this version's own, by its class."""
    found = {}
    for kind in {type(plugin) for plugin in plugins}:
        if kind.__module__.partition(".")[0] in (*_OURS, "__main__"):  # a script has another name in a worker
            continue
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if file is not None and Path(file).is_file():
            found[f"{kind.__module__}.{kind.__qualname__}"] = sha256(Path(file))
    return dict(sorted(found.items()))


def difference(before: dict[str, Any], now: dict[str, Any], name: str = "") -> str | None:
    """Return the first setting that differs, as "batch_size 32, now 64"; None where nothing does."""
    for key in dict.fromkeys((*now, *before)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found = difference(old, new, key)
            if found is not None:
                return found
        elif old != new:
            old, new = (f"{v[:12]}..." if isinstance(v, str) and len(v) == 64 else v for v in (old, new))
            return f"{key} {old}, now {new}"
    return None
