"""Short trainings beside the main ones: little noise, many kinds of gradient, odd examples, empty batches, a crash."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from redteam.core import RedteamError
from redteam.plugins.defense import Mechanism, PrivateRun, Problem
from redteam.verify import moves, noise, sampling, troubles
from redteam.verify.calibration import Reader, Values
from redteam.verify.check import MechanismCheck
from redteam.verify.correlation import across
from redteam.verify.dirac_canaries import KINDS, Design
from redteam.verify.inspection import READ, Inspection
from redteam.verify.signal_check import SignalCheck, best, of_move
from redteam.verify.steady import steady
from redteam.verify.subject import TrainerSettings
from redteam.verify.verdict import plain

Look = Callable[[Mechanism, Inspection], tuple[list[MechanismCheck], list[str]]]

_EPSILON = 30.0  # of all short trainings: the less noise, the clearer they are
_ODD, _FEW = 403, 8  # canaries, of the shortest ones
_EPOCHS, _RATE = 12, 0.3  # the last batch of a pass is not full; of few canaries one is expected: each third is empty
_RAISES_AT = 3  # calls for losses
_SPARSE = 1 / 16  # of the canaries are in where there should be few
_USUAL, _SINGLE = 0, (1, 2)  # kinds as in the main trainings, and with a gradient in one table alone, of the same size
_ERRORS = 4.0  # standard errors that make a difference clear


class Watcher(Protocol):
    """What sees a training: rows read, and updates."""

    reader: Reader

    def observe(self, gradients: list[Values]) -> None:
        """Take in one update."""


class Alone:
    """An inspection of a training that nobody else watches."""

    def __init__(self, inspection: Inspection) -> None:
        """Watch with `inspection`."""
        self.inspection, self.reader = inspection, inspection.reader

    def observe(self, gradients: list[Values]) -> None:
        """Take in one update."""
        self.inspection.observe(gradients)
        self.reader.turn()


class Both:
    """An inspection beside another watcher, which turns the reader's page."""

    def __init__(self, inspection: Inspection, watcher: Watcher) -> None:
        """Watch with both."""
        self.inspection, self.watcher, self.reader = inspection, watcher, inspection.reader

    def observe(self, gradients: list[Values]) -> None:
        """Take in one update."""
        self.inspection.observe(gradients)
        self.watcher.observe(gradients)


def raising(problem: Problem) -> Problem:
    """Return a problem whose losses raise once what torch raises without memory."""
    calls = 0

    def losses(rows: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == _RAISES_AT:
            raise RuntimeError("out of memory")
        return problem.losses(rows)

    return replace(problem, losses=losses)


def checks_of(inspected: Sequence[tuple[PrivateRun, Inspection]]) -> list[MechanismCheck]:
    """Return all checks of trainings with one plan."""
    if not inspected:
        return []
    run, seen = inspected[-1][0], [one for _, one in inspected]
    found = [
        *across([one.kept for one in seen]),
        *noise.checks(seen),
        *(check for one in seen for check in (*one.neighbours.checks(), *one.grid.checks())),
        *sampling.checks(run.mechanism, seen),
    ]
    if any(other.mechanism != run.mechanism for other, _ in inspected):
        found.append(MechanismCheck("it says another mechanism of trainings with the same settings", 0.0, breaks=False))
    # One that is not plain says itself that an example moves more.
    return found + (moves.checks(run.mechanism, seen) if plain(run) else [])


class SideTrainings:
    """Runs the short trainings. A trainer that refuses one of them, or ends with an error, may be honest.

    `train(design, watcher, included, settings, raises=...)` runs one; `told` are the settings of the main trainings,
    `canaries` how many the first one has.
    """

    def __init__(
        self, train: Callable[..., PrivateRun], told: TrainerSettings, canaries: int, rng: np.random.Generator
    ) -> None:
        """Run them all."""
        self._train, self._rng, self._clip, self._canaries = train, rng, told.clip, canaries
        self.notes: list[str] = []
        self._found: list[MechanismCheck] = []
        self._quiet = quiet = replace(told, epsilon=max(told.epsilon, _EPSILON), epochs=_EPOCHS)
        self._trial = self._inspect(Design(canaries, kinds=KINDS), quiet)
        self._found += checks_of([self._trial] if self._trial else [])
        odd = min(_ODD, canaries)
        self._trouble(Design(odd, odd=troubles.NOT_A_NUMBER), quiet, troubles.no_numbers)
        self._trouble(Design(_FEW), quiet, troubles.few_rows)
        self._trouble(Design(odd), quiet, troubles.raised, raises=True)

    def checks(self) -> list[MechanismCheck]:
        """Return what is checked of them."""
        return self._found

    def farthest(self) -> SignalCheck | None:
        """Return how far lone canaries move a step with little noise, by the kind that shows most; None if refused."""
        return best(self._signals(_USUAL, *_SINGLE))

    def steadily(self) -> float | None:
        """Return how far examples move a step over what is claimed, where all move it alike; None elsewhere.

        That takes one more training, with few canaries in.
        """
        trial, signal = self._trial, self.farthest()
        if trial is None or signal is None or not plain(trial[0]):
            return None
        few = self._inspect(Design(self._canaries, kinds=KINDS), self._quiet, share=_SPARSE)
        if few is None or few[0].mechanism != trial[0].mechanism or not steady(trial[1], few[1]):
            return None
        return min(1.0, signal.share)

    def shortened(self, part: float = 1.0) -> float:
        """Return how far the canaries of the main trainings move a step, over those that it moves most, 1 at most.

        What clips in L1 moves some directions less and hides none: other directions show it. Without clear evidence, 1.
        `part` of what is claimed counts as the claim.
        """
        usual, others = best(self._signals(_USUAL)), best(self._signals(*_SINGLE))
        if usual is None or others is None or others.of(part).short or others.of(part).coarse:
            return 1.0
        ratio = usual.share / others.share
        error = (usual.error + others.error) / usual.claimed
        return ratio if ratio < 1 - max(_ERRORS * error, 0.1) else 1.0

    def _signals(self, *kinds: int) -> list[SignalCheck]:
        if self._trial is None:
            return []
        (run, one), found = self._trial, list[SignalCheck]()
        for kind in kinds:
            moved = moves.measure([one], states=(READ,), kinds=[kind], steps=[np.ones(one.steps, dtype=bool)])
            found += of_move(moved, run.mechanism, clip=self._clip, population=self._canaries)
        return found

    def _trouble(self, design: Design, told: TrainerSettings, look: Look, *, raises: bool = False) -> None:
        seen = self._inspect(design, told, raises=raises)
        if seen is not None and plain(seen[0]):
            checks, notes = look(seen[0].mechanism, seen[1])
            self._found += checks
            self.notes += notes

    def _inspect(
        self, design: Design, told: TrainerSettings, *, raises: bool = False, share: float | None = None
    ) -> tuple[PrivateRun, Inspection] | None:
        included = design.sample_inclusion(self._rng) if share is None else self._rng.random(design.canaries) < share
        inspection = Inspection(design, included, Reader(design))
        batch = max(1, round(_RATE * design.size)) if design.size > _FEW else 1
        try:
            run = self._train(design, Alone(inspection), included, replace(told, batch_size=batch), raises=raises)
        except RedteamError:
            return None
        return (run, inspection) if inspection.steps else None
