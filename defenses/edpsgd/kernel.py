"""The compiled kernel (`_kernel.c`), where it was built and the processor can run it.

It needs AVX-512 and VAES. Everything it does, torch does too, more slowly: `available()` says which it is, and
REDTEAM_NO_KERNEL=1 in the environment turns it off. Tensors are float32 on the CPU with columns side by side; `suits`
tells. The other strides are free: a batch may lie time first. Work is split over `torch.get_num_threads()` threads in
such a way that no sum depends on their number.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_SPLIT_FLOPS = 1e7  # less is done before another thread has woken up
_NORMALS_AT_ONCE = 128


def _load() -> ModuleType | None:
    try:
        return importlib.import_module("defenses.edpsgd._kernel")
    except ImportError:
        return None


_compiled: Any = _load()


def available() -> bool:
    """Return whether the kernel was built, runs on this processor and is not turned off."""
    off = os.environ.get("REDTEAM_NO_KERNEL", "") not in ("", "0")
    return _compiled is not None and not off and bool(_compiled.supported())


def suits(*tensors: Tensor) -> bool:
    """Return whether the kernel can read these tensors as they lie."""
    return all(
        t.dtype == torch.float32 and t.device.type == "cpu" and (t.stride(-1) == 1 or t.shape[-1] == 1) for t in tensors
    )


def normal_(out: Tensor, std: float, key: bytes, *, first: int = 0) -> None:
    """Overwrite `out`, contiguous, with N(0, std^2) from AES-128 in counter mode under `key`, 16 bytes.

    `first`, a multiple of 128, says from which normal of the key's stream on.
    """
    fits = suits(out) and out.is_contiguous() and len(key) == 16 and first >= 0 == first % _NORMALS_AT_ONCE
    _check(fits, "normal_", out)
    count, blocks = out.numel(), -(-out.numel() // _NORMALS_AT_ONCE)

    def run(start: int, stop: int) -> None:
        at = start * _NORMALS_AT_ONCE
        size = min(stop * _NORMALS_AT_ONCE, count) - at
        _compiled.normal(out.data_ptr() + 4 * at, size, std, key, (first + at) // 4)

    _split(blocks, 50.0 * count, run)


def ghost(
    inputs: Tensor,
    gradients: Sequence[Tensor],
    *,
    one: float = 0.0,
    sums: Sequence[Tensor] = (),
    traces: Tensor | None = None,
) -> Tensor:
    """Return the squared norms [B] of linear maps that share an input: sum over g of <A A^T + one, G G^T>.

    `inputs` is A [B, T, d], `gradients` are G [B, T, p], each with its own p; `one` is how many biases see each G.
    `sums`, one [B, p] for each G or none at all, are overwritten with the sums over T: the biases' gradients; so is
    `traces` [2, B] with the squared norms of A and of all G together.
    """
    batch, length, _ = inputs.shape
    shapes = all(g.shape[:2] == inputs.shape[:2] for g in gradients)
    _check(suits(inputs, *gradients, *sums) and shapes, "ghost", inputs, *gradients)
    into = [(s, g) for s, g in zip(sums, gradients, strict=True)] if sums else []
    _check(all(s.is_contiguous() and s.shape == (batch, g.shape[2]) for s, g in into), "ghost", *sums)
    _check(traces is None or (suits(traces) and traces.shape == (2, batch)), "ghost", inputs)
    out, both = torch.empty(batch), torch.empty(batch, 2)

    def run(start: int, stop: int) -> None:
        of = tuple(_rows(g, start, sums[i] if sums else None) for i, g in enumerate(gradients))
        into = out.data_ptr() + 4 * start, both.data_ptr() + 8 * start
        _compiled.ghost(*into, _rows(inputs, start), of, stop - start, length, one)

    width = inputs.shape[2] + sum(g.shape[2] for g in gradients)
    _split(batch, 1.0 * batch * length * length * width, run)
    if traces is not None:
        traces.copy_(both.t())
    return out


def layer_norm(inputs: Tensor, gradients: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Return a LayerNorm's per-example weight and bias gradients [B, d] from x, G [B, T, d] and rows' statistics."""
    batch, length, size = inputs.shape
    fits = inputs.shape == gradients.shape and mean.numel() == rstd.numel() == batch * length
    fits = fits and mean.is_contiguous() and rstd.is_contiguous()
    _check(suits(inputs, gradients) and mean.dtype == rstd.dtype == torch.float32 and fits, "layer_norm", inputs, mean)
    weight, bias = torch.empty(2, batch, size).unbind()

    def run(start: int, stop: int) -> None:
        into = (t.data_ptr() + 4 * start * size for t in (weight, bias))
        statistics = (t.data_ptr() + 4 * start * length for t in (mean, rstd))
        of = _rows(inputs, start), _rows(gradients, start)
        _compiled.layer_norm(*into, *of, *statistics, stop - start, length)

    _split(batch, 10.0 * inputs.numel(), run)
    return weight, bias


