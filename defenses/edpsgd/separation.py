"""Do the rows of a batch stay apart? Clipping each row alone is worth nothing where one row's loss depends on another.

A backward pass sees only mixing behind a trained layer. Mixing before it (mixup, statistics of the batch, in-batch
negatives), statistics that were detached, and a gate that is still zero leave no trace in it. So the losses are asked
for again: with other rows in the place of half of the batch, and for a part of the batch alone. The losses of the rows
that stay must stay as they are, and so must the clipped sum of their gradients: behind a gate that is zero only that
moves. Where gradients are summed up before they are clipped, those of both halves must add up to those of the batch: a
backward of one's own may divide by a norm of all. Forward and backward must not leave traces of the rows in the model.

The same random numbers are drawn each time, and all generators are given back as they were. Where how many are drawn
depends on the rows, as dropout on padded texts does, other rows are tried; at last the model is asked in eval mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from defenses.edpsgd.answers import RowsAnswer, agree, mark
from defenses.edpsgd.refusals import gradients
from defenses.edpsgd.sampling import IntArray
from defenses.edpsgd.tape import UnsupportedLayer
from defenses.edpsgd.tracing import Trace, moved_first
from defenses.edpsgd.untouched import eval_mode, generators, left_as_it_was
from redteam.core import RedteamError
from redteam.plugins.defense import MAY_ASK_AGAIN

Losses = Callable[[Tensor], Tensor]
Gradient = Callable[[Tensor, Tensor], tuple[Tensor, float]]
_Asked = tuple[Tensor, Tensor]  # rows, and which of them stay

_ALWAYS = 2  # checks, before chance decides
_LEAST_CHANCE = 1 / 200  # of a step to be checked: mixing may begin late, but checks must cost next to nothing
_TOLERANCE = 1e-4  # of a loss, and of a sum of clipped gradients; float32 rounds to about 1e-6 of them
FLOOR = 0.1  # of a clip: what is small against it is mostly rounding
_ROUNDINGS = 4  # of a coarser format, where other rows change the shapes and with them the order of sums


class Separation:
    """Checks a model's losses, at the first steps and then at some that nobody can foresee.

    `gradient(losses [b], kept bool [b])` runs the backward of losses; it returns the sum of the kept rows' gradients as
    one vector, each of them clipped where that is how they are released, and how large such a sum might be. `alone`
    says that only the kept rows' losses go into that backward, which then cannot show what others' do to it.
    """

    def __init__(self, model: nn.Module, gradient: Gradient, *, alone: bool = False) -> None:
        """Nothing is asked yet."""
        self._model, self._gradient, self._done, self._seen = model, gradient, 0, 0
        self._alone = alone
        self._rng = np.random.default_rng()  # what is found depends on them, what is trained does not

    def due(self, step: int, rng: np.random.Generator) -> bool:
        """Return whether to check at a step, counted from 0: some 12 times in a thousand."""
        if not MAY_ASK_AGAIN.get():
            return False
        return self._done < _ALWAYS or rng.random() < max(1 / (step + 1), _LEAST_CHANCE)

    def check_now_and_then(self, losses: Losses, rows: Tensor) -> None:
        """Do `check` at the first calls and at some later ones."""
        self._seen += 1
        if len(rows) > 1 and self.due(self._seen - 1, self._rng):
            self.check(losses, rows)

    def check_batch(
        self, step: int, losses: Losses, parts: Sequence[IntArray], device: torch.device, rng: np.random.Generator
    ) -> bool:
        """Do `check` on one of the physical parts of a step's batch, if the step is one to check; return whether."""
        several = [part for part in parts if len(part) > 1]
        if not several or not self.due(step, rng):
            return False
        self.check(losses, torch.from_numpy(several[rng.integers(len(several))]).to(device), rng)
        return True

    def check(self, losses: Losses, rows: Tensor, rng: np.random.Generator | None = None) -> None:
        """Raise UnsupportedLayer, with the name of the module where it can be found, unless rows int64 [b] stay apart.

        The model, its gradients and all random generators are left as they were. Fewer than 2 rows cannot be mixed.
        """
        if len(rows) < 2:
            return
        rng = self._rng if rng is None else rng
        kept = torch.zeros(len(rows), dtype=torch.bool)
        stay = len(rows) // 2 | 1  # odd, so that pairs of neighbours are parted where those that stay come first
        kept[torch.from_numpy(rng.permutation(len(rows))[:stay])] = True
        first, self._done = not self._done, self._done + 1
        for mask in (kept, ~kept) if first else (kept,):
            question = _Question(self._model, self._gradient, losses, rows, mask.to(rows.device))
            question.ask(thorough=first)
            if self._alone and mask is kept:
                question.ask_sum()


