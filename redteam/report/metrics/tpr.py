"""TPR at an FPR: how many members can be named at a price in false accusations (Carlini et al. 2022)."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from redteam.report import LUCK, SAME_FPR, Limit, accusation, read_number, require_keys, share
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import (
    MOST,
    POWER,
    end_shares,
    normal_quantile,
    require_rate,
    smallest_resolvable_fpr,
    smallest_size,
    threshold_ranks,
    two_sided,
)

Steps = tuple[tuple[float, ...], tuple[float, ...]]  # points p / fpr, rising, and the probability of each step

_EXAMPLE = "{ fpr = 0.01, limit = 0.05 }"
_GRID = 600
_normal = NormalDist().cdf
_REACH = 14.0  # standard deviations on either side; beyond lies less than 1e-12


class Tpr(Metric):
    """The share of members above the threshold that a share `fpr` of non-members passes; luck gives the FPR."""

    name, symbol, order = "tpr", "TPR", 20
    fewest_references = 4  # with fewer an attack may find a quarter of the members that it finds with eight
    low_share = 1.0  # that it is kept is another claim, which fails no build: it may miss as often
    description = "single members of the training data can be named at a low false-positive rate"
    remedy = (
        "a few examples are memorised: find them in the breakdown by label, remove duplicates and "
        "outliers, stop earlier, or train with differential privacy (DP-SGD), which protects every single "
        "example; then audit again"
    )
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 NISTAML.033", "OWASP ML04:2023")
    given_by = "a membership attack (RT1xx)"

    def read(self, table: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Return one limit an FPR, from a table or a list of such."""
        value = table[self.key]
        tables = value if isinstance(value, list) else [value]
        if not tables:
            raise ValueError(f"{self.key} = [] sets no limit: give {_EXAMPLE} or leave the key out")
        limits = tuple(map(self._read_one, tables))
        for index, each in enumerate(limits):
            if any(abs(each.fpr - other.fpr) <= SAME_FPR for other in limits[:index] if each.fpr and other.fpr):
                raise ValueError(f"{self.key}: fpr = {each.fpr:g} stands there twice: keep one")
        return limits

    def _read_one(self, value: Any) -> Limit:
        require_keys(value, ("fpr", "limit"), self.key, _EXAMPLE)
        fpr = read_number(f"{self.key}.fpr", value["fpr"], "above 0 and below 1", lambda x: 0 < x < 1)
        limit = read_number(f"{self.key}.limit", value["limit"], self.allowed, self.allows)
        if limit <= fpr:
            raise ValueError(
                f"{self.key}.limit = {limit:g} is not above fpr = {fpr:g}: random guessing has a TPR equal to the "
                f"FPR, so even a model that leaks nothing could not pass; give a limit above {fpr:g}"
            )
        return Limit(self.name, limit, fpr)

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float | None:
        """Return the lower bound that complete separation supports at `fpr`."""
        return None if fpr is None else attainable_tpr(members, nonmembers, fpr=fpr, alpha=two_sided(alpha))

    def examples_needed(self, limit: Limit, *, alpha: float) -> tuple[int, int] | None:
        """Return how many members carry the bound and how many non-members resolve the FPR."""
        return None if limit.fpr is None else tpr_examples_needed(limit.limit, fpr=limit.fpr, alpha=two_sided(alpha))

    def detectable(self, limit: Limit, members: int, nonmembers: int, *, alpha: float) -> float | None:
        """Return the smallest TPR that would be proven above `limit` with probability 0.8."""
        if limit.fpr is None:
            return None
        return detectable_tpr(limit.limit, members, nonmembers, fpr=limit.fpr, error=self.low_share * alpha)

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved TPR cannot be so, an FPR that is none among it."""
        if not (evidence.fpr is not None and SAME_FPR < evidence.fpr < 1):
            yield f"{evidence.id} is a TPR at an FPR of {evidence.fpr}"
            return
        yield from super().contradictions(evidence, report)

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that an outsider singles out members."""
        fpr, whom, rows = evidence.fpr or 1.0, "members", ""
        if evidence.unit == "user":
            whom, rows = "users whose rows were trained on", " (mean over all rows of a user)"
        numbers = f"TPR {self.against(evidence.interval, limit, f' at FPR {fpr:g}, limit ')}"
        price = accusation(fpr, evidence.unit)
        return f"an outsider who thresholds {evidence.signal}{rows} singles out {whom} at a price of {price}: {numbers}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how many people are exposed at which price."""
        fpr, low = evidence.fpr or 1.0, evidence.interval.low
        sure = f"and at least {share(low)} on the cautious reading" if low > fpr else LUCK
        whom = "members" if evidence.unit == "example" else "users who were trained on"
        return (
            f"{share(evidence.interval.value)} {whom} are exposed at a price of {accusation(fpr, evidence.unit)}, "
            f"{sure}; a coin exposes {share(fpr)}"
        )

    def legend(self, report: AuditReport) -> str | None:
        """Say what a rate of scores that have two values is."""
        if report.target.access != "labels":
            return None
        return (
            "a label is right or wrong, so no threshold reaches the FPR exactly: the TPR is that of an attacker who "
            "accuses some of those whose label is right, drawn by lot"
        )

    def missing(self, limit: Limit, report: AuditReport) -> str:
        """Say that a report has no TPR at the FPR of a limit."""
        return f"{limit.name}: the report has no TPR at FPR {limit.fpr:g}: audit again with --fpr {limit.fpr:g}"

    def way_out(self, limit: Limit, evidence: Evidence) -> str:
        """Say how many examples could break the limit, or at which larger FPR the same could."""
        return super().way_out(limit, evidence) + self._other_fpr(limit, evidence)

    def _other_fpr(self, limit: Limit, evidence: Evidence) -> str:
        """Offer the smallest FPR at which the same examples could break the same limit, where there is one."""
        have, alpha = (evidence.members, evidence.nonmembers), evidence.interval.alpha
        if limit.fpr is None or have[1] < 1 or not 0 < alpha < 1:
            return ""
        least = math.ceil(1000 * smallest_resolvable_fpr(have[1], alpha=two_sided(alpha))) / 1000
        if not limit.fpr < least < 0.5 or attainable_tpr(*have, fpr=least, alpha=two_sided(alpha)) <= limit.limit:
            return ""
        if self.examples_needed(limit, alpha=alpha) is None:
            return ""
        return f", or limit the TPR at an FPR of {least:g} or more"


