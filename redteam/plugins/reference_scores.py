"""What reference models, trained like the target on rows that somebody chose, say of the rows of an audit."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from redteam.core import StatisticsError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples


@dataclass(frozen=True)
class ReferenceScores:
    """One row per reference model, one column per row of the pool, in the order in which an attack gets it.

    `log_odds`, shape [k, n], is log p - log(1 - p) of each row's own label; `included`, shape [k, n], says which rows a
    model was trained on, and says nothing of the target. `partner[i]` is the model that was trained on just the rows
    that i was not trained on, or -1. `correct`, shape [k, n], is where the row's label was predicted, if that is known.
    `made_by` says in a few words where they come from, for the report. `gradients`, shape [k, f, n], are log norms of
    gradients of the row's loss, where an attack asks for them and the models have weights. The target is never among
    them. Raises StatisticsError where the shapes do not belong together, a number is NaN, or a partner is none of them.
    """

    log_odds: FloatArray
    included: BoolArray
    partner: tuple[int, ...]
    correct: BoolArray | None = None
    made_by: str = ""
    gradients: FloatArray | None = None

    def __post_init__(self) -> None:
        """Check what every attack would have to check."""
        if self.log_odds.ndim != 2 or self.log_odds.shape != self.included.shape:
            raise StatisticsError(
                f"log-odds of shape {self.log_odds.shape} and inclusion of shape {self.included.shape}: both must be "
                "[reference models, rows]"
            )
        if self.correct is not None and self.correct.shape != self.included.shape:
            raise StatisticsError(f"right answers of shape {self.correct.shape}, not {self.included.shape}")
        if self.included.dtype != np.bool_:
            raise StatisticsError(f"inclusion of {self.included.dtype}, not of true and false")
        if self.gradients is not None:
            self._check_gradients(self.gradients)
        if np.isnan(self.log_odds).any():
            raise StatisticsError("log-odds of a reference model are NaN")
        if len(self.partner) != len(self.log_odds):
            raise StatisticsError(f"{len(self.partner)} partners of {len(self.log_odds)} reference models")
        for model, other in enumerate(self.partner):
            if other >= len(self):
                raise StatisticsError(f"reference model {model} has the partner {other}, of {len(self)} models")
            if other >= 0 and (self.partner[other] != model or (self.included[model] == self.included[other]).any()):
                raise StatisticsError(f"reference model {other} was not trained on just what model {model} was not")

    def _check_gradients(self, norms: FloatArray) -> None:
        if norms.ndim != 3 or not norms.shape[1] or norms[:, 0].shape != self.log_odds.shape:
            raise StatisticsError(f"norms of gradients of shape {norms.shape}, not [models, norms, rows]")
        if not np.isfinite(norms).all():
            raise StatisticsError("norms of gradients of a reference model are NaN or infinite")

    def __len__(self) -> int:
        """Return how many models there are."""
        return len(self.log_odds)

    def without(self, model: int) -> "ReferenceScores":
        """Return these without one model and its partner, as when that one plays the target."""
        keep = [i for i in range(len(self)) if i not in (model, self.partner[model])]
        place = {old: new for new, old in enumerate(keep)}
        return ReferenceScores(
            self.log_odds[keep],
            self.included[keep],
            tuple(place.get(self.partner[i], -1) for i in keep),
            None if self.correct is None else self.correct[keep],
            self.made_by,
            None if self.gradients is None else self.gradients[keep],
        )


class ReferenceProvider(Protocol):
    """Where the scores of reference models come from: trained here, opened, or read from a file.

    It is given the rows of the pool with all that is known of them but on which side they are, and must not depend on
    that, nor on their order.
    """

    def scores(self, pool: Examples) -> ReferenceScores | None:
        """Return what reference models say of the pool's rows, in its order; None where there is time for none.

        Raises RedteamError where the scores cannot be had.
        """
