"""What a training has done so far, as a digest on which its noise and its coins depend.

Two trainings may go on from one saved state. Were the noise of a step a function of (seed, step) alone, both would draw
the same, and their difference would be bare signal. So the key of a step's noise also covers the weights that the
training began or went on with, and the rows, the clipped sum and the scale of the noise of every step up to this one:
where any of these differs by a bit, all noise from there on is fresh, and so are the coins of Poisson sampling, whose
amplification does not hold for coins that somebody else used too. Where nothing differs, the same numbers come again:
that is what resumes a training that was killed.

Two branches are two trainings on one set of data: each one's epsilon counts itself alone. Until they part they are one
training, and who sees both sees how far that was.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import IntArray


def begin(source: NoiseSource, model: nn.Module, kept: Mapping[str, Any]) -> None:
    """Begin a history with the model's weights, or take up the one that `keep` told; other weights begin a branch."""
    weights, before = weights_digest(model), bytes.fromhex(kept.get("history", ""))
    same = bool(before) and kept.get("weights") == weights
    source.history = before if same else hashlib.sha256(b"begin" + before + bytes.fromhex(weights)).digest()


def extend(source: NoiseSource, rows: IntArray, sums: Iterable[Tensor], stds: Sequence[float]) -> None:
    """Add a step: the rows of its batch and what is about to get noise of `stds`, before it gets any.

    The same sum with the same noise at two scales is two equations that give the sum away.
    """
    digest = hashlib.sha256(b"step" + source.history + len(rows).to_bytes(8, "little") + rows.tobytes())
    digest.update(struct.pack(f"<{len(stds)}d", *stds))
    for part in sums:
        digest.update(_bytes(part))
    source.history = digest.digest()


def keep(source: NoiseSource, model: nn.Module) -> dict[str, str]:
    """Return what a saved state must hold of the history, as `begin` takes it."""
    return {"history": source.history.hex(), "weights": weights_digest(model)}


def weights_digest(model: nn.Module) -> str:
    """Return SHA-256 of all parameters and persistent buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