@functools.lru_cache(maxsize=256)
def attainable_tpr(members: int, nonmembers: int, *, fpr: float, alpha: float) -> float:
    """Return the lower bound on the TPR at `fpr` that complete separation of so many examples supports.

    The method is in `redteam.statistics.tpr`, here with every member found.
    """
    require_rate("fpr", fpr)
    if min(members, nonmembers) < 2:
        return 0.0
    proven = functools.partial(_tpr_proven, members=members, nonmembers=nonmembers, fpr=fpr, alpha=alpha)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if proven(middle) else (low, middle)
    return low


def _tpr_proven(rate: float, *, members: int, nonmembers: int, fpr: float, alpha: float) -> bool:
    """Tell whether complete separation proves a TPR at `fpr` above `rate`, at either of the two ranks."""
    shares = end_shares(require_rate("alpha", alpha) / 2)
    ranks = threshold_ranks(nonmembers, fpr)
    return any(all_found(rate, members, nonmembers, r, fpr) < s for r, s in zip(ranks, shares, strict=True))


def tpr_examples_needed(limit: float, *, fpr: float, alpha: float) -> tuple[int, int] | None:
    """Return how many members and non-members do for an attainable TPR at `fpr` above `limit`; None where no 10^9 do.

    A quarter more non-members than it takes with any number of members, and as few members as do with these.
    """
    if not 0 <= limit < 1:  # NaN is not either
        return None
    proven = functools.partial(_tpr_proven, limit, fpr=fpr, alpha=alpha)
    fewest = smallest_size(lambda n: proven(members=MOST, nonmembers=n))
    if fewest is None:
        return None
    nonmembers = min(MOST, math.ceil(1.25 * fewest))
    members = smallest_size(lambda m: proven(members=m, nonmembers=nonmembers))
    return None if members is None else (members, nonmembers)


