"""nn.LSTM, nn.GRU and nn.RNN: each of their matrices is used once a time step, so each is a linear map over time.

The rule's forward keeps the gates of every step. Its backward runs the recursion once and finds dL/dgates, from which
come, for each layer and direction, the gradients of two linear maps:

    weight_ih, bias_ih    inputs x_t        output gradients dL/dgates_t
    weight_hh, bias_hh    inputs h_(t-1)    output gradients dL/dgates_t

Layers, directions, biases, dropout between layers, initial states, packed sequences: as torch has them. What follows
says h and c as the LSTM has both; a GRU (`gru`) has h alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from defenses.edpsgd.gru import GRULayer, RNNLayer
from defenses.edpsgd.linear import LinearUse, SharedInput
from defenses.edpsgd.recursion import backward_recursion, output_gradients, recursion, times
from defenses.edpsgd.tape import Tape, UnsupportedLayer

if TYPE_CHECKING:
    from defenses.edpsgd.backward import BackwardPass

_States = tuple[Tensor, ...]  # h, and of the LSTM c
_Parameters = tuple[nn.Parameter | None, ...]  # a weight and its bias; None: not there, or not trained


def recurrent(name: str, module: nn.RNNBase, tape: Tape, inputs: object = None) -> Callable[..., Any]:
    """Return the forward that runs nn.LSTM, nn.GRU or nn.RNN on detached parameters and leaves its uses on the tape.

    `inputs`, what other linear maps have read, is not needed: nothing here is shared with them. Raises UnsupportedLayer
    for proj_size, and in the forward for an input without a batch.
    """
    if module.proj_size:
        raise UnsupportedLayer(f"{name}: no exact rule for proj_size {module.proj_size}; set it to 0")

    def forward(input: Tensor | PackedSequence, hx: Any = None) -> Any:
        if not torch.is_grad_enabled():
            return type(module).forward(module, input, hx)
        device = input.data.device.type if isinstance(input, PackedSequence) else input.device.type
        with torch.autocast(device, enabled=False):
            output, states = run(input, (hx,) if isinstance(hx, Tensor) else hx)
        return output, states if isinstance(module, nn.LSTM) else states[0]

    def run(input: Tensor | PackedSequence, hx: _States | None) -> Any:
        if isinstance(input, PackedSequence):
            return _packed(name, module, input, hx, tape)
        if input.dim() != 3:
            raise UnsupportedLayer(f"{name}: its input has shape {tuple(input.shape)}; it needs a batch of examples")
        x = (input.transpose(0, 1) if module.batch_first else input).to(_dtype(module))
        out, states = _layers(name, module, x, hx, Steps.all(x), tape)
        return out.transpose(0, 1) if module.batch_first else out, states

    return forward


def _dtype(module: nn.RNNBase) -> torch.dtype:
    return next(module.parameters()).dtype


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

    def receive(self, gradient: Tensor, into: BackwardPass) -> None:
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


def _packed(
    name: str, module: nn.RNNBase, packed: PackedSequence, hx: _States | None, tape: Tape
) -> tuple[PackedSequence, _States]:
    x, lengths = pad_packed_sequence(PackedSequence(packed.data.to(_dtype(module)), packed.batch_sizes))
    if hx is not None and packed.sorted_indices is not None:
        hx = tuple(state.index_select(1, packed.sorted_indices) for state in hx)
    out, last = _layers(name, module, x, hx, Steps.of(packed, lengths), tape)
    if packed.unsorted_indices is not None:
        last = tuple(state.index_select(1, packed.unsorted_indices) for state in last)
    data = pack_padded_sequence(out, lengths).data
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices), last


def _layers(
    name: str, module: nn.RNNBase, x: Tensor, hx: _States | None, steps: Steps, tape: Tape
) -> tuple[Tensor, _States]:
    """Run all layers over `x` [time, batch, in]; return the last one's output and the last states of all of them."""
    ways, layer = 2 if module.bidirectional else 1, _LAYERS[type(module)]
    if hx is None:
        zeros = x.new_zeros(ways * module.num_layers, x.shape[1], module.hidden_size)
        hx = (zeros, zeros) if layer is _LSTMLayer else (zeros,)
    last: list[_States] = []
    for k in range(module.num_layers):
        if k and module.dropout and module.training:
            x = nn.functional.dropout(x, module.dropout)
        weights = Weights.of(name, module, k, x.shape[1], tape)
        own = [state[ways * k : ways * (k + 1)].to(x.dtype) for state in hx]
        x, *states = layer.apply(x, *own, tape.origin, weights, steps)  # type: ignore[no-untyped-call]
        last.append(tuple(states))
    return x, tuple(torch.cat(states) for states in zip(*last, strict=True))


@dataclass(frozen=True)
class Weights:
    """One layer's parameters, its directions stacked, and its uses on the tape."""

    ih: Tensor  # [direction, gates hidden, in]
    hh: Tensor  # [direction, gates hidden, hidden]
    bias_ih: Tensor | None  # [direction, 1, gates hidden]
    bias_hh: Tensor | None
    uses: list[RecurrentUse]
    tape: Tape
    relu: bool

    @classmethod
    def of(cls, name: str, module: nn.RNNBase, k: int, batch: int, tape: Tape) -> Weights:
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


class _LSTMLayer(torch.autograd.Function):
    """One LSTM layer, all directions at once; the reverse one runs over sequences that were turned around."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, origin: Tensor, weights: Weights, steps: Steps
    ) -> tuple[Tensor, Tensor, Tensor]:
        ways, (length, batch, _) = len(weights.ih), x.shape
        inputs = steps.both(x, ways)
        bias = weights.bias_ih
        if bias is not None and weights.bias_hh is not None:
            bias = bias + weights.bias_hh
        gates = times(inputs.flatten(1, 2), weights.ih.transpose(1, 2), bias).view(ways, length, batch, -1)
        h, c, tanh_c = recursion(gates, h0, c0, weights.hh, steps.rows)
        ctx.save_for_backward(inputs, gates, h, c, tanh_c)
        ctx.set_materialize_grads(False)
        ctx.weights, ctx.steps = weights, steps
        outs = h[:, 1:]
        out = torch.cat([outs[0], steps.reversed(outs[1])], -1) if ways == 2 else outs[0].clone()
        return out, outs[steps.last()].clone(), c[:, 1:][steps.last()].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, d_h: Tensor | None, d_c: Tensor | None) -> tuple[Tensor | None, ...]:
        (inputs, gates, h, c, tanh_c), weights, steps = ctx.saved_tensors, ctx.weights, ctx.steps
        dh = output_gradients(d_out, h[:, 1:], steps.reversed)
        if d_h is not None:
            dh[steps.last()] += d_h
        dc = torch.zeros_like(c[:, 0]) if d_c is None else d_c.clone()
        d_gates, dh0 = backward_recursion(gates, c, tanh_c, dh, dc, weights.hh, steps.rows)
        for way, use in enumerate(weights.uses):
            use.inputs, use.states = steps.by_example(inputs[way]), steps.by_example(h[way, :-1])
            weights.tape.report(use, steps.by_example(d_gates[way]))
        if not ctx.needs_input_grad[0]:
            return None, dh0, dc, None, None, None
        dx = times(d_gates.flatten(1, 2), weights.ih).view_as(inputs)
        return dx[0] if len(dx) == 1 else dx[0] + steps.reversed(dx[1]), dh0, dc, None, None, None


_LAYERS: dict[type[nn.RNNBase], type[torch.autograd.Function]] = {
    nn.LSTM: _LSTMLayer,
    nn.GRU: GRULayer,
    nn.RNN: RNNLayer,
}
