"""Models of which the last layer alone is trained: what it reads never changes, so the encoder runs once a text.

That also makes many models over parts of the same rows one: their layers are trained side by side as one batched
product, each on batches of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.training import LARGEST_GRADIENT, Recipe, batches_of, schedule, tokenize
from redteam.core import UsageError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.models.last_layer import inputs_of, last_layer

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of AdamW


def fit_together(
    initial: InitialModel, examples: Examples, halves: BoolArray, recipe: Recipe, seeds: Sequence[int]
) -> FloatArray:
    """Train a last layer on each of `halves`, [k, n] rows of the examples, and return its logits for all, [k, n, c].

    The same as training each by itself, but for rounding: to 1e-4 in a logit. Raises UsageError where more than the
    last layer of `initial` is trained.
    """
    layer = last_layer(initial.model)
    if layer is None:
        raise UsageError("more than the last layer of the model is trained: its models cannot be trained together")
    tokens = tokenize(initial, list(examples.texts or ()))
    inputs = inputs_of(initial.model, layer, tokens)
    place = {label: i for i, label in enumerate(initial.labels)}
    targets = torch.tensor([place[label] for label in examples.labels or ()])
    lengths = [len(ids) for ids in tokens]
    plans = [_batches(lengths, half, recipe, seed) for half, seed in zip(halves, seeds, strict=True)]
    layers = _Layers.of(layer, len(plans))
    for step in range(max(map(len, plans))):
        rates = [recipe.learning_rate * schedule(step, len(plan)) if step < len(plan) else 0.0 for plan in plans]
        rows = [plan[step] if step < len(plan) else plan[-1] for plan in plans]
        layers.step(inputs, targets, rows, torch.tensor(rates), recipe, step + 1)
    found: FloatArray = layers.logits(inputs.double()).numpy()
    return found


def _batches(lengths: list[int], half: BoolArray, recipe: Recipe, seed: int) -> list[list[int]]:
    """Return the batches of one model as rows of all examples, drawn as when it is trained by itself."""
    own = half.nonzero()[0].tolist()
    batches, _ = batches_of([lengths[i] for i in own], recipe, seed)
    return [[own[i] for i in batch] for batch in batches]


@dataclass
class _Layers:
    """The last layers of k models, [k, c, d + 1], the bias last, with what AdamW remembers of each."""

    weights: Tensor
    mean: Tensor
    square: Tensor
    bias: bool

    @classmethod
    def of(cls, layer: nn.Linear, models: int) -> "_Layers":
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
        one = torch.cat([layer.weight.detach(), bias[:, None]], dim=1)
        weights = one.expand(models, *one.shape).clone()
        return cls(weights, torch.zeros_like(weights), torch.zeros_like(weights), layer.bias is not None)

    def logits(self, inputs: Tensor) -> Tensor:
        weights = self.weights.to(inputs.dtype)
        return torch.stack([inputs @ each[:, :-1].T + each[:, -1] for each in weights])

    def step(
        self, inputs: Tensor, targets: Tensor, rows: list[list[int]], rates: Tensor, recipe: Recipe, number: int
    ) -> None:
        """Do one step of AdamW with each model's own batch; a model whose rate is 0 stays as it is."""
        longest = max(map(len, rows))
        index = torch.tensor([batch + [batch[0]] * (longest - len(batch)) for batch in rows])
        share = torch.tensor([[1 / len(batch)] * len(batch) + [0.0] * (longest - len(batch)) for batch in rows])
        read = inputs[index]  # [k, b, d]
        logits = torch.baddbmm(self.weights[:, None, :, -1], read, self.weights[:, :, :-1].transpose(1, 2))
        wanted = functional.one_hot(targets[index], logits.shape[2]).to(logits.dtype)
        smooth = recipe.label_smoothing
        wrong = (logits.softmax(dim=2) - (1 - smooth) * wanted - smooth / logits.shape[2]) * share[:, :, None]
        gradient = torch.cat([wrong.transpose(1, 2) @ read, wrong.sum(dim=1)[:, :, None]], dim=2)
        if not self.bias:
            gradient[:, :, -1] = 0
        norm = gradient.flatten(1).norm(dim=1)
        gradient *= (LARGEST_GRADIENT / (norm + 1e-6)).clamp(max=1.0)[:, None, None]
        self.mean.lerp_(gradient, 1 - _BETAS[0])
        self.square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        rate = rates[:, None, None]
        spread = (self.square / (1 - _BETAS[1] ** number)).sqrt_().add_(_EPSILON)
        self.weights.mul_(1 - rate * recipe.weight_decay).sub_(rate * (self.mean / (1 - _BETAS[0] ** number)) / spread)
