"""Descent on a model's loss, in weights over symbols; all restarts of all labels in one batch (Parikh et al., 2022).

The relaxed loss is lowest between symbols, at mixtures that are no sentence, and the heaviest symbols of a mixture are
often not the best secret. So besides the paper's descent, which goes on until the heaviest symbols stay, there is one
that rounds on the way: place by place, the surest first, while the rest makes up for it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from attacks.extraction._memory import require_bytes
from attacks.extraction._soft_embeddings import Embedded, SoftEmbeddings
from attacks.extraction.sentences import CandidateSet, IntArray
from redteam.core.progress import Progress, unwatched

Relaxation = Literal["softmax", "straight-through", "gumbel"]

_BETAS = (0.9, 0.999)
_MOST = 1 << 30  # bytes that one batch may keep; more labels than that go one batch after the other
_FEWER = "take fewer restarts or draws"
_LOGIT = 20  # bytes of a logit, its gradient, Adam's moments and its weight
_FIRST = 2 / 3  # of the steps of later roundings, before the first
_EPSILON = 1e-20  # Adam's: a model that is sure of the label whatever the secret has gradients far below 1e-8


@dataclass(frozen=True)
class Descent:
    """How to descend: by Adam at `learning_rate`, at most `iterations` steps.

    Without `rounding_interval`, as in the paper: a row ends after `patience` steps without a new heaviest symbol. With
    it: every so many steps (for ten symbols; more for more) the surest place of each row is rounded to its heaviest
    symbol, until all places are, and of a label's rows the better part goes on: a quarter at the first rounding, which
    comes sooner, and then half. Once the weights have settled, in the second half of the steps, `draws` secrets drawn
    by them are kept beside the heaviest symbols; a place that is rounded is drawn too, since it may have been rounded
    too soon.

    The temperature of the softmax goes from `temperature` to `final_temperature` by equal factors. "straight-through"
    puts the best symbol in and lets the gradient through the softmax; "gumbel" does so after adding Gumbel noise, which
    has no part in what is sure, rounded or drawn.
    """

    learning_rate: float = 0.02
    iterations: int = 1000
    patience: int = 100
    temperature: float = 1.0
    final_temperature: float | None = None
    relaxation: Relaxation = "softmax"
    rounding_interval: int | None = None
    draws: int = 1

    def temperature_at(self, step: int, steps: int) -> float:
        """Return the temperature of a step, from 0 on, of so many."""
        final = self.temperature if self.final_temperature is None else self.final_temperature
        return float(self.temperature * (final / self.temperature) ** (step / max(1, steps - 1)))

    def phases(self, sizes: Sequence[int]) -> list[int]:
        """Return the steps between roundings, for places with so many symbols each; one phase where nothing rounds."""
        if self.rounding_interval is None:
            return [self.iterations]
        each = round(self.rounding_interval * max(1.0, float(np.log10(max(sizes)))))
        steps = max(1, min(each, self.iterations // len(sizes)))
        return [max(1, round(_FIRST * steps)), *[steps] * (len(sizes) - 1)]


@dataclass(frozen=True)
class Relaxed:
    """The secrets that each row passed, [n, places], none twice; the row of each, and how many steps rows took."""

    picks: IntArray
    rows: IntArray
    steps: IntArray


@dataclass
class _Going:
    """The rows that are still going: logits, Adam's moments, places that are rounded, steps without a change."""

    z: Tensor
    rows: Tensor
    first: Tensor
    second: Tensor
    rounded: Tensor
    heaviest: Tensor
    same: Tensor

    @classmethod
    def of(cls, start: Tensor, sizes: list[int]) -> "_Going":
        rows = torch.arange(len(start), device=start.device)
        rounded = torch.zeros(len(start), len(sizes), dtype=torch.bool, device=start.device)
        zero = torch.zeros_like(start)
        return cls(start.clone(), rows, zero, zero.clone(), rounded, _heaviest(start, sizes), torch.zeros_like(rows))

    def take(self, index: Tensor) -> None:
        """Let only these rows go on."""
        for name, value in vars(self).items():
            setattr(self, name, value[index])

    def move(self, gradient: Tensor, step: int, rate: float, sizes: list[int]) -> None:
        """Do one step of Adam, the `step`-th since its moments were zero."""
        self.first.lerp_(gradient, 1 - _BETAS[0])
        self.second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        scale = (self.second / (1 - _BETAS[1] ** (step + 1))).sqrt_().add_(_EPSILON)
        self.z = self.z.detach() - rate / (1 - _BETAS[0] ** (step + 1)) * self.first / scale
        now = _heaviest(self.z, sizes)
        self.same = torch.where((now == self.heaviest).all(dim=1), self.same + 1, 0)
        self.heaviest = now

    def round(self, mixed: Sequence[Tensor]) -> None:
        """Round the surest place of each row that is not rounded yet, and start Adam anew."""
        sure = torch.stack([part.amax(dim=1) for part in mixed], dim=1).masked_fill(self.rounded, -1.0)
        self.rounded[torch.arange(len(sure), device=sure.device), sure.argmax(dim=1)] = True
        self.first.zero_()
        self.second.zero_()


