"""What a model's ledger keeps of label canaries: who was included, by which rules they are judged, and their scores.

A label canary is a text that all of them share, with a label of its own: an extra row of the last layer, cut off before
release. Each was included with probability 1/2, drawn with a secret key of which nothing public is a function. What is
judged is fixed before the first step: the draw, the text and the rule of each bound.
"""

import hashlib
import hmac
import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from redteam.core import LedgerError, UsageError
from redteam.core.arrays import BoolArray
from redteam.statistics.epsilon.planned import FEWEST, PlannedRules
from redteam.statistics.epsilon.subsampled import MOST_STEPS, Sampled

UPDATES, WEIGHTS, ANSWERS = "all updates", "final weights", "black box"
ACCESSES = (UPDATES, WEIGHTS, ANSWERS)
SEEN = {UPDATES: 1.0, WEIGHTS: 0.53, ANSWERS: 0.53}  # of the signal, as measured on trainings of other data
MOST = 50_000
_EDITED = "the ledger was edited; train again"
_SHORT, _FAR, _ERRORS = 0.9, 1.1, 4.0  # of what is claimed, and standard errors that make it clear


@dataclass(frozen=True)
class LabelPlan:
    """What is fixed before the first step: `count` canaries that say `text`, and who of them is in, drawn by `key`.

    `rules` are by what an adversary sees, planned from `claim`, the epsilon to be accounted for at `delta` (None: none
    is claimed), and `count` alone.
    """

    count: int
    text: str
    key: str = field(repr=False)
    claim: float | None = None
    delta: float = 1e-5
    rules: dict[str, PlannedRules] = field(default_factory=dict)

    @classmethod
    def draw(cls, count: int, text: str = "") -> "LabelPlan":
        """Return a plan with a secret key; UsageError for too few or too many canaries."""
        if not FEWEST <= count <= MOST:
            raise UsageError(
                f"--label-canaries {count}: give {FEWEST} to {MOST:,}; of fewer no bound shows anything, and 2,000 or "
                "10,000 show much"
            )
        return cls(count, text, secrets.token_hex(32))

    @property
    def included(self) -> BoolArray:
        """Who is in, [count]."""
        key = bytes.fromhex(self.key)
        drawn = [hmac.digest(key, i.to_bytes(8, "big"), "sha256") for i in range(0, self.count, 256)]
        bits = np.unpackbits(np.frombuffer(b"".join(drawn), dtype=np.uint8))
        return bits[: self.count].astype(np.bool_)


@dataclass(frozen=True)
class WatchedSteps:
    """What the steps were: how they sample, what they add, and how far canaries moved them.

    `moved` is the mean move of an included canary along its own gradient over what `clip` and sampling admit, `error`
    its standard error. `plain`: examples are sampled and clipped each by itself, with the same noise at all steps.
    `noise` is how far canaries that were left out moved over what that noise does to them, None where there is none.
    """

    sampling: str
    sample_rate: float
    steps: int
    noise_multiplier: float
    plain: bool
    moved: float
    error: float
    share: float
    noise: float | None = None
    noise_error: float = 0.0

    @property
    def sampled(self) -> Sampled | None:
        """The mechanism of all steps, where it is that of the bound that rules out noise; None for any other."""
        known = self.plain and self.sampling == "poisson" and self.steps <= MOST_STEPS
        return Sampled(self.sample_rate, self.steps) if known else None

    def troubles(self) -> Iterator[str]:
        """Yield why the steps were not what was claimed, so that what canaries do not show is no evidence."""
        moved, far, near = self.moved, _ERRORS * self.error, _ERRORS * self.noise_error
        said = f"canaries moved the updates {moved:.2f} times as far as clip and sampling rate admit"
        if not (moved + far >= _SHORT and moved - far <= _FAR):  # written so that NaN is trouble too
            yield f"{said} (standard error {self.error:.2f})"
        if self.noise is not None and not (self.noise + near >= _SHORT and self.noise - near <= _FAR):
            yield (
                f"canaries that were left out moved {self.noise:.2f} times as far as the noise of all steps moves them "
                f"(standard error {self.noise_error:.2f}): it is more, less or another noise than is accounted for"
            )


@dataclass(frozen=True)
class LabelCanaries:
    """The canaries of a trained model: the plan, who was included, and a score of each from all updates.

    `planted` is the file beside the ledger that holds the last layer as it was trained, and `planted_sha256` its
    fingerprint.
    """

    plan: LabelPlan
    included: str
    watched: WatchedSteps
    scores: tuple[float, ...]
    planted: str
    planted_sha256: str

    def check(self, path: Path) -> BoolArray:
        """Return who was included, [count]; LedgerError where that was not drawn at random, or was edited."""
        plan = self.plan
        try:
            drawn = plan.included
            said = np.array([{"0": False, "1": True}[each] for each in self.included], dtype=np.bool_)
        except (KeyError, ValueError):
            raise LedgerError(f"{path}: does not say which label canaries were included: {_EDITED}") from None
        if len(bytes.fromhex(plan.key)) < 16 or not hmac.compare_digest(said.tobytes(), drawn.tobytes()):
            raise LedgerError(f"{path}: its label canaries were not included at random, as its key draws: {_EDITED}")
        if min(drawn.sum(), (~drawn).sum()) < 2 or plan.count < FEWEST:
            raise LedgerError(f"{path}: {plan.count} label canaries are too few for any bound: train again with more")
        if len(self.scores) != plan.count or not np.isfinite(self.scores).all():
            raise LedgerError(f"{path}: {len(self.scores)} scores of {plan.count} label canaries: {_EDITED}")
        steps = self.watched
        numbers = (steps.moved, steps.error, steps.noise or 0.0, steps.noise_error)
        if not all(map(math.isfinite, numbers)) or min(steps.error, steps.noise_error) < 0:
            raise LedgerError(f"{path}: does not say how far label canaries moved the updates: {_EDITED}")
        if steps.moved and len(set(self.scores)) == 1:
            raise LedgerError(f"{path}: all label canaries have one score, which no training gives them: {_EDITED}")
        if not Path(self.planted).name:
            raise LedgerError(f"{path}: does not say where the last layer with label canaries is: {_EDITED}")
        if set(plan.rules) != set(ACCESSES):
            raise LedgerError(f"{path}: lacks the rules that label canaries are judged by: {_EDITED}")
        return drawn


def planted_path(model: Path) -> Path:
    """Return where the last layer with canaries is kept: `model.pt` has `model.planted.pt` beside it."""
    return model.with_name(f"{model.stem}.planted.pt")


def inclusion_digits(included: BoolArray) -> str:
    """Return who was included as a ledger writes it, a digit each."""
    return "".join("1" if each else "0" for each in included)


def file_sha256(path: Path) -> str:
    """Return the fingerprint of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
