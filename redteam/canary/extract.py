"""The drill: ask every attack for the secrets, blindly, and compare what comes out with the canary ledger.

A finding is "more came out of the planted secrets than of their unseen twins": for each attack and each number of
repetitions a sign test by the guess and by the ranking of the two, and a test whether so many whole secrets could be
luck; one-sided, the error shared equally (Bonferroni) over all of them as counted before anything is asked.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from redteam import __version__, codec
from redteam.canary.measures import Comparison, Found, Group, Signal, fewest_to_prove, join_answers, measure_group
from redteam.canary.pattern import Pattern
from redteam.canary.planting import Planting, candidates_left, crowded
from redteam.canary.tokens import check_tokenizer
from redteam.data import Examples
from redteam.errors import TargetError
from redteam.exit_codes import LEAK, NOT_AUDITED, PASS
from redteam.grading import one_line
from redteam.inversion import Answer, InversionAttack, NotApplicable, Progress, Question, Suspect, unwatched
from redteam.report import Failure, Interval, TargetSummary
from redteam.target import Access, Target, label_indices
from redteam.tuning import settings_of

FORMAT = "redteam.extraction/1"


@dataclass(frozen=True)
class Attacker:
    """What the attacker has besides the target: a `reference` model without canaries, the public `base` encoder."""

    reference: Target | None = None
    base: Path | None = None


@dataclass(frozen=True)
class Extraction:
    """Everything one drill found. `tests` comparisons with the twins share the error `alpha`, `each` of them so much.

    `crowded` canaries share sentence and label with another: one guess can be right for one of them only.

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
    def proven(self) -> tuple[tuple[Group, Comparison], ...]:
        """The comparisons in which more came out of planted secrets than of their twins."""
        return tuple((group, each) for group in self.groups for each in group.comparisons if each.proven)

    @property
    def exit_code(self) -> int:
        """1 where something is proven, else 2 where something stood in the way, else 0."""
        return LEAK if self.proven else NOT_AUDITED if self.problems else PASS

    def to_json(self) -> str:
        """Return the report as indented JSON text ending in a newline."""
        return json.dumps(codec.encode(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def questions_of(planting: Planting) -> tuple[Question, ...]:
    """Return what attacks are asked: of each canary all but its secrets."""
    questions = []
    for canary in planting.canaries:
        pattern = Pattern.parse(canary.template)
        alphabets = tuple(planting.alphabets[name] for name in pattern.places)
        questions.append(Question(canary.id, pattern, canary.label, alphabets))
    return tuple(questions)


def suspects_of(planting: Planting) -> tuple[Suspect, ...]:
    """Return both secrets of each canary in alphabetical order, which says nothing about the coin."""
    return tuple(Suspect(canary.id, secret) for canary in planting.canaries for secret in sorted(canary.secrets))


def extract(
    target: Target,
    planting: Planting,
    attacks: Sequence[InversionAttack],
    *,
    attacker: Attacker = Attacker(),
    required: bool = False,
    alpha: float = 0.05,
    seed: int = 0,
    show_text: bool = False,
    texts: Sequence[str] | None = None,
    progress: Progress = unwatched,
) -> Extraction:
    """Run the attacks on `target` and report what they got; with `required`, one that does not apply is a problem.

    With a reference, attacks that can compare with it are run twice, without it and with it: a reference that saw the
    canaries, or is bad otherwise, must not hide what comes out without it. With the training `texts`, attacks that
    score tokens are measured by them too. Raises TargetError where the target or the reference lacks a canary's label,
    UsageError where a tokenizer mixes secrets up.
    """
    for model in (target, attacker.reference):
        if model is not None:
            check_target(model, planting)
    runs = _runs(attacks, attacker)
    tests = max(1, count_tests([attack for _, attack, _ in runs], planting, target.access))
    groups: list[Group] = []
    found: list[Found] = []
    failures: list[Failure] = []
    for name, attack, holds in runs:
        answers = ask(attack, target, planting, attacker=holds, seed=seed, progress=progress)
        if isinstance(answers, Failure):
            failures.append(replace(answers, attack=name))
        else:
            by_question = {answer.question: answer for answer in answers}
            own = join_answers(name, planting, by_question, show_text=show_text)
            found += own
            exact = {answer.question for answer in answers if answer.exact}
            groups += _groups(attack, planting, own, exact, alpha, alpha / tests)
    aucs = {} if texts is None else _token_aucs(attacks, target, texts, attacker.base, alpha, failures)
    return Extraction(
        target=TargetSummary(target.name, target.kind, target.access.word, len(target.labels), target.digest),
        canaries=len(planting.canaries),
        crowded=crowded(planting),
        alpha=alpha,
        tests=tests,
        each=alpha / tests,
        groups=tuple(groups),
        found=tuple(found),
        failures=tuple(failures),
        problems=tuple(_problems(groups, failures, required, alpha / tests, candidates_left(planting))),
        settings={attack.id: settings_of(attack) for attack in attacks},
        token_auc=aucs,
        seed=seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )


def _runs(attacks: Sequence[InversionAttack], attacker: Attacker) -> list[tuple[str, InversionAttack, Attacker]]:
    """Return what is run, under which name and by whom: all attacks without the reference, then those that compare."""
    alone = replace(attacker, reference=None)
    runs = [(attack.id, attack, alone) for attack in attacks]
    if attacker.reference is not None:
        runs += [(f"{attack.id} against reference", attack, attacker) for attack in attacks if attack.compares]
    return runs


def _token_aucs(
    attacks: Sequence[InversionAttack],
    target: Target,
    texts: Sequence[str],
    base: Path | None,
    alpha: float,
    failures: list[Failure],
) -> dict[str, Interval]:
    """Measure the attacks that were not in the way already by how they score tokens; add to `failures` what breaks."""
    found = {}
    stopped = {failure.attack for failure in failures}
    for attack in attacks:
        try:
            interval = None if attack.id in stopped else attack.token_auc(target, texts, base=base, alpha=alpha)
        except Exception as error:
            failures.append(Failure(attack.id, "failed", one_line(error)))
            continue
        if interval is not None:
            found[attack.id] = interval
    return found


def check_target(target: Target, planting: Planting) -> None:
    """Raise TargetError or UsageError where the target cannot be one that was trained on the planted data."""
    if target.access >= Access.PROBABILITIES and target.labels:
        labels = tuple(canary.label for canary in planting.canaries)
        label_indices(target.labels, Examples(np.arange(len(labels)), labels=labels), name=target.name)
    tokenizer = getattr(target, "tokenizer", None)
    if tokenizer is not None:
        check_tokenizer(planting, tokenizer, name=target.name)


def count_tests(attacks: Sequence[InversionAttack], planting: Planting, access: Access) -> int:
    """Return how many tests the applicable attacks are put to: the family that shares the error."""
    return sum(len(signals_of(attack)) for attack in attacks if access >= attack.needs) * len(repeated(planting))


def signals_of(attack: InversionAttack) -> tuple[Signal, ...]:
    """Return the signals by which an attack is judged, as it declares them."""
    by_guess: tuple[Signal, ...] = ("guess", "whole") if attack.guesses else ()
    return (*by_guess, "rank") if attack.ranks else by_guess


def fewest_candidates(planting: Planting) -> int:
    """Return the number of secrets of the pattern that has the fewest."""
    return min(question.size for question in questions_of(planting))


def repeated(planting: Planting) -> tuple[int, ...]:
    """Return the numbers of repetitions, ascending."""
    return tuple(sorted({canary.repetitions for canary in planting.canaries}))


def ask(
    attack: InversionAttack,
    target: Target,
    planting: Planting,
    *,
    attacker: Attacker = Attacker(),
    seed: int,
    progress: Progress = unwatched,
) -> tuple[Answer, ...] | Failure:
    """Return an attack's answers, one for each canary in order and complete, or why there are none."""
    if target.access < attack.needs:
        reason = f"needs {attack.needs.word}, the target gives {target.access.word}"
        return Failure(attack.id, "not_applicable", reason)
    questions, suspects = questions_of(planting), suspects_of(planting)
    reference, base = attacker.reference, attacker.base
    try:
        answers = tuple(
            attack.extract(target, questions, suspects, reference=reference, base=base, seed=seed, progress=progress)
        )
        _check_answers(attack, questions, suspects, answers)
    except NotApplicable as error:
        return Failure(attack.id, "not_applicable", one_line(error))
    except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end a drill as a pass
        return Failure(attack.id, "failed", one_line(error))
    return answers


def _check_answers(
    attack: InversionAttack, questions: Sequence[Question], suspects: Sequence[Suspect], answers: Sequence[Answer]
) -> None:
    """Refuse answers that leave something out: what is missing must not count as a secret that was kept."""
    if not (attack.guesses or attack.ranks):
        raise TargetError(f"{attack.id}: neither guesses nor ranks, so there is nothing to judge it by")
    if [answer.question for answer in answers] != [question.id for question in questions]:
        raise TargetError(f"{attack.id}: answered {len(answers)} of {len(questions)} questions, or in another order")
    for question, answer in zip(questions, answers, strict=True):
        if attack.guesses and (answer.guess is None or len(answer.guess) != len(question.alphabets)):
            raise TargetError(f"{attack.id}: {question.id}: no guess of {len(question.alphabets)} symbols")
        both = sorted(suspect.secret for suspect in suspects if suspect.question == question.id)
        if attack.ranks and sorted(each.secret for each in answer.ranked) != both:
            raise TargetError(f"{attack.id}: {question.id}: the suspects are not those that were asked about")
        if not all(math.isfinite(each.loss) for each in answer.ranked):
            raise TargetError(f"{attack.id}: {question.id}: a loss is not finite")


def _groups(
    attack: InversionAttack,
    planting: Planting,
    found: Sequence[Found],
    exact: set[str],
    alpha: float,
    level: float,
) -> Iterator[Group]:
    for count in repeated(planting):
        canaries = [canary for canary in planting.canaries if canary.repetitions == count]
        yield measure_group(
            found[0].attack,
            canaries,
            [each for each in found if each.repetitions == count],
            planting.alphabets,
            signals=signals_of(attack),
            exact=all(canary.id in exact for canary in canaries),
            left=candidates_left(planting),
            alpha=alpha,
            level=level,
        )


def _problems(
    groups: Sequence[Group], failures: Sequence[Failure], required: bool, level: float, left: int
) -> Iterator[str]:
    """Yield what keeps a drill without a finding from being a pass."""
    for failure in failures:
        if failure.kind == "failed" or required:
            yield f"{failure.attack} gave nothing: {failure.reason}"
    if not groups and not required:
        yield "no attack could be run on this target"
    for count, canaries in {group.repetitions: group.canaries for group in groups}.items():
        tests = [each for group in groups if group.repetitions == count for each in group.comparisons]
        fewest = fewest_to_prove(tests, left=left, level=level)
        if canaries < fewest:
            yield (
                f"{canaries} canaries of {count} repetitions can prove nothing at the level {level:.2g}, however many "
                f"come out: plant at least {fewest} for each number of repetitions, or run fewer attacks"
            )
