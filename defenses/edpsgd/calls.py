"""What a model was called on, so that it can be called again on other rows of the same batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.tape import version
from defenses.edpsgd.tracing import tensors_in

_MOST = 4  # calls for one batch of losses


@dataclass(frozen=True)
class _Call:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    versions: tuple[int, ...]

    @property
    def unchanged(self) -> bool:
        return self.versions == tuple(map(version, tensors_in((self.args, self.kwargs))))


class Calls:
    """The calls of a model since the last losses."""

    def __init__(self, model: nn.Module) -> None:
        """Nothing is noted yet."""
        self._model, self._calls, self._asking = model, list[_Call](), False

    def note(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a call, unless it is one of our own."""
        if not self._asking:
            versions = tuple(map(version, tensors_in((args, kwargs))))
            self._calls = [*self._calls[1 - _MOST :], _Call(args, kwargs, versions)]

    def forget(self) -> None:
        """Let go of the tensors."""
        self._calls = []

    def take(self, batch: int) -> Callable[[Tensor], Tensor] | None:
        """Return a number for each of any rows of the batch that the model's outputs for them decide, and forget it.

        None where the model was not called, not with that many rows, or what it was called on was changed since.
        """
        calls, self._calls = self._calls, []
        usable = [c for c in calls if c.unchanged and any(_has(t, batch) for t in tensors_in((c.args, c.kwargs)))]
        if not usable:
            return None

        def numbers(rows: Tensor) -> Tensor:
            self._asking = True
            try:
                outputs = [
                    self._model(*_of_rows(c.args, rows, batch), **_of_rows(c.kwargs, rows, batch)) for c in usable
                ]
            finally:
                self._asking = False
            told = [_told(t, i) for i, t in enumerate(tensors_in(outputs)) if _has(t, len(rows)) and t.requires_grad]
            return torch.stack(told).sum(0) if told else torch.zeros(len(rows))

        return numbers


def _has(tensor: Tensor, rows: int) -> bool:
    return tensor.dim() > 0 and len(tensor) == rows


def _of_rows(values: Any, rows: Tensor, batch: int) -> Any:
    """Return nested arguments with those rows of every tensor that has the batch."""
    if isinstance(values, Tensor):
        return values[rows.to(values.device)] if _has(values, batch) else values
    if isinstance(values, dict):
        return {name: _of_rows(value, rows, batch) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(_of_rows(value, rows, batch) for value in values)
    return values


def _told(output: Tensor, which: int) -> Tensor:
    """Return a mean of each row's numbers with fixed weights that no symmetry of theirs cancels, float32 [b]."""
    flat = output.reshape(len(output), -1).float()
    places = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=torch.float32)
    numbers: Tensor = flat @ (torch.sin(places * places + which) / max(1, flat.shape[1]) ** 0.5)
    return numbers
