"""Linear maps on detached parameters, and how those that read the same input find each other."""

from __future__ import annotations

import weakref

from torch import Tensor, nn
from torch.nn import functional

from defenses.edpsgd.linear import LinearUse, SharedInput
from defenses.edpsgd.tape import Tape, UnsupportedLayer, version


class Inputs:
    """The inputs that linear maps have read, so that those which read the same one find each other."""

    def __init__(self) -> None:
        """Start without any; the graph alone keeps them alive."""
        self._known: weakref.WeakValueDictionary[object, SharedInput] = weakref.WeakValueDictionary()

    def shared(self, x: Tensor) -> SharedInput:
        """Return what is shared by the maps that read x [B, T, d] as it is now."""
        key = (x.data_ptr(), version(x), x.shape, x.stride(), x.dtype)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = SharedInput(x)
        return found


def watched_linear(
    name: str,
    x: Tensor,
    weight: nn.Parameter,
    bias: nn.Parameter | None,
    tape: Tape,
    inputs: Inputs,
    *,
    transposed: bool = False,
    values: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """Return x [B, ..., d] mapped by a weight [p, d] (`transposed`: [d, p]) and a bias [p], with its use on the tape.

    `values` are those of weight and bias where these are stand-ins for parts. Raises UnsupportedLayer for an input
    without a batch.
    """
    weight_now, bias_now = (weight, bias) if values is None else values
    matrix = weight_now.detach().t() if transposed else weight_now.detach()
    vector = None if bias_now is None else bias_now.detach()
    x = tape.batched(x)
    if x.dim() < 2:
        raise UnsupportedLayer(f"{name}: its input has shape {tuple(x.shape)}; a batch of examples comes first")
    # One matrix in, one out: a view here would lose the hook where an in-place activation follows.
    flat = x.reshape(-1, x.shape[-1])
    shared = inputs.shared(flat.detach().view(x.shape[0], -1, x.shape[-1]))
    use = LinearUse(name, shared, trained(weight), trained(bias), transposed=transposed)
    return tape.watch(functional.linear(flat, matrix, vector), use).view(*x.shape[:-1], matrix.shape[0])


def trained(parameter: nn.Parameter | None) -> nn.Parameter | None:
    """Return the parameter where it is trained, else None."""
    return parameter if parameter is not None and parameter.requires_grad else None
