"""Linear maps: per-example gradient norms without per-example gradients.

Example i's weight gradient is G_i^T A_i, from its inputs A_i [T, d] and output gradients G_i [T, p]. Its squared norm
is the inner product of A_i A_i^T and G_i G_i^T (Li et al. 2022, "Large language models can be strong differentially
private learners"); with 1 added to every entry of the former it covers the bias too. Maps that read the same input, as
Q, K and V do, share one A A^T and add up their G G^T. Where the product itself is cheaper, as for adapters of small
rank, it is made and kept; with T = 1 the norm is a product of two norms (Goodfellow 2015).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from defenses.edpsgd import kernel
from defenses.edpsgd.gram import Ghosts, Gram, Part, mass, masses, single, square_norms, sum_of
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import version
from redteam.core import UsageError

_KEPT_BYTES = 1 << 28  # per-example products beyond are not kept
_PASSES = 180  # what touching one number of a kept product costs, in multiply-adds of a matrix product


class SharedInput:
    """An input [B, T, d] that one or more linear maps read, and the Gram matrices that belong to it.

    `waiting` maps have not yet told their gradient; when none is left, the squared norms are complete.
    """

    def __init__(self, inputs: Tensor) -> None:
        """Keep the input; nothing waits yet."""
        self.inputs = inputs
        self.version = version(inputs)
        self.waiting = 0
        self._grams: dict[bool, Gram] = {}  # by whether the bias's norm is folded in
        self._compiled: dict[bool, list[Tensor]] = {}  # gradients that the kernel will read
        self._gradients: list[tuple[Tensor, bool]] = []

    def check(self, name: str) -> None:
        """Refuse an input that was changed in place after the layer read it."""
        if version(self.inputs) != self.version:
            raise UsageError(f"{name}: its input was changed in place after the layer read it; use a copy")

    def add(self, gradient: Tensor, *, folded: bool, compiled: bool) -> None:
        """Add the Gram matrix of a map's output gradients, while they are in the cache."""
        self._gradients.append((gradient, folded))
        if compiled and kernel.suits(self.inputs, gradient):
            self._compiled.setdefault(folded, []).append(gradient)
        elif folded in self._grams:
            self._grams[folded].add(gradient)
        else:
            self._grams[folded] = Gram(gradient)

    def ghosts(self) -> Ghosts | None:
        """Return the squared norms of all maps added so far, once; None where there are none."""
        if not self._gradients:
            return None
        a, found = self.inputs, []
        for folded, gradients in self._compiled.items():
            found.append((kernel.ghost(a, gradients, one=float(folded)), masses(a, gradients, float(folded))))
        if self._grams:
            ours = Gram(a)
            for folded in sorted(self._grams):  # False before True: the ones stay in
                if folded:
                    ours.add_ones()
                theirs = self._grams[folded]
                found.append((ours.inner(theirs), mass(ours.trace(), theirs.trace())))
        again = partial(_products, a, self._gradients)
        self._grams, self._compiled, self._gradients = {}, {}, []
        return Ghosts(sum_of(squares for squares, _ in found), sum_of(each for _, each in found), again)


def _products(inputs: Tensor, gradients: list[tuple[Tensor, bool]], part: Part) -> Tensor:
    """Return the squared norms by the gradients themselves."""
    a = part.numbers(inputs)
    total = a.new_zeros(len(a))
    for gradient, folded in gradients:
        g = part.numbers(gradient)
        total += torch.bmm(g.transpose(1, 2), a).square().sum((1, 2))
        if folded:
            total += g.sum(1).square().sum(1)
    return total


