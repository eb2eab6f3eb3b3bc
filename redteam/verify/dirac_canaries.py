"""Data on which every canary has a coordinate of its own, so that what a trainer does to one shows in one place.

The model is two tables, two "layers", and reads one entry of each. A row's loss is `weight * (share1 * first[id] +
share2 * second[id])`: its gradient is `weight * share` at entry `id` of either table, whatever the tables hold. The
shares differ, so that clipping each table by itself, or by the largest entry, shows. A canary that is in has a gradient
far above the clipping norm; one that is out is a null row without a gradient, so that the number of rows never changes.
Where every example is clipped by itself and sampled by itself, what one canary's inclusion does is independent of what
all others' does. Entries that no row has, the blanks, show the noise alone. After the Dirac canaries of Nasr et al.
2023, "Tight Auditing of Differentially Private Machine Learning", arXiv 2302.07956.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from redteam.core import TargetError
from redteam.plugins.defense import Problem

Inclusion = npt.NDArray[np.bool_]
LAYERS = 2
_FAR_ABOVE = 10.0  # the clipping norm
_BLANKS = 2048  # their standard deviation is then that of the noise to 1.6 %


@dataclass(frozen=True)
class Kind:
    """What gradient a canary has: the parts of the two tables in it, squares summing to 1, and its size in clips."""

    parts: tuple[float, float] = (0.6, 0.8)
    size: float = _FAR_ABOVE * 2**0.5


_LEVEL = 0.5**0.5
KINDS = (  # what clips in another norm, one table alone, one side alone or some sizes alone, moves one of them too far
    Kind(),
    Kind((1.0, 0.0)),
    Kind((0.0, 1.0)),
    Kind((_LEVEL, _LEVEL)),
    Kind((-_LEVEL, _LEVEL), 3.0),
    Kind((-1.0, 0.0), 1.2),
    Kind((0.6, 0.8), 1e4),
    Kind((-0.6, -0.8)),
)


@dataclass(frozen=True)
class Design:
    """`canaries` canaries, each the first of a family of `family` rows on its entry, their kinds in turn.

    The other rows of a family, always in, pull the other way. A trainer that clips a family's mean and not each row
    moves by 2 C when the canary comes in, one that clips each row by C. Families of one row have no such companions.
    The first canaries are always in and have the weights `odd`, NaN say.
    """

    canaries: int
    family: int = 1
    kinds: tuple[Kind, ...] = (Kind(),)
    odd: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.canaries * self.family

    @property
    def entries(self) -> int:
        """The length of each table: an entry a canary, then the blanks."""
        return self.canaries + _BLANKS

    def sample_inclusion(self, rng: np.random.Generator) -> Inclusion:
        """Include each canary with probability 1/2: [canaries], true where it is in."""
        included: Inclusion = rng.random(self.canaries) < 0.5
        included[: len(self.odd)] = True
        return included

    def kind_of(self) -> npt.NDArray[np.int64]:
        """Return the place of each canary's kind, [canaries]."""
        return np.arange(self.canaries) % len(self.kinds)

    def shares(self) -> npt.NDArray[np.float32]:
        """Return the shares of the tables in the gradient of each entry's rows, [entries, 2], squares summing to 2."""
        parts = np.array([kind.parts for kind in self.kinds]) * 2**0.5
        blank = np.ones((self.entries - self.canaries, LAYERS))
        return np.concatenate([parts[self.kind_of()], blank]).astype(np.float32)

    def canary_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the canaries among `rows`, companions left out."""
        own: npt.NDArray[np.int64] = rows[rows % self.family == 0] // self.family
        return own

    def weights(self, included: Inclusion, clip: float) -> npt.NDArray[np.float32]:
        """Return the weight of every row, [size]."""
        weights = np.full((self.canaries, self.family), -_FAR_ABOVE * clip, dtype=np.float32)
        sizes = np.array([kind.size for kind in self.kinds])[self.kind_of()] / 2**0.5
        most = sizes * clip * (1 if self.family == 1 else 2 * self.family)  # outweighs its companions by itself
        weights[:, 0] = np.where(included, most, 0.0)
        weights[: len(self.odd), 0] = self.odd
        return weights.reshape(-1)


class Dirac(nn.Module):
    """Two tables of numbers; `forward` takes entries, int64 [b, 1], and returns the sum of both by `shares`, [b].

    `ids` and `weights` are those of all rows and `shares` those of all entries, [entries, 2], for whoever wants to work
    out gradients by hand: that of a row is `weights[row] * shares[ids[row]]` at its entry of either table.
    """

    def __init__(self, ids: torch.Tensor, weights: torch.Tensor, shares: torch.Tensor) -> None:
        """Make tables of zeros."""
        super().__init__()
        entries = len(shares)
        self.first = nn.Embedding(entries, 1, _weight=torch.zeros(entries, 1))
        self.second = nn.Embedding(entries, 1, _weight=torch.zeros(entries, 1))
        self.ids, self.weights, self.shares = ids, weights, shares

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the sum of both tables' entries, each times its share."""
        first, second = self.shares[ids].unbind(-1)
        total: torch.Tensor = self.first(ids).squeeze(-1) * first + self.second(ids).squeeze(-1) * second
        return total.reshape(len(ids))


