"""Tensors from files of others: taken only where they are plain arrays of numbers, so that what is hashed is loaded.

A file read with `weights_only=True` runs nothing, but its tensors may still be of another class, carry attributes in
place of methods (`t.detach = ...`), hooks or lazy signs, or share few bytes among many numbers.
"""

import torch

from redteam.core import BundleError

_REAL = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def plain_tensor(tensor: object, name: object, where: str, *, parameters: bool = False) -> torch.Tensor:
    """Return the tensor as a contiguous array without gradient; raise BundleError where it is more than that.

    `parameters` admits what was saved as `torch.nn.Parameter`, as a foreign file may hold it.
    """
    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise BundleError(f"{where}: state_dict holds something that is not a named tensor")
    kinds = (torch.Tensor, torch.nn.Parameter) if parameters else (torch.Tensor,)
    if type(tensor) not in kinds or vars(tensor) or tensor._backward_hooks:
        raise BundleError(f"{where}: tensor {name[:80]!r} carries more than numbers (attributes or hooks): refused")
    swells = tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized
    swells = swells or tensor.is_conj() or tensor.is_neg() or tensor.nbytes > tensor.untyped_storage().nbytes()
    if swells:
        raise BundleError(f"{where}: tensor {name[:80]!r} is not a plain array of numbers: refused")
    if tensor.dtype not in _REAL + _WHOLE:
        raise BundleError(f"{where}: tensor {name[:80]!r} is {tensor.dtype}, which cannot be read as a weight: refused")
    return torch.Tensor.detach(tensor).contiguous()


def same_kind(stored: torch.Tensor, wanted: torch.Tensor) -> bool:
    """True where both hold real numbers or both hold whole numbers: a cast between them would change the model."""
    return stored.dtype.is_floating_point == wanted.dtype.is_floating_point


def same_numbers(stored: torch.Tensor, loaded: torch.Tensor) -> bool:
    """True where the loaded tensor is the stored one, in its own precision; NaN equals NaN."""
    if stored.shape != loaded.shape:
        return False
    cast = stored.to(loaded.dtype)
    return torch.equal(cast, loaded) or torch.allclose(cast, loaded, rtol=0, atol=0, equal_nan=True)
