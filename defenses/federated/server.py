"""What the server does with the mean of a round's updates: FedAvg, or FedOPT's Adam, Yogi and Adagrad.

The mean, with its sign turned, is the gradient of a server optimiser (Reddi et al., "Adaptive federated optimization",
ICLR 2021, arXiv 2003.00295). SGD with rate 1 is FedAvg. The adaptive ones keep to the paper: no bias correction, and a
degree of adaptivity tau beside the root.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from defenses.federated.updates import Update, trained_of

ServerRule = Literal["average", "adam", "yogi", "adagrad"]


class Adaptive(torch.optim.Optimizer):
    """FedAdam, FedYogi or FedAdagrad: m / (sqrt(v) + tau), v as `rule` says."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        rule: ServerRule,
        tau: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        """Keep the settings; nothing is allocated before the first step."""
        super().__init__(parameters, {"lr": lr, "tau": tau, "betas": betas, "rule": rule})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Do one step by each parameter's `.grad`."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, grad = self.state[parameter], parameter.grad
                if not state:
                    state["m"] = torch.zeros_like(parameter)
                    state["v"] = torch.full_like(parameter, group["tau"] ** 2)
                square, v = grad.square(), state["v"]
                state["m"].mul_(first).add_(grad, alpha=1 - first)
                if group["rule"] == "adagrad":
                    v.add_(square)
                elif group["rule"] == "yogi":
                    v.sub_(square * (v - square).sign(), alpha=1 - second)
                else:
                    v.mul_(second).add_(square, alpha=1 - second)
                parameter.addcdiv_(state["m"], v.sqrt() + group["tau"], value=-group["lr"])


def server_optimizer(model: nn.Module, rule: ServerRule, rate: float, momentum: float) -> torch.optim.Optimizer:
    """Return the optimiser of the weights that are trained."""
    trained = list(trained_of(model).values())
    if rule == "average":
        return torch.optim.SGD(trained, lr=rate, momentum=momentum)
    return Adaptive(trained, lr=rate, rule=rule)


def step_by(model: nn.Module, optimizer: torch.optim.Optimizer, mean: Update) -> None:
    """Move the model, which has the round's first weights, by the mean update of its clients."""
    for name, parameter in trained_of(model).items():
        parameter.grad = mean[name].to(parameter.dtype).neg()
    optimizer.step()
    for parameter in trained_of(model).values():
        parameter.grad = None
