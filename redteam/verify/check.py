"""What a check of a mechanism says, and how the chance of a false alarm is shared over all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SHARE = 0.1  # of alpha, for all checks together; the bound on epsilon has the rest
MOST = 50  # of them in one verification; fewer cost nothing but power


@dataclass(frozen=True)
class MechanismCheck:
    """A way in which a training may not be what its trainer says, and how likely an honest one looks so by chance.

    `says` is the contradiction in words. `p` is at most the chance of such an outcome, or a stronger one, under the
    mechanism that was claimed; 0 where it is impossible. `breaks` says whether the guarantee rests on what is
    contradicted; where it does not, the trainer is not what it says and yet not proven to leak.
    """

    says: str
    p: float
    breaks: bool = True


def worst(checks: Sequence[MechanismCheck]) -> list[MechanismCheck]:
    """Return the check of several with the least p, made true for all of them together; none of none."""
    return [replace(found, p=min(1.0, len(checks) * found.p)) for found in sorted(checks, key=lambda c: c.p)[:1]]


def level(alpha: float) -> float:
    """Return what p has to be at most, so that all checks of a verification err `SHARE * alpha` of the time."""
    return SHARE * alpha / MOST


def contradictions(checks: Iterable[MechanismCheck], alpha: float) -> tuple[list[str], list[str]]:
    """Return what is proven to break the guarantee, and what else contradicts the trainer, worst first."""
    found = sorted((check for check in checks if not check.p > level(alpha)), key=lambda c: c.p)
    proven = list(dict.fromkeys(check.says for check in found if check.breaks))
    return proven, list(dict.fromkeys(check.says for check in found if not check.breaks))
