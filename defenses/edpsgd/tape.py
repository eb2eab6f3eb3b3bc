"""What a forward leaves behind, so that one backward without weight gradients is enough for exact clipping.

A layer's rule runs the layer on detached parameters, so that autograd computes input gradients alone, and hangs a
*use* on the layer's output: one call of one trainable layer, with what its parameter gradients are made of. The graph
owns the uses: a forward whose backward never comes takes them with it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from defenses.edpsgd.passes import Pass
from redteam.core import UsageError


class UnsupportedLayer(UsageError):
    """A layer, or a use of one, for which there is no exact per-example gradient norm."""


class Use(Protocol):
    """One call of a trainable layer."""

    name: str
    batch: int
    parameters: tuple[nn.Parameter, ...]

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the gradient of the loss for the layer's output."""


class _Start(torch.autograd.Function):
    """Identity that starts the graph: nothing before the first trainable layer needs a gradient."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, origin: Tensor) -> Tensor:
        # In place: a view would forbid the in-place activations that often follow a layer.
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, None]:
        return None, None


class Tape:
    """The uses of the layers since their graph was built, and who is told of their gradients.

    `origin` is the tensor that every trainable layer's output depends on for autograd. `batch` is the number of
    examples that the model was last called on, None before.
    """

    def __init__(self, device: torch.device) -> None:
        """Start empty."""
        self.origin = torch.zeros((), device=device, requires_grad=True)
        self.batch: int | None = None
        self.receiver: Callable[[Use, Tensor], None] | None = None
        self.parts: list[tuple[nn.Parameter, nn.Parameter, slice]] = []  # a part, what it is of, which rows
        self._live: weakref.WeakSet[Use] = weakref.WeakSet()

    def part(self, whole: nn.Parameter, rows: slice) -> nn.Parameter:
        """Return a stand-in for rows of a parameter, for uses of these rows alone; always the same rows."""
        part = nn.Parameter(whole.detach()[rows], requires_grad=whole.requires_grad)
        self.parts.append((part, whole, rows))
        return part

    def watch(self, output: Tensor, use: Use) -> Tensor:
        """Return `output` (not a view: in-place changes of one would lose the hook), with `use` told its gradient."""
        if not output.requires_grad:
            output = _Start.apply(output.data, self.origin)  # type: ignore[no-untyped-call]
        output.register_hook(partial(self._caught, use))  # type: ignore[no-untyped-call]
        self._live.add(use)
        return output

    def announce(self, use: Use) -> None:
        """Count a use that a layer's own backward will report by `report`."""
        self._live.add(use)

    def report(self, use: Use, gradient: Tensor) -> None:
        """Hand over the gradient of a use that `announce` counted."""
        self._caught(use, gradient)

    def forget(self, use: Use) -> None:
        """Count a use no longer: its graph is spent, though something may keep it alive."""
        self._live.discard(use)

    def batched(self, inputs: Tensor) -> Tensor:
        """Give an input that all examples share, as (1, T) position ids, the batch's leading dimension."""
        if self.batch is not None and inputs.dim() > 0 and inputs.shape[0] == 1 != self.batch:
            return inputs.expand(self.batch, *inputs.shape[1:])
        return inputs

    def repeated(self) -> frozenset[int]:
        """Return the ids of parameters that more than one living use has."""
        counts = Counter(id(p) for use in self._live for p in use.parameters)
        return frozenset(i for i, n in counts.items() if n > 1)

    def _caught(self, use: Use, gradient: Tensor) -> None:
        if self.receiver is None:
            raise UsageError("backward() was called while an ExampleClipper is open; give the losses to its add()")
        self.receiver(use, gradient.detach())


def version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place."""
    return 0 if tensor.is_inference() else tensor._version
