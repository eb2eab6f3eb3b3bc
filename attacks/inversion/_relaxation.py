"""Secrets as weights over symbols: a model seen through its embeddings, and descent on its loss (Parikh et al., 2022).

A place holds the mean of its symbols' embeddings under some weights. With weights of 0 and 1 that is a sentence; in
between it is none, but the loss has a gradient. Symbols of several word-pieces take several positions, so only symbols
of as many pieces can be mixed: a lens looks at one shape, the number of pieces in each place.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from attacks.inversion._losses import spelling_of
from attacks.inversion.sentences import IntArray, Space, Spelling
from redteam.data import Examples
from redteam.inversion import NotApplicable, Progress, unwatched
from redteam.target import Access, Target, label_indices

Relaxation = Literal["softmax", "straight-through", "gumbel"]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-20  # Adam's: a model that is sure of the label whatever the secret has gradients far below 1e-8


@dataclass(frozen=True)
class Seen:
    """A target's model and how it spells a space: what gradients need."""

    target: Target
    model: Any
    spelling: Spelling
    columns: tuple[int, ...]  # of the labels asked about


@dataclass(frozen=True)
class Descent:
    """How to descend: Adam's learning rate, the most iterations, and after how many without a new argmax to stop.

    The temperature of the softmax goes from `temperature` to `final_temperature` by equal factors. "straight-through"
    puts the best symbol in and lets the gradient through the softmax; "gumbel" does so after adding Gumbel noise.
    """

    learning_rate: float = 0.02
    iterations: int = 1000
    patience: int = 100
    temperature: float = 1.0
    final_temperature: float | None = None
    relaxation: Relaxation = "softmax"

    def temperature_at(self, step: int) -> float:
        """Return the temperature of a step, from 0 on."""
        final = self.temperature if self.final_temperature is None else self.final_temperature
        return float(self.temperature * (final / self.temperature) ** (step / max(1, self.iterations - 1)))


def see(target: Target, space: Space, labels: Sequence[str], reference: Target | None) -> list[Seen]:
    """Return the target, then the reference where there is one; raise NotApplicable where one cannot be seen into."""
    return [_seen(each, space, labels) for each in (target, reference) if each is not None]


def _seen(target: Target, space: Space, labels: Sequence[str]) -> Seen:
    columns = label_indices(target.labels, Examples(np.arange(len(labels)), labels=tuple(labels)), name=target.name)
    if target.access < Access.WEIGHTS or not hasattr(target, "model"):
        raise NotApplicable(f"{target.name} does not show its weights")
    spelling = spelling_of(target, space)
    if spelling is None:
        raise NotApplicable(f"{target.name} spells a symbol of {space.pattern.template!r} differently beside others")
    seen = Seen(target, target.model, spelling, tuple(columns.tolist()))
    if not _embeddings_suffice(seen, space):
        raise NotApplicable(f"{target.name} does not answer for embeddings as it does for tokens")
    return seen


def _embeddings_suffice(seen: Seen, space: Space) -> bool:
    """Ask about one sentence by its ids and by its embeddings."""
    ((_, ids),) = seen.spelling.rows(space.draw(1, np.random.default_rng(0)))
    tokens = torch.from_numpy(ids).to(seen.model.device)
    try:
        with torch.inference_mode():
            embedded = seen.model.get_input_embeddings()(tokens)
            logits = [seen.model(input_ids=tokens).logits, seen.model(inputs_embeds=embedded).logits]
    except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4)


@contextmanager
def gradients(seen: Sequence[Seen]) -> Iterator[None]:
    """Let gradients reach the inputs and no weight; everything is as before afterwards."""
    kept = [(p, p.requires_grad) for each in seen for p in each.model.parameters()]
    try:
        for parameter, _ in kept:
            parameter.requires_grad_(False)
        # cuDNN has no backward pass for an LSTM in eval mode
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        for parameter, wanted in kept:
            parameter.requires_grad_(wanted)