@functools.lru_cache(maxsize=64)
def detectable_tpr(limit: float, members: int, nonmembers: int, *, fpr: float, error: float) -> float | None:
    """Return the smallest TPR at `fpr` of which a lower end of `error` is above `limit` with probability 0.8.

    None where not even complete separation would be. Approximate, for curves as of two normal distributions of one
    width: binomial counts of members are taken as normal after the arcsine.
    """
    if not attainable_tpr(members, nonmembers, fpr=fpr, alpha=two_sided(error)) > limit:
        return None
    ranks = threshold_ranks(nonmembers, fpr)
    return min(
        _detected(limit, members, threshold_steps(nonmembers, r, fpr), fpr, share)
        for r, share in zip(ranks, end_shares(error), strict=True)
    )


def _detected(limit: float, members: int, steps: Steps, fpr: float, error: float) -> float:
    """Return which TPR puts so many members above the threshold, with probability 0.8, as prove one above `limit`."""
    points = [min(max(fpr * x, 1e-15), 1 - 1e-15) for x in steps[0]]
    luckiest = [min(1.0, limit * max(1.0, x)) for x in steps[0]]
    enough = _bisect(lambda share: _reached(luckiest, share, members, steps) <= error, 0.0, 1.0 + 0.5 / members)
    spreads = [normal_quantile(p) for p in points]

    def found(rate: float) -> bool:
        shift = normal_quantile(rate) - normal_quantile(fpr)
        return _reached([_normal(x + shift) for x in spreads], enough, members, steps) >= POWER

    return _bisect(found, max(limit, fpr), 1.0 - 1e-9)


def _reached(chances: Sequence[float], share: float, members: int, steps: Steps) -> float:
    """Return the mean over the steps of the chance that at least `share` of the members is found."""
    at = math.asin(math.sqrt(min(1.0, max(0.0, share - 0.5 / members))))
    wide = 2 * math.sqrt(members)
    return math.fsum(
        mass * _normal(wide * (math.asin(math.sqrt(chance)) - at))
        for chance, mass in zip(chances, steps[1], strict=True)
    )


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return where a condition begins to hold that, once true, stays true; `high` where it does not before."""
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@functools.lru_cache(maxsize=64)
def threshold_steps(n: int, r: int, fpr: float) -> Steps:
    """Return points p / fpr, rising, and the probability of each step that ends there; they sum to 1 or a little more.

    p is the share of all above the r-th highest of `n` non-members: a mean over the steps of what rises with p is never
    too small.
    """
    mean, log_norm = r / (n + 1), math.lgamma(n + 1) - math.lgamma(r) - math.lgamma(n - r + 1)
    spread = math.sqrt(mean * (1 - mean) / (n + 2))
    low, high = max(0.0, mean - _REACH * spread), min(1.0, mean + _REACH * spread + 30.0 / n)
    edges = [low + (high - low) * i / _GRID for i in range(_GRID + 1)]
    if low < fpr < high:
        edges = sorted({*edges, fpr})
    density = [_density(p, n, r, log_norm) for p in edges]
    middle = [_density((a + b) / 2, n, r, log_norm) for a, b in itertools.pairwise(edges)]
    masses = [
        (b - a) * (x + 4 * c + y) / 6
        for (a, b), (x, y), c in zip(itertools.pairwise(edges), itertools.pairwise(density), middle, strict=True)
    ]
    total = math.fsum(masses)
    if total < 1:  # what lies beyond, and rounding, at the upper end
        masses[-1] += 1 - total
    return tuple(p / fpr for p in edges[1:]), tuple(masses)


def _density(p: float, n: int, r: int, log_norm: float) -> float:
    if p <= 0 or p >= 1:
        return math.exp(log_norm) if (r == 1 and p <= 0) or (r == n and p >= 1) else 0.0
    return math.exp(log_norm + (r - 1) * math.log(p) + (n - r) * math.log1p(-p))


def all_found(rate: float, members: int, nonmembers: int, r: int, fpr: float) -> float:
    """Return the largest chance that all members score above the r-th non-member where the TPR at `fpr` is `rate`."""
    points, masses = threshold_steps(nonmembers, r, fpr)
    return math.fsum(
        mass * _power(min(1.0, rate * max(1.0, x)), members) for x, mass in zip(points, masses, strict=True)
    )


def _power(chance: float, n: int) -> float:
    return math.exp(n * math.log(chance)) if chance > 0 else 0.0
