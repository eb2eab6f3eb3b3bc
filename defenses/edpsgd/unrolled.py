"""What a recurrent layer is when it is taken apart: steps in time, stacked weights, and one use for each direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from defenses.edpsgd.linear import LinearUse, SharedInput
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import Tape

_Parameters = tuple[nn.Parameter | None, ...]  # a weight and its bias; None: not there, or not trained


class RecurrentUse:
    """One direction of one layer in one call; its backward sets `inputs` and `states`, x and h_(t-1) [B, T, ...].

    It sets `own` too where the map of the states has another output gradient than that of the inputs.
    """

    def __init__(self, name: str, batch: int, ih: _Parameters, hh: _Parameters) -> None:
        """Remember the parameters that are trained."""
        self.name, self.batch, self._ih, self._hh = name, batch, ih, hh
        self.parameters = tuple(p for p in (*ih, *hh) if p is not None)
        self.inputs: Tensor | None = None
        self.states: Tensor | None = None
        self.own: Tensor | None = None

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take dL/dgates [B, T, gates H] for both maps."""
        assert self.inputs is not None
        assert self.states is not None
        if not into.compiled:
            gradient = gradient.contiguous()  # torch reads it several times; the kernel can read it time first
        own = gradient if self.own is None else self.own
        for (weight, bias), read, of in ((self._ih, self.inputs, gradient), (self._hh, self.states, own)):
            LinearUse(self.name, SharedInput(read), weight, bias).receive(of, into)
        self.inputs = self.states = self.own = None


@dataclass(frozen=True)
class Steps:
    """Which rows take part in which time step; the longest come first, so that they are always the first few."""

    rows: list[int]
    lengths: Tensor | None = None  # [batch]; None: all as long as the batch
    backwards: Tensor | None = None  # [time, batch]: where step t of the reverse direction reads
    place: Tensor | None = None  # [batch]: where each example of the caller's batch is; None: in its own place

    @classmethod
    def all(cls, x: Tensor) -> Steps:
        """Return the steps of x [time, batch, ...], all as long as it."""
        return cls([x.shape[1]] * x.shape[0])

    @classmethod
    def of(cls, packed: PackedSequence, lengths: Tensor) -> Steps:
        """Return the steps of a packed batch."""
        lengths = lengths.to(packed.data.device)
        time = torch.arange(len(packed.batch_sizes), device=lengths.device).unsqueeze(1)
        backwards = torch.where(time < lengths, lengths - 1 - time, time)
        return cls(packed.batch_sizes.tolist(), lengths, backwards, packed.unsorted_indices)

    def both(self, x: Tensor, ways: int) -> Tensor:
        """Return x [time, batch, in] as each direction reads it: [ways, time, batch, in]."""
        return torch.stack([x, self.reversed(x)]) if ways == 2 else x.unsqueeze(0).contiguous()

    def reversed(self, x: Tensor) -> Tensor:
        """Turn `x` [time, batch, ...] around in time, each row within its own length; doing it twice undoes it."""
        if self.backwards is None:
            return x.flip(0)
        return x[self.backwards, torch.arange(x.shape[1], device=x.device)]

    def last(self) -> tuple[Any, ...]:
        """Index the last step of each row in [direction, time, batch, ...]."""
        if self.lengths is None:
            return slice(None), len(self.rows) - 1
        return slice(None), self.lengths - 1, torch.arange(len(self.lengths), device=self.lengths.device)

    def by_example(self, x: Tensor) -> Tensor:
        """Turn [time, batch, ...] into [batch, time, ...] in the order of the caller's batch."""
        return (x if self.place is None else x.index_select(1, self.place)).transpose(0, 1)


@dataclass(frozen=True)
class RecurrentWeights:
    """One layer's parameters, its directions stacked, and its uses on the tape."""

    ih: Tensor  # [direction, gates hidden, in]
    hh: Tensor  # [direction, gates hidden, hidden]
    bias_ih: Tensor | None  # [direction, 1, gates hidden]
    bias_hh: Tensor | None
    uses: list[RecurrentUse]
    tape: Tape
    relu: bool

    @classmethod
    def of(cls, name: str, module: nn.RNNBase, k: int, batch: int, tape: Tape) -> RecurrentWeights:
        """Return the weights of layer k, and let the tape know of their uses."""
        ends = [f"l{k}", f"l{k}_reverse"] if module.bidirectional else [f"l{k}"]
        maps = [[_parameters(module, kind, end) for end in ends] for kind in ("ih", "hh")]
        uses = [RecurrentUse(name, batch, _trained(*ih), _trained(*hh)) for ih, hh in zip(*maps, strict=True)]
        for use in uses:
            tape.announce(use)
        ih, hh = (torch.stack([weight for weight, _ in each]).detach() for each in maps)
        bias_ih, bias_hh = (_stacked([bias for _, bias in each]) for each in maps)
        relu = getattr(module, "nonlinearity", "tanh") == "relu"
        return cls(ih, hh, bias_ih, bias_hh, uses, tape, relu)


def _stacked(biases: list[nn.Parameter | None]) -> Tensor | None:
    given: list[Tensor] = [bias for bias in biases if bias is not None]
    return torch.stack(given).detach().unsqueeze(1) if given else None


def _parameters(module: nn.RNNBase, kind: str, end: str) -> tuple[nn.Parameter, nn.Parameter | None]:
    return getattr(module, f"weight_{kind}_{end}"), getattr(module, f"bias_{kind}_{end}", None)


def _trained(*parameters: nn.Parameter | None) -> _Parameters:
    return tuple(p if p is not None and p.requires_grad else None for p in parameters)
