"""RT202 relaxed inversion: completes a sentence by descent on the model's loss (Parikh, Dupuy and Gupta, ACL 2022).

The adversary holds the weights and knows the sentence but for its secret. Each place of the secret gets one logit for
each candidate symbol; its embedding is the mean under softmax(z / T), and Adam lowers the frozen model's loss of the
canary's label (learning rate 0.02, at most 1,000 steps, until no place's heaviest symbol has changed for 100 steps).
The heaviest symbols are the guess. There is no public code of the paper's; settings and stop rule are those of a
replication, the loss is the classifier's cross-entropy.

Ours: 16 restarts at a temperature that falls from 0.2 to 0.05, which finds far more than the replication's one restart
at 1 (`RelaxedInversion(restarts=1, temperature=1.0, final_temperature=None)`); of all secrets that were the heaviest
symbols on the way, the one with the lowest loss as a sentence is kept. All restarts of all canaries of a pattern go in
one batch, canaries that differ in nothing but their secrets only once.
A symbol of several word-pieces takes several positions, so only symbols of as many pieces are mixed: each restart
takes the shape of a candidate drawn at random and stays in it. With a reference model the difference of the two losses
is lowered. With `narrow`, only so many symbols a place are tried, those whose embeddings moved most from the base's.

Memory: 16 bytes for each symbol, place, restart and canary, and the activations of one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attacks.inversion.embedding_drift import narrow
from attacks.inversion.sentences import Space, by_space
from redteam.inversion import Answer, InversionAttack, Progress, Question, Suspect, unwatched
from redteam.target import Access, Target


@dataclass(frozen=True)
class RelaxedInversion(InversionAttack):
    """Guess a secret by gradient descent on weights over symbols; `final_temperature` None keeps the temperature."""

    id = "RT202"
    name = "relaxed inversion"
    needs = Access.WEIGHTS
    ranks = False

    restarts: int = 16
    learning_rate: float = 0.02
    iterations: int = 1000
    patience: int = 100
    temperature: float = 0.2
    final_temperature: float | None = 0.05
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
        found: dict[tuple[Space, str], tuple[tuple[str, ...], float, float]] = {}
        for space, labels in by_space(questions).items():
            tried = space if self.narrow is None else narrow(space, target, base, most=self.narrow)
            for label, answer in self._of_space(target, tried, labels, reference, seed, progress).items():
                found[space, label] = answer
        answers = []
        for question in questions:
            guess, loss, steps = found[Space(question.pattern, question.alphabets), question.label]
            details = {"steps": steps, "restarts": float(self.restarts)}
            answers.append(Answer(question.id, guess, loss, details=details))
        return tuple(answers)

    def _of_space(
        self,
        target: Target,
        space: Space,
        labels: Sequence[str],
        reference: Target | None,
        seed: int,
        progress: Progress,
    ) -> dict[str, tuple[tuple[str, ...], float, float]]:
        """Return for each label the guess, its loss and the mean number of steps."""
        from attacks.inversion._losses import Losses
        from attacks.inversion._relaxation import Descent, descend, gradients, see

        seen = see(target, space, labels, reference)
        descent = Descent(self.learning_rate, self.iterations, self.patience, self.temperature, self.final_temperature)
        with gradients(seen):
            ends = descend(seen, space, labels, restarts=self.restarts, descent=descent, seed=seed, progress=progress)
        losses = Losses(target, space, labels, reference=reference).of(ends.picks)
        found = {}
        for i, label in enumerate(labels):
            own = np.nonzero(ends.rows // self.restarts == i)[0]
            best = own[losses[own, i].argmin()]
            steps = float(np.mean(ends.steps[i * self.restarts : (i + 1) * self.restarts]))
            found[label] = (space.secret(ends.picks[best]), float(losses[best, i]), steps)
        return found