class LinearUse:
    """One call of a linear map on `shared.inputs`; `transposed` for weights of shape [d, p], as GPT-2's."""

    def __init__(
        self,
        name: str,
        shared: SharedInput,
        weight: nn.Parameter | None,
        bias: nn.Parameter | None,
        *,
        transposed: bool = False,
    ) -> None:
        """Join those that wait on the input; a parameter that is not trained is None."""
        self.name, self.weight, self.bias, self.transposed = name, weight, bias, transposed
        self.batch = shared.inputs.shape[0]
        self.parameters = tuple(p for p in (weight, bias) if p is not None)
        self.shared: SharedInput | None = shared if weight is not None else None
        if self.shared is not None:
            self.shared.waiting += 1
        self.gradient: Tensor | None = None
        self.folded = False  # the bias's norm is inside the weight's
        self._product: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """The input [B, T, d] of a use whose weight is trained."""
        assert self.shared is not None
        return self.shared.inputs

    @property
    def rows(self) -> Tensor:
        """What makes the rows of the weight's gradient, rows^T columns: [B, T, rows]."""
        assert self.gradient is not None
        return self.inputs if self.transposed else self.gradient

    @property
    def columns(self) -> Tensor:
        """What makes the columns of the weight's gradient: [B, T, columns]."""
        assert self.gradient is not None
        return self.gradient if self.transposed else self.inputs

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient, [B * T, p] or [B, ..., p]; add what it says of the norms."""
        gradient = gradient.reshape(self.batch, -1, gradient.shape[-1])
        if self.weight is None or self.shared is None:
            self._add_bias(gradient, into)
            return
        shared = self.shared
        shared.check(self.name)
        shared.waiting -= 1
        self.gradient = gradient
        into.linears.append(self)
        if into.repeats(self.weight):
            into.defer(self, self.weight)
            self._add_bias(gradient, into)
        else:
            self.folded = self.bias is not None and not into.repeats(self.bias)
            self._add_norm(gradient, shared, into)
            if not self.folded:
                self._add_bias(gradient, into)
        if shared.waiting == 0:
            into.add_ghosts(shared.ghosts())

    def _add_norm(self, gradient: Tensor, shared: SharedInput, into: Pass) -> None:
        batch, length, p = gradient.shape
        d = shared.inputs.shape[2]
        if length == 1:
            inputs, outputs = square_norms(shared.inputs), square_norms(gradient)
            into.add_squares(mass(inputs, outputs) + (outputs if self.folded else 0.0))
        elif _PASSES * p * d < 2 * length * length * (d + p) and 4 * batch * p * d <= _KEPT_BYTES:
            self._product = torch.bmm(single(self.rows).transpose(1, 2), single(self.columns))
            into.add_squares(self._product.flatten(1).square().sum(1))
            self.folded = False
            self._drop()
        else:
            into.touched(shared)
            shared.add(gradient, folded=self.folded, compiled=into.compiled)

    def _add_bias(self, gradient: Tensor, into: Pass) -> None:
        if self.bias is not None:
            into.add_vector(self.bias, single(gradient).sum(1))

    def zero(self, dropped: Tensor) -> None:
        """Set the rows of dropped examples, bool [B], to zero: 0 * NaN is NaN."""
        if self._product is not None:
            self._product[dropped] = 0.0
        elif self.shared is not None and self.gradient is not None:
            self.gradient = self.gradient.masked_fill(dropped[:, None, None], 0.0)
            self.shared = SharedInput(self.shared.inputs.masked_fill(dropped[:, None, None], 0.0))

    def add_to(self, into: Pass) -> None:
        """Add the weighted sum of the gradients to the gradient buffer."""
        assert self.weight is not None
        total = into.gradients[id(self.weight)].flatten(1)  # of a convolution's weight [p, d, k], the matrix
        if self._product is not None:
            total.view(-1).addmv_(self._product.flatten(1).t(), into.weights)
            return
        rows, columns = self.rows, self.columns
        if into.compiled and not self.transposed and kernel.suits(total, rows, columns):
            sums = into.gradients[id(self.bias)] if self.folded else None
            kernel.add_weighted_sum_(total, rows, columns, into.weights, sums=sums)
            return
        if rows.shape[2] <= columns.shape[2]:
            total.addmm_(into.weighted(rows).t(), single(columns).flatten(0, 1))
        else:
            total.addmm_(single(rows).flatten(0, 1).t(), into.weighted(columns))
        if self.folded and self.bias is not None:
            assert self.gradient is not None
            flat = single(self.gradient).flatten(0, 1)
            into.gradients[id(self.bias)].addmv_(flat.t(), into.weights.repeat_interleave(self.gradient.shape[1]))

    def release(self) -> None:
        """Let go of all tensors: the graph may live longer than they are needed."""
        self._product = None
        self._drop()

    def _drop(self) -> None:
        self.shared = self.gradient = None
