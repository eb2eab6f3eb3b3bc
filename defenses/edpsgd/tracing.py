"""Where rows are mixed: what each module reads and gives for the rows that stay, in two forwards that should agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

_SAME = 1e-4  # of a row's own size; what is coarser than float32 is not told apart from rounding


@dataclass(frozen=True)
class _PlaceMarks:
    """Two numbers for each place of each row of a tensor, [k, places]: one that tells it from others, and its size."""

    shape: tuple[int, ...]  # of a place
    told: Tensor
    size: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        places = rows.unsqueeze(1) if rows.dim() == 1 else rows
        flat = places.reshape(*places.shape[:2], -1).double().nan_to_num()
        count = torch.arange(1, flat.shape[2] + 1, dtype=torch.float64, device=flat.device)
        weights = 1.5 + torch.sin(count)  # from 0.5 to 2.5, so that it shows when numbers are exchanged
        return cls(tuple(places.shape[2:]), flat @ weights, flat.abs() @ weights)

    def differ(self, other: Self) -> bool:
        """Return whether any row is another one, padding on either side left out."""
        if self.shape != other.shape:
            return False
        places = min(self.told.shape[1], other.told.shape[1])
        sides = slice(places), slice(-places, None)
        return places > 0 and all(
            bool(
                (
                    (self.told[:, side] - other.told[:, side]).abs()
                    > _SAME * (self.size[:, side] + other.size[:, side])
                ).any()
            )
            for side in sides
        )


class Trace:
    """While it is open, notes of every module's inputs and outputs a number for each of the `kept` rows, bool [b]."""

    def __init__(self, model: nn.Module, kept: Tensor) -> None:
        """Put hooks on all modules."""
        self.kept, self.rounding = kept, 0.0
        self.shapes: list[tuple[int, ...]] = []
        self.notes: list[tuple[str, str, list[_PlaceMarks]]] = []  # module, what is to be said of it, its rows
        self._running: list[str] = []
        self._handles = []
        for name, module in model.named_modules():
            label = f"{name or 'the model'} ({type(module).__name__})"
            self._handles += [
                module.register_forward_pre_hook(self._reading(label), with_kwargs=True),
                module.register_forward_hook(self._giving(label)),
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _reading(self, label: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            caller = f"{self._running[-1]}, before {label}" if self._running else f"what is done before {label}"
            self._note(label, caller, (args, kwargs))
            self._running.append(label)

        return hook

    def _giving(self, label: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._running.pop()
            self._note(label, label, output)

        return hook

    def _note(self, label: str, blamed: str, values: Any) -> None:
        rows = []
        for tensor in tensors_in(values):
            self.shapes.append(tuple(tensor.shape))
            if tensor.is_floating_point():
                self.rounding = max(self.rounding, torch.finfo(tensor.dtype).eps)
            if tensor.dim() and len(tensor) == len(self.kept):
                rows.append(_PlaceMarks.of(tensor.detach()[self.kept]))
        self.notes.append((label, blamed, rows))


def moved_first(one: Trace, other: Trace) -> str:
    """Return where the rows that stay first differ: a module, or what is done outside of all modules."""
    for (label, blamed, a), (other_label, _, b) in zip(one.notes, other.notes, strict=False):
        if label != other_label or len(a) != len(b):
            return blamed
        if any(x.differ(y) for x, y in zip(a, b, strict=True)):
            return blamed
    return "what the losses do with the model's output"


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested arguments."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors_in(value)
