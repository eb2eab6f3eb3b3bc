"""An LSTM's recursion over time, forwards and backwards, all directions of a layer at once.

D is directions, T time, B batch, H the hidden size; gates lie as torch has them: i, f, g, o. The first rows[t] of the
batch take part in step t. Where the compiled kernel can do it, it does.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from defenses.edpsgd import kernel


def times(x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x [D, m, k] times y [D, k, n], plus bias [D, 1, n]."""
    if not (kernel.available() and kernel.suits(x) and x.is_contiguous()):
        return torch.bmm(x, y) if bias is None else torch.baddbmm(bias, x, y)
    shape = (*x.shape[:2], y.shape[2])
    out = torch.zeros(shape) if bias is None else bias.expand(shape).contiguous()
    for each in zip(out, x, y, strict=True):
        kernel.add_product_(*each)
    return out


def recursion(gates: Tensor, h0: Tensor, c0: Tensor, hh: Tensor, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Turn `gates` [D, T, B, 4 H], so far of the inputs alone, into activations, in place.

    Returns h and c [D, T + 1, B, H], the initial states first, and tanh(c) [D, T, B, H]; zeros past the end.
    """
    ways, length, batch, size = *gates.shape[:3], h0.shape[2]
    h, c = gates.new_zeros(2, ways, length + 1, batch, size).unbind()
    tanh_c = gates.new_zeros(ways, length, batch, size)
    h[:, 0], c[:, 0] = h0, c0
    if kernel.available() and kernel.suits(gates, hh):
        kernel.lstm_forward(gates, h, c, tanh_c, hh, rows)
        return h, c, tanh_c
    turned = hh.transpose(1, 2)
    for t, n in enumerate(rows):
        z = gates[:, t, :n]
        z.baddbmm_(h[:, t, :n], turned)
        z[..., : 2 * size].sigmoid_()
        z[..., 2 * size : 3 * size].tanh_()
        z[..., 3 * size :].sigmoid_()
        i, f, g, o = z.chunk(4, dim=-1)
        now = torch.mul(f, c[:, t, :n], out=c[:, t + 1, :n]).addcmul_(i, g)
        torch.mul(o, torch.tanh(now, out=tanh_c[:, t, :n]), out=h[:, t + 1, :n])
    return h, c, tanh_c


def backward_recursion(
    gates: Tensor, c: Tensor, tanh_c: Tensor, dh: Tensor, dc: Tensor, hh: Tensor, rows: list[int]
) -> tuple[Tensor, Tensor]:
    """Return dL/dgates [D, T, B, 4 H], zero past the end, and dL/dh of the initial states [D, B, H].

    `dh` [D, T, B, H] is dL/dh from above and is overwritten; `dc` [D, B, H] is dL/dc of the last states and becomes
    that of the initial ones.
    """
    if kernel.available() and kernel.suits(gates, dh, dc, hh):
        return kernel.lstm_backward(gates, c, tanh_c, dh, dc, hh, rows)
    through_sigmoid, through_tanh = torch.ops.aten.sigmoid_backward.grad_input, torch.ops.aten.tanh_backward.grad_input
    d_gates, dh0, spare = torch.empty_like(gates), torch.zeros_like(dc), torch.empty_like(dc)
    for t in reversed(range(len(rows))):
        n = rows[t]
        (i, f, g, o), d = gates[:, t, :n].chunk(4, dim=-1), d_gates[:, t, :n]
        of_i, of_f, of_g, of_o = d.chunk(4, dim=-1)
        above, below, tanh, product = dh[:, t, :n], dc[:, :n], tanh_c[:, t, :n], spare[:, :n]
        through_tanh(torch.mul(above, o, out=product), tanh, grad_input=product)
        below += product
        through_sigmoid(torch.mul(below, g, out=product), i, grad_input=of_i)
        through_sigmoid(torch.mul(below, c[:, t, :n], out=product), f, grad_input=of_f)
        through_tanh(torch.mul(below, i, out=product), g, grad_input=of_g)
        through_sigmoid(torch.mul(above, tanh, out=product), o, grad_input=of_o)
        below *= f
        d_gates[:, t, n:].zero_()
        (dh[:, t - 1, :n] if t else dh0).baddbmm_(d, hh)
    return d_gates, dh0


def output_gradients(d_out: Tensor | None, like: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
    """Split [T, B, D H] into [D, T, B, H], each direction in its own order of time; `turn` turns the reverse one."""
    if d_out is None:
        return torch.zeros(like.shape, dtype=like.dtype, device=like.device)
    if len(like) == 1:
        return d_out.unsqueeze(0).clone(memory_format=torch.contiguous_format)
    size = like.shape[-1]
    return torch.stack([d_out[..., :size], turn(d_out[..., size:])])
