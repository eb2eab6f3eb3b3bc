"""Encoders whose classifier reads token 0 alone: the last layer need not run for the others.

Of the last layer's parts, only keys and values need every token. What is left out has no influence on the answer, so
logits and gradients are the same; it saves most of one layer in forward and backward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from redteam.core import UsageError

_KNOWN = {
    "BertForSequenceClassification": "bert",
    "RobertaForSequenceClassification": "roberta",
    "XLMRobertaForSequenceClassification": "roberta",
}
_ATTENTION = ("eager", "sdpa")


@contextmanager
def first_token_only(model: nn.Module) -> Iterator[nn.Module]:
    """Let the last encoder layer of `model` compute token 0 alone, until the context ends.

    Its last hidden state then is [batch, 1, size]. Raises UsageError for a model that may read other tokens, or that
    is none of BERT's and RoBERTa's sequence classifiers.
    """
    layer = _last_layer(model)
    layer.__dict__["forward"] = _forward(layer)
    try:
        yield model
    finally:
        layer.__dict__.pop("forward", None)


def _last_layer(model: Any) -> nn.Module:
    name = type(model).__name__
    if name not in _KNOWN or not type(model).__module__.startswith("transformers.models."):
        raise UsageError(f"{name}: not known to read its first token alone; known are {', '.join(_KNOWN)}")
    config = model.config
    if config.is_decoder or config.add_cross_attention:
        raise UsageError(f"{name}: a decoder reads other tokens than the first")
    if config._attn_implementation not in _ATTENTION:
        raise UsageError(f"{name}: attention {config._attn_implementation!r} is not one of {', '.join(_ATTENTION)}")
    layer: nn.Module = getattr(model, _KNOWN[name]).encoder.layer[-1]
    if "forward" in layer.__dict__:
        raise UsageError(f"{name}: the forward of its last layer was replaced already")
    return layer


def _forward(layer: Any) -> Callable[..., Tensor]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.bert.modeling_bert import eager_attention_forward

    own = layer.attention.self

    def heads(x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, own.attention_head_size).transpose(1, 2)

    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *_: Any,
        encoder_attention_mask: None = None,
        past_key_values: None = None,
        **options: Any,
    ) -> Tensor:
        first = hidden_states[:, :1]
        if attention_mask is not None and attention_mask.dim() == 4:
            attention_mask = attention_mask[:, :, :1]
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(own.config._attn_implementation, eager_attention_forward)
        queries, keys, values = heads(own.query(first)), heads(own.key(hidden_states)), heads(own.value(hidden_states))
        options |= {"dropout": own.dropout.p if own.training else 0.0, "scaling": own.scaling}
        mixed = attend(own, queries, keys, values, attention_mask, **options)[0]
        out: Tensor = layer.feed_forward_chunk(layer.attention.output(mixed.reshape(first.shape), first))
        return out

    return forward
