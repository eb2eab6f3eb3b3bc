"""The naive twin of `ExampleClipper`: autograd, one example at a time, everything added up in float64."""

import torch

SLACK = 1 - 1e-5


def loop(model, losses_of, batch, *, clip, scale=1.0):
    """Norms [b] and the clipped sum [P] of a loop over the examples; `losses_of(model, rows)` gives their losses."""
    return clipped_sum(gradients(model, losses_of, batch), clip=clip, scale=scale)


def gradients(model, losses_of, batch):
    """The gradient [P] of each example, by itself."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [_gradient(losses_of(model, slice(i, i + 1)).sum(), parameters) for i in range(batch)]


def clipped_sum(each, *, clip, scale=1.0):
    """Norms [b] of gradients, and the sum of the clipped ones."""
    norms = torch.stack([flat.double().norm() for flat in each])
    total = torch.zeros(each[0].shape, dtype=torch.float64)
    for flat, norm in zip(each, norms.tolist(), strict=True):
        total.add_(flat, alpha=scale * min(1.0, clip * SLACK / norm) if norm > 0 else 0.0)
    return norms, total


def _gradient(loss, parameters):
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    whole = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
    return torch.cat([g.flatten() for g in whole])


def relative(a, b):
    """The L2 distance of a from b, relative to b."""
    return float((a.double() - b.double()).norm() / b.double().norm())
