"""Asking attacks for the secrets, blindly: what they are told, who asks, and whether the answers are whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redteam.canary.measures import Signal
from redteam.canary.tokens import check_tokenizer
from redteam.core import TargetError, one_line
from redteam.core.progress import Progress, phase, unwatched
from redteam.data import Examples
from redteam.data.pattern import Pattern
from redteam.data.planting import Planting
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import Answer, CandidateSecret, ExtractionAttack, ExtractionQuery, NotApplicable
from redteam.report.values import Failure
from redteam.targets.target import Access, Target, label_indices, labels_of


@dataclass(frozen=True)
class Attacker:
    """What the attacker has besides the target: a `reference` model without canaries, the public `base` encoder."""

    reference: Target | None = None
    base: Path | None = None

    @property
    def references(self) -> tuple[Target, ...]:
        """The reference models, as an attack's context holds them."""
        return () if self.reference is None else (self.reference,)


def queries_of(planting: Planting) -> tuple[ExtractionQuery, ...]:
    """Return what attacks are told: of each canary all but its secrets."""
    queries = []
    for canary in planting.canaries:
        pattern = Pattern.parse(canary.template)
        alphabets = tuple(planting.alphabets[name] for name in pattern.places)
        queries.append(ExtractionQuery(canary.id, pattern, canary.label, alphabets))
    return tuple(queries)


def candidates_of(planting: Planting) -> tuple[CandidateSecret, ...]:
    """Return both secrets of each canary in alphabetical order, which does not tell which was planted."""
    return tuple(
        CandidateSecret(canary.id, secret) for canary in planting.canaries for secret in sorted(canary.secrets)
    )


def check_target(target: Target, planting: Planting) -> None:
    """Raise TargetError or UsageError where the target cannot be one that was trained on the planted data."""
    if Access.PROBABILITIES in target.access and labels_of(target):
        labels = tuple(canary.label for canary in planting.canaries)
        label_indices(labels_of(target), Examples(np.arange(len(labels)), labels=labels), name=target.name)
    tokenizer = getattr(target, "tokenizer", None)
    if tokenizer is not None:
        check_tokenizer(planting, tokenizer, name=target.name)


def count_tests(attacks: Sequence[ExtractionAttack], planting: Planting, access: Access) -> int:
    """Return how many tests the applicable attacks are put to: the family that shares the error."""
    return sum(len(signals_of(attack)) for attack in attacks if attack.needs in access) * len(repeated(planting))


def signals_of(attack: ExtractionAttack) -> tuple[Signal, ...]:
    """Return the signals by which an attack is judged, as it declares them."""
    by_guess: tuple[Signal, ...] = ("guess", "whole") if attack.guesses else ()
    return (*by_guess, "rank") if attack.ranks else by_guess


def fewest_candidates(planting: Planting) -> int:
    """Return the number of secrets of the pattern that has the fewest."""
    return min(query.size for query in queries_of(planting))


def repeated(planting: Planting) -> tuple[int, ...]:
    """Return the numbers of repetitions, ascending."""
    return tuple(sorted({canary.repetitions for canary in planting.canaries}))


@dataclass(frozen=True)
class Run:
    """An attack in somebody's hands, under the name that reports give it."""

    name: str
    attack: ExtractionAttack
    attacker: Attacker


def runs_of(attacks: Sequence[ExtractionAttack], attacker: Attacker) -> list[Run]:
    """Return what is run: all attacks without the reference and then, where there is one, those that compare with it.

    A reference that saw the canaries, or is bad otherwise, must not hide what is extracted without it.
    """
    runs = [Run(attack.id, attack, replace(attacker, reference=None)) for attack in attacks]
    if attacker.reference is not None:
        runs += [Run(f"{attack.id} against reference", attack, attacker) for attack in attacks if attack.compares]
    return runs


def without_searches(
    attacks: Sequence[ExtractionAttack], planting: Planting, access: Access, *, kept: Sequence[str] = ()
) -> tuple[tuple[ExtractionAttack, ...], tuple[Failure, ...]]:
    """Leave out attacks that search where one of the others looks at every candidate: they would cost error and time.

    Those whose id is among `kept` stay. Return those to be run, and why the others are not.
    """
    queries = queries_of(planting)
    able = [attack for attack in attacks if attack.needs in access]
    whole = next((attack for attack in able if all(attack.enumerates(query) for query in queries)), None)
    if whole is None:
        return tuple(attacks), ()
    why = f"{whole.id} ranks every candidate, where a search has nothing to find; name it with --attack to run it"
    left = [attack.id for attack in attacks if attack.searches and attack.id not in kept]
    run = tuple(attack for attack in attacks if attack.id not in left)
    return run, tuple(Failure(attack, "not_applicable", why) for attack in left)


