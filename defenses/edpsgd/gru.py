"""nn.GRU and nn.RNN: like the LSTM, each of their matrices is a linear map over time.

The two maps of a GRU have different output gradients, since its reset gate stands between them: with
n = tanh(a + r * b), where a comes from the input and b from the state, dL/db = r * dL/da.

Shapes are those of `recursion`: D directions, T time, B batch, H hidden; GRU gates lie as torch has them: r, z, n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from defenses.edpsgd.recursion import output_gradients, times
from defenses.edpsgd.unrolled import RecurrentWeights, Steps


class GRULayer(torch.autograd.Function):
    """One GRU layer, all directions at once; the reverse one runs over sequences that were turned around."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, origin: Tensor, weights: RecurrentWeights, steps: Steps
    ) -> tuple[Tensor, ...]:
        """Return the outputs [T, B, D H] and the last states [D, B, H] of x [T, B, in]."""
        inputs = steps.both(x, len(weights.ih))
        gates = _inputs(inputs, weights)
        h = _states(gates, h0)
        resets = torch.zeros_like(h[:, 1:])  # b, what the reset gate multiplies
        turned = weights.hh.transpose(1, 2)
        for t, n in enumerate(steps.rows):
            before, z = h[:, t, :n], gates[:, t, :n]
            own = (
                torch.bmm(before, turned) if weights.bias_hh is None else torch.baddbmm(weights.bias_hh, before, turned)
            )
            size = before.shape[2]
            z[..., : 2 * size] += own[..., : 2 * size]
            z[..., : 2 * size].sigmoid_()
            resets[:, t, :n] = own[..., 2 * size :]
            r, update, new = z.chunk(3, dim=-1)
            new.addcmul_(r, own[..., 2 * size :]).tanh_()
            h[:, t + 1, :n] = torch.lerp(new, before, update)
        ctx.save_for_backward(inputs, gates, h, resets)
        return _finish(ctx, h, weights, steps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, d_h: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the recursion backwards once and report the gradients of both maps."""
        (inputs, gates, h, resets), weights, steps = ctx.saved_tensors, ctx.weights, ctx.steps
        dh, dh0 = _above(d_out, d_h, h, steps)
        d_in, d_own = torch.zeros_like(gates), torch.zeros_like(gates)
        for t in reversed(range(len(steps.rows))):
            n = steps.rows[t]
            above, before = dh[:, t, :n], h[:, t, :n]
            r, z, new = gates[:, t, :n].chunk(3, dim=-1)
            d_new = above * (1 - z) * (1 - new.square())
            d_reset = d_new * resets[:, t, :n] * r * (1 - r)
            d_update = above * (before - new) * z * (1 - z)
            d_in[:, t, :n] = torch.cat([d_reset, d_update, d_new], -1)
            d_own[:, t, :n] = torch.cat([d_reset, d_update, d_new * r], -1)
            below = dh[:, t - 1, :n] if t else dh0[:, :n]
            below += above * z
            below.baddbmm_(d_own[:, t, :n], weights.hh)
        return _report(ctx, inputs, h, d_in, d_own, dh0)


class RNNLayer(torch.autograd.Function):
    """One layer of nn.RNN, with tanh or relu, all directions at once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, origin: Tensor, weights: RecurrentWeights, steps: Steps
    ) -> tuple[Tensor, ...]:
        """Return the outputs [T, B, D H] and the last states [D, B, H] of x [T, B, in]."""
        inputs = steps.both(x, len(weights.ih))
        sums = _inputs(inputs, weights)
        h, turned = _states(sums, h0), weights.hh.transpose(1, 2)
        squash: Callable[[Tensor], Tensor] = torch.relu if weights.relu else torch.tanh
        for t, n in enumerate(steps.rows):
            own = torch.bmm(h[:, t, :n], turned)
            h[:, t + 1, :n] = squash(sums[:, t, :n] + (own if weights.bias_hh is None else own + weights.bias_hh))
        ctx.save_for_backward(inputs, h)
        return _finish(ctx, h, weights, steps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, d_h: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the recursion backwards once and report the gradients of both maps."""
        (inputs, h), weights, steps = ctx.saved_tensors, ctx.weights, ctx.steps
        dh, dh0 = _above(d_out, d_h, h, steps)
        d_sums = torch.zeros_like(h[:, 1:])
        for t in reversed(range(len(steps.rows))):
            n = steps.rows[t]
            after = h[:, t + 1, :n]
            d_sums[:, t, :n] = dh[:, t, :n] * ((after > 0) if weights.relu else 1 - after.square())
            (dh[:, t - 1, :n] if t else dh0[:, :n]).baddbmm_(d_sums[:, t, :n], weights.hh)
        return _report(ctx, inputs, h, d_sums, d_sums, dh0)


def _inputs(inputs: Tensor, weights: RecurrentWeights) -> Tensor:
    """Return what the inputs [D, T, B, in] say to every gate: [D, T, B, gates]."""
    flat = times(inputs.flatten(1, 2), weights.ih.transpose(1, 2), weights.bias_ih)
    return flat.view(*inputs.shape[:3], -1)


def _states(like: Tensor, h0: Tensor) -> Tensor:
    """Return room for the states [D, T + 1, B, H], with the initial ones in place."""
    ways, length, batch = like.shape[:3]
    h = like.new_zeros(ways, length + 1, batch, h0.shape[2])
    h[:, 0] = h0
    return h


def _finish(ctx: Any, h: Tensor, weights: RecurrentWeights, steps: Steps) -> tuple[Tensor, ...]:
    ctx.set_materialize_grads(False)
    ctx.weights, ctx.steps = weights, steps
    outs = h[:, 1:]
    out = torch.cat([outs[0], steps.reversed(outs[1])], -1) if len(outs) == 2 else outs[0].clone()
    return out, outs[steps.last()].clone()


def _above(d_out: Tensor | None, d_h: Tensor | None, h: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Return dL/dh from above, of each step and, so far zero, of the initial states."""
    dh = output_gradients(d_out, h[:, 1:], steps.reversed)
    if d_h is not None:
        dh[steps.last()] += d_h
    return dh, torch.zeros_like(h[:, 0])


def _report(ctx: Any, inputs: Tensor, h: Tensor, d_in: Tensor, d_own: Tensor, dh0: Tensor) -> tuple[Tensor | None, ...]:
    weights, steps = ctx.weights, ctx.steps
    for way, use in enumerate(weights.uses):
        use.inputs, use.states = steps.by_example(inputs[way]), steps.by_example(h[way, :-1])
        use.own = steps.by_example(d_own[way])
        weights.tape.report(use, steps.by_example(d_in[way]))
    if not ctx.needs_input_grad[0]:
        return None, dh0, None, None, None
    dx = times(d_in.flatten(1, 2), weights.ih).view_as(inputs)
    return dx[0] if len(dx) == 1 else dx[0] + steps.reversed(dx[1]), dh0, None, None, None
