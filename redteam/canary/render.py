"""A drill's report as text: a table for each attack and number of repetitions, and what it proves."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType

from redteam.canary.extract import Extraction
from redteam.canary.measures import CanaryMeasure, Group, HeldoutComparison
from redteam.core import LEAK, PASS
from redteam.formats.text import bullets, draw, headline, pairs, section, table
from redteam.report import number, plural
from redteam.statistics import Interval

_NAMES = {
    "exposure": ("median exposure, bits", 2),
    "success": ("whole secret", 4),
    "guesses": ("guesses needed, median", 0),
    "token_accuracy": ("token accuracy", 3),
    "hamming": ("Hamming distance", 2),
}
_METHODS = {"bounded": "at least log2 of the sample's size, where no sampled candidate has as low a loss"}
_SIGNALS = {
    "guess": "the guess is nearer to the planted secret than to the held-out one",
    "rank": "the planted secret ranks before the held-out one",
}
_BADGES = {LEAK: ("EXTRACTED", "bold white on red"), PASS: ("PASS", "bold white on green")}


def render(report: Extraction, *, width: int = 100, color: bool = False) -> str:
    """Return the report as lines of at most `width` columns."""
    word, style = _BADGES.get(report.exit_code, ("NOT SETTLED", "bold black on yellow"))
    parts: list[RenderableType] = [headline(word, summary(report), style)]
    parts += (_of_group(group) for group in report.groups)
    for attack, auc in report.token_auc.items():
        parts.append(section(f"{attack}, all tokens", bullets(_of_tokens(auc))))
    if report.found and report.found[0].secret is not None:
        parts.append(section("Secrets", _secrets(report)))
    if report.failures:
        parts.append(section("Not run", bullets(f"{f.attack}: {f.reason}" for f in report.failures)))
    if report.problems:
        parts.append(section("Not settled because", bullets(report.problems)))
    parts.append(section("How", pairs(_method(report))))
    return draw(parts, width=width, color=color)


def summary(report: Extraction) -> str:
    """Say in one line what the drill shows."""
    target = f"{report.target.name}, {plural(report.canaries, 'canary', 'canaries')}"
    if report.proven:
        first, by = report.proven[0]
        others = len(report.proven) - 1
        more = f", and {plural(others, 'more comparison')}" if others else ""
        luck = by.signal == "whole"
        what = (
            "whole secrets are extracted than by luck" if luck else "is extracted of planted than of held-out secrets"
        )
        return f"{target}: more {what}: {first.attack} at {plural(first.repetitions, 'repetition')}{more}"
    if report.problems:
        return f"{target}: {report.problems[0]}"
    return f"{target}: no attack extracted more of planted than of held-out secrets"


def _of_tokens(auc: Interval) -> Iterator[str]:
    told = f"{number(auc.value, digits=4)} [{number(auc.low, digits=4)}, {number(auc.high, digits=4)}]"
    yield f"tokens of the training data told from those that are in no text of it: AUC {told}"
    if auc.high < 0.5:
        yield (
            "that is proven to be below 0.5: here tokens of the training data moved less than others; turned round, "
            f"the scores tell them apart with AUC {number(1 - auc.value, digits=4)}, and so do ranks by this attack"
        )


def _of_group(group: Group) -> RenderableType:
    title = f"{group.attack}, {plural(group.repetitions, 'repetition')}, {plural(group.canaries, 'canary', 'canaries')}"
    headers = ("measure", "planted", "held out", "chance")
    parts = [table(headers, [_row(m) for m in group.measures], right=headers[1:])] if group.measures else []
    return section(title, *parts, bullets(_notes(group)))


def _row(measure: CanaryMeasure) -> Sequence[str]:
    name, digits = _NAMES[measure.name]
    planted = measure.planted
    value, low, high = (number(x, digits=min(digits, 3)) for x in (planted.value, planted.low, planted.high))
    by_chance = f"{measure.chance:.2g}" if measure.chance < 0.01 else number(measure.chance)
    return (name, f"{value} [{low}, {high}]", number(measure.heldout, digits=min(digits, 3)), by_chance)


def _notes(group: Group) -> Iterator[str]:
    for comparison in group.comparisons:
        yield _verdict(comparison)
    if group.exact:
        yield "every guess is the best of all candidates: no attack by this loss can do better"
    if group.methods:
        yield f"exposure is {' or '.join(sorted({_METHODS.get(method, method) for method in group.methods}))}"


def _verdict(comparison: HeldoutComparison) -> str:
    if comparison.signal == "whole":
        return (
            f"whole secrets guessed: {comparison.wins}, and whole held-out secrets: {comparison.losses}; the chance of "
            f"so many by luck is p = {comparison.p_value:.2g}, {'proven' if comparison.proven else 'not proven'}"
        )
    decided = comparison.wins + comparison.losses
    level = f"{comparison.ties} level" if comparison.ties else "none level"
    p = f"p = {comparison.p_value:.2g}"
    outcome = "proven" if comparison.proven else "not proven"
    return f"{_SIGNALS[comparison.signal]} in {comparison.wins} of {decided} ({level}): {p}, {outcome}"


def _secrets(report: Extraction) -> RenderableType:
    rows = [(one.attack, one.canary, str(one.repetitions), one.secret or "", one.guess or "-") for one in report.found]
    return table(("attack", "canary", "R", "planted", "guess"), rows, right=("R",))


def _method(report: Extraction) -> Iterator[tuple[str, str]]:
    yield (
        "error",
        (
            f"{report.alpha:g} for all findings, shared over {plural(report.tests, 'test')} at {report.each:.2g} "
            f"each (Bonferroni); intervals are at {1 - report.alpha:.0%} each, on their own"
        ),
    )
    yield "held out", "sign test of planted secrets against others drawn alike and left out at random; one-sided"
    yield "luck", "secrets are drawn uniformly: one guess that knows nothing is right once in all candidates"
    if report.crowded:
        shared = f"{report.crowded} of {report.canaries} canaries share sentence and label with another"
        guesses = "an attack that ranks all candidates makes as many guesses as share them, any other a single one"
        yield (
            "limits",
            f"{shared}, and no query tells them apart: {guesses}, so that fewer are extracted than are known",
        )
    yield "seed", str(report.seed)