@dataclass(frozen=True)
class AttackAnswers:
    """The answers of an attack, one for each canary that it applies to, and why there are no others."""

    answers: tuple[Answer, ...]
    failures: tuple[Failure, ...] = ()


def run_extraction(
    attack: ExtractionAttack,
    target: Target,
    planting: Planting,
    *,
    attacker: Attacker = Attacker(),
    seed: int,
    progress: Progress = unwatched,
) -> AttackAnswers:
    """Run an attack on all canaries and, where it does not apply to all patterns, about each pattern by itself.

    `attacker` is what it has besides the target. Returns its answers, and a Failure for what it could not be run on:
    one that crashes, or leaves an answer out, gives none at all.
    """
    if (reason := target.access.lacking(attack.needs)) is not None:
        return AttackAnswers((), (Failure(attack.id, "not_applicable", reason),))
    queries, candidates = queries_of(planting), candidates_of(planting)
    patterns = list(dict.fromkeys(query.pattern for query in queries))

    def of(asked: Sequence[ExtractionQuery]) -> AttackAnswers:
        own = {query.id for query in asked}
        return _run_once(attack, target, asked, [s for s in candidates if s.query in own], attacker, seed, progress)

    whole = of(queries)
    if len(patterns) == 1 or not whole.failures or whole.failures[0].kind == "failed":
        return whole
    parts = [of([query for query in queries if query.pattern == pattern]) for pattern in patterns]
    if any(failure.kind == "failed" for part in parts for failure in part.failures):
        return AttackAnswers(
            (), tuple(failure for part in parts for failure in part.failures if failure.kind == "failed")
        )
    by_id = {answer.query: answer for part in parts for answer in part.answers}
    answers = tuple(by_id[query.id] for query in queries if query.id in by_id)
    return AttackAnswers(answers, tuple(dict.fromkeys(failure for part in parts for failure in part.failures)))


def _run_once(
    attack: ExtractionAttack,
    target: Target,
    queries: Sequence[ExtractionQuery],
    candidates: Sequence[CandidateSecret],
    attacker: Attacker,
    seed: int,
    progress: Progress,
) -> AttackAnswers:
    shown = phase(progress, f"{attack.id} {attack.name}")
    context = AttackContext(seed, shown, attacker.references, attacker.base)
    try:
        answers = tuple(attack.extract(target, queries, candidates, context))
        _check_answers(attack, queries, candidates, answers)
    except NotApplicable as error:
        return AttackAnswers((), (Failure(attack.id, "not_applicable", one_line(error)),))
    except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end a drill as a pass
        return AttackAnswers((), (Failure(attack.id, "failed", one_line(error)),))
    return AttackAnswers(answers)


def _check_answers(
    attack: ExtractionAttack,
    queries: Sequence[ExtractionQuery],
    candidates: Sequence[CandidateSecret],
    answers: Sequence[Answer],
) -> None:
    """Refuse answers that leave something out: what is missing must not count as a secret that was kept."""
    if not (attack.guesses or attack.ranks):
        raise TargetError(f"{attack.id}: neither guesses nor ranks, so there is nothing to judge it by")
    if [answer.query for answer in answers] != [query.id for query in queries]:
        raise TargetError(f"{attack.id}: answered {len(answers)} of {len(queries)} queries, or in another order")
    for query, answer in zip(queries, answers, strict=True):
        if attack.guesses and (answer.guess is None or len(answer.guess) != len(query.alphabets)):
            raise TargetError(f"{attack.id}: {query.id}: no guess of {len(query.alphabets)} symbols")
        both = sorted(candidate.secret for candidate in candidates if candidate.query == query.id)
        if attack.ranks and sorted(each.secret for each in answer.ranked) != both:
            raise TargetError(f"{attack.id}: {query.id}: the candidate secrets are not those that were asked about")
        if not all(math.isfinite(each.loss) for each in answer.ranked):
            raise TargetError(f"{attack.id}: {query.id}: a loss is not finite")
