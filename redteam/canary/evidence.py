"""What extraction contributes to an audit: exposure and extraction rate of the canaries that the ledger holds.

The low end of either interval is zero unless the twins prove, at half of the interval's level, that the model knows
which of two secrets drawn alike was planted. So a policy's limit is never found broken by luck or by a secret that is
likely in itself: with a model that saw no canary, the chance of that is at most the interval's level.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redteam.canary.extract import Attacker, ask, check_target, count_tests, repeated, signals_of
from redteam.canary.measures import Found, Signal, compare, join_answers
from redteam.canary.planting import Planting
from redteam.inversion import InversionAttack
from redteam.report import Evidence, Failure, Interval
from redteam.statistics.exposure import fewest_to_prove, median_interval, share_interval
from redteam.target import Access, Target


@dataclass(frozen=True)
class CanaryResult:
    """The evidence of every attack that could be run, and why the others gave none."""

    evidence: tuple[Evidence, ...]
    failures: tuple[Failure, ...]


def canary_intervals(planting: Planting | None, attacks: Sequence[InversionAttack], access: Access) -> int:
    """Return how many intervals `canary_evidence` gives at most: what they add to the family that shares the error."""
    return 0 if planting is None else count_tests(attacks, planting, access)


def canary_evidence(
    target: Target,
    planting: Planting,
    attacks: Sequence[InversionAttack],
    *,
    each: float,
    seed: int,
    attacker: Attacker | None = None,
) -> CanaryResult:
    """Return for each attack and number of repetitions, `R=10`, the extraction rate and the exposure.

    Each interval misses at most `each` of the time; the extraction rate is of whole secrets, the exposure the median.
    Raises TargetError or UsageError where the target cannot have been trained on the canaries.
    """
    check_target(target, planting)
    evidence: list[Evidence] = []
    failures: list[Failure] = []
    for attack in attacks:
        answers = ask(attack, target, planting, attacker=attacker or Attacker(), seed=seed)
        if isinstance(answers, Failure):
            failures.append(answers)
            continue
        found = join_answers(attack.id, planting, {answer.question: answer for answer in answers})
        for count in repeated(planting):
            group = [one for one in found if one.repetitions == count]
            evidence += _of_group(group, signals_of(attack), each)
    return CanaryResult(tuple(evidence), tuple(failures))


def _of_group(found: Sequence[Found], signals: Sequence[Signal], each: float) -> Iterator[Evidence]:
    attack, signal, count = found[0].attack, f"R={found[0].repetitions}", len(found)
    enough = count >= fewest_to_prove(each / 2)
    if "guess" in signals:
        whole = sum(one.right == one.places for one in found)
        interval = _beyond_twins(share_interval(whole, count, alpha=each), found, "guess", each)
        most = share_interval(count, count, alpha=each).low if enough else 0.0
        yield Evidence(attack, signal, "extraction_rate", interval, count, count, most)
    bits = [one.exposure for one in found if one.exposure is not None]
    if "rank" in signals and len(bits) == count:
        limits = [one.most or 0.0 for one in found]
        median = median_interval(bits, low=0.0, high=max(limits), alpha=each)
        most = median_interval(limits, low=0.0, high=max(limits), alpha=each).low if enough else 0.0
        yield Evidence(attack, signal, "exposure", _beyond_twins(median, found, "rank", each), count, count, most)


def _beyond_twins(interval: Interval, found: Sequence[Found], signal: Signal, each: float) -> Interval:
    """Return the interval from zero on, unless the twins prove that the canaries were learned."""
    if compare(found, signal, alpha=each / 2).proven:
        return interval
    return Interval(interval.value, min(0.0, interval.value), interval.high, interval.alpha)
