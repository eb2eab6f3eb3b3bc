"""Gives the trainable layers of a model the forward of their rules, and takes it away again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from defenses.edpsgd.inputs import Inputs
from defenses.edpsgd.layers import Forward, base_of, covers, rule_for
from defenses.edpsgd.tables import relative_bias, shared_positions
from defenses.edpsgd.tape import Tape, UnsupportedLayer
from redteam.core import UsageError


@dataclass(frozen=True)
class Patch:
    """A method of a module that was replaced, and the class that the module had."""

    module: nn.Module
    method: str
    kind: type[nn.Module]


class _Patched:
    """A layer's forward while the clipper is open; a copy of the layer would train the original."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(*args, **kwargs)

    def __reduce__(self) -> Any:
        raise UsageError("the model cannot be copied or pickled while an ExampleClipper is open; close it first")


def patch(model: nn.Module, tape: Tape) -> tuple[Patch, ...]:
    """Give each trainable layer the forward of its rule; all are looked at before any is changed.

    Raises UnsupportedLayer, naming the module, for one that has no exact rule.
    """
    inputs, forwards = Inputs(), []
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        method = relative_bias(module)
        if method is not None:
            forwards.append((module, method, shared_positions(label, module, method, tape)))
        own = [
            n for n, p in module.named_parameters(recurse=isinstance(module, nn.MultiheadAttention)) if p.requires_grad
        ]
        if not own:
            continue
        rule = rule_for(module)
        if rule is None or not covers(module, own):
            raise UnsupportedLayer(f"{label}: no exact rule for its trainable {', '.join(own)}; freeze or replace it")
        if "forward" in module.__dict__:
            raise UnsupportedLayer(f"{label}: its forward was replaced by another tool")
        forwards.append((module, "forward", rule(label, module, tape, inputs)))
    return tuple(_replace(*each) for each in forwards)


def restore(patches: tuple[Patch, ...]) -> None:
    """Give the layers back as they were."""
    for each in patches:
        each.module.__dict__.pop(each.method, None)
        each.module.__class__ = each.kind


@contextmanager
def lifted(patches: tuple[Patch, ...]) -> Iterator[None]:
    """Give the layers back as they were for a while."""
    kept = [(each, each.module.__dict__[each.method], type(each.module)) for each in patches]
    restore(patches)
    try:
        yield
    finally:
        for each, forward, kind in kept:
            each.module.__class__ = kind
            each.module.__dict__[each.method] = forward


def _replace(module: nn.Module, method: str, forward: Forward) -> Patch:
    """Replace a method; of a subclass, its base's forward, which its own calls by `super()`."""
    kind, base, patched = type(module), base_of(module), _Patched(forward)
    if method == "forward" and base is not None and kind.forward is not base.forward:
        between = type(base.__name__, (base,), {"forward": lambda _, *args, **kwargs: patched(*args, **kwargs)})
        module.__class__ = type(
            kind.__name__, (kind, between), {"__module__": kind.__module__, "redteam_patch": patched}
        )
        module.__dict__["_redteam_patch"] = patched  # a copy of the module is refused by it
    else:
        module.__dict__[method] = patched
    return Patch(module, "_redteam_patch" if "_redteam_patch" in module.__dict__ else method, kind)


def refuse_tables_that_shrink(model: nn.Module) -> None:
    """Raise UnsupportedLayer for embeddings, frozen ones too, that are changed by the words of a batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            raise UnsupportedLayer(
                f"{name} ({type(module).__name__}): Embedding with max_norm changes the rows of the words that occur, "
                "where no noise covers it; turn it off"
            )
