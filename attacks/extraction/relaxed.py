"""RT202 relaxed inversion: completes a sentence by descent on the model's loss (Parikh, Dupuy and Gupta, ACL 2022).

The adversary holds the weights and knows the sentence but for its secret. Each place of the secret gets one logit for
each candidate symbol; its embedding is the mean under softmax(z / T), and Adam lowers the frozen model's loss of the
canary's label. The heaviest symbols are the guess. There is no public code of the paper's; a replication uses learning
rate 0.02 and T = 1, and stops after 1,000 steps or once no place's heaviest symbol has changed for 100. That is
`--set RT202.restarts=1 --set RT202.learning_rate=0.02 --set RT202.rounding_interval=none`; the loss is the classifier's
cross-entropy.

Ours finds far more. The relaxed loss is lowest at mixtures of symbols that are no sentence, and rounding all places of
a mixture at once misses the secret. So every 24 steps (for ten symbols) the surest place is rounded, and the descent
goes on in those that are left, at a learning rate of 0.2; 48 restarts begin, of which the better quarter goes on after
the first rounding and half of those left after each other. Of all secrets that were the heaviest symbols on the way, or
were drawn by the weights once these had settled, the one with the lowest loss as a sentence is kept.

All restarts of all canaries of a pattern go in one batch, canaries that differ in nothing but their secrets only once.
A symbol of several word-pieces takes several positions, so only symbols of as many pieces are mixed: each restart
takes the shape of a candidate drawn at random and stays in it. With a reference model the difference of the log-odds is
raised. With `narrow`, only so many symbols a place are tried, those whose embeddings moved most from the base's.

Memory: what a forward pass keeps for its backward pass, and 20 bytes for each symbol and place, of each restart of each
canary. Canaries go in several batches where that exceeds 1 GiB.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    from attacks.extraction._losses import Losses

_CHUNK = 1 << 12  # picks asked about at a time


@dataclass(frozen=True)
class RelaxedSearch(ExtractionAttack):
    """Guess a secret by gradient descent on weights over symbols.

    `rounding_interval` is the number of steps between two roundings, for ten symbols, and None never rounds: then
    `iterations` and `patience` say when to stop. `draws` secrets are drawn in a step. `final_temperature` None keeps
    the temperature.
    """

    id = "RT202"
    name = "relaxed inversion"
    needs = Access.WEIGHTS
    taxonomy = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",))
    ranks = False
    searches = True

    restarts: int = Setting("Descents for each canary.", least=1).default(48)
    learning_rate: float = Setting("Of Adam, on the weights over symbols.", above=0).default(0.2)
    rounding_interval: int | None = Setting(
        "Steps between two roundings, for ten symbols; none never rounds.", "steps", least=1
    ).default(24)
    draws: int = Setting("Secrets drawn in a step, late in the descent.", least=1).default(16)
    iterations: int = Setting("Most steps of a descent.", "steps", least=1).default(1000)
    patience: int = Setting("Without rounding: steps without a better loss.", "steps", least=1).default(100)
    temperature: float = Setting("Of the softmax over symbols, at first.", above=0).default(1.0)
    final_temperature: float | None = Setting("At last; none: as at first.", above=0).default(None)
    narrow: int | None = NARROW.default(None)

    def extract(
        self,
        target: Target,
        queries: Sequence[ExtractionQuery],
        candidates: Sequence[CandidateSecret],
        context: AttackContext,
    ) -> Sequence[Answer]:
        """Return a guess for each query, with its loss as a sentence."""
        found: dict[tuple[CandidateSet, str], tuple[tuple[str, ...], float, float]] = {}
        for candidate_set, labels in by_candidate_set(queries).items():
            tried = candidate_set
            if self.narrow is not None:
                tried = narrow(candidate_set, target, context.base, most=self.narrow)
            for label, answer in self._of_set(target, tried, labels, context).items():
                found[candidate_set, label] = answer
        answers = []
        for query in queries:
            guess, loss, steps = found[CandidateSet(query.pattern, query.alphabets), query.label]
            details = {"steps": steps, "restarts": float(self.restarts)}
            answers.append(Answer(query.id, guess, loss, details=details))
        return tuple(answers)

    def _of_set(
        self,
        target: Target,
        candidate_set: CandidateSet,
        labels: Sequence[str],
        context: AttackContext,
    ) -> dict[str, tuple[tuple[str, ...], float, float]]:
        """Return for each label the guess, its loss and the mean number of steps."""
        from attacks.extraction._descent import Descent, descend
        from attacks.extraction._losses import Losses
        from attacks.extraction._soft_embeddings import embed, gradients

        embedded = embed(target, candidate_set, labels, context.reference)
        how: dict[str, Any] = {"seed": context.seed, "progress": context.progress}
        descent = Descent(
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            patience=self.patience,
            temperature=self.temperature,
            final_temperature=self.final_temperature,
            rounding_interval=self.rounding_interval,
            draws=self.draws,
        )
        with gradients(embedded):
            ends = descend(embedded, candidate_set, labels, restarts=self.restarts, descent=descent, **how)
        owners = ends.rows // self.restarts
        losses = _own_losses(Losses(target, candidate_set, labels, reference=context.reference), ends.picks, owners)
        found = {}
        for i, label in enumerate(labels):
            own = np.nonzero(owners == i)[0]
            best = own[losses[own].argmin()]
            steps = float(np.mean(ends.steps[i * self.restarts : (i + 1) * self.restarts]))
            found[label] = (candidate_set.secret(ends.picks[best]), float(losses[best]), steps)
        return found


def _own_losses(losses: "Losses", picks: IntArray, labels: IntArray) -> FloatArray:
    """Return the loss of each pick for its own label, [n]; a pick of several labels is asked about once."""
    distinct, which = np.unique(picks, axis=0, return_inverse=True)
    own, which = np.empty(len(picks)), which.ravel()
    for first in range(0, len(distinct), _CHUNK):
        here = np.nonzero((which >= first) & (which < first + _CHUNK))[0]
        own[here] = losses.of(distinct[first : first + _CHUNK])[which[here] - first, labels[here]]
    return own
