"""The layer that gives the labels' scores, where it alone is trained, and what it reads."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from redteam.core import UsageError
from redteam.models.heads import output_names

_BATCH = 64  # texts of like length in one forward pass


def freeze_encoder(model: PreTrainedModel, name: str) -> None:
    """Leave nothing to train but the layer that gives the labels' scores; UsageError where it is no linear one."""
    trained = set(output_names(model.config, name))
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key in trained)
    if last_layer(model) is None:
        raise UsageError(f"--set freeze_encoder=true: {name} ends in no linear layer of its own; leave it out")


def last_layer(model: PreTrainedModel) -> nn.Linear | None:
    """Return the linear layer that alone is trained; None where anything else is too."""
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    for module in model.modules():
        if isinstance(module, nn.Linear) and trained and {id(p) for p in module.parameters()} == trained:
            return module
    return None


def inputs_of(model: PreTrainedModel, layer: nn.Linear, tokens: list[list[int]]) -> Tensor:
    """Return what the layer reads of each text, [n, d], without dropout; UsageError where that is no one vector."""
    caught: list[Tensor] = []
    found = torch.empty(len(tokens), layer.in_features)
    hook = layer.register_forward_pre_hook(lambda module, given: caught.append(given[0].detach()))
    training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            for rows in _alike(tokens):
                caught.clear()
                model(**_padded([tokens[i] for i in rows], model.config.pad_token_id or 0))
                if len(caught) != 1 or caught[0].shape != (len(rows), layer.in_features):
                    raise UsageError(
                        "--set freeze_encoder=true: the model's last layer reads no single vector of a text"
                    )
                found[rows] = caught[0]
    finally:
        hook.remove()
        model.train(training)
    return found


def _alike(tokens: list[list[int]]) -> Iterator[list[int]]:
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    for first in range(0, len(order), _BATCH):
        yield order[first : first + _BATCH]


def _padded(tokens: list[list[int]], pad: int) -> dict[str, Tensor]:
    longest = max(1, *map(len, tokens)) if tokens else 1
    lengths = torch.tensor([len(ids) for ids in tokens])
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in tokens], dtype=torch.long)
    return {"input_ids": ids, "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}
