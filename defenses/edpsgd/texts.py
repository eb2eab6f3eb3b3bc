"""Text classifiers for private training: which weights are trained, how they begin, and their loss as a problem."""

import hashlib

import torch
from torch import nn
from torch.nn import functional

from defenses.training import tokenize
from redteam.data import Examples
from redteam.models.initial import InitialModel, set_dropout
from redteam.models.label_rows import PlantedRows
from redteam.models.pooling import begin_with_words
from redteam.plugins.defense import Problem
from redteam.targets.model import pad_batch


def prepare(initial: InitialModel, weights: str | None) -> None:
    """Make a model ready for noise, in place, and freeze all weights but those that are to be trained."""
    model = initial.model.train()
    if initial.dropout is None:
        set_dropout(model, 0.0)  # the noise keeps the model from overfitting, and costs enough
    if not initial.pretrained:
        widen(model)
        begin_with_words(model)  # or noise drowns what little of the text reaches the classifier
    if weights == "biases":
        freeze_matrices(model)
    elif weights == "classifier":
        freeze_body(model)


def widen(model: nn.Module) -> None:
    """Scale what is trained of the new weights of a narrow transformer to 1 / sqrt(width), in place.

    The usual standard deviation of 0.02 is made for a width of 768. In a narrower model it leaves so little gradient
    to the lower layers that noise drowns it; an optimiser that rescales gradients hides that where there is no noise.
    """
    config = getattr(model, "config", None)
    width, usual = getattr(config, "hidden_size", None), getattr(config, "initializer_range", None)
    if not width or not usual or usual >= width**-0.5:
        return
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.mul_(width**-0.5 / usual)


def freeze_matrices(model: nn.Module) -> None:
    """Leave only biases, normalisation and what classifies to be trained (DP-BiTFiT; Bu et al. 2022, arXiv 2210.00036).

    Noise grows with the number of weights and the signal does not: a pretrained model needs only few of them.
    """
    base: nn.Module = getattr(model, "base_model", model)
    pretrained = {id(p) for name, p in base.named_parameters() if "pooler" not in name}
    words = {id(p) for p in model.get_input_embeddings().parameters()}  # type: ignore[operator]
    for parameter in model.parameters():
        if parameter.dim() > 1 and id(parameter) in pretrained | words:
            parameter.requires_grad_(False)


def freeze_body(model: nn.Module) -> None:
    """Leave only what classifies to be trained: of an encoder whose summary of a text is good as it is."""
    base: nn.Module = getattr(model, "base_model", model)
    body = {id(p) for p in base.parameters()} | {id(p) for p in model.get_input_embeddings().parameters()}  # type: ignore[operator]
    for parameter in model.parameters():
        if id(parameter) in body:
            parameter.requires_grad_(False)


def text_problem(
    initial: InitialModel,
    examples: Examples,
    optimizer: torch.optim.Optimizer,
    *,
    population: int | None,
    planted: PlantedRows | None = None,
) -> Problem:
    """Return the cross-entropy of each text's own label as a problem; `population` None is as many as there are.

    The label canaries that are in come after the texts.
    """
    tokens = tokenize(initial, list(examples.texts or ()))
    index = {label: i for i, label in enumerate(initial.labels)}
    targets = torch.tensor([index[label] for label in examples.labels or ()])
    if planted is not None:
        tokens += [planted.tokens] * len(planted.targets)
        targets = torch.cat([targets, planted.targets])
    model, pad = initial.model, initial.model.config.pad_token_id or 0

    def losses(rows: torch.Tensor) -> torch.Tensor:
        inputs = pad_batch([tokens[i] for i in rows.tolist()], pad=pad)
        return functional.cross_entropy(model(**inputs).logits, targets[rows], reduction="none")

    size = len(tokens)
    lengths = tuple(len(ids) for ids in tokens)
    data = hashlib.sha256(repr((tokens, targets.tolist())).encode()).hexdigest()
    return Problem(model, optimizer, losses, size, population or size, lengths, data)
