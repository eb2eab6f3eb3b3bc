"""What `redteam verify -f json` wrote, read back; what contradicts itself is refused."""

from collections.abc import Iterator
from pathlib import Path

from redteam import core
from redteam.core import RedteamError, ReportError, read_text
from redteam.verify.verdict import FORMAT, Verification
from redteam.verify.words.run import FORMAT as OF_TEXT
from redteam.verify.words.run import PrivatiserVerification

_LARGEST = 16 * 2**20  # bytes


def load_verification(path: Path) -> Verification:
    """Read the verification of a trainer; raise ReportError where the file is anything else."""
    older = {FORMAT: lambda document: {key: value for key, value in document.items() if key != "note"}}
    found = _load(Verification, path, FORMAT, older)
    for contradiction in _of_trainer(found):
        raise ReportError(f"{path}: contradicts itself: {contradiction}; verify again")
    return found


def load_privatiser_verification(path: Path) -> PrivatiserVerification:
    """Read the verification of a privatiser; raise ReportError where the file is anything else."""
    found = _load(PrivatiserVerification, path, OF_TEXT, None)
    for contradiction in _of_privatiser(found):
        raise ReportError(f"{path}: contradicts itself: {contradiction}; verify again")
    return found


def _load(kind: type[core.T], path: Path, format: str, older: core.Older | None) -> core.T:
    try:
        text = read_text(path, most=_LARGEST)
        return core.parse(kind, text, "verification", format=format, advice="verify again", older=older)
    except (OSError, ValueError, RedteamError) as error:
        raise ReportError(f"{path}: cannot be read as what redteam verify wrote ({error})") from None


def _of_trainer(found: Verification) -> Iterator[str]:
    accounted, bound = found.accounted, found.bound
    yield from _of_settings(found.alpha, (found.canaries, found.family))
    if accounted is None and found.verdict != "inconclusive":
        yield f"{found.verdict}, but nothing is guaranteed"
    elif accounted is not None and bound.low > accounted.epsilon and found.verdict != "violated":
        yield f"{found.verdict}, but more is shown than is accounted for"
    elif found.verdict == "consistent" and found.nominal is not None and bound.low > found.nominal.epsilon:
        yield "consistent, but more is shown than the nominal epsilon"
    elif found.verdict == "consistent" and accounted is not None and not bound.attainable > accounted.epsilon:
        yield "consistent, but so many canaries could show no violation"
    budgets = (each for each in (found.nominal, accounted) if each is not None)
    if not all(0 <= each.delta < 1 and each.epsilon >= 0 for each in budgets):
        yield "an epsilon is below 0, or a delta not between 0 and 1"


def _of_privatiser(found: PrivatiserVerification) -> Iterator[str]:
    words = found.words if found.unit == "word" else found.asked
    yield from _of_settings(found.alpha, (words, found.asked, found.draws, len(found.pairs)))
    if not found.claimed > 0 or any(
        not 0 <= each.low <= each.attainable or len(each.words) != 2 for each in found.pairs
    ):
        yield "an epsilon is below 0, or more is shown than could be"
        return
    if (found.accounted is None) != (found.accounted_plain is None):
        yield "one of the two epsilons of its channel is missing"
    broken = found.infinite or any(each.low > found.claimed for each in found.pairs)
    if (broken or (found.accounted or 0.0) > found.claimed * (1 + 1e-6)) and found.verdict != "violated":
        yield f"{found.verdict}, but more is shown or accounted for than is claimed"


def _of_settings(alpha: float, counts: tuple[int, ...]) -> Iterator[str]:
    if not 0 < alpha < 1 or min(counts) < 1:
        yield "its error is not between 0 and 1, or it is of nothing"
