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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from defenses.edpsgd.gru import GRULayer, RNNLayer
from defenses.edpsgd.recursion import backward_recursion, output_gradients, recursion, times
from defenses.edpsgd.tape import Tape, UnsupportedLayer
from defenses.edpsgd.unrolled import RecurrentWeights, Steps

_States = tuple[Tensor, ...]  # h, and of the LSTM c


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
        weights = RecurrentWeights.of(name, module, k, x.shape[1], tape)
        own = [state[ways * k : ways * (k + 1)].to(x.dtype) for state in hx]
        x, *states = layer.apply(x, *own, tape.origin, weights, steps)  # type: ignore[no-untyped-call]
        last.append(tuple(states))
    return x, tuple(torch.cat(states) for states in zip(*last, strict=True))


class _LSTMLayer(torch.autograd.Function):
    """One LSTM layer, all directions at once; the reverse one runs over sequences that were turned around."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, origin: Tensor, weights: RecurrentWeights, steps: Steps
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