class Lens:
    """The sentences of one shape, through the embeddings of the target and of the reference.

    `members` are for each place the symbols that are mixed, indices into its alphabet.
    """

    def __init__(self, seen: Sequence[Seen], pick: IntArray) -> None:
        """Take the shape of one pick, [places]: the symbols that every model spells in as many pieces."""
        self.members: list[IntArray] = []
        for place, symbol in enumerate(pick.tolist()):
            counts = [each.spelling.counts[place] for each in seen]
            self.members.append(np.nonzero(np.all([count == count[symbol] for count in counts], axis=0))[0])
        self.sizes = [len(members) for members in self.members]
        self._seen = seen
        with torch.no_grad():
            self._embedded = [self._embed(each, pick) for each in seen]

    def _embed(self, seen: Seen, pick: IntArray) -> tuple[list[Tensor], list[Tensor]]:
        """Return the known runs, [1, length, width] each, and for each place its symbols, [symbols, pieces, width]."""
        embed, device = seen.model.get_input_embeddings(), seen.model.device

        def look_up(ids: IntArray) -> Tensor:
            found: Tensor = embed(torch.from_numpy(np.ascontiguousarray(ids)).to(device))
            return found.clone()

        spelling = seen.spelling
        tables = []
        for place, members in enumerate(self.members):
            count = int(spelling.counts[place][pick[place]])
            tables.append(look_up(spelling.pieces[place][members, :count]))
        return [look_up(run[None]) for run in spelling.runs], tables

    @property
    def device(self) -> torch.device:
        """Where the target's weights are."""
        device: torch.device = self._seen[0].model.device
        return device

    def losses(self, weights: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the loss of each row, [rows], less the reference's; `weights` are [rows, symbols] for each place.

        `labels` are indices into the labels asked about, [rows].
        """
        total: Tensor | None = None
        for seen, (runs, tables) in zip(self._seen, self._embedded, strict=True):
            device, rows = seen.model.device, len(labels)
            parts = [runs[0].expand(rows, -1, -1)]
            for place, table in enumerate(tables):
                mixed = weights[place].to(device) @ table.flatten(1)
                parts += [mixed.reshape(rows, *table.shape[1:]), runs[place + 1].expand(rows, -1, -1)]
            logits = seen.model(inputs_embeds=torch.cat(parts, dim=1)).logits.double()
            columns = torch.tensor(seen.columns, device=device)[labels.to(device)]
            losses = functional.cross_entropy(logits, columns, reduction="none").to(self.device)
            total = losses if total is None else total - losses
        assert total is not None
        return total

    def slopes(self, picks: IntArray, labels: IntArray) -> list[Tensor]:
        """Return how the loss of each row would change, to first order, per unit of weight of each symbol.

        `picks` index `members`, [rows, places]; the result has [rows, symbols] for each place. The slope of
        the new symbol less that of the present one estimates the change of a swap (HotFlip, Ebrahimi et al., ACL 2018).
        """
        own = torch.from_numpy(picks).to(self.device)
        weights = [
            functional.one_hot(own[:, place], size).float().requires_grad_() for place, size in enumerate(self.sizes)
        ]
        losses = self.losses(weights, torch.from_numpy(labels).to(self.device))
        return list(torch.autograd.grad(losses.sum(), weights))


@dataclass(frozen=True)
class Relaxed:
    """The picks that were the heaviest symbols on the way of each row, [n, places], the row of each, and its steps."""

    picks: IntArray
    rows: IntArray
    steps: IntArray


def relax(
    lens: Lens, start: Tensor, labels: Tensor, descent: Descent, *, seed: int, progress: Progress = unwatched
) -> Relaxed:
    """Descend from logits `start`, [rows, sum of the sizes], all rows in one batch, each by itself.

    A row that is done leaves the batch. Must run within `gradients`.
    """
    noise = torch.Generator().manual_seed(seed)
    z, rows = start.clone(), torch.arange(len(start), device=start.device)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    best = _heaviest(z, lens.sizes)
    same = torch.zeros(len(z), dtype=torch.long, device=z.device)
    steps = torch.full_like(same, descent.iterations)
    passed, of = [best], [rows]
    for step in range(descent.iterations):
        progress(step, descent.iterations)
        z.requires_grad_()
        weights = _weights(z, lens.sizes, descent, descent.temperature_at(step), noise)
        (gradient,) = torch.autograd.grad(lens.losses(weights, labels[rows]).sum(), z)
        with torch.no_grad():
            first.lerp_(gradient, 1 - _BETAS[0])
            second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            scale = (second / (1 - _BETAS[1] ** (step + 1))).sqrt_().add_(_EPSILON)
            z = z.detach() - descent.learning_rate / (1 - _BETAS[0] ** (step + 1)) * first / scale
            now = _heaviest(z, lens.sizes)
            stayed = (now == best).all(dim=1)
            same, best = torch.where(stayed, same + 1, 0), now
            if not bool(stayed.all()):
                passed.append(now[~stayed])
                of.append(rows[~stayed])
            going = same < descent.patience
            if bool(going.all()):
                continue
            steps[rows[~going]] = step + 1
            z, first, second, best, same, rows = (each[going] for each in (z, first, second, best, same, rows))
            if not len(rows):
                break
    return Relaxed(torch.cat(passed).cpu().numpy(), torch.cat(of).cpu().numpy(), steps.cpu().numpy())


def _weights(z: Tensor, sizes: list[int], descent: Descent, temperature: float, noise: torch.Generator) -> list[Tensor]:
    if descent.relaxation == "gumbel":
        drawn = torch.rand(z.shape, generator=noise).clamp_(min=1e-20)
        z = z - (-drawn.log()).log_().to(z.device)
    soft = [part.softmax(dim=1) for part in torch.split(z / temperature, sizes, dim=1)]
    if descent.relaxation == "softmax":
        return soft
    return [functional.one_hot(w.argmax(dim=1), w.shape[1]) + (w - w.detach()) for w in soft]


def _heaviest(z: Tensor, sizes: list[int]) -> Tensor:
    return torch.stack([part.argmax(dim=1) for part in torch.split(z.detach(), sizes, dim=1)], dim=1)


def descend(
    seen: Sequence[Seen],
    space: Space,
    labels: Sequence[str],
    *,
    restarts: int,
    descent: Descent,
    seed: int,
    progress: Progress = unwatched,
) -> Relaxed:
    """Descend from `restarts` random starts for each label; rows are the restarts of the first label, then the next.

    Each restart takes the shape of a candidate drawn at random, so shapes get their share of restarts. Starts are
    Glorot's uniform, and depend on the seed, the pattern and the label only.
    """
    drawn = space.draw(restarts, np.random.default_rng([seed, 202]))
    shapes = np.concatenate([each.spelling.shapes(drawn) for each in seen], axis=1)
    picks, rows = [], []
    steps = np.empty((len(labels), restarts), dtype=np.int64)
    for shape in np.unique(shapes, axis=0):
        own = np.nonzero((shapes == shape).all(axis=1))[0]
        lens = Lens(seen, drawn[own[0]])
        start = torch.cat([_start(lens, space, label, own, seed) for label in labels]).to(lens.device)
        asked = torch.arange(len(labels), device=lens.device).repeat_interleave(len(own))
        found = relax(lens, start, asked, descent, seed=seed, progress=progress)
        picks.append(np.stack([m[found.picks[:, place]] for place, m in enumerate(lens.members)], axis=1))
        rows.append(found.rows // len(own) * restarts + own[found.rows % len(own)])
        steps[:, own] = found.steps.reshape(len(labels), len(own))
    return Relaxed(np.concatenate(picks), np.concatenate(rows), steps.ravel())


def _start(lens: Lens, space: Space, label: str, restarts: IntArray, seed: int) -> Tensor:
    name = zlib.crc32(f"{space.pattern.template} {label}".encode())
    bounds = [(6 / (len(lens.sizes) + size)) ** 0.5 for size in lens.sizes]
    rows = []
    for restart in restarts.tolist():
        rng = np.random.default_rng([seed, name, restart])
        drawn = [rng.uniform(-bound, bound, size) for bound, size in zip(bounds, lens.sizes, strict=True)]
        rows.append(np.concatenate(drawn))
    return torch.tensor(np.array(rows), dtype=torch.float32)
