"""How hard a model's loss on one text pulls at its weights: the gradient of each row by itself, as a few norms.

What is shown is the logarithm of the norm, since the norm of a row that the model is sure of is below the smallest
number of float32. The gradient is therefore split: that of the loss by the logits is the label's distance from what the
model says, in float64 from its logits; only the direction of it goes backwards through the model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from redteam.core import TargetError, first_line
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.models.heads import output_names
from redteam.models.tokens import token_ids
from redteam.targets.model import batches_by_length, pad_batch
from redteam.targets.target import WhiteBox, label_indices

LAYERS = ("last layer", "what the last layer reads", "embeddings of the tokens")
_TINY = 1e-30
_BATCH = 1024  # tokens


def gradient_norms(
    target: WhiteBox, rows: Examples, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> FloatArray:
    """Return the log norm of the gradient of each row's loss, shape [3, n], in the order of `LAYERS`.

    By the weights of the last layer, by the vector that it reads, and by the embeddings of the row's tokens. The model
    is left as it was. Raises TargetError where it has no linear last layer, or cannot be run backwards.
    """
    if rows.texts is None:
        raise TargetError(f"{target.name}: the examples carry no texts to score")
    own = label_indices(target.labels, rows, name=target.name)
    tokens = token_ids(target.tokenizer, rows.texts, name=target.name)
    found, done = np.empty((len(LAYERS), len(tokens))), 0
    alone, pad = getattr(target, "alone", False), target.model.config.pad_token_id or 0
    with _listening(target) as heard:
        for some in batches_by_length([len(ids) for ids in tokens], budget=0 if alone else _BATCH):
            inputs = pad_batch([tokens[i] for i in some], pad=pad, device=target.device)
            try:
                found[:, some] = _norms(target.model, inputs, own[some], heard)
            except RuntimeError as error:
                raise TargetError(f"{target.name}: cannot be run backwards ({first_line(error)})") from None
            done += len(some)
            progress(done, len(tokens))
    return found


class _Heard:
    """What one forward pass left: what the last layer reads and gives, and the embeddings that it began with."""

    def __init__(self, last: nn.Linear, table: nn.Module) -> None:
        self.last, self.table = last, table
        self.read: list[Tensor] = []
        self.given: list[Tensor] = []
        self.embedded: list[Tensor] = []

    def keep(self, module: nn.Module, read: tuple[Tensor, ...], given: Tensor) -> None:
        """Keep both sides of the last layer."""
        self.read.append(read[0])
        self.given.append(given)

    def begin(self, module: nn.Module, read: tuple[Tensor, ...], given: Tensor) -> Tensor:
        """Let what is computed backwards end at the embeddings."""
        self.embedded.append(given.detach().requires_grad_())
        return self.embedded[-1].clone()

    def forget(self) -> None:
        """Be ready for the next pass."""
        for each in (self.read, self.given, self.embedded):
            each.clear()


@contextmanager
def _listening(target: WhiteBox) -> Iterator[_Heard]:
    model = target.model
    names = [name.rpartition(".")[0] for name in output_names(model.config, target.name) if name.endswith(".weight")]
    last = model.get_submodule(names[0]) if names else None
    if not isinstance(last, nn.Linear):
        raise TargetError(f"{target.name}: its last layer is no linear one, by whose weights a gradient could be taken")
    heard, training = _Heard(last, model.get_input_embeddings()), model.training
    with ExitStack() as stack:
        stack.callback(model.train, training)
        stack.callback(last.register_forward_hook(heard.keep).remove)
        stack.callback(heard.table.register_forward_hook(heard.begin).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its LSTM runs backwards in training alone
        model.eval()
        yield heard


def _norms(model: Any, inputs: dict[str, Tensor], own: IntArray, heard: _Heard) -> FloatArray:
    """Return the log norms of one batch, shape [3, batch]."""
    heard.forget()
    logits = model(**inputs).logits
    doubt, direction = _pull(logits.detach().double(), torch.as_tensor(own, device=logits.device))
    wanted = [*heard.given, *heard.read, *heard.embedded]
    found = iter(torch.autograd.grad(logits, wanted, grad_outputs=direction.to(logits.dtype), allow_unused=True))
    of_given, of_read, of_embedded = ([next(found) for _ in each] for each in (heard.given, heard.read, heard.embedded))
    by_weights = sum(
        _of_weights(gradient, read, bias=heard.last.bias is not None)
        for gradient, read in zip(of_given, heard.read, strict=True)
        if gradient is not None
    )
    squares = torch.stack([torch.as_tensor(by_weights), _squares(of_read, len(own)), _squares(of_embedded, len(own))])
    norms: FloatArray = (doubt + torch.log(squares + _TINY) / 2).cpu().numpy()
    return norms


def _pull(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far what the model says is from the label, as the log of a factor, and in which direction.

    That is (1 - p)(q - e), where p is the probability of the own label, e is 1 there and 0 elsewhere, and q are the
    probabilities of the others among themselves. 1 - p is never subtracted.
    """
    own = own[:, None]
    others = logits.scatter(1, own, -torch.inf)
    doubt = torch.logsumexp(others, dim=1) - torch.logsumexp(logits, dim=1)
    return doubt, torch.softmax(others, dim=1).scatter(1, own, -1.0)


def _of_weights(gradient: Tensor, read: Tensor, *, bias: bool) -> Tensor:
    """Return the squared norm of each row's gradient by weights and bias, from what goes in and what comes back.

    It is the sum of outer products over the places of a row, whose norm takes no more than their inner products.
    """
    rows = len(gradient)
    back, into = (each.detach().double().reshape(rows, -1, each.shape[-1]) for each in (gradient, read))
    inner: Tensor = (back @ back.mT) * (into @ into.mT + float(bias))
    return inner.sum(dim=(1, 2)).clamp(min=0.0)


def _squares(gradients: Sequence[Tensor | None], rows: int) -> Tensor:
    """Return the squared norm of each row's part; a model that puts rows second takes one at a time."""
    there = [each.double().reshape(rows, -1).square().sum(dim=1) for each in gradients if each is not None]
    return torch.stack(there).sum(dim=0)
