"""The compiled kernel against torch in double precision, and its AES against published vectors."""

import math
import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from loop import relative

from defenses.edpsgd import kernel
from defenses.edpsgd.noise import NoiseSource

pytestmark = pytest.mark.skipif(not kernel.available(), reason="the compiled kernel is not available here")

SHAPES = [  # batch, length, inputs, outputs
    (1, 1, 1, 1),
    (3, 2, 5, 7),
    (2, 3, 16, 33),
    (4, 4, 17, 6),
    (5, 7, 100, 64),
    (3, 32, 48, 65),
    (2, 130, 31, 130),
    (1, 5, 384, 200),
]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + math.prod(shape)))


def laid_out(x, how):
    """The same numbers, lying otherwise in memory."""
    if how == "time first":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if how == "part of a wider one":
        return torch.cat([torch.full_like(x, torch.nan), x, torch.full_like(x, torch.nan)], -1)[
            ..., x.shape[-1] : 2 * x.shape[-1]
        ]
    return x


LAYOUTS = ["as it is", "time first", "part of a wider one"]


@pytest.mark.parametrize(("shape", "how"), list(product(SHAPES, LAYOUTS)))
def test_ghost_norms(shape, how):
    batch, length, d, p = shape
    a, g1, g2 = (laid_out(normal(batch, length, n, seed=i), how) for i, n in enumerate((d, p, p + 3)))
    sums = [torch.full((batch, p), torch.nan), torch.full((batch, p + 3), torch.nan)]
    for one in (0.0, 1.0, 2.0):
        k = a.double() @ a.double().transpose(1, 2) + one
        expected = sum((k * (g.double() @ g.double().transpose(1, 2))).sum((1, 2)) for g in (g1, g2))
        assert relative(kernel.ghost(a, [g1, g2], one=one), expected) < 1e-6
    traces = torch.empty(2, batch)
    assert relative(kernel.ghost(a, [g1, g2], one=2.0, sums=sums, traces=traces), expected) < 1e-6
    squares = [x.double().square().sum((1, 2)) for x in (a, g1, g2)]
    assert relative(traces, torch.stack([squares[0], squares[1] + squares[2]])) < 1e-6
    for s, g in zip(sums, (g1, g2), strict=True):
        assert relative(s, g.double().sum(1)) < 1e-6


@pytest.mark.parametrize(("shape", "how"), list(product(SHAPES, LAYOUTS)))
def test_weighted_sums(shape, how):
    batch, length, d, p = shape
    rows, columns = laid_out(normal(batch, length, p), how), laid_out(normal(batch, length, d, seed=1), how)
    weights = torch.rand(batch, generator=torch.Generator().manual_seed(0))
    whole, sums = torch.ones(p + 2, d), torch.ones(p)
    kernel.add_weighted_sum_(whole[1:-1], rows, columns, weights, sums=sums)
    expected = torch.einsum("b,btp,btd->pd", weights.double(), rows.double(), columns.double()) + 1.0
    assert relative(whole[1:-1], expected) < 1e-6
    assert (whole[0] == 1.0).all()
    assert (whole[-1] == 1.0).all()
    assert relative(sums, torch.einsum("b,btp->p", weights.double(), rows.double()) + 1.0) < 1e-6
    kernel.add_weighted_sum_(whole[1:-1], rows, columns, torch.zeros(batch))
    assert relative(whole[1:-1], expected) < 1e-6


@pytest.mark.parametrize(("shape", "how"), list(product(SHAPES, LAYOUTS)))
def test_layer_norm(shape, how):
    batch, length, d, _ = shape
    x, g = laid_out(normal(batch, length, d), how), laid_out(normal(batch, length, d, seed=1), how)
    mean, rstd = normal(batch, length, 1, seed=2), normal(batch, length, 1, seed=3).exp()
    weight, bias = kernel.layer_norm(x, g, mean, rstd)
    values = (x.double() - mean.double()) * rstd.double() * g.double()
    assert (weight - values.sum(1)).abs().max() < 1e-5 * values.abs().sum(1).max()
    assert relative(bias, g.double().sum(1)) < 1e-6


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (5, 3, 7), (6, 16, 64), (13, 300, 65), (64, 513, 130)])
def test_products(m, k, n):
    x, y = normal(m, k), normal(k, n, seed=1)
    for right in (y, y.t().contiguous().t(), torch.cat([y, y], 1)[:, :n]):
        out = torch.ones(m, n)
        kernel.add_product_(out, x, right)
        assert relative(out, x.double() @ y.double() + 1.0) < 1e-6


