"""RT204 embedding drift: which words were in the training data, read off the embedding table.

Fine-tuning moves the rows of those tokens that occurred in the training data. All other rows stay as in the public
encoder that training started from or, under weight decay, move in one way common to all: they shrink by one factor or,
where Adam and its like are given the decay as a part of the gradient, each entry moves by a function of its value, and
that further than any trained one. The adversary holds the weights and the base (`--base DIR`), learns the common move
from the rows that it explains best (a factor, unless a function of the value explains more), and scores each token of
the vocabulary by what the common move leaves unexplained. A secret is ranked by the score of its tokens, and its
exposure is its place among all candidates: the more they moved apart, the more likely they were seen. No label and no
order of words is known this way, so there is no guess; but the scores narrow the candidates of RT202 and RT203.

Where nothing moved, the embeddings were frozen, and the attack does not apply. A base with other tokens has no rows to
compare, and is an error: what it would have told is unknown.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model, and AML.T0002.001, acquire public AI artifacts: models. NIST AI
100-2 (2025) NISTAML.032, data reconstruction. OWASP Machine Learning Security Top 10 (2023) ML03, model inversion.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attacks.extraction._common_move import fit_common_moves, untouched
from attacks.extraction.sentences import CandidateSet, IntArray, by_candidate_set
from redteam.core import TargetError
from redteam.core.arrays import FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import (
    ENUMERABLE,
    Answer,
    CandidateSecret,
    ExtractionAttack,
    ExtractionQuery,
    NotApplicable,
)
from redteam.plugins.settings import Setting
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target, labels_of

if TYPE_CHECKING:
    from redteam.statistics import Interval

NARROW = Setting(
    "With --base: try so many symbols a place, those whose embeddings moved most; none: all.", "symbols", least=1
)

_STILLEST = 0.01  # share of the rows, those that kept their direction best, that tell the factor of weight decay
_ROUNDING = 1e-6  # of a row's norm: what float32 makes of a row that only shrank
_BETTER = 0.9  # a function of the value must leave so much less than a factor does
_ROWS = 1 << 14  # scored at a time


@dataclass(frozen=True)
class Drift:
    """How far each token's embedding moved apart from what is common to all, [vocabulary].

    `decay` is the factor of a common shrinking, None where the common move is no shrinking.
    """

    scores: FloatArray
    decay: float | None


def drift(target: Target, base: Path | None) -> Drift:
    """Score every token of the target's vocabulary; raise NotApplicable where the tables do not tell.

    Raises TargetError where `base` is of other tokens, BundleError where it is no Hugging Face directory of an encoder.
    """
    if base is None:
        raise NotApplicable("needs the public encoder that training started from: --base DIR")
    after, before = _table(target, "the target"), _base_table(target, base)
    if after.shape != before.shape:
        raise TargetError(f"{base}: its embedding table is {before.shape}, the target's {after.shape}: no base of it")
    if any(np.array_equal(after, kept) for kept in _as_saved(before)):
        raise NotApplicable("embeddings frozen: no row of the embedding table moved")
    found = moved(after, before)
    if not np.any(found.scores > _ROUNDING * np.linalg.norm(before, axis=1)):
        raise NotApplicable("embeddings frozen: every row of the embedding table moved by weight decay alone")
    return found


def _as_saved(table: FloatArray) -> Iterator[FloatArray]:
    """Yield a table as it is after it was saved in full or in half precision."""
    import torch

    for kind in (torch.float32, torch.float16, torch.bfloat16):
        yield torch.from_numpy(table).to(kind).double().numpy()


def moved(after: FloatArray, before: FloatArray) -> Drift:
    """Return the drift from two tables, [vocabulary, width] each."""
    decay = _common_factor(after, before)
    shrunk = np.linalg.norm(after - decay * before, axis=1)
    least, best = _BETTER * _stillness(shrunk), None
    if least <= _ROUNDING * float(np.median(np.linalg.norm(before, axis=1))):
        return Drift(shrunk, decay)
    for move in fit_common_moves(after, before):
        left = _stillness(_by_rows(move.left, after, before))
        if left < least:
            least, best = left, move
    return Drift(shrunk, decay) if best is None else Drift(_by_rows(best.scores, after, before), None)


def _by_rows(of: Callable[[FloatArray, FloatArray], FloatArray], after: FloatArray, before: FloatArray) -> FloatArray:
    """Return one number of each row, of a part of the rows at a time: a table may fill half of the memory."""
    parts = range(0, len(before), _ROWS)
    return np.concatenate([of(after[first : first + _ROWS], before[first : first + _ROWS]) for first in parts])


def _common_factor(after: FloatArray, before: FloatArray) -> float:
    """Return the factor of the rows that kept their direction best."""
    norms = np.einsum("vd,vd->v", before, before)
    known = norms > 0
    factors = np.einsum("vd,vd->v", after, before)[known] / norms[known]
    turned = np.linalg.norm(after[known] - factors[:, None] * before[known], axis=1) / np.sqrt(norms[known])
    stillest = np.argsort(turned, kind="stable")[: max(1, int(_STILLEST * len(turned)))]
    return float(np.median(factors[stillest]))


def _stillness(left: FloatArray) -> float:
    """Return what a common move leaves of the rows that it explains best, at the most."""
    return float(np.partition(left, untouched(len(left)) - 1)[untouched(len(left)) - 1])


def membership_auc(found: Drift, target: Target, texts: Sequence[str], *, alpha: float) -> "Interval":
    """Return how well the scores tell tokens that occur in the training `texts` from those that do not.

    Special tokens, which are in every text or in none, are left out. Raises StatisticsError where all occur or none.
    """
    from redteam.models.tokens import token_ids
    from redteam.statistics.roc import auc_interval

    tokenizer: Any = getattr(target, "tokenizer", None)
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    occurred = {i for ids in token_ids(tokenizer, list(texts), name=target.name) for i in ids}
    kept = np.array(sorted(set(tokenizer.get_vocab().values()) - special))
    return auc_interval(found.scores[kept], np.isin(kept, list(occurred)), alpha=alpha)


def narrow(candidate_set: CandidateSet, target: Target, base: Path | None, *, most: int) -> CandidateSet:
    """Return the set with the `most` symbols of each place whose tokens moved furthest; raise NotApplicable."""
    scores = _symbol_scores(candidate_set, target, drift(target, base))
    alphabets = []
    for symbols, own in zip(candidate_set.alphabets, scores, strict=True):
        kept = np.sort(np.argsort(-own, kind="stable")[: max(1, most)])
        alphabets.append(tuple(symbols[i] for i in kept.tolist()))
    return CandidateSet(candidate_set.pattern, tuple(alphabets))


@dataclass(frozen=True)
class EmbeddingDrift(ExtractionAttack):
    """Rank both secrets by how far the embeddings of their tokens moved, among all candidates or `sample`."""

    id = "RT204"
    name = "embedding drift"
    needs = Access.WEIGHTS
    taxonomy = Taxonomy(("AML.T0024.001", "AML.T0002.001"), ("NISTAML.032",), ("ML03:2023",))
    guesses = False
    compares = False
    scores_tokens = True

    sample: int = Setting("Candidates ranked where there are more.", "candidates", least=1).default(10_000)

    def token_auc(self, target: Target, texts: Sequence[str], context: AttackContext, *, alpha: float) -> "Interval":
        """Return how well the scores tell tokens that occur in the training `texts` from those that do not."""
        return membership_auc(drift(target, context.base), target, texts, alpha=alpha)

    def extract(
        self,
        target: Target,
        queries: Sequence[ExtractionQuery],
        candidates: Sequence[CandidateSecret],
        context: AttackContext,
    ) -> Sequence[Answer]:
        """Return both candidate secrets of each query, the loss minus the mean score of their symbols."""
        from attacks.extraction._candidates import CandidateLosses

        found = drift(target, context.base)
        how = {"enumerable": ENUMERABLE, "sample": self.sample, "seed": context.seed}
        of_set = {}
        for candidate_set in by_candidate_set(queries):
            losses = _Losses(_symbol_scores(candidate_set, target, found))
            of_set[candidate_set] = CandidateLosses.look_at(candidate_set, losses.of, **how, progress=context.progress)
        answers, details = [], {} if found.decay is None else {"decay": found.decay}
        for query in queries:
            scored = of_set[CandidateSet(query.pattern, query.alphabets)]
            secrets = [candidate.secret for candidate in candidates if candidate.query == query.id]
            answers.append(Answer(query.id, ranked=scored.rank(0, secrets), details=details))
        return tuple(answers)


@dataclass(frozen=True)
class _Losses:
    """Minus the mean score of a pick's symbols; `scores` has those of each place's symbols."""

    scores: Sequence[FloatArray]

    def of(self, picks: IntArray) -> FloatArray:
        """Return one column, [n, 1]."""
        own = np.stack([scores[picks[:, place]] for place, scores in enumerate(self.scores)], axis=1)
        own.sort(axis=1)  # the order of a sum decides its last digit, and the same symbols must have the same loss
        losses: FloatArray = -own.mean(axis=1, keepdims=True)
        return losses


def _symbol_scores(candidate_set: CandidateSet, target: Target, found: Drift) -> list[FloatArray]:
    """Return for each place the score of each symbol, the least of its pieces: all of them must have been seen."""
    from attacks.extraction._losses import spelling_of

    spelling = spelling_of(target, candidate_set)
    if spelling is None:
        raise NotApplicable(
            f"{target.name} spells a symbol of {candidate_set.pattern.template!r} differently beside others"
        )
    return [_least(found.scores, ids, counts) for ids, counts in zip(spelling.pieces, spelling.counts, strict=True)]


def _least(scores: FloatArray, pieces: IntArray, counts: IntArray) -> FloatArray:
    own = np.where(np.arange(pieces.shape[1]) < counts[:, None], scores[pieces], np.inf)
    least: FloatArray = own.min(axis=1)
    return least


def _table(target: Target, what: str) -> FloatArray:
    model: Any = getattr(target, "model", None)
    weight = getattr(model.get_input_embeddings(), "weight", None) if model is not None else None
    if weight is None:
        raise NotApplicable(f"{what} has no embedding table with one row for each token")
    table: FloatArray = weight.detach().double().cpu().numpy()
    return table


def _base_table(target: Target, base: Path) -> FloatArray:
    """Return the base's embedding table; raise TargetError where its tokens are others."""
    from redteam.models.opening import load_encoder
    from redteam.models.tokens import load_tokenizer

    tokenizer: Any = getattr(target, "tokenizer", None)
    if tokenizer is None or load_tokenizer(base).get_vocab() != tokenizer.get_vocab():
        raise TargetError(f"{base}: its tokens are not the target's: no base of it")
    model: Any = load_encoder(base, labels_of(target), layers=None)
    table: FloatArray = model.get_input_embeddings().weight.detach().double().numpy()
    return table
