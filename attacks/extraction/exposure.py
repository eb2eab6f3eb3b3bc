"""RT201 exposure: how far a secret stands out among all that could stand in its place (Carlini et al., 2019).

The adversary knows the sentence but for its secret, writes every candidate into the gap, asks the model about each and
ranks them by the loss of the canary's label: the secret's exposure is log2 |R| - log2 rank, and the first in the rank
is the guess. No attack that looks at the loss alone does better, so where RT201 finds nothing, RT202 and RT203 cannot.
Probabilities are enough.

Up to 10^6 candidates are all looked at, and the rank is exact. Beyond, 10,000 drawn at random stand for them: the
exposure is read off among their losses. Where the secret's is below all of them it is log2 of their number, a bound:
no curve through the losses of most candidates (Carlini et al. fit a skew-normal) says how few lie further out, and for
losses with another tail it said 40 bits where 20 are true. Each answer says which; the guess is then the best of the
sample. Queries that differ in their label alone share one pass. White-box, sentences are composed from token ids, in
batches of one length without padding.

With a reference model, that never saw the canaries, the log-odds of the label are compared with its log-odds: what is
likely for both is no secret. On SNIPS (bilstm and a small BERT, ten canaries of each number of copies, labels of the
data) that gave up to 1 bit more for 3 copies and 1 to 4 bits less for 10 and 30, and far less with a label for each
canary. Nor did the raw logit in place of the loss, or the mean over 16 passes with dropout, find more on the whole.

Cost: one forward pass of each candidate, and 8 bytes for each candidate and label asked about.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference: which of two secrets was there. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attacks.extraction.sentences import CandidateSet, by_candidate_set
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import ENUMERABLE, Answer, CandidateSecret, ExtractionAttack, ExtractionQuery, Secret
from redteam.plugins.settings import Setting
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target

if TYPE_CHECKING:
    from attacks.extraction._candidates import CandidateLosses


@dataclass(frozen=True)
class ExposureRank(ExtractionAttack):
    """Rank both secrets among all candidates, or among `sample` of them where there are more than `enumerable`."""

    id = "RT201"
    name = "exposure"
    needs = Access.PROBABILITIES
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))

    enumerable: int = Setting("Most candidates of which all are ranked.", "candidates", least=1).default(ENUMERABLE)
    sample: int = Setting("Candidates ranked where there are more.", "candidates", least=1).default(10_000)

    def enumerates(self, query: ExtractionQuery) -> bool:
        """Return whether every candidate of a query is looked at."""
        return query.size <= self.enumerable

    def extract(
        self,
        target: Target,
        queries: Sequence[ExtractionQuery],
        candidates: Sequence[CandidateSecret],
        context: AttackContext,
    ) -> Sequence[Answer]:
        """Return the best candidate of each query, and both candidate secrets with their exposures."""
        from attacks.extraction._candidates import CandidateLosses
        from attacks.extraction._losses import Losses

        how = {"enumerable": self.enumerable, "sample": self.sample, "seed": context.seed}
        answers: dict[str, Answer] = {}
        for candidate_set, labels in by_candidate_set(queries).items():
            losses = Losses(target, candidate_set, labels, reference=context.reference)
            scored = CandidateLosses.look_at(candidate_set, losses.of, **how, progress=context.progress)
            for query in queries:
                if CandidateSet(query.pattern, query.alphabets) == candidate_set:
                    own = [candidate.secret for candidate in candidates if candidate.query == query.id]
                    answers[query.id] = _answer(query, scored, labels.index(query.label), own)
        return tuple(answers[query.id] for query in queries)


def _answer(query: ExtractionQuery, scored: "CandidateLosses", column: int, secrets: Sequence[Secret]) -> Answer:
    guess, loss = scored.best(column)
    ranked, details = scored.rank(column, secrets), {"candidates": float(scored.losses.shape[1])}
    return Answer(query.id, guess, loss, exact=scored.exact, ranked=ranked, details=details)
