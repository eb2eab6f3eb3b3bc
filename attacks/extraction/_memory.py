"""How much memory an attack may take: asked before it is taken."""

import os
from pathlib import Path

from redteam.core import UsageError


def require_room(candidates: int, labels: int) -> None:
    """Raise UsageError where the losses of so many candidates would take over half of the memory that is free."""
    what = f"the losses of {candidates:,} candidates for {labels:,} labels"
    require_bytes(8 * candidates * labels, what, "plant fewer canaries or shorter secrets, or take a smaller alphabet")


def require_bytes(needed: int, what: str, advice: str) -> None:
    """Raise UsageError where `what` would take over half of the memory that is free."""
    free = _free_memory()
    if 2 * needed > free:
        raise UsageError(f"{what} take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free: {advice}")


def _free_memory() -> int:
    """Return the bytes that can still be had; all that the machine has where it does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
