"""Training to probabilities, on texts in several versions: what counterfactual trainers and distillation share.

Of each row every version is seen in one step, all with the row's own target; the logits of a version may be drawn to
those of the first (counterfactual logit pairing, Garg et al. 2019).
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from defenses.training import LARGEST_GRADIENT, Recipe, batches_of, schedule, tokenize
from redteam.core import RedteamError
from redteam.core.arrays import FloatArray
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Progress
from redteam.targets.model import pad_batch
from redteam.training.checkpoint import TrainingState


def train_to(
    initial: InitialModel,
    versions: Sequence[Sequence[str]],
    targets: FloatArray,
    recipe: Recipe,
    *,
    seed: int,
    pairing: float = 0.0,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> None:
    """Train `initial.model` in place on the cross-entropy with `targets`, [n, k] in the order of its labels.

    `versions` hold n texts each. `pairing` weighs the mean distance of a version's logits from the first's. Raises
    RedteamError where the loss is no number.
    """
    tokens = [tokenize(initial, list(texts)) for texts in versions]
    aims = torch.tensor(targets, dtype=torch.float32)
    model, pad = initial.model.train(), initial.model.config.pad_token_id or 0
    batches, _ = batches_of([len(ids) for ids in tokens[0]], recipe, seed)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    state = TrainingState(model, optimizer, checkpoint)
    for step in state.steps(state.resume(), len(batches), lambda _: None):
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        rows = batches[step]
        logits = [model(**pad_batch([each[i] for i in rows], pad=pad)).logits for each in tokens]
        loss = torch.stack([functional.cross_entropy(each, aims[rows]) for each in logits]).mean()
        for each in logits[1:] if pairing else ():
            loss = loss + pairing * (each - logits[0]).norm(dim=1).mean()
        if not math.isfinite(loss.item()):
            rate = recipe.learning_rate / 10
            raise RedteamError(f"loss is {loss.item()} at step {step + 1}: try a learning_rate of {rate:g}")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, LARGEST_GRADIENT)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, len(batches))
        optimizer.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(step + 1, len(batches), loss.item())
    model.eval()
