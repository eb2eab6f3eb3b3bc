"""Noise: the distribution that is claimed, from every generator; the same for the same step, unrelated otherwise."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from defenses.edpsgd import kernel
from defenses.edpsgd import noise as module
from defenses.edpsgd.noise import NoiseSource, fill_normal
from redteam.core import UsageError

DRAWS = 1_000_000
needs_kernel = pytest.mark.skipif(not kernel.available(), reason="the compiled kernel is not available here")
STD = 0.37


@pytest.fixture(params=["aes-128-ctr", "shake-256", "mt19937"])
def source(request, monkeypatch):
    """A maker of sources of the generator under test."""
    if request.param != "aes-128-ctr":
        monkeypatch.setenv("REDTEAM_NO_KERNEL", "1")
    elif not kernel.available():
        pytest.skip("the compiled kernel is not available here")

    def make(seed=1):
        made = NoiseSource(seed, secure=request.param == "shake-256")
        assert made.generator_name == request.param
        return made

    return make


def draw(source, *, size=DRAWS, std=STD, step=0):
    buffer = torch.full((size,), math.nan)
    source.fill(buffer, std, step=step)
    return buffer.double().numpy()


def test_mean_and_variance(source):
    drawn = draw(source())
    assert abs(drawn.mean()) < 4.5 * STD / math.sqrt(DRAWS)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], DRAWS)
    assert low < (drawn**2).sum() / STD**2 < high


def test_distribution(source):
    drawn = draw(source()) / STD
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    for threshold in (2.0, 3.0, 4.0):
        for tail in (drawn > threshold, drawn < -threshold):
            expected = DRAWS * stats.norm.sf(threshold)
            assert abs(tail.sum() - expected) < 4.5 * math.sqrt(expected) + 1
    near = np.histogram(drawn, bins=50, range=(-0.05, 0.05))[0]  # where float32 uniforms are coarsest after Box-Muller
    assert stats.chisquare(near).pvalue > 1e-4


def test_noise_reaches_far_into_the_tails(source):
    """20 million draws: beyond 4.5 and 5 sigma as many as there should be."""
    made = source()
    counts = np.zeros(2)
    for step in range(20):
        drawn = np.abs(draw(made, std=1.0, step=step))
        counts += [(drawn > 4.5).sum(), (drawn > 5.0).sum()]
    expected = 20 * DRAWS * 2 * stats.norm.sf([4.5, 5.0])
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()


class TestReach:
    """How far the largest normals lie, which no sample could show: a sum beyond them would expose an example."""

    def test_of_the_key_stream(self, monkeypatch):
        """SHAKE-256, where its stream is all zeros: the smallest uniform, of 64 bits and not of 32."""
        monkeypatch.setenv("REDTEAM_NO_KERNEL", "1")
        source = NoiseSource(1, secure=True)

        class Zeros:
            def __init__(self, _):
                pass

            def digest(self, size):
                return bytes(size)

        monkeypatch.setattr(module.hashlib, "shake_256", Zeros)
        assert draw(source, size=2, std=1.0).max() == pytest.approx(math.sqrt(2 * 65 * math.log(2)), rel=1e-6)  # 9.49

    @pytest.mark.parametrize("size", [3, 16, 40, 3 * (1 << 16) + 5])
    def test_of_torchs_own(self, size):
        """They are those of float64, rounded, and so reach 8.5 sigma; those of float32 are others and end at 5.8."""
        drawn = torch.full((size,), math.nan)
        fill_normal(drawn, 0.7, torch.Generator().manual_seed(3))
        naive, left = torch.Generator().manual_seed(3), size
        parts = []
        while left:
            parts.append(torch.empty(min(left, 1 << 16), dtype=torch.float64).normal_(0, 0.7, generator=naive))
            left -= parts[-1].numel()
        assert torch.equal(drawn, torch.cat(parts).float())

    @needs_kernel
    def test_of_the_kernels_uniforms(self):
        """Words below 4096 are 64 bits fine and all others 32, against double precision."""
        bits = np.array([0, 0, 0, 0, 1, 2, 4094, 4095, 4095, 4096, 4097, 2**20, 2**31, 2**32 - 2, 2**32 - 1, 77], "<u4")
        finer = np.array([0, 1, 2**31, 2**32 - 1, 0, 7, 0, 0, 2**32 - 1, 0, 2**32 - 1, 5, 0, 0, 9, 2**30], "<u4")
        drawn = np.frombuffer(kernel._compiled.minus_logs(bits.tobytes(), finer.tobytes()), "<f4")
        expected = minus_log(bits, np.where(bits < 4096, finer, 2**31 - 0.5))
        np.testing.assert_allclose(drawn, expected, rtol=3e-7)
        assert np.sqrt(2 * drawn[0]) > 9.49

    @needs_kernel
    def test_of_the_kernels_normals(self):
        """Every refined normal among 8 million, worked out again; the refining words have counters of their own."""
        key, count = bytes(range(3, 19)), 1 << 23
        drawn = torch.empty(count)
        kernel.normal_(drawn, 1.0, key)
        words = stream(key, np.arange(count // 4), 0).reshape(-1, 4, 2, 16)
        groups, vectors, lanes = np.nonzero(words[:, :, 0] < 4096)
        assert 0 < len(groups) < 20  # 4 are to be expected
        blocks = 32 * groups + 8 * vectors + lanes // 4
        finer = stream(key, blocks, 1)[np.arange(len(blocks)), lanes % 4]
        bits, angle = words[groups, vectors, 0, lanes], 2 * np.pi * words[groups, vectors, 1, lanes] / 2**32
        pairs = drawn.numpy().reshape(-1, 4, 2, 16)[groups, vectors, :, lanes]
        radius = np.sqrt(2 * minus_log(bits, finer))
        np.testing.assert_allclose(pairs, np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), atol=3e-6)
        middle = np.sqrt(2 * minus_log(bits, 2**31 - 0.5))
        assert np.abs(radius - middle).max() > 2e-5  # or this would not tell refined ones from others


def minus_log(bits, finer):
    """-log of (bits + (finer + 1/2) / 2^32) / 2^32, without losing digits near 1."""
    low, place = bits < 2**31, (finer + 0.5) / 2**32
    rest = np.where(low, 0.0, (2.0**32 - 1 - bits) + (1 - place))
    return np.where(low, -np.log((bits + place) / 2**32), -np.log1p(-rest / 2**32))


def stream(key, counters, upper):
    """AES of 128-bit counters, whose upper half is `upper`, as words [counters, 4]."""
    blocks = np.stack([counters, np.full_like(counters, upper)], 1).astype("<u8")
    return np.frombuffer(kernel._compiled.aes(key, blocks.tobytes()), "<u4").reshape(-1, 4)


def test_neighbours_are_independent(source):
    """Box-Muller makes numbers in pairs and the kernel in blocks: no pair of any distance may know of the other."""
    drawn = draw(source()) / STD
    for lag in (1, 2, 4, 8, 16, 32, 64, 128, 1 << 15, 1 << 16):
        a, b = drawn[:-lag], drawn[lag:]
        for left, right in ((a, b), (a**2, b**2), (a, b**2)):
            assert abs(np.corrcoef(left, right)[0, 1]) < 5 / math.sqrt(DRAWS - lag), lag


def test_steps_and_seeds_are_independent(source):
    drawn = [draw(source(seed), step=step) for seed, step in ((1, 0), (1, 1), (2, 0), (2**200 + 1, 0), (1, 2**40))]
    for a, b in combinations(drawn, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(DRAWS)
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 5 / math.sqrt(DRAWS)


def test_same_seed_and_step_give_the_same_noise(source):
    first = draw(source(7), size=1000, step=3)
    draw(source(7), size=10, step=4)
    assert np.array_equal(first, draw(source(7), size=1000, step=3))
    assert np.array_equal(first[:10] * 2, draw(source(7), size=1000, std=2 * STD, step=3)[:10])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 15, 16, 17, 127, 128, 129, 1023])
def test_any_size_is_filled_and_nothing_beyond(source, size):
    whole = torch.full((size + 8,), 5.0)
    source().fill(whole[:size], STD, step=0)
    assert (whole[size:] == 5.0).all()
    assert (whole[:size].abs() < 7 * STD).all()
    assert len(set(whole[:size].tolist())) == size


@pytest.mark.parametrize("size", [1, 3, 17, 127])
def test_small_buffers_have_the_variance_too(source, size):
    made = source()
    drawn = np.concatenate([draw(made, size=size, std=1.0, step=step) for step in range(4000 // size + 1)])
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], drawn.size)
    assert low < (drawn**2).sum() < high


def test_no_noise_is_exact_zeros(source):
    assert (draw(source(), size=100, std=0.0) == 0.0).all()


def test_shapes_are_kept(source):
    buffer = torch.zeros(3, 5, 7)
    source().fill(buffer, 1.0, step=0)
    assert np.array_equal(buffer.double().numpy().ravel(), draw(source(), size=105, std=1.0))


@pytest.mark.parametrize("std", [math.nan, math.inf, -1.0, 1e-50, 1e38])
def test_impossible_noise_is_refused(source, std):
    with pytest.raises(UsageError, match="standard deviation"):
        draw(source(), size=4, std=std)


def test_wrong_buffers_seeds_and_steps_are_refused():
    with pytest.raises(UsageError, match="float32"):
        NoiseSource(0).fill(torch.zeros(4, dtype=torch.float64), 1.0, step=0)
    with pytest.raises(UsageError, match="contiguous"):
        NoiseSource(0).fill(torch.zeros(4, 4).t()[1:], 1.0, step=0)
    with pytest.raises(UsageError, match="step -1"):
        NoiseSource(0).fill(torch.zeros(4), 1.0, step=-1)
    with pytest.raises(UsageError, match="seed"):
        NoiseSource(-1)


def test_secure_noise_never_comes_from_mersenne_twister(monkeypatch):
    monkeypatch.setenv("REDTEAM_NO_KERNEL", "1")
    assert NoiseSource(0, secure=True).generator_on("cuda") == "shake-256"
    assert NoiseSource(0).generator_on("cuda") == "philox-cuda"


def test_uses_do_not_share_a_stream():
    source = NoiseSource(5)
    streams = [
        source.generator(step, purpose).random(10_000) for step in (0, 1) for purpose in ("sampling", "order", "")
    ]
    for a, b in combinations(streams, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    assert np.array_equal(streams[0], NoiseSource(5).generator(0, "sampling").random(10_000))
    seeds = {source.torch_seed(step, purpose) for step in range(100) for purpose in ("dropout", "sampling")}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("secure", [False, True])
def test_noise_on_a_gpu(secure):
    buffer = torch.empty(DRAWS, device="cuda")
    NoiseSource(1, secure=secure).fill(buffer, STD, step=0)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], DRAWS)
    assert low < float((buffer.double() ** 2).sum()) / STD**2 < high
    again = torch.empty_like(buffer)
    NoiseSource(1, secure=secure).fill(again, STD, step=0)
    assert torch.equal(buffer, again)


def test_a_generator_of_somebody_else_is_keyed_with_more_than_32_bits():
    """torch's own `manual_seed` takes seeds that differ by 2^32 for the same one, and all of 2^32 can be tried."""
    draws = []
    for seed in (1, 1 + 2**32, 1 + 2**200):
        generator = torch.Generator()
        NoiseSource(seed).reseed(generator, 3)
        draws.append(torch.randn(4, generator=generator))
    assert not any(torch.equal(draws[i], draws[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    again = torch.Generator()
    NoiseSource(1).reseed(again, 3)
    assert torch.equal(torch.randn(4, generator=again), draws[0])
