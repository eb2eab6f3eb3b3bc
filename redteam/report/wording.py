"""Numbers and findings in plain words, for readers who have never seen a ROC curve."""

from collections.abc import Sequence

from redteam.report.values import Budget, Evidence, Metric, Unit
from redteam.statistics.interval import Interval

SYMBOLS: dict[Metric, str] = {
    "auc": "AUC",
    "tpr": "TPR",
    "epsilon": "epsilon",
    "exposure": "exposure",
    "extraction_rate": "extraction rate",
}

REMEDIES: dict[Metric, str] = {
    "auc": "train for fewer epochs (early stopping) or regularise (weight decay, dropout, smaller model), "
    "remove duplicates from the training data, or train with differential privacy (DP-SGD); then audit again",
    "tpr": "a few examples are memorised: find them in the breakdown by label, remove duplicates and "
    "outliers, stop earlier, or train with differential privacy (DP-SGD), which protects every single "
    "example; then audit again",
    "epsilon": "raise the noise multiplier, lower the clipping norm or the sampling rate, or train for fewer "
    "steps until the guarantee is below the limit; then audit again",
    "exposure": "rare sequences are memorised: remove duplicates, clip or mask secrets before training, or "
    "train with differential privacy (DP-SGD); then audit again",
    "extraction_rate": "secrets come out of the model: mask them before training, remove duplicates, rotate "
    "those that are still valid, or train with differential privacy (DP-SGD); do not release this model",
}

LOW_BOUND = "A low bound is not evidence of privacy."

CLAIM_REMEDY = (
    "the training does not give the guarantee it claims: check per-example clipping, Poisson sampling, the "
    "noise scale and the accountant, and publish no epsilon until the audit agrees with it"
)


def number(value: float, *, digits: int = 2) -> str:
    """Write a number with so many decimals, or in whole thousands where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: `1 limit`, `2 limits`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def of_either(members: int, nonmembers: int, unit: Unit) -> str:
    """Write how many there are of either side: `1 member and 2 non-members`, or users who are that."""
    if unit == "user":
        return f"{plural(members, 'user')} who are members and {nonmembers:,} who are not"
    return f"{plural(members, 'member')} and {plural(nonmembers, 'non-member')}"


def range_of(interval: Interval, *, digits: int = 2) -> str:
    """Write an interval as `0.93 [0.91, 0.95]`."""
    low, high = number(interval.low, digits=digits), number(interval.high, digits=digits)
    return f"{number(interval.value, digits=digits)} [{low}, {high}]"


def is_epsilon(rule: str) -> bool:
    """Tell whether a rule, an id or `claim:epsilon` is about epsilon, which an attack bounds from below only."""
    return rule == "claim:epsilon" or rule.split(":")[0].endswith(".epsilon")  # "claim.epsilon" is the rule of it


def measured(interval: Interval, rule: str, *, digits: int = 2) -> str:
    """Write what was measured for a rule: an interval, or of an epsilon the bound, `at least 0.40`."""
    if is_epsilon(rule):
        return f"at least {number(interval.low, digits=digits)}"
    return range_of(interval, digits=digits)


def bound_of(evidence: Evidence, *, digits: int = 2) -> str:
    """Write an epsilon beside the largest attainable one: `at least 0.40 (this sample could have shown up to 5.10)`."""
    low, most = (number(each, digits=digits) for each in (evidence.interval.low, evidence.attainable))
    return f"at least {low} (this sample could have shown up to {most})"


def decimals(interval: Interval, limit: float) -> int:
    """Return how many decimals it takes, from two to six, to see on which side of `limit` the bounds are."""
    for digits in range(2, 6):
        shown = round(limit, digits)
        if all(
            (round(end, digits) > shown) == (end > limit) and (round(end, digits) < shown) == (end < limit)
            for end in (interval.low, interval.high)
        ):
            return digits
    return 6


def against(interval: Interval, limit: float, between: str, rule: str) -> str:
    """Write what was measured next to its limit, `0.93 [0.91, 0.95] > 0.60`, with decimals to see the order."""
    digits = decimals(interval, limit)
    return f"{measured(interval, rule, digits=digits)}{between}{number(limit, digits=digits)}"


def some(names: Sequence[str]) -> str:
    """Name the first of many: `a`, `a and b`, `a and 4 more`."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def accusation(fpr: float, unit: Unit = "example") -> str:
    """Say a false-positive rate as a price: `1 false accusation per 100 non-members`."""
    whom = "non-members" if unit == "example" else "users who are no members"
    return f"1 false accusation per {number(1 / fpr, digits=0 if fpr <= 0.1 else 1)} {whom}"


def leak_message(evidence: Evidence, limit: float) -> str:
    """Say in plain words what evidence above its limit shows, with the numbers."""
    rows = "" if evidence.unit == "example" else " (mean over all rows of a user)"
    who, signal = f"an outsider who thresholds {evidence.signal}{rows}", f"{evidence.attack}, {evidence.signal}"
    at = "" if evidence.fpr is None else f" at FPR {evidence.fpr:g}"
    numbers = f"{SYMBOLS[evidence.metric]} {against(evidence.interval, limit, f'{at}, limit ', evidence.rule)}"
    match evidence.metric:
        case "auc":
            apart = "members from non-members"
            if evidence.unit == "user":
                apart = "users whose rows were trained on from users whose rows were not"
            return f"{who} tells {apart}: {numbers}"
        case "tpr":
            price = accusation(evidence.fpr or 1.0, evidence.unit)
            whom = "members" if evidence.unit == "example" else "users whose rows were trained on"
            return f"{who} singles out {whom} at a price of {price}: {numbers}"
        case "epsilon":
            digits = decimals(evidence.interval, limit)
            shown = f"epsilon {bound_of(evidence, digits=digits)}{_at_delta(evidence)}"
            spent = "more privacy was spent" if evidence.unit == "example" else "more privacy of a user was spent"
            return f"{who} proves that {spent} than allowed: {shown}, limit {number(limit, digits=digits)}"
        case "exposure":
            return f"secrets planted in the training data stand out from those that were not ({signal}): {numbers}"
        case "extraction_rate":
            return f"secrets planted in the training data come out of the model whole ({signal}): {numbers}"


def claim_message(evidence: Evidence, admitted: Budget, *, nominal: bool) -> str:
    """Say that an attack proves more leakage than a guarantee admits, the nominal one or else the accounted one."""
    which = "claims a nominal" if nominal else "accounts for"
    return (
        f"the training {which} epsilon {admitted.epsilon:g}, but an outsider who thresholds "
        f"{evidence.signal} proves {bound_of(evidence)}{_at_delta(evidence)}: "
        "the guarantee does not hold"
    )


def _at_delta(evidence: Evidence) -> str:
    return "" if evidence.delta is None else f" at delta {evidence.delta:g}"


def shown(value: str) -> str:
    """Return a cell as a message may quote it: one short word, and of anything longer, which may be a text, its length.

    Training texts have no place in logs.
    """
    word = value.strip()
    return repr(value) if len(word) <= 20 and len(word.split()) <= 1 else f"a text of {len(value)} characters"