@pytest.mark.parametrize("size", [1, 6, 16, 40])
def test_lstm_activations_are_accurate_everywhere(size):
    """Gates from -100 to 100 and near 0: sigmoid and tanh within a few ulp of double precision, NaN kept."""
    values = torch.cat([torch.linspace(-100, 100, 997), torch.logspace(-12, 0, 500), -torch.logspace(-12, 0, 500)])
    values = torch.cat([values, torch.tensor([torch.inf, -torch.inf, torch.nan])]).repeat(4)
    batch = values.numel() // (4 * size)
    gates = values[: batch * 4 * size].view(1, 1, batch, 4 * size).clone()
    z = gates[0, 0].double()
    h, c, tanh_c = torch.zeros(1, 2, batch, size), torch.zeros(1, 2, batch, size), torch.zeros(1, 1, batch, size)
    kernel.lstm_forward(gates, h, c, tanh_c, torch.zeros(1, 4 * size, size), [batch])
    i, f, g, o = z.chunk(4, -1)
    expected = torch.cat([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], -1)
    assert torch.allclose(gates[0, 0].double(), expected, rtol=5e-7, atol=1e-37, equal_nan=True)
    now = f.sigmoid() * 0.0 + i.sigmoid() * g.tanh()
    assert torch.allclose(c[0, 1].double(), now, rtol=2e-6, atol=1e-37, equal_nan=True)
    assert torch.allclose(h[0, 1].double(), o.sigmoid() * now.tanh(), rtol=4e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_example_that_is_not_finite_is_seen_and_its_neighbours_are_not_touched(bad):
    batch, length, d, p = 4, 6, 20, 70
    for where, t, k in product(("a", "g"), (0, 3, 5), (0, 19)):
        a, g = normal(batch, length, d), normal(batch, length, p, seed=1)
        clean = kernel.ghost(a, [g], one=1.0)
        (a if where == "a" else g)[2, t, k] = bad
        norms = kernel.ghost(a, [g], one=1.0)
        assert not torch.isfinite(norms[2])
        assert torch.equal(norms[[0, 1, 3]], clean[[0, 1, 3]])
        ones = torch.ones(batch, length, 1)
        weight, bias = kernel.layer_norm(a, g[..., :d].contiguous(), ones, ones)
        assert not torch.isfinite(weight[2]).all()
        assert torch.isfinite(bias[[0, 1, 3]]).all()
        out, sums, weights = torch.zeros(p, d), torch.zeros(p), torch.tensor([1.0, 0.5, 0.0, 2.0])
        kernel.add_weighted_sum_(out, g, a, weights, sums=sums)
        assert torch.isfinite(out).all()
        assert torch.isfinite(sums).all()
        kernel.add_weighted_sum_(out, g, a, torch.ones(batch), sums=sums)
        assert not torch.isfinite(out).all()


def test_too_large_is_not_finite_either():
    a = torch.full((2, 3, 4), 1e30)
    assert not torch.isfinite(kernel.ghost(a, [a])).any()


def test_threads_do_not_change_a_number(monkeypatch):
    monkeypatch.setattr(kernel, "_SPLIT_FLOPS", 0.0)
    a, g, weights = normal(7, 9, 50), normal(7, 9, 70, seed=1), torch.rand(7)
    hh, start = normal(2, 80, 20) / 5, normal(2, 5, 3, 80)

    def all_of_it():
        total, sums, noise, matrix = torch.zeros(70, 50), torch.zeros(70), torch.empty(1001), torch.zeros(9, 70)
        kernel.add_weighted_sum_(total, g, a, weights, sums=sums)
        kernel.normal_(noise, 1.0, bytes(range(16)))
        kernel.add_product_(matrix, a[0], normal(50, 70))
        gates, (h, c) = start.clone(), torch.zeros(2, 2, 6, 3, 20).unbind()
        tanh_c = torch.zeros(2, 5, 3, 20)
        kernel.lstm_forward(gates, h, c, tanh_c, hh, [3, 3, 2, 1, 1])
        back = kernel.lstm_backward(gates, c, tanh_c, h[:, 1:].contiguous(), c[:, 5].clone(), hh, [3, 3, 2, 1, 1])
        bias_sums = torch.empty(7, 70)
        norms = kernel.ghost(a, [g], one=1.0, sums=[bias_sums])
        return [
            total,
            sums,
            noise,
            matrix,
            h,
            c,
            *back,
            norms,
            bias_sums,
            *kernel.layer_norm(a, a, a[..., 0].contiguous(), a[..., 1].contiguous()),
        ]

    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(all_of_it())
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_aes_128_is_that_of_the_standards():
    """FIPS-197 appendix C.1; SP 800-38A F.1.1 (ECB) and F.5.1 (CTR), whose counter is one big-endian number."""
    aes = kernel._compiled.aes
    key = bytes(range(16))
    assert aes(key, bytes.fromhex("00112233445566778899aabbccddeeff")).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    assert aes(key, plain).hex() == (
        "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf"
        "43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f8223207104725dd4"
    )
    first = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    stream = aes(key, b"".join((first + i).to_bytes(16, "big") for i in range(4)))
    assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)).hex() == (
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )
    assert aes(key, plain * 20) == aes(key, plain) * 20


