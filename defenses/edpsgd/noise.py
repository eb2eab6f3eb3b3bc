"""Gaussian noise for private training: every number is a function of (seed, step, history) alone.

A training that was killed and resumed therefore draws the noise it would have drawn, and one that went another way
draws other noise (see `history.py`). The seed is hashed with HKDF (RFC 5869, SHA-256) into one key for each step and
purpose, so that noise, sampling and dropout never share a number.

Generators, by name:

    aes-128-ctr   the compiled kernel: AES-128 in counter mode, Box-Muller in float32; reaches 9.4 sigma
    shake-256     no kernel, `secure=True`: SHAKE-256 as a key stream, Box-Muller in float64; reaches 9.4 sigma
    mt19937       no kernel, not secure: torch's own on the CPU in float64, all of its state keyed; reaches 8.5 sigma
    philox-cuda   not secure, on a GPU: torch's own there in float64; reaches 8.5 sigma

The first two are cryptographically secure: who knows some of the noise learns nothing of the rest without the seed.
Mersenne Twister can be predicted from its own output; it serves experiments, and `secure=True` never uses it.
All of them are worth nothing if the seed is public, because the noise can then be drawn again and subtracted.

What the reach costs. A uniform of finitely many bits ends above 0, so its normals end at a reach of r sigma. A weight's
sum further out than that leaks that an example was in it. Over T steps of sample rate q with noise multiplier s,
delta grows by up to T q k (Q(r - 1 / (s sqrt k)) - Q(r)) for a gradient spread evenly over k weights, Q being the tail
of the normal distribution. At T q = 20 passes, and the worst k up to 1e8, that is for all four generators below 2e-11
from s = 0.7 on, 5e-10 at 0.5, 2e-8 at 0.4 and 2e-6 at 0.3 (1e-8 for the first two): nothing next to a delta of 1e-5,
and the accountant leaves it out. torch's float32 normals, of 24-bit uniforms on the CPU, would reach 5.8 sigma: 1.4e-4
at s = 0.7 in one weight, 7e-3 spread. Normals of 32-bit uniforms reach 6.8: 1e-5 at s = 1 spread. Neither is used.

What floating point spoils. The noise is float32 and not a real number: which values it can take depends on its size,
and a released sum may tell by its lowest bits which values cannot have been added (Mironov, "On significance of the
least significant bits for differential privacy", CCS 2012). No protection against that is claimed; the accountant
reasons about real numbers. A proof for the bits themselves would take gradients rounded to a grid and a discrete
Gaussian (Canonne, Kamath, Steinke 2020).
"""

import hashlib
import hmac
import math

import numpy as np
import torch
from torch import Tensor

from defenses.edpsgd import kernel
from redteam.core import UsageError

_CHUNK = 1 << 16  # normals made at a time, so that the arithmetic in float64 stays in the cache
_CHUNK_ON_GPU = 1 << 22  # there a chunk has to keep all of the processors busy
_CHUNK_TO_ADD = 1 << 18  # of the kernel's: enough for several threads, and still in the cache
_LEAST, _MOST = 1e-30, 1e30  # beyond, float32 would round the noise to zero or to infinity
_MT_WORDS = 624
_MT_BYTES = 5056  # what torch has saved a CPU generator in since its first release


class NoiseSource:
    """Normal noise and random generators for each step of a training, all from one secret seed.

    `seed` is a non-negative integer of any size; 256 random bits keep it secret. With `secure`, only cryptographically
    secure generators make the noise. `history` is a digest of what was done so far, on which noise and sampling depend
    too. Raises UsageError for a negative seed.
    """

    def __init__(self, seed: int, *, secure: bool = False) -> None:
        """Hash the seed; nothing is drawn yet."""
        if seed < 0:
            raise UsageError(f"the seed of the noise is {seed}; give an integer of at least 0")
        self.secure, self.history = secure, b""
        # HKDF-Extract. The bytes of an integer are unique, so two seeds never meet.
        self._root = hmac.digest(b"redteam.noise/1", seed.to_bytes((seed.bit_length() + 7) // 8, "little"), "sha256")

    @property
    def generator_name(self) -> str:
        """The generator of noise on the CPU: a resumed training must have the same one."""
        return self.generator_on("cpu")

    def generator_on(self, device: torch.device | str) -> str:
        """Return the name of the generator that fills buffers on that device."""
        kind = torch.device(device).type
        if not self.secure and kind != "cpu":
            return f"philox-{kind}"
        if kernel.available():
            return "aes-128-ctr"
        return "shake-256" if self.secure else "mt19937"

    def fill(self, buffer: Tensor, std: float, *, step: int) -> None:
        """Overwrite `buffer` with independent draws from N(0, std^2), in place; `std` 0 gives exact zeros.

        `buffer` is a contiguous float32 tensor of any shape, on any device. Raises UsageError for a standard deviation
        that is negative, not finite or out of float32's range, a negative step, or another kind of buffer.
        """
        self._draw(buffer, std, step, add=False)

    def add(self, buffer: Tensor, std: float, *, step: int) -> None:
        """Add to `buffer` what `fill` would have put there."""
        self._draw(buffer, std, step, add=True)

    def _draw(self, buffer: Tensor, std: float, step: int, *, add: bool) -> None:
        if not (std == 0 or _LEAST <= std <= _MOST):
            raise UsageError(
                f"the standard deviation of the noise is {std}; it must be 0 or from {_LEAST:g} to {_MOST:g}, which "
                "float32 can hold"
            )
        if buffer.dtype != torch.float32 or not buffer.is_contiguous():
            raise UsageError(
                f"noise goes into a contiguous float32 buffer, not a {buffer.dtype} with strides {buffer.stride()}"
            )
        key = self._key("noise", step, self.history)
        with torch.no_grad():
            if not add and (std == 0 or buffer.numel() == 0):
                buffer.zero_()
            elif std > 0 and buffer.numel():
                _draw(buffer.view(-1), std, key, self.generator_on(buffer.device), add=add)

    def generator(self, step: int, purpose: str, *, branched: bool = False) -> np.random.Generator:
        """Return a random generator for one use in a step, independent of the noise and of every other purpose.

        With `branched` it depends on the history too.
        """
        key = self._key(f"for {purpose}", step, self.history if branched else b"")
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))

    def torch_seed(self, step: int, purpose: str) -> int:
        """Return a seed for `torch.manual_seed` (dropout), independent of the noise; never negative."""
        return int.from_bytes(self._key(f"torch {purpose}", step)[:8], "little") >> 1

    def reseed(self, generator: torch.Generator, step: int) -> None:
        """Key a generator that somebody else draws noise from; on the CPU with all of its state, not 32 bits of it."""
        key = self._key("noise", step, self.history)
        if generator.device.type == "cpu":
            generator.set_state(_mersenne_twister(key).get_state())
        else:
            generator.manual_seed(int.from_bytes(key[:8], "little") >> 1)

    def _key(self, purpose: str, step: int, history: bytes = b"") -> bytes:
        """HKDF-Expand: 32 bytes for a purpose, a step and what was done before it."""
        if step < 0:
            raise UsageError(f"step {step} of the noise; steps start at 0")
        info = purpose.encode() + b"\0" + step.to_bytes(16, "little") + history
        return hmac.digest(self._root, info + b"\1", "sha256")