def relax(
    soft: SoftEmbeddings,
    start: Tensor,
    labels: Tensor,
    descent: Descent,
    *,
    restarts: int = 1,
    seed: int,
    progress: Progress = unwatched,
) -> Relaxed:
    """Descend from logits `start`, [rows, sum of the sizes], for `labels`, [rows], all in one batch.

    Rows are the restarts of the first label, then those of the next; no label sees another. Must run within
    `gradients`.
    """
    chance = torch.Generator().manual_seed(seed)
    going = _Going.of(start, soft.sizes)
    passed, of = [going.heaviest], [going.rows]
    steps, phases, step = torch.zeros_like(going.rows), descent.phases(soft.sizes), 0
    for phase, length in enumerate(phases):
        for turn in range(length):
            progress(step, sum(phases))
            going.z.requires_grad_()
            temperature = descent.temperature_at(step, sum(phases))
            noise = _lots(restarts, going, going.z.shape[1], chance) if descent.relaxation == "gumbel" else None
            weights = _weights(going, soft.sizes, descent.relaxation, temperature, noise)
            losses = soft.losses(weights, labels[going.rows])
            (gradient,) = torch.autograd.grad(losses.sum(), going.z)
            before = going.z.detach()
            going.move(gradient, turn, descent.learning_rate, soft.sizes)
            step += 1
            steps[going.rows] = step
            passed.append(going.heaviest)
            of.append(going.rows)
            if descent.rounding_interval is None:
                going.take(going.same < descent.patience)
                if not len(going.rows):
                    break
                continue
            if 2 * (turn + 1) > length:
                mixed = _mixed(before, soft.sizes, temperature)
                for _ in range(descent.draws):
                    passed.append(_drawn(mixed, _lots(restarts, going, len(soft.sizes), chance)))
                    of.append(going.rows)
        if descent.rounding_interval is not None:
            going.round(mixed)
            going.take(_better(losses.detach(), labels[going.rows], 2 if phase else 4))
    return _without_repeats(torch.cat(passed).cpu().numpy(), torch.cat(of).cpu().numpy(), steps.cpu().numpy())


def _lots(restarts: int, going: _Going, count: int, chance: torch.Generator) -> Tensor:
    """Return `count` uniform numbers for each row: the same for every label, whichever rows are still going."""
    drawn = torch.rand(restarts, count, generator=chance).clamp_(1e-20, 1 - 1e-7)
    return drawn.to(going.z.device)[going.rows % restarts]


def _mixed(z: Tensor, sizes: list[int], temperature: float) -> list[Tensor]:
    """Return the weights of the symbols of each place."""
    return [part.softmax(dim=1) for part in torch.split(z / temperature, sizes, dim=1)]


def _weights(
    going: _Going, sizes: list[int], relaxation: Relaxation, temperature: float, noise: Tensor | None
) -> list[Tensor]:
    """Return what is mixed in each place: the weights, or the best symbol alone; of a rounded place, its symbol."""
    parts = []
    logits = going.z if noise is None else going.z - (-noise.log()).log()
    for place, part in enumerate(_mixed(logits, sizes, temperature)):
        mixed, rounded = part, going.rounded[:, place, None]
        if relaxation != "softmax":
            mixed = functional.one_hot(part.argmax(dim=1), part.shape[1]).to(part.dtype) + part - part.detach()
        if bool(rounded.any()):
            symbol = functional.one_hot(going.heaviest[:, place], part.shape[1]).to(part.dtype)
            mixed = torch.where(rounded, symbol, mixed)
        parts.append(mixed)
    return parts


