"""What a training must keep to go on after it was broken off, with the same numbers."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from redteam.core import UsageError
from redteam.core.files import save_atomic
from redteam.core.interrupts import Interrupts
from redteam.plugins.defense import Checkpoint

CHECKPOINT_EVERY = 20.0  # seconds


class TrainingState:
    """Model and optimiser of a running training, and the file they are kept in (None: nowhere).

    `extra` is what else was kept, in plain values: of a private training what it has spent so far.
    """

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint | None) -> None:
        """Nothing is read or written yet."""
        self.model, self.optimizer, self.checkpoint = model, optimizer, checkpoint
        self.extra: dict[str, Any] = {}

    def resume(self) -> int:
        """Load what was kept and return how many steps are done; UsageError if it is of another training."""
        if self.checkpoint is None or not self.checkpoint.path.exists():
            return 0
        path = self.checkpoint.path
        try:
            kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            key, step, extra = kept["key"], int(kept["step"]), dict(kept.get("extra", {}))
        except Exception as error:
            raise UsageError(
                f"{path}: unfinished training cannot be read ({type(error).__name__}); say --restart"
            ) from None
        if key != self.checkpoint.key:
            raise UsageError(f"{path}: unfinished training with other data or settings; repeat those or say --restart")
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.extra = extra
        return step

    def keep(self, step: int, extra: Mapping[str, Any] | None = None) -> None:
        """Write everything after `step` steps, private and atomic; a full disk must not end the training."""
        if self.checkpoint is None:
            return
        document = {
            "key": self.checkpoint.key,
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "extra": dict(extra or {}),
        }
        with contextlib.suppress(OSError, RuntimeError):  # torch reports a full disk as RuntimeError
            save_atomic(self.checkpoint.path, lambda path: torch.save(document, path), mode=0o600)

    def steps(
        self,
        first: int,
        last: int,
        extra: Callable[[int], Mapping[str, Any] | None],
        *,
        ended: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Yield the numbers of the steps to do, and keep what `extra` says of so many steps every 20 seconds.

        Ends early where `ended` says so. An interrupt waits until the step is done and everything is kept; then raises
        KeyboardInterrupt.
        """
        kept_at = time.monotonic()
        with Interrupts() as interrupts:
            for step in range(first, last):
                if ended():
                    break
                yield step
                if interrupts.caught or time.monotonic() - kept_at > CHECKPOINT_EVERY:
                    self.keep(step + 1, extra(step + 1))
                    kept_at = time.monotonic()
                    interrupts.raise_if_caught()
            interrupts.raise_if_caught()
