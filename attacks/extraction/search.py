"""RT203 search: refines guesses by swapping symbols, as far as any swap helps.

The adversary is that of RT202, and starts where RT202 ends, and from random secrets besides. Each guess is improved by
the best of its single swaps, over and over. Where there are more than 128 of them, those to be tried are chosen by the
gradient (HotFlip, Ebrahimi et al., ACL 2018; as in GCG, Zou et al., 2023), but for one in eight, chosen at random,
which lets a symbol in that has another number of word-pieces. What is tried is tried exactly, as a sentence. When no
swap helps, the best guesses so far, the beam, are tried with swaps in two places at once, among the symbols that did
best in either. That goes on until the best guess stays.

All guesses of all canaries of a pattern go in one batch; no sentence is asked about twice, and each answer counts for
every label. The descent before can put the best symbol in and let the gradient through, or add Gumbel noise before it:
`--set RT203.relaxation=straight-through` or `=gumbel`. With a reference model, log-odds are compared with its
log-odds throughout. `narrow` is as in RT202.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attacks.extraction.embedding_drift import NARROW, narrow
from attacks.extraction.sentences import CandidateSet, IntArray, by_candidate_set
from redteam.core.arrays import FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import Answer, CandidateSecret, ExtractionAttack, ExtractionQuery
from redteam.plugins.settings import Setting
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target

if TYPE_CHECKING:
    from attacks.extraction._descent import Relaxed
    from attacks.extraction._swaps import SwapResult


@dataclass(frozen=True)
class SwapSearch(ExtractionAttack):
    """Guess a secret by descent and then by swaps; `restarts` descents and `random_starts` besides for each canary.

    `swaps` are tried of each guess at a time, `pairs` of two places at once for each of the `beam` best.
    """

    id = "RT203"
    name = "search"
    needs = Access.WEIGHTS
    taxonomy = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",))
    ranks = False
    searches = True

    restarts: int = Setting("Descents for each canary.", least=1).default(4)
    random_starts: int = Setting("Random guesses besides, for each canary.", least=1).default(8)
    swaps: int = Setting("Swaps of one place tried of each guess in a round.", least=1).default(128)
    beam: int = Setting("Best guesses of which two places are swapped at once.", least=1).default(4)
    pairs: int = Setting("Swaps of two places tried of each of these.", least=1).default(1024)
    rounds: int = Setting("Most rounds of swaps.", least=1).default(100)
    learning_rate: float = Setting("Of Adam, on the weights over symbols.", above=0).default(0.2)
    rounding_interval: int | None = Setting(
        "Steps between two roundings, for ten symbols; none never rounds.", "steps", least=1
    ).default(24)
    relaxation: Literal["softmax", "straight-through", "gumbel"] = Setting(
        "What the descent puts where a symbol is open."
    ).default("softmax")
    narrow: int | None = NARROW.default(None)

    def extract(
        self,
        target: Target,
        queries: Sequence[ExtractionQuery],
        candidates: Sequence[CandidateSecret],
        context: AttackContext,
    ) -> Sequence[Answer]:
        """Return a guess for each query, with its loss as a sentence."""
        found: dict[tuple[CandidateSet, str], SwapResult] = {}
        for candidate_set, labels in by_candidate_set(queries).items():
            tried = candidate_set
            if self.narrow is not None:
                tried = narrow(candidate_set, target, context.base, most=self.narrow)
            of_set = self._of_set(target, tried, labels, context)
            found |= {(candidate_set, label): own for label, own in zip(labels, of_set, strict=True)}
        answers = []
        for query in queries:
            own = found[CandidateSet(query.pattern, query.alphabets), query.label]
            details = {"rounds": float(own.rounds), "evaluated": float(own.evaluated)}
            answers.append(Answer(query.id, own.secret, own.loss, details=details))
        return tuple(answers)

    def _of_set(
        self,
        target: Target,
        candidate_set: CandidateSet,
        labels: Sequence[str],
        context: AttackContext,
    ) -> list["SwapResult"]:
        from attacks.extraction._descent import Descent, descend
        from attacks.extraction._losses import Losses, Memory
        from attacks.extraction._soft_embeddings import embed, gradients
        from attacks.extraction._swaps import SwapBudget, improve

        embedded = embed(target, candidate_set, labels, context.reference)
        how: dict[str, Any] = {"seed": context.seed, "progress": context.progress}
        descent = Descent(self.learning_rate, relaxation=self.relaxation, rounding_interval=self.rounding_interval)
        budget = SwapBudget(self.swaps, self.beam, self.pairs, self.rounds)
        memory = Memory(Losses(target, candidate_set, labels, reference=context.reference), len(candidate_set.sizes))
        with gradients(embedded):
            ends = descend(embedded, candidate_set, labels, restarts=self.restarts, descent=descent, **how)
            drawn = candidate_set.draw(self.random_starts, np.random.default_rng([context.seed, 203]))
            starts, own = _starts(ends, memory.of(ends.picks), self.restarts, drawn)
            return improve(embedded, candidate_set, memory, starts, own, budget=budget, **how)


def _starts(ends: "Relaxed", values: FloatArray, restarts: int, drawn: IntArray) -> tuple[IntArray, IntArray]:
    """Return for each label the best picks on the ways of its restarts, as many as these, and those drawn at random."""
    picks, labels = [], []
    for label in range(values.shape[1]):
        own = np.nonzero(ends.rows // restarts == label)[0]
        best = own[np.argsort(values[own, label], kind="stable")[:restarts]]
        picks += [ends.picks[best], drawn]
        labels += [label] * (len(best) + len(drawn))
    return np.concatenate(picks), np.array(labels, dtype=np.int64)
