"""One private step of a text classifier by what else there is: Opacus in four ways, and a loop over single examples."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

CLIP, SIGMA = 1.0, 1.0
Step = Callable[[], None]
Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # ids, mask, labels


def losses(model: nn.Module, part: Part, **more: torch.Tensor) -> torch.Tensor:
    ids, mask, labels = part
    logits = model(ids, attention_mask=mask, **more).logits
    return functional.cross_entropy(logits, labels, reduction="none")


def every_id(part: Part) -> dict[str, torch.Tensor]:
    """Return position and type ids of shape (B, T), without which the peers fail."""
    ids = part[0]
    return {"position_ids": torch.arange(ids.shape[1]).repeat(len(ids), 1), "token_type_ids": torch.zeros_like(ids)}


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)


def opacus(model: nn.Module, part: Part, how: str) -> Step:
    """Opacus by per-example gradients: its hooks, functorch or torch's ExpandedWeights."""
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleExpandedWeights
    from opacus.optimizers import DPOptimizer

    if how == "ExpandedWeights":
        wrapped = GradSampleModuleExpandedWeights(model, loss_reduction="sum")
    else:
        wrapped = GradSampleModule(model, loss_reduction="sum", force_functorch=how == "functorch")
    size = len(part[0])
    settings = {"noise_multiplier": SIGMA, "max_grad_norm": CLIP, "expected_batch_size": size}
    optimizer = DPOptimizer(adamw(model), loss_reduction="sum", **settings)

    def step() -> None:
        losses(wrapped, part, **every_id(part)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def opacus_ghost(model: nn.Module, parts: list[Part]) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIP, use_ghost_clipping=True)
    count = sum(len(part[0]) for part in parts)
    settings = {"noise_multiplier": SIGMA, "max_grad_norm": CLIP, "expected_batch_size": count}
    optimizer = DPOptimizerFastGradientClipping(adamw(model), **settings)
    criterion = DPLossFastGradientClipping(wrapped, optimizer, nn.CrossEntropyLoss(), loss_reduction="mean")

    def step() -> None:
        for i, part in enumerate(parts):
            ids, mask, labels = part
            logits = wrapped(input_ids=ids, attention_mask=mask, **every_id(part)).logits
            optimizer.signal_skip_step(do_skip=i < len(parts) - 1)
            criterion(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def loop_of_one(model: nn.Module, part: Part) -> Step:
    optimizer, trained = adamw(model), [p for p in model.parameters() if p.requires_grad]

    def step() -> None:
        size = len(part[0])
        sums = [torch.randn_like(p).mul_(SIGMA * CLIP / size) for p in trained]
        for i in range(size):
            grads = torch.autograd.grad(losses(model, tuple(t[i : i + 1] for t in part)).sum(), trained)
            norm = torch.nn.utils.get_total_norm(grads)
            factor = float((CLIP / (norm + 1e-6)).clamp(max=1.0)) / size
            torch._foreach_add_(sums, grads, alpha=factor)
        for parameter, gradient in zip(trained, sums, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return step
