"""Asking attacks for the secrets, blindly: what they are told, who asks, and whether the answers are whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redteam.canary.measures import Signal
from redteam.canary.pattern import Pattern
from redteam.canary.planting import Planting
from redteam.canary.tokens import check_tokenizer
from redteam.data import Examples
from redteam.errors import TargetError
from redteam.grading import one_line
from redteam.inversion import Answer, InversionAttack, NotApplicable, Progress, Question, Suspect, unwatched
from redteam.report import Failure
from redteam.target import Access, Target, label_indices


@dataclass(frozen=True)
class Attacker:
    """What the attacker has besides the target: a `reference` model without canaries, the public `base` encoder."""

    reference: Target | None = None
    base: Path | None = None


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


@dataclass(frozen=True)
class Run:
    """An attack in somebody's hands, under the name that reports give it."""

    name: str
    attack: InversionAttack
    attacker: Attacker


def runs_of(attacks: Sequence[InversionAttack], attacker: Attacker) -> list[Run]:
    """Return what is run: all attacks without the reference and then, where there is one, those that compare with it.

    A reference that saw the canaries, or is bad otherwise, must not hide what comes out without it.
    """
    runs = [Run(attack.id, attack, replace(attacker, reference=None)) for attack in attacks]
    if attacker.reference is not None:
        runs += [Run(f"{attack.id} against reference", attack, attacker) for attack in attacks if attack.compares]
    return runs


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