def fill_normal(buffer: Tensor, std: float, generator: torch.Generator, *, add: bool = False) -> None:
    """Overwrite a contiguous `buffer` with N(0, std^2) by torch, or add it: in float32 torch's ends at 5.8 sigma."""
    flat = buffer.view(-1)
    chunk = min(_CHUNK if flat.device.type == "cpu" else _CHUNK_ON_GPU, flat.numel())
    drawn = torch.empty(chunk, dtype=torch.float64, device=flat.device)
    for out in torch.split(flat, max(1, chunk)):
        _put(out, drawn[: out.numel()].normal_(0.0, std, generator=generator), add=add)


def _draw(flat: Tensor, std: float, key: bytes, name: str, *, add: bool) -> None:
    if name.startswith("philox"):
        device = torch.Generator(flat.device)
        device.manual_seed(int.from_bytes(key[:8], "little") >> 1)
        fill_normal(flat, std, device, add=add)
    elif flat.device.type != "cpu":
        on_cpu = torch.empty(flat.shape, dtype=torch.float32)
        _draw(on_cpu, std, key, name, add=False)
        _put(flat, on_cpu.to(flat.device), add=add)
    elif name == "aes-128-ctr":
        _aes(flat, std, key[:16], add=add)
    elif name == "shake-256":
        _shake(flat, std, key, add=add)
    else:
        fill_normal(flat, std, _mersenne_twister(key), add=add)


def _put(out: Tensor, drawn: Tensor, *, add: bool) -> None:
    if add:
        out.add_(drawn.to(out.dtype))
    else:
        out.copy_(drawn)


def _aes(flat: Tensor, std: float, key: bytes, *, add: bool) -> None:
    if not add:
        kernel.normal_(flat, std, key)
        return
    drawn = torch.empty(min(_CHUNK_TO_ADD, flat.numel()))
    for i, out in enumerate(torch.split(flat, _CHUNK_TO_ADD)):
        kernel.normal_(drawn[: out.numel()], std, key, first=i * _CHUNK_TO_ADD)
        out.add_(drawn[: out.numel()])


def _shake(flat: Tensor, std: float, key: bytes, *, add: bool) -> None:
    for block, out in enumerate(torch.split(flat, _CHUNK)):
        half = (out.numel() + 1) // 2
        stream = hashlib.shake_256(key + block.to_bytes(8, "little")).digest(12 * half)
        # The largest of 64 bits round to 1 and a radius of 0; what counts is that the smallest are told apart.
        uniforms = (np.frombuffer(stream, "<u8", half).astype(np.float64) + 0.5) * 2.0**-64
        turns = (np.frombuffer(stream, "<u4", half, 8 * half).astype(np.float64) + 0.5) * 2.0**-32
        radius = torch.from_numpy(uniforms).log_().mul_(-2.0).sqrt_().mul_(std)
        angle = torch.from_numpy(turns).mul_(2.0 * math.pi)
        _put(out, torch.cat([radius * angle.cos(), radius * angle.sin()])[: out.numel()], add=add)


def _mersenne_twister(key: bytes) -> torch.Generator:
    """Return a CPU generator with all 19,937 bits keyed: `manual_seed` would use only 32, and two steps could meet."""
    generator = torch.Generator()
    generator.manual_seed(0)
    state = generator.get_state()
    if state.numel() != _MT_BYTES:
        raise UsageError(f"torch {torch.__version__} keeps its generator in another form; use secure noise")
    words = np.frombuffer(hashlib.shake_256(key).digest(4 * _MT_WORDS), dtype="<u4")
    state.view(torch.int64)[3 : 3 + _MT_WORDS] = torch.from_numpy(words.astype(np.int64))
    generator.set_state(state)
    return generator