def _heaviest(z: Tensor, sizes: list[int]) -> Tensor:
    return torch.stack([part.argmax(dim=1) for part in torch.split(z.detach(), sizes, dim=1)], dim=1)


def _drawn(mixed: Sequence[Tensor], lots: Tensor) -> Tensor:
    """Return one secret of each row, drawn by its weights; `lots` are uniform, [rows, places]."""
    below = [(part.cumsum(dim=1) < lots[:, i, None]).sum(dim=1) for i, part in enumerate(mixed)]
    return torch.stack([b.clamp_(max=part.shape[1] - 1) for b, part in zip(below, mixed, strict=True)], dim=1)


def _better(losses: Tensor, labels: Tensor, part: int) -> Tensor:
    """Return the positions of each label's better rows, one in `part` and at least one, in order."""
    kept = []
    for label in torch.unique(labels):
        own = (labels == label).nonzero()[:, 0]
        kept.append(own[losses[own].argsort(stable=True)[: -(-len(own) // part)]])
    return torch.cat(kept).sort().values


def _without_repeats(picks: IntArray, rows: IntArray, steps: IntArray) -> Relaxed:
    """Keep the last of what a row passed more than once, in the order of the steps."""
    whole = np.column_stack([rows, picks])[::-1]
    _, last = np.unique(whole, axis=0, return_index=True)
    order = np.sort(len(rows) - 1 - last)
    return Relaxed(picks[order], rows[order], steps)


def descend(
    embedded: Sequence[Embedded],
    candidate_set: CandidateSet,
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
    drawn = candidate_set.draw(restarts, np.random.default_rng([seed, 202]))
    shapes = np.concatenate([each.spelling.shapes(drawn) for each in embedded], axis=1)
    picks, rows = [], []
    steps = np.empty((len(labels), restarts), dtype=np.int64)
    passed = sum(descent.phases(candidate_set.sizes)) * (1 + descent.draws) * len(labels) * restarts
    require_bytes(8 * len(candidate_set.sizes) * passed, f"what {restarts:,} restarts pass", _FEWER)
    for shape in np.unique(shapes, axis=0):
        own = np.nonzero((shapes == shape).all(axis=1))[0]
        soft = SoftEmbeddings(embedded, drawn[own[0]])
        each = len(own) * (soft.kept() + _LOGIT * sum(soft.sizes))
        require_bytes(each, f"{len(own):,} restarts of one canary", _FEWER)
        for some in _batches(len(labels), each):
            start = torch.cat([_start(soft, candidate_set, labels[i], own, seed) for i in some]).to(soft.device)
            asked = torch.tensor(some, device=soft.device).repeat_interleave(len(own))
            found = relax(soft, start, asked, descent, restarts=len(own), seed=seed, progress=progress)
            picks.append(np.stack([m[found.picks[:, place]] for place, m in enumerate(soft.members)], axis=1))
            rows.append((some[0] + found.rows // len(own)) * restarts + own[found.rows % len(own)])
            steps[np.ix_(np.array(some), own)] = found.steps.reshape(len(some), len(own))
    return Relaxed(np.concatenate(picks), np.concatenate(rows), steps.ravel())


def _batches(labels: int, each: int) -> list[list[int]]:
    """Divide labels into batches of neighbours, each of which keeps `each` bytes."""
    size = max(1, _MOST // each)
    return [list(range(first, min(first + size, labels))) for first in range(0, labels, size)]


def _start(soft: SoftEmbeddings, candidate_set: CandidateSet, label: str, restarts: IntArray, seed: int) -> Tensor:
    name = zlib.crc32(f"{candidate_set.pattern.template} {label}".encode())
    bounds = [(6 / (len(soft.sizes) + size)) ** 0.5 for size in soft.sizes]
    rows = []
    for restart in restarts.tolist():
        rng = np.random.default_rng([seed, name, restart])
        drawn = [rng.uniform(-bound, bound, size) for bound, size in zip(bounds, soft.sizes, strict=True)]
        rows.append(np.concatenate(drawn))
    return torch.tensor(np.array(rows), dtype=torch.float32)