class _Question:
    """One check: `kept` says which rows stay."""

    def __init__(self, model: nn.Module, gradient: Gradient, losses: Losses, rows: Tensor, kept: Tensor) -> None:
        self.model, self.gradient, self.losses, self.rows, self.kept = model, gradient, losses, rows, kept
        self.devices = sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)

    def ask(self, *, thorough: bool = False) -> None:
        """Compare the rows with some of them replaced, in all ways if `thorough`, and with some of them left out."""
        with left_as_it_was(self.model, self.devices):
            before = self._generators()
            base = self._answer(self.rows, self.kept)
            drawn = base.drawn != before
            # Where numbers are drawn row by row, only those that come first are sure to draw the same.
            done = self._replaced(base, self._as_they_are(), refuse=not drawn, thorough=thorough and not drawn)
            if not done and drawn:
                done = self._replaced(None, self._stay_first(), refuse=True)
            if not done:
                with eval_mode(self.model):
                    self._replaced_at_last()
            if not drawn:
                self._alone(base)
                return
            with eval_mode(self.model):
                quiet = self._answer(self.rows, self.kept)
                if quiet.drawn == before:
                    self._alone(quiet)

    def ask_sum(self) -> None:
        """Compare the gradients of all rows with those of the rows that stay and of the others, added up."""
        with left_as_it_was(self.model, self.devices):
            parts = [self._answer(self.rows, kept) for kept in (self.kept, ~self.kept)]
            whole = self._answer(self.rows, torch.ones_like(self.kept))
            for part in parts:
                self._check_buffers(whole, part)
            scale = sum(part.scale for part in parts)
            if not math.isfinite(scale) or not math.isfinite(whole.scale):
                return
            apart = float((whole.gradient - parts[0].gradient - parts[1].gradient).double().norm())
            if apart > _TOLERANCE * scale:
                rounding = self._trace(self.rows, self.kept).rounding
                if apart > _ROUNDINGS * rounding * scale:
                    raise UnsupportedLayer(
                        "the backward: the gradients of some rows change with the losses of the other rows of the "
                        "batch; examples are mixed, and no clip bounds what one of them does"
                    )

    def _as_they_are(self) -> Tensor:
        return torch.arange(len(self.rows), device=self.rows.device)

    def _stay_first(self) -> Tensor:
        return torch.argsort(~self.kept, stable=True)

    def _replaced(self, base: RowsAnswer | None, order: Tensor, *, refuse: bool, thorough: bool = False) -> bool:
        """Compare with other rows in place of those that do not stay; if `thorough`, with all that are at hand.

        False where other numbers are drawn each time, and for rows that do not agree unless told to `refuse` them.
        """
        agreed = False
        one, kept = self.rows[order], self.kept[order]
        base = base or _tried(self._answer, one, kept)
        for filling in self._fillings() if base is not None else ():
            other = _tried(self._answer, filling[order], kept)
            if base is not None and other is not None and other.drawn == base.drawn:
                pair = (one, kept), (filling[order], kept)
                agreed = self._agreed(base, other, *pair)
                if refuse and not agreed:
                    self._refuse(base, *pair)
                if not thorough:
                    return agreed
        return agreed

    def _replaced_at_last(self) -> None:
        """Compare in eval mode whatever is drawn, the rows that stay first."""
        order, filling = self._stay_first(), self._fillings()[0]
        if _tried(self._answer, self.rows[order], self.kept[order]) is None:
            order, filling = self._as_they_are(), self._fillings()[-1]
        pair = (self.rows[order], self.kept[order]), (filling[order], self.kept[order])
        base, other = (self._answer(*each) for each in pair)
        if not self._agreed(base, other, *pair):
            self._refuse(base, *pair)

    def _alone(self, base: RowsAnswer) -> None:
        """Compare with the rows that stay by themselves: nothing may depend on how many there are."""
        rows = self.rows[self.kept]
        pair = (self.rows, self.kept), (rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device))
        if not self._agreed(base, self._answer(*pair[1]), *pair):
            self._refuse(base, *pair)

    def _fillings(self) -> list[Tensor]:
        """Return the rows with others in place of those that do not stay.

        First those are replaced by either half of them: one half has the longest, unless a row that stays is it. Then
        by the row that stays before them, which leaves any order as it is.
        """
        others, found = self.rows[~self.kept], []
        half = (len(others) + 1) // 2
        for source in (others[:half], others[half:]) if len(others) > 1 else ():
            rows = self.rows.clone()
            rows[~self.kept] = source.repeat(len(others) // len(source) + 1)[: len(others)]
            found.append(rows)
        before = (self.kept.long().cumsum(0) - 1).clamp(min=0)
        return [*found, self.rows[self.kept][before]]

    def _answer(self, rows: Tensor, kept: Tensor) -> RowsAnswer:
        with left_as_it_was(self.model, self.devices):
            before = [(name, p, mark(p)) for name, p in self.model.named_parameters()]
            values = self.losses(rows)
            drawn = self._generators()
            if values.shape != (len(rows),):
                raise UnsupportedLayer(
                    f"the losses have shape {tuple(values.shape)} for {len(rows)} rows: give one loss a row, not "
                    "averaged (reduction='none')"
                )
            told = values.detach()[kept].double()
            gradient, scale = self.gradient(values, kept)
            for name, parameter, was in before:
                if mark(parameter) != was:
                    raise UnsupportedLayer(
                        f"{name}: changed in place by the forward or the backward, where no noise covers it"
                    )
            buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            return RowsAnswer(told, gradient, scale, drawn, buffers)

    def _agreed(self, base: RowsAnswer, other: RowsAnswer, one: _Asked, two: _Asked) -> bool:
        """Return whether the rows that stay say the same, but for rounding."""
        self._check_buffers(base, other)
        if agree(base, other, _TOLERANCE):
            return True
        traces = self._trace(*one), self._trace(*two)
        coarse = max(trace.rounding for trace in traces) if traces[0].shapes != traces[1].shapes else 0.0
        return coarse > torch.finfo(torch.float32).eps and agree(base, other, max(_TOLERANCE, _ROUNDINGS * coarse))

    def _refuse(self, base: RowsAnswer, one: _Asked, two: _Asked) -> NoReturn:
        if not agree(base, self._answer(*one), _TOLERANCE):
            raise UnsupportedLayer(
                "the losses of the same rows are others when they are asked for again: they may depend on nothing but "
                "the rows, the weights and the global random generators"
            )
        raise UnsupportedLayer(
            f"{moved_first(self._trace(*one), self._trace(*two))}: the losses or gradients of some rows change with "
            "the other rows of the batch; examples are mixed, and no clip bounds what one of them does"
        )

    def _check_buffers(self, base: RowsAnswer, other: RowsAnswer) -> None:
        for name, buffer in base.buffers.items():
            there = other.buffers.get(name)
            if there is None or there.shape != buffer.shape or buffer.equal(there):
                continue
            same = buffer.isnan() & there.isnan() if buffer.is_floating_point() else torch.zeros_like(buffer).bool()
            if not bool(((buffer == there) | same).all()):
                raise UnsupportedLayer(
                    f"{name}: a buffer that the forward fills with what the rows of the batch say (or the backward); "
                    "no noise covers it"
                )

    def _trace(self, rows: Tensor, kept: Tensor) -> Trace:
        with left_as_it_was(self.model, self.devices), Trace(self.model, kept) as trace:
            self.losses(rows)
        return trace

    def _generators(self) -> tuple[Any, ...]:
        return generators(self.devices)


def _tried(answer: Callable[[Tensor, Tensor], RowsAnswer], rows: Tensor, kept: Tensor) -> RowsAnswer | None:
    """Return an answer; None where these rows are not taken, as an LSTM takes texts in the order of their lengths."""
    try:
        return answer(rows, kept)
    except RedteamError:
        raise
    except Exception:
        return None


def unclipped(parameters: Sequence[nn.Parameter], clip: float) -> Gradient:
    """Return, for `Separation`, the gradients as autograd sums them up."""

    def gradient(losses: Tensor, kept: Tensor) -> tuple[Tensor, float]:
        chosen = losses[kept & losses.detach().isfinite()]
        if not (chosen.requires_grad and len(chosen)):
            return torch.zeros(1), FLOOR
        grads = gradients(chosen.sum(), parameters)
        total = torch.cat([g.flatten().double() for g in grads if g is not None])
        if not bool(total.isfinite().all()) and not bool(losses.isfinite().all()):
            return total, math.inf
        return total, float(total.norm()) + FLOOR * min(clip, 1.0)

    return gradient
