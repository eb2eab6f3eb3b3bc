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
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from attacks.inversion.embedding_drift import narrow
from attacks.inversion.sentences import IntArray, Space, by_space
from redteam.core.arrays import FloatArray
from redteam.plugins.inversion import Answer, InversionAttack, Progress, Question, Suspect, unwatched
from redteam.targets.target import Access, Target

if TYPE_CHECKING:
    from attacks.inversion._descent import Relaxed
    from attacks.inversion._swaps import Found


@dataclass(frozen=True)
class SwapSearch(InversionAttack):
    """Guess a secret by descent and then by swaps; `restarts` descents and `random_starts` besides for each canary.

    `swaps` are tried of each guess at a time, `pairs` of two places at once for each of the `beam` best.
    """

    id = "RT203"
    name = "search"
    needs = Access.WEIGHTS
    ranks = False
    searches = True

    restarts: int = 4
    random_starts: int = 8
    swaps: int = 128
    beam: int = 4
    pairs: int = 1024
    rounds: int = 100
    learning_rate: float = 0.2
    hold: int | None = 24
    relaxation: Literal["softmax", "straight-through", "gumbel"] = "softmax"
    narrow: int | None = None

    def extract(
        self,
        target: Target,
        questions: Sequence[Question],
        suspects: Sequence[Suspect],
        *,
        reference: Target | None = None,
        base: Path | None = None,
        seed: int,
        progress: Progress = unwatched,
    ) -> Sequence[Answer]:
        """Return a guess for each question, with its loss as a sentence."""
        found: dict[tuple[Space, str], Found] = {}
        for space, labels in by_space(questions).items():
            tried = space if self.narrow is None else narrow(space, target, base, most=self.narrow)
            of_space = self._of_space(target, tried, labels, reference, seed, progress)
            found |= {(space, label): own for label, own in zip(labels, of_space, strict=True)}
        answers = []
        for question in questions:
            own = found[Space(question.pattern, question.alphabets), question.label]
            details = {"rounds": float(own.rounds), "evaluated": float(own.evaluated)}
            answers.append(Answer(question.id, own.secret, own.loss, details=details))
        return tuple(answers)

    def _of_space(
        self,
        target: Target,
        space: Space,
        labels: Sequence[str],
        reference: Target | None,
        seed: int,
        progress: Progress,
    ) -> list["Found"]:
        from attacks.inversion._descent import Descent, descend
        from attacks.inversion._lens import gradients, see
        from attacks.inversion._losses import Losses, Memory
        from attacks.inversion._swaps import Budget, improve

        seen = see(target, space, labels, reference)
        descent = Descent(self.learning_rate, relaxation=self.relaxation, hold=self.hold)
        budget = Budget(self.swaps, self.beam, self.pairs, self.rounds)
        memory = Memory(Losses(target, space, labels, reference=reference), len(space.sizes))
        with gradients(seen):
            ends = descend(seen, space, labels, restarts=self.restarts, descent=descent, seed=seed, progress=progress)
            drawn = space.draw(self.random_starts, np.random.default_rng([seed, 203]))
            starts, own = _starts(ends, memory.of(ends.picks), self.restarts, drawn)
            return improve(seen, space, memory, starts, own, budget=budget, seed=seed, progress=progress)


def _starts(ends: "Relaxed", values: FloatArray, restarts: int, drawn: IntArray) -> tuple[IntArray, IntArray]:
    """Return for each label the best picks on the ways of its restarts, as many as these, and those drawn at random."""
    picks, labels = [], []
    for label in range(values.shape[1]):
        own = np.nonzero(ends.rows // restarts == label)[0]
        best = own[np.argsort(values[own, label], kind="stable")[:restarts]]
        picks += [ends.picks[best], drawn]
        labels += [label] * (len(best) + len(drawn))
    return np.concatenate(picks), np.array(labels, dtype=np.int64)
