"""nn.MultiheadAttention: its projections are linear maps, of which three lie in one parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.edpsgd.inputs import Inputs, watched_linear
from defenses.edpsgd.tape import Tape, UnsupportedLayer

_Answer = tuple[Tensor, Tensor | None]


def attention(name: str, module: nn.MultiheadAttention, tape: Tape, inputs: Inputs) -> Callable[..., _Answer]:
    """Run nn.MultiheadAttention; its `out_proj` has a rule of its own. Refuses add_bias_kv and add_zero_attn."""
    if module.bias_k is not None or module.add_zero_attn:
        raise UnsupportedLayer(f"{name}: no exact rule for add_bias_kv and add_zero_attn; leave them out")
    projections = _projections(module, tape)

    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> _Answer:
        if not torch.is_grad_enabled():
            return nn.MultiheadAttention.forward(
                module, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        if query.dim() != 3:
            raise UnsupportedLayer(f"{name}: its query has shape {tuple(query.shape)}; it needs a batch of examples")
        if is_causal and attn_mask is None:
            raise UnsupportedLayer(f"{name}: is_causal without attn_mask; give the mask")
        arranged = {id(x): _batch_first(x, module) for x in (query, key, value)}  # one copy of what is read thrice
        heads = []
        for x, of, now in zip((query, key, value), projections, _values(module), strict=True):
            mapped = watched_linear(name, arranged[id(x)], *of, tape, inputs, values=now)
            heads.append(mapped.view(*mapped.shape[:2], module.num_heads, module.head_dim).transpose(1, 2))
        mask = _mask(attn_mask, key_padding_mask, heads[0], module.num_heads)
        queries, keys, values = heads
        mixed, weights = _attend(queries, keys, values, mask, module.dropout if module.training else 0.0, need_weights)
        output = module.out_proj(mixed.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        return output if module.batch_first else output.transpose(0, 1), weights

    return forward


def _projections(module: Any, tape: Tape) -> list[tuple[nn.Parameter, nn.Parameter | None]]:
    """Return weight and bias of query, key and value: parameters of their own, or parts of one."""
    thirds = _thirds(module)
    if module._qkv_same_embed_dim:
        weights = [tape.part(module.in_proj_weight, rows) for rows in thirds]
    else:
        weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    bias = module.in_proj_bias
    return [(w, None if bias is None else tape.part(bias, rows)) for w, rows in zip(weights, thirds, strict=True)]


def _values(module: Any) -> list[tuple[Tensor, Tensor | None]]:
    """Return weight and bias of query, key and value as they are now."""
    weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    if module._qkv_same_embed_dim:
        weights = tuple(module.in_proj_weight[rows] for rows in _thirds(module))
    bias = module.in_proj_bias
    return [(w, None if bias is None else bias[rows]) for w, rows in zip(weights, _thirds(module), strict=True)]


def _thirds(module: nn.MultiheadAttention) -> list[slice]:
    return [slice(i * module.embed_dim, (i + 1) * module.embed_dim) for i in range(3)]


def _batch_first(x: Tensor, module: nn.MultiheadAttention) -> Tensor:
    return x if module.batch_first else x.transpose(0, 1).contiguous()


def _mask(attn_mask: Tensor | None, padding: Tensor | None, query: Tensor, heads: int) -> Tensor | None:
    """Return both masks as one that is added to the scores [B, H, T, S], or None."""
    total = None
    for mask, of_keys in ((attn_mask, False), (padding, True)):
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask, -math.inf)
        if of_keys:
            mask = mask[:, None, None, :]
        elif mask.dim() == 3:
            mask = mask.view(-1, heads, *mask.shape[1:])
        total = mask if total is None else total + mask
    return total


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    if not need_weights:
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout), None
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
    weights = functional.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
    return weights @ value, weights