def test_normals_are_box_muller_of_the_key_stream():
    """Every normal, worked out again in double precision from AES of the counters 0, 1, 2, ..."""
    key, count = bytes(range(3, 19)), 128 * 2000
    counters = b"".join(i.to_bytes(16, "little") for i in range(count // 4))
    bits = np.frombuffer(kernel._compiled.aes(key, counters), dtype="<u4").astype(np.float64).reshape(-1, 4, 2, 16)
    radius = np.sqrt(-2 * np.log((bits[:, :, 0] + 0.5) / 2**32))
    angle = 2 * np.pi * bits[:, :, 1] / 2**32
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).ravel()
    drawn = torch.empty(count)
    kernel.normal_(drawn, 1.0, key)
    assert np.abs(drawn.numpy() - expected).max() < 3e-6
    again = torch.empty(300)
    kernel.normal_(again, 2.0, key)
    assert torch.equal(again, drawn[:300] * 2)


def test_what_does_not_fit_is_refused_before_memory_is_touched():
    a, g = normal(2, 3, 4), normal(2, 3, 5)
    wrong = [
        lambda: kernel.ghost(a.double(), [g]),
        lambda: kernel.ghost(a, [g[:1]]),
        lambda: kernel.ghost(a.transpose(1, 2), [g]),
        lambda: kernel.ghost(a, [g], sums=[torch.empty(2, 4)]),
        lambda: kernel.layer_norm(a, g, a[..., 0], a[..., 0]),
        lambda: kernel.layer_norm(a, a, torch.empty(5), torch.empty(5)),
        lambda: kernel.add_weighted_sum_(torch.zeros(4, 5), g, a, torch.ones(2)),
        lambda: kernel.add_weighted_sum_(torch.zeros(5, 4), g, a, torch.ones(3)),
        lambda: kernel.add_product_(torch.zeros(3, 5), a[0], torch.ones(3, 5)),
        lambda: kernel.normal_(torch.zeros(4), 1.0, bytes(15)),
        lambda: kernel.normal_(torch.zeros(4, 4)[:, 0], 1.0, bytes(16)),
        lambda: kernel.lstm_forward(*torch.zeros(3, 1, 2, 3, 4), torch.zeros(1, 2, 3, 1), torch.zeros(1, 4, 1), [3, 3]),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match="the kernel's"):
            call()


def test_it_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("REDTEAM_NO_KERNEL", "1")
    assert not kernel.available()
    assert NoiseSource(0).generator_name == "mt19937"
    monkeypatch.setenv("REDTEAM_NO_KERNEL", "0")
    assert kernel.available()


def test_the_module_is_harmless_to_import():
    """The registry imports every module it finds, compiled ones too."""
    program = "import defenses.edpsgd._kernel as k; print(k.supported(), k.__doc__)"
    result = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("True Compiled")
