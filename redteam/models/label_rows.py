"""Label canaries in a model: an extra row of its last layer for each, and a last layer cut back to the users' labels.

The rows are zero with a low bias. On users' texts their probabilities are e^-12 of the others', so that they change
next to nothing there; a canary's own label is wholly surprising, and its gradient lies mostly in its own row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from redteam.core import BundleError, UsageError
from redteam.data.label_canaries import LabelPlan, WatchedSteps
from redteam.models.heads import output_names
from redteam.models.tokens import cut_at, token_ids

BIAS = -12.0
_WAY_OUT = "leave --label-canaries out, or train a model that ends in one"


@dataclass(frozen=True)
class PlantedRows:
    """Where label canaries are in a model: `layer` by name, its first `labels` rows are users', the others canaries'.

    `included` is who of the canaries is trained on, bool [count]. `logits` gives a model's scores of the example that
    all of them share, [1, labels]; where that is a text, `tokens` are its ids.
    """

    name: str
    layer: nn.Linear
    labels: int
    included: Tensor
    logits: Callable[[nn.Module], Tensor]
    tokens: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many canaries there are."""
        return len(self.included)

    @property
    def targets(self) -> Tensor:
        """The labels of the canaries that are in, as places in the last layer, int64."""
        return self.labels + torch.nonzero(self.included).flatten()

    def rows(self, *, gradient: bool = False) -> Tensor:
        """Return each canary's own row of weights and bias, or of their gradients, [count, d + 1]."""
        weight, bias = self.layer.weight, self.layer.bias
        parts = (weight.grad, bias.grad) if gradient else (weight.detach(), bias.detach())
        if parts[0] is None or parts[1] is None:
            return torch.zeros(self.count, weight.shape[1] + 1)
        return torch.cat([parts[0][self.labels :], parts[1][self.labels :, None]], dim=1).cpu()

    def cut(self) -> None:
        """Cut the last layer back to the users' labels, in place."""
        _resize(self.layer, self.layer.weight.detach()[: self.labels], self.layer.bias.detach()[: self.labels])


def canary_tokens(tokenizer: Tokenizer, text: str, *, max_length: int, name: str) -> list[int]:
    """Return the text of label canaries as token ids; UsageError where there are none."""
    cut_at(tokenizer, max_length)
    (ids,) = token_ids(tokenizer, [text], name=name)
    if not ids:
        raise UsageError(f"--label-canaries: {name} has no tokens for the canaries' text: {_WAY_OUT}")
    return ids


def plant_rows(model: PreTrainedModel, tokens: list[int], included: Tensor, *, labels: int, name: str) -> PlantedRows:
    """Give the last layer of `model` a row for each canary, in place, before an optimiser is made.

    Raises UsageError where that layer is no trained linear one with a bias, which has a row for each label.
    """
    found, layer = last_linear(model, name=name)
    if layer.out_features != labels:
        raise UsageError(f"--label-canaries: {found} of {name} has {layer.out_features} rows for {labels} labels")
    if not (layer.weight.requires_grad and layer.bias.requires_grad):
        raise UsageError(f"--label-canaries: {found} of {name} is not trained: {_WAY_OUT}")

    def logits(of: nn.Module) -> Tensor:
        scores: Tensor = of(input_ids=torch.tensor([tokens], device=layer.weight.device)).logits
        return scores

    return replace(grow(found, layer, included, logits), tokens=tokens)


def grow(name: str, layer: nn.Linear, included: Tensor, logits: Callable[[nn.Module], Tensor]) -> PlantedRows:
    """Give `layer` a row for each canary, in place: zeros, and a low bias."""
    weight, bias, count = layer.weight.detach(), layer.bias.detach(), len(included)
    labels = len(weight)
    _resize(
        layer,
        torch.cat([weight, weight.new_zeros(count, weight.shape[1])]),
        torch.cat([bias, bias.new_full((count,), BIAS)]),
    )
    return PlantedRows(name, layer, labels, included, logits)


def last_linear(model: PreTrainedModel, *, name: str) -> tuple[str, nn.Linear]:
    """Return the linear layer with a bias that scores the labels, by name; UsageError where there is none."""
    try:
        changing = set(output_names(model.config, name))
    except BundleError as error:
        raise UsageError(f"--label-canaries: {error}: {_WAY_OUT}") from None
    for found, module in model.named_modules():
        if type(module) is nn.Linear and {f"{found}.weight", f"{found}.bias"} == changing:
            return found, module
    what = " and ".join(sorted(changing))
    raise UsageError(f"--label-canaries: {name} scores its labels by {what}, no linear layer with a bias: {_WAY_OUT}")


def _resize(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight = nn.Parameter(weight.clone(), requires_grad=layer.weight.requires_grad)
    layer.bias = nn.Parameter(bias.clone(), requires_grad=layer.bias.requires_grad)
    layer.out_features = len(weight)


@dataclass(frozen=True)
class LabelRequest:
    """What a trainer is to plant, and `keep`, which is told the plan with its rules before the first step."""

    plan: LabelPlan
    keep: Callable[[LabelPlan], None] = lambda plan: None


@dataclass(frozen=True, eq=False)
class CanaryRun:
    """What a training did with label canaries: the plan, a score of each from all updates, and what the steps were.

    `tensors` are what an adversary of the final weights reads: the canaries' own `weight` [count, d] and `bias`, and
    `before`, what the initial model's last layer read of their text [d].
    """

    plan: LabelPlan
    watched: WatchedSteps
    scores: tuple[float, ...]
    tensors: dict[str, Tensor]