def add_weighted_sum_(
    out: Tensor, rows: Tensor, columns: Tensor, weights: Tensor, *, sums: Tensor | None = None
) -> None:
    """Add to `out` [p, d] the sum over b of weights[b] rows[b]^T columns[b]: a linear map's clipped gradient.

    `rows` is [B, T, p], `columns` [B, T, d]. `sums` [p], if any, gets the sum of weights[b] rows[b] over b and T added:
    the bias's. An example of weight 0 is left out, whatever is in it.
    """
    batch, length, size = rows.shape
    shapes = columns.shape[:2] == rows.shape[:2] and out.shape == (size, columns.shape[2]) and weights.shape == (batch,)
    shapes = shapes and (sums is None or (sums.shape == (size,) and suits(sums)))
    _check(suits(out, rows, columns, weights) and shapes, "add_weighted_sum_", out, rows, columns, weights)
    weights = weights.contiguous()

    def run(start: int, stop: int) -> None:
        first, last = 6 * start, min(6 * stop, size)
        into = out.data_ptr() + 4 * first * out.stride(0)
        bias = 0 if sums is None else sums.data_ptr() + 4 * first
        left = (rows.data_ptr() + 4 * first, rows.stride(0), rows.stride(1), last - first)
        _compiled.weighted_sum(into, out.stride(0), bias, left, _rows(columns), weights.data_ptr(), batch, length)

    _split(-(-size // 6), 2.0 * rows.numel() * columns.shape[2], run)


def add_product_(out: Tensor, x: Tensor, y: Tensor) -> None:
    """Add to `out` [m, n] the matrix product of x [m, k], both contiguous, and y [k, n] of any strides."""
    (m, k), n = x.shape, y.shape[1]
    shapes = y.shape[0] == k and out.shape == (m, n) and out.is_contiguous() and x.is_contiguous()
    _check(suits(out, x) and y.dtype == torch.float32 and y.device.type == "cpu" and shapes, "add_product_", out, x, y)

    def run(start: int, stop: int) -> None:
        first, last = 6 * start, min(6 * stop, m)
        into, of = out.data_ptr() + 4 * first * n, x.data_ptr() + 4 * first * k
        _compiled.product(into, of, y.data_ptr(), *y.stride(), last - first, k, n)

    _split(-(-m // 6), 2.0 * m * k * n, run)


def lstm_forward(gates: Tensor, h: Tensor, c: Tensor, tanh_c: Tensor, hh: Tensor, rows: Sequence[int]) -> None:
    """Run an LSTM's recursion: `gates` [D, T, B, 4 H], of the inputs alone, become activations, in place.

    `h`, `c` [D, T + 1, B, H] hold the initial states first and are filled, as is `tanh_c` [D, T, B, H]; `hh` is
    weight_hh [D, 4 H, H]. The first rows[t] of the batch take part in step t. All are contiguous.
    """
    ways, length, batch, size = tanh_c.shape
    _check_states(gates, h, c, tanh_c, hh, rows)
    active = torch.tensor(rows, dtype=torch.int64)

    def run(start: int, stop: int) -> None:
        for way in range(start, stop):
            each = (t[way].data_ptr() for t in (gates, h, c, tanh_c, hh))
            _compiled.lstm_forward(*each, active.data_ptr(), length, batch, size)

    _split(ways, 10.0 * gates.numel() * size, run)


def lstm_backward(
    gates: Tensor, c: Tensor, tanh_c: Tensor, dh: Tensor, dc: Tensor, hh: Tensor, rows: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Run the recursion backwards; return dL/dgates [D, T, B, 4 H] and dL/dh of the initial states [D, B, H].

    `gates`, `c` and `tanh_c` are what `lstm_forward` left. `dh` [D, T, B, H] is dL/dh from above (overwritten), `dc`
    [D, B, H] is dL/dc of the last states and becomes that of the initial ones. Rows past their end get zeros.
    """
    ways, length, batch, size = tanh_c.shape
    _check_states(gates, dh, c, tanh_c, hh, rows)
    _check(suits(dc) and dc.is_contiguous() and dc.shape == (ways, batch, size), "lstm_backward", dc)
    active, d_gates, dh0 = torch.tensor(rows, dtype=torch.int64), torch.empty_like(gates), torch.zeros_like(dc)

    def run(start: int, stop: int) -> None:
        for way in range(start, stop):
            each = (t[way].data_ptr() for t in (d_gates, gates, c, tanh_c, dh, dc, dh0, hh))
            _compiled.lstm_backward(*each, active.data_ptr(), length, batch, size)

    _split(ways, 10.0 * gates.numel() * size, run)
    return d_gates, dh0


def _check_states(gates: Tensor, h: Tensor, c: Tensor, tanh_c: Tensor, hh: Tensor, rows: Sequence[int]) -> None:
    ways, length, batch, size = tanh_c.shape
    fits = suits(gates, h, c, tanh_c, hh) and all(t.is_contiguous() for t in (gates, h, c, tanh_c, hh))
    fits = fits and gates.shape == (ways, length, batch, 4 * size) and hh.shape == (ways, 4 * size, size)
    fits = fits and c.shape == (ways, length + 1, batch, size) and h.shape[::3] == (ways, size) and h.shape[2] == batch
    fits = fits and h.shape[1] >= length and len(rows) == length and all(0 <= n <= batch for n in rows)
    _check(fits, "lstm", gates, h, c, tanh_c, hh)


def _rows(x: Tensor, start: int = 0, sums: Tensor | None = None) -> tuple[int, ...]:
    """Tell the kernel where x [B, T, d] lies from example `start` on, and where the sums go."""
    into = () if sums is None else (sums.data_ptr() + 4 * start * sums.shape[1],)
    return x.data_ptr() + 4 * start * x.stride(0), x.stride(0), x.stride(1), x.shape[2], *into


def _check(fits: bool, name: str, *tensors: Tensor) -> None:
    """Stop before the kernel reads beyond a tensor."""
    if not fits:
        seen = ", ".join(f"{t.dtype} {tuple(t.shape)} with strides {t.stride()}" for t in tensors)
        raise ValueError(f"the kernel's {name} does not take {seen}")


def _split(parts: int, flops: float, run: Callable[[int, int], None]) -> None:
    """Call run(start, stop) over all the parts, in this thread or in several."""
    threads = min(torch.get_num_threads(), parts)
    if threads <= 1 or flops < _SPLIT_FLOPS:
        run(0, parts)
        return
    ends = [parts * i // threads for i in range(threads + 1)]
    list(_pool(os.getpid(), threads).map(run, ends[:-1], ends[1:]))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of a process: those of its parent are gone after a fork."""
    return ThreadPoolExecutor(threads)
