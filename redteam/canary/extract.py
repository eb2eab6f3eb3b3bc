"""The drill: ask every attack for the secrets, blindly, and compare what they extract with the canary ledger.

A finding is "more was extracted of planted than of held-out secrets": for each attack and each number of
repetitions a sign test by the guess and by the ranking of the two, and a test whether so many whole secrets could be
luck; one-sided, the error shared equally (Bonferroni) over all of them as counted before anything is asked.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from redteam import __version__, core
from redteam.canary.found import Found, join_answers
from redteam.canary.measures import Group, HeldoutComparison, fewest_to_prove, measure_group
from redteam.canary.run import (
    Attacker,
    Run,
    check_target,
    count_tests,
    repeated,
    run_extraction,
    runs_of,
    signals_of,
)
from redteam.core import INCONCLUSIVE, LEAK, PASS, one_line
from redteam.core.progress import Progress, unwatched
from redteam.data.planting import Planting, candidates_left, crowded, fewest_left
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import ExtractionAttack, NotApplicable
from redteam.plugins.settings import settings_of
from redteam.report.values import Failure, TargetSummary
from redteam.statistics import Interval
from redteam.targets.target import Target, labels_of

FORMAT = "redteam.extraction/2"


@dataclass(frozen=True)
class Extraction:
    """Everything one drill found.

    `tests` comparisons with the held-out secrets share the error `alpha`, `each` of them so much.
    `crowded` canaries share sentence and label with another: where an attack ranks all
    candidates, as many of its guesses count as share them.

    Intervals of measures are each at `alpha` on their own. `problems` say why a drill that proves nothing is no pass.
    `settings` are those of the attacks, by id. `token_auc`, where the training texts were given, has for an attack that
    scores tokens the AUC of telling those of the texts from all others.
    """

    target: TargetSummary
    canaries: int
    crowded: int
    alpha: float
    tests: int
    each: float
    groups: tuple[Group, ...]
    found: tuple[Found, ...]
    failures: tuple[Failure, ...]
    problems: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    token_auc: dict[str, Interval]
    seed: int
    created: str
    tool_version: str
    format: str = FORMAT

    @property
    def proven(self) -> tuple[tuple[Group, HeldoutComparison], ...]:
        """The comparisons in which more was extracted of planted than of held-out secrets."""
        return tuple((group, each) for group in self.groups for each in group.comparisons if each.proven)

    @property
    def exit_code(self) -> int:
        """1 where something is proven, else 2 where something stood in the way, else 0."""
        return LEAK if self.proven else INCONCLUSIVE if self.problems else PASS

    def to_json(self) -> str:
        """Return the report as indented JSON text ending in a newline."""
        return json.dumps(core.encode(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def extract(
    target: Target,
    planting: Planting,
    attacks: Sequence[ExtractionAttack],
    *,
    attacker: Attacker = Attacker(),
    spared: Sequence[Failure] = (),
    required: bool = False,
    alpha: float = 0.05,
    seed: int = 0,
    show_text: bool = False,
    texts: Sequence[str] | None = None,
    progress: Progress = unwatched,
) -> Extraction:
    """Run the attacks on `target` and report what they got; with `required`, one that does not apply is a problem.

    `spared` are attacks that are not run, and why. With a reference, attacks that compare with it are run without it
    too. With the training `texts`, attacks that score tokens are measured by them. Raises TargetError where the target
    or the reference lacks a canary's label, UsageError where a tokenizer mixes secrets up.
    """
    for model in (target, attacker.reference):
        if model is not None:
            check_target(model, planting)
    runs = runs_of(attacks, attacker)
    tests = max(1, count_tests([run.attack for run in runs], planting, target.access))
    groups, found, failures = _asked(runs, target, planting, alpha, alpha / tests, seed, show_text, progress)
    stopped = {failure.attack for failure in failures} - {group.attack for group in groups}
    scoring = [a for a in attacks if texts is not None and a.scores_tokens and a.id not in stopped]
    aucs, broken = _token_aucs(scoring, target, texts or (), AttackContext(seed, base=attacker.base), alpha)
    failures += [*broken, *spared]
    return Extraction(
        target=TargetSummary(target.name, target.kind, target.access.word, len(labels_of(target)), target.digest),
        canaries=len(planting.canaries),
        crowded=crowded(planting),
        alpha=alpha,
        tests=tests,
        each=alpha / tests,
        groups=tuple(groups),
        found=tuple(found),
        failures=tuple(failures),
        problems=tuple(_problems(groups, found, failures, required, alpha / tests, planting)),
        settings={attack.id: settings_of(attack) for attack in attacks},
        token_auc=aucs,
        seed=seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )


def _asked(
    runs: Sequence[Run],
    target: Target,
    planting: Planting,
    alpha: float,
    each: float,
    seed: int,
    show_text: bool,
    progress: Progress,
) -> tuple[list[Group], list[Found], list[Failure]]:
    """Run everything, and measure what comes back."""
    groups: list[Group] = []
    found: list[Found] = []
    failures: list[Failure] = []
    for run in runs:
        asked = run_extraction(run.attack, target, planting, attacker=run.attacker, seed=seed, progress=progress)
        failures += [replace(failure, attack=run.name) for failure in asked.failures]
        by_query = {answer.query: answer for answer in asked.answers}
        own = join_answers(run.name, planting, by_query, show_text=show_text)
        found += own
        exact = {answer.query for answer in asked.answers if answer.exact}
        groups += _groups(run, planting, own, exact, alpha, each)
    return groups, found, failures


def _token_aucs(
    attacks: Sequence[ExtractionAttack], target: Target, texts: Sequence[str], context: AttackContext, alpha: float
) -> tuple[dict[str, Interval], list[Failure]]:
    """Measure attacks by how they score tokens; return what they got, and what broke."""
    found: dict[str, Interval] = {}
    broken = []
    for attack in attacks:
        try:
            found[attack.id] = attack.token_auc(target, texts, context, alpha=alpha)
        except NotApplicable as error:
            broken.append(Failure(attack.id, "not_applicable", one_line(error)))
        except (Exception, SystemExit) as error:
            broken.append(Failure(attack.id, "failed", one_line(error)))
    return found, broken


def _groups(
    run: Run,
    planting: Planting,
    found: Sequence[Found],
    exact: set[str],
    alpha: float,
    level: float,
) -> Iterator[Group]:
    asked = {each.canary for each in found}
    for count in repeated(planting):
        canaries = [c for c in planting.canaries if c.repetitions == count and c.id in asked]
        if not canaries:
            continue
        yield measure_group(
            run.name,
            canaries,
            [each for each in found if each.repetitions == count],
            planting.alphabets,
            signals=signals_of(run.attack),
            exact=all(canary.id in exact for canary in canaries),
            left=candidates_left(planting),
            alpha=alpha,
            level=level,
        )


def _problems(
    groups: Sequence[Group],
    found: Sequence[Found],
    failures: Sequence[Failure],
    required: bool,
    level: float,
    planting: Planting,
) -> Iterator[str]:
    """Yield what keeps a drill without a finding from being a pass."""
    for failure in failures:
        if failure.kind == "failed" or required:
            yield f"{failure.attack} gave nothing: {failure.reason}"
    if not groups and not required:
        yield "no attack could be run on this target"
    unasked = len(planting.canaries) - len({one.canary for one in found})
    if groups and unasked:
        yield f"no attack could be run for {unasked} of {len(planting.canaries)} canaries"
    largest = {group.repetitions: 0 for group in groups}
    for group in groups:
        largest[group.repetitions] = max(largest[group.repetitions], group.canaries)
    for count, canaries in largest.items():
        tests = [each for group in groups if group.repetitions == count for each in group.comparisons]
        fewest = fewest_to_prove(tests, left=fewest_left(planting), level=level)
        if canaries < fewest:
            yield (
                f"{canaries} canaries of {count} repetitions can prove nothing at the level {level:.2g}, however many "
                f"are extracted: plant at least {fewest} for each number of repetitions, or run fewer attacks"
            )
