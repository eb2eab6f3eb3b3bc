"""What extraction contributes to an audit: exposure and extraction rate of the canaries that the ledger holds.

The low end of either interval is zero unless it is proven, at half of the interval's level, that the model knows which
of two secrets drawn alike was planted: by a sign test against the held-out secrets or, of an extraction rate, by more
whole secrets than luck gives. So a policy's limit is never found broken by luck or by a secret that is likely in
itself: with a model that saw no canary, the chance of that is at most the interval's level. Of a guess an audit judges
whole secrets only.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from redteam.canary.found import Found, join_answers, whole_secrets
from redteam.canary.measures import compare, exposure_interval
from redteam.canary.run import Attacker, check_target, fewest_candidates, repeated, run_extraction
from redteam.core.progress import Progress, unwatched
from redteam.data.planting import Planting, candidates_left, fewest_left
from redteam.plugins.extraction import ExtractionAttack
from redteam.report.values import Evidence, Failure, rule_of
from redteam.statistics import Interval, attainable_extraction_rate
from redteam.statistics.exposure import fewest_canaries, share_interval, whole_secrets_p_value
from redteam.targets.target import Access, Target


@dataclass(frozen=True)
class CanaryAudit:
    """The canaries that the training data holds, and what is tried to get them out.

    `spared` are attacks that are not run, and why; they take no share of the error.
    """

    planting: Planting
    attacks: tuple[ExtractionAttack, ...]
    attacker: Attacker = field(default_factory=Attacker)
    spared: tuple[Failure, ...] = ()

    def planned(self, access: Access) -> tuple[str, ...]:
        """Return the id of each interval that `run` gives at most, which share the error of the report."""
        given: tuple[tuple[str, Callable[[ExtractionAttack], bool]], ...] = (
            ("extraction_rate", lambda attack: attack.guesses),
            ("exposure", lambda attack: attack.ranks),
        )
        return tuple(
            f"{rule_of(attack.id, metric)}:R={count}"
            for attack in self.able(access)
            for count in repeated(self.planting)
            for metric, gives in given
            if gives(attack)
        )

    def able(self, access: Access) -> tuple[ExtractionAttack, ...]:
        """Return the attacks that such an access suffices for."""
        return tuple(attack for attack in self.attacks if attack.needs in access)

    def fewest(self, access: Access, *, each: float) -> int:
        """Return how many canaries of one number of repetitions it takes to prove an extraction."""
        if any(attack.guesses for attack in self.able(access)):
            return fewest_canaries(each / 4, left=fewest_left(self.planting))
        return fewest_canaries(each / 2)

    def attainable_rate(self, canaries: int, *, each: float) -> float:
        """Return the lower bound on the extraction rate where all of so many canaries are extracted."""
        enough = canaries >= fewest_canaries(each / 4, left=fewest_left(self.planting))
        return attainable_extraction_rate(canaries, alpha=each) if enough else 0.0

    def attainable(self, access: Access, *, each: float) -> dict[str, float]:
        """Return the largest bound by metric that such an access allows, by the canaries of the best repetitions."""
        able, rates, bits = self.able(access), [0.0], [0.0]
        for repetitions in repeated(self.planting):
            count = sum(one.repetitions == repetitions for one in self.planting.canaries)
            if any(attack.guesses for attack in able):
                rates.append(self.attainable_rate(count, each=each))
            if any(attack.ranks for attack in able) and count >= fewest_canaries(each / 2):
                bits.append(math.log2(fewest_candidates(self.planting)))
        return {"extraction_rate": max(rates), "exposure": max(bits)}

    def check(self, target: Target) -> None:
        """Raise TargetError or UsageError where the target cannot have been trained on the canaries."""
        check_target(target, self.planting)

    def run(
        self, target: Target, *, each: float, seed: int, progress: Progress = unwatched
    ) -> Iterator[Evidence | Failure]:
        """Yield for each attack and number of repetitions, `R=10`, the extraction rate and the exposure.

        Each interval misses at most `each` of the time; the extraction rate is of whole secrets, the exposure the
        median. An attack that gives nothing, or nothing of a pattern, is a Failure.
        """
        yield from self.spared
        for attack in self.attacks:
            answered = run_extraction(
                attack, target, self.planting, attacker=self.attacker, seed=seed, progress=progress
            )
            yield from answered.failures
            found = join_answers(attack.id, self.planting, {answer.query: answer for answer in answered.answers})
            if attack.ranks and any(one.exposure is None for one in found):
                yield Failure(attack.id, "failed", "ranks without an exposure: there is no number to judge")
                continue
            for count in repeated(self.planting):
                group = [one for one in found if one.repetitions == count]
                if attack.guesses and group:
                    yield self._rate(group, each)
                if attack.ranks and group:
                    yield _exposure(group, each)

    def _rate(self, found: Sequence[Found], each: float) -> Evidence:
        whole, count = whole_secrets(found)[0], len(found)
        interval = share_interval(whole, count, alpha=each)
        if any(one.method not in (None, "exact") or one.tries < one.shared for one in found):
            # the best of a sample, or one guess for several secrets: that it is wrong bounds nothing
            interval = replace(interval, high=1.0)
        proven = compare(found, "guess", alpha=each / 4).proven
        left = candidates_left(self.planting) // max(one.tries for one in found)
        proven |= whole_secrets_p_value(whole, count, left) <= each / 4
        most = self.attainable_rate(count, each=each)
        return _evidence(found, "extraction_rate", interval if proven else _from_zero(interval), most)


def _exposure(found: Sequence[Found], each: float) -> Evidence:
    interval = exposure_interval(found, alpha=each)
    assert interval is not None  # seen to before
    enough = len(found) >= fewest_canaries(each / 2)
    most = exposure_interval([_best(one) for one in found], alpha=each) if enough else None
    proven = compare(found, "rank", alpha=each / 2).proven
    return _evidence(found, "exposure", interval if proven else _from_zero(interval), most.low if most else 0.0)


def _best(one: Found) -> Found:
    """Return what would be found of a canary that stands out as far as can be."""
    return replace(one, exposure=one.most, at_least=one.provable)


def _from_zero(interval: Interval) -> Interval:
    return replace(interval, low=min(0.0, interval.value))


def _evidence(found: Sequence[Found], metric: str, interval: Interval, attainable: float) -> Evidence:
    count = len(found)
    return Evidence(found[0].attack, f"R={found[0].repetitions}", metric, interval, count, count, attainable)