class Watched(torch.optim.Optimizer):
    """An optimiser that shows each gradient it is given to `observe` and leaves the weights alone.

    `observe(gradients)` gets an array [entries] a table. The gradients do not depend on the weights, so nothing is
    lost, and weights that are not the zeros they were have been changed by somebody else, unseen.
    """

    def __init__(self, model: Dirac, observe: Callable[[list[npt.NDArray[np.float32]]], None]) -> None:
        """Watch both tables of `model`."""
        self._model, self._observe = model, observe
        self._tables = (model.first.weight, model.second.weight)
        self._inputs = (model.ids, model.weights, model.shares)
        self._given = tuple(values.clone() for values in self._inputs)
        self._changed = ""
        super().__init__(self._tables, {"lr": 1.0})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Show what the gradients are, after a closure where there is one; a table without one is shown as zeros."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.check()
        self._observe([_array(table) for table in self._tables])
        return loss

    def check(self) -> None:
        """Raise TargetError, again and again, once the weights or the data are not what they were."""
        self._changed = self._changed or self._find_changed()
        if self._changed:
            raise TargetError(f"the trainer {self._changed}")

    def _find_changed(self) -> str:
        now = (self._model.first.weight, self._model.second.weight)
        if any(table is not held for table, held in zip(now, self._tables, strict=True)):
            return "replaced the model's parameters; train those that are there"
        if any(int(table.detach().count_nonzero()) for table in self._tables):
            return "changed the weights outside problem.optimizer.step(): what it releases so, nobody sees"
        here = (self._model.ids, self._model.weights, self._model.shares)
        same = (
            a is b and torch.equal(a.view(torch.int32), kept.view(torch.int32))  # bits: NaN is NaN
            for a, b, kept in zip(here, self._inputs, self._given, strict=True)
        )
        return "" if all(same) else "changed the data that it was given"


def _array(table: torch.Tensor) -> npt.NDArray[np.float32]:
    if table.grad is None:
        return np.zeros(len(table), dtype=np.float32)
    gradient = table.grad.detach()
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return np.asarray(dense.to("cpu", torch.float32).reshape(-1).numpy())


def problem(
    design: Design,
    included: Inclusion,
    *,
    clip: float,
    read: Callable[[npt.NDArray[np.int64]], None],
    observe: Callable[[list[npt.NDArray[np.float32]]], None],
) -> Problem:
    """Return the problem that a trainer is given: `read` hears of the rows that it reads, `observe` of its updates."""
    ids = torch.arange(design.canaries).repeat_interleave(design.family)
    weights = torch.from_numpy(design.weights(included, clip))
    model = Dirac(ids, weights, torch.from_numpy(design.shares()))

    def losses(rows: torch.Tensor) -> torch.Tensor:
        read(rows.detach().cpu().numpy())
        total: torch.Tensor = weights[rows] * model(ids[rows].unsqueeze(1))
        return total

    return Problem(model.train(), Watched(model, observe), losses, size=design.size, population=design.size)
