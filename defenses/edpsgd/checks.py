"""What every private trainer refuses, and whether weights are numbers still."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.refusals import refuse_closures
from redteam.core import UsageError

LARGEST_WEIGHTS = 1e12  # norm; beyond it products of weights overflow float32 and every loss is NaN


def check_mechanism(*, clip: float, noise_multiplier: float, physical_batch: int) -> None:
    """Raise UsageError for a clip or noise with which no step could be private, NaN included."""
    if not 0 < clip < math.inf:
        raise UsageError(f"clip {clip:g}: must be a positive number, such as 1.0")
    if not 0 <= noise_multiplier < math.inf:
        raise UsageError(f"noise multiplier {noise_multiplier:g}: must be a number of at least 0 (0: no privacy)")
    if physical_batch < 1:
        raise UsageError(f"physical batch {physical_batch}: at least one row must be held at once")


def check_optimizer(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Raise UsageError where the optimiser would train what the clipper does not see, or ask for losses itself."""
    refuse_closures(optimizer)
    known = {id(p) for p in parameters}
    foreign = sum(id(p) not in known and p.requires_grad for group in optimizer.param_groups for p in group["params"])
    if foreign:
        raise UsageError(f"the optimiser holds {foreign} trainable parameters that are not the model's")


def check_losses(values: Tensor, rows: int) -> None:
    """Raise UsageError where the losses are not one a row: an average mixes rows, and none can be clipped alone."""
    if values.shape != (rows,):
        raise UsageError(
            f"the losses have shape {tuple(values.shape)} for {rows} rows: give one loss a row, not averaged "
            "(reduction='none')"
        )


def weights_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Return the norm of all weights, NaN or infinity where one of them is."""
    with torch.no_grad():
        norms = [torch.linalg.vector_norm(p) for p in parameters]
        return float(torch.stack([n.to(norms[0].device) for n in norms]).double().norm()) if norms else 0.0


def check_state(state: Any) -> None:
    """Raise UsageError for a saved state that is none, or was damaged."""
    kinds = {"settings": dict, "steps": int, "dropped": int, "size": int | None}
    found = state if isinstance(state, dict) else {}
    wrong = [name for name, kind in kinds.items() if name not in found or not isinstance(found[name], kind)]
    digests = {name: found.get(name, "") for name in ("history", "weights", "training")}
    wrong += [name for name, digits in digests.items() if not _is_hexadecimal(digits) or len(digits) % 2]
    if not (found.get("seed") and _is_hexadecimal(found["seed"])):
        wrong.append("seed")
    if wrong:
        raise UsageError(f"the saved state has no usable {wrong[0]}: give what state_dict() returned")


def _is_hexadecimal(digits: Any) -> bool:
    return isinstance(digits, str) and set(digits) <= set("0123456789abcdef")
