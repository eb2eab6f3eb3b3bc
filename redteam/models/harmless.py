"""Tensors that a weights file may hold without a place in the model: each by its name, and by what is in it.

Older versions saved fixed tables with the weights, such as masks and positions, which newer ones compute. A table that
is not what it must be would make another model, and is refused like any other weight without a place.
"""

import re
from collections.abc import Callable, Mapping

import torch
from transformers import PreTrainedModel

_Check = Callable[[torch.Tensor, PreTrainedModel], bool]

# Models whose classifier reads the first token itself; older versions saved an untrained pooler beside it.
_WITHOUT_POOLER = ("roberta", "xlm-roberta", "camembert", "longformer", "data2vec-text", "mpnet")


def harmless(key: str, tensor: torch.Tensor, model: PreTrainedModel) -> bool:
    """True where a tensor without a place cannot alter the answers, by its name, its shape and its numbers."""
    return any(re.fullmatch(pattern, key) and check(tensor, model) for pattern, check in _HARMLESS.items())


def refusal(unplaced: Mapping[str, torch.Tensor], model: PreTrainedModel) -> str | None:
    """Return what is wrong with the first tensor that has no place and is not harmless; None where all are."""
    bad = [key for key in sorted(unplaced) if not harmless(key, unplaced[key], model)]
    if not bad:
        return None
    more = f" ({len(bad)} such tensors)" if bad[1:] else ""
    return (
        f"holds weights of {bad[0]!r}, for which its config has no layer{more}: left from more layers, an adapter or "
        "a second head? Save the model as it answers"
    )


def said(dropped: Mapping[str, torch.Tensor]) -> str:
    """Return the sentence that names what was left out."""
    names = sorted(dropped)
    return (
        f"left out {len(names)} tensor{'s' * (len(names) > 1)} of the weights file that no answer depends on: "
        + ", ".join(names)
    )


def _positions(tensor: torch.Tensor, _: PreTrainedModel) -> bool:
    flat = tensor.reshape(-1)
    return tensor.shape[-1:] == flat.shape and torch.equal(flat.long(), torch.arange(len(flat)))


def _zeros(tensor: torch.Tensor, _: PreTrainedModel) -> bool:
    return not tensor.any()


def _causal_mask(tensor: torch.Tensor, _: PreTrainedModel) -> bool:
    """Of a square of yes and no: nobody sees what comes later, everybody itself (and, in a band, some before)."""
    if tensor.ndim < 2 or tensor.shape[-1] ** 2 != tensor.numel() or tensor.dtype not in (torch.bool, torch.uint8):
        return False
    square = tensor.reshape(tensor.shape[-2:]).bool()
    return not square.triu(1).any() and bool(square.diagonal().all())


def _masked_bias(tensor: torch.Tensor, _: PreTrainedModel) -> bool:
    return tensor.numel() == 1 and tensor.item() <= -1e4


def _single(tensor: torch.Tensor, _: PreTrainedModel) -> bool:
    return tensor.numel() == 1


def _frequencies(tensor: torch.Tensor, model: PreTrainedModel) -> bool:
    """True where the rotations are those that the model computes from its config."""
    own = [value for name, value in model.named_buffers() if name.endswith("inv_freq")]
    return any(
        value.shape == tensor.shape and torch.allclose(value.float(), tensor.float(), rtol=5e-3, atol=1e-7)
        for value in own
    )


def _pooler(tensor: torch.Tensor, model: PreTrainedModel) -> bool:
    size = getattr(model.config, "hidden_size", None)
    return model.config.model_type in _WITHOUT_POOLER and set(tensor.shape) == {size} and tensor.ndim <= 2


def _never_read(_: torch.Tensor, model: PreTrainedModel) -> bool:
    return model.config.model_type in ("t5", "mt5", "umt5")


_HARMLESS: dict[str, _Check] = {
    r"(\w+\.)?embeddings\.position_ids": _positions,
    r"(\w+\.)?embeddings\.token_type_ids": _zeros,
    r"(\w+\.)?(h|layers)\.\d+\.(attn|attention|attn\.attention|self_attn)\.(bias|causal_mask)": _causal_mask,
    r"(\w+\.)?(h|layers)\.\d+\.(attn|attention|attn\.attention|self_attn)\.masked_bias": _masked_bias,
    r"(\w+\.)?((h|layers)\.\d+\.(attn|attention|self_attn)\.)?rotary_emb\.inv_freq": _frequencies,
    r"(\w+\.)?(encoder|decoder)\.version": _single,
    r"(\w+\.)?pooler\.dense\.(weight|bias)": _pooler,
    r"(\w+\.)?decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight": _never_read,
}
