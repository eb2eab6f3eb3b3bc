"""The contract of attacks: seeded, complete, blind, harmless, and able to find a certain leak."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redteam.data import Examples, Split
from redteam.data.pattern import Pattern
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import Answer, CandidateSecret, ExtractionAttack, ExtractionQuery, NotApplicable
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.targets.target import Access, Target, WhiteBox
from redteam.testing.examples import WORDS, RuleTarget, equipped, must, sentences, small_model
from redteam.testing.manual import check_manual, made

Fitted = Callable[[Examples], AttackContext]

# Of so many labels nothing is right by chance: what is memorised shows in the predicted labels alone.
_MANY = tuple(f"label {i:02d}" for i in range(40))


def check_attack(
    attack: type[Attack] | type[ExtractionAttack] | Attack | ExtractionAttack,
    *,
    target: Target | None = None,
    context: AttackContext | Callable[[Examples], AttackContext] | None = None,
) -> None:
    """Hold an attack to its contract; raise AssertionError with the line it breaks.

    `target` is what it is run on, by default a small model with its weights; give one for an attack that needs more.
    An extraction attack that does not apply to it, and says so, is held to no more. `context` is what else it has,
    or makes that for a pool; by default an encoder and reference models, where it reads texts.
    """
    it: Any = made(attack)
    given = context or (equipped if getattr(it, "reads_texts", False) else AttackContext(5))
    target, fitted = target or small_model(), given if callable(given) else lambda pool: given
    must(it.needs in target.access, f"{it.id} needs {it.needs.word}: give check_attack a target that gives that")
    before = state_of(target)
    if isinstance(it, ExtractionAttack):
        check_manual(it, r"RT2\d\d")
        _check_extraction(it, target, fitted(Examples(np.arange(0), (), ())))
    else:
        check_manual(it, r"RT[13-8]\d\d")
        _check_scores(it, target, fitted)
        if it.needs in Access.PROBABILITIES:
            _check_power(it, fitted)
    must(state_of(target) == before, f"{it.id} changes the target: weights, gradients or training mode")


def state_of(target: Target) -> tuple[Any, ...]:
    """Return what an attack with access to weights could change."""
    if not isinstance(target, WhiteBox):
        return ()
    import torch

    weights = {
        name: (str(v.dtype), v.detach().cpu().numpy().tobytes()) for name, v in target.model.state_dict().items()
    }
    parameters = list(target.model.parameters())
    flags = [(p.requires_grad, p.grad is None) for p in parameters]
    return weights, flags, target.model.training, torch.is_grad_enabled()


def _check_scores(attack: Attack, target: Target, fitted: Fitted) -> None:
    pool, _ = Split.of(sentences(150, seed=1), sentences(150, seed=2)).pool(0)
    why_not = attack.applies(target.access, fitted(pool))
    must(why_not is None, f"{attack.id} {why_not}: give check_attack a target and a context with that")
    first, again = (attack.score(target, pool, fitted(pool)) for _ in range(2))
    must(set(first) == set(attack.signals), f"{attack.id} gives {sorted(first)}, and declares {sorted(attack.signals)}")
    order = np.random.default_rng(0).permutation(len(pool))
    moved_pool = pool.take(order.tolist())
    shuffled = attack.score(target, moved_pool, fitted(moved_pool))
    for signal in attack.signals:
        name, scores = f"{attack.id}, {signal}", np.asarray(first[signal])
        must(scores.shape == (len(pool),), f"{name}: shape {scores.shape} for {len(pool)} rows")
        must(np.isfinite(scores).all(), f"{name}: a score is not finite")
        must(np.array_equal(scores, again[signal]), f"{name}: other scores with the same seed")
        moved = np.allclose(shuffled[signal], scores[order], atol=1e-5)
        must(moved, f"{name}: a row's score depends on its place in the pool, which can carry membership")


def _check_power(attack: Attack, fitted: Fitted) -> None:
    """Find a certain leak, and none where there is none."""
    pool, is_member = Split.of(sentences(150, seed=1, labels=_MANY), sentences(150, seed=2, labels=_MANY)).pool(0)
    members = pool.take(np.nonzero(is_member)[0].tolist())
    leaky = attack.score(RuleTarget(members, labels=_MANY), pool, fitted(pool))
    best = max(area_interval(rank(s, is_member, may_tie=True), alpha=0.01).low for s in leaky.values())
    must(best > 0.9, f"{attack.id}: AUC of at least {best:.2f} where every member is memorised, wanted 0.9")
    pool, is_member = Split.of(sentences(150, seed=1), sentences(150, seed=2)).pool(0)
    for signal, scores in attack.score(RuleTarget(), pool, fitted(pool)).items():
        seen = area_interval(rank(scores, is_member, may_tie=True), alpha=0.01)
        must(seen.low < 0.5 < seen.high, f"{attack.id}, {signal}: finds members of a target that knows none")


def _check_extraction(attack: ExtractionAttack, target: Target, context: AttackContext) -> None:
    must(attack.guesses or attack.ranks, f"{attack.id}: neither guesses nor ranks, so there is nothing to judge it by")
    queries = [
        ExtractionQuery(f"Q{i}", Pattern.parse(text), label, (WORDS[:4],) * 2)
        for i, (text, label) in enumerate((("ember {w:2} grove", "a"), ("ember {w:2} grove", "b")))
    ]
    pairs = (("amber", "basil"), ("cedar", "delta"))
    candidates = [CandidateSecret(query.id, secret) for query in queries for secret in pairs]
    try:
        first, again, without = (
            tuple(attack.extract(target, queries, some, context)) for some in (candidates, candidates, ())
        )
    except NotApplicable:
        return
    must(first == again, f"{attack.id}: other answers with the same seed")
    must([each.query for each in first] == ["Q0", "Q1"], f"{attack.id}: not one answer for each query, in their order")
    for query, answer in zip(queries, first, strict=True):
        _check_answer(attack, query, answer, pairs)
    blind = [each.guess for each in first] == [each.guess for each in without]
    must(blind, f"{attack.id}: a guess depends on the candidate secrets, one of which is the right one")


def _check_answer(
    attack: ExtractionAttack, query: ExtractionQuery, answer: Answer, pairs: Sequence[tuple[str, ...]]
) -> None:
    if attack.guesses:
        guess = answer.guess or ()
        fits = len(guess) == 2 and all(s in symbols for s, symbols in zip(guess, query.alphabets, strict=True))
        must(fits, f"{attack.id}: guess {answer.guess} is no secret of the pattern")
        must(answer.loss is not None and np.isfinite(answer.loss), f"{attack.id}: a guess without a finite loss")
    if attack.ranks:
        ranked = sorted(each.secret for each in answer.ranked)
        must(ranked == sorted(pairs), f"{attack.id}: ranks {ranked}, and was asked for {sorted(pairs)}")
        must(
            all(np.isfinite(each.loss) for each in answer.ranked), f"{attack.id}: ranks with a loss that is not finite"
        )
