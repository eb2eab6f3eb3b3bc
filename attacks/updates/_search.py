"""Find the few cells that explain the errors of a token: its sentence, with every word in its place.

Orthogonal least squares over all heads at once, with a beam: a state is a set of cells, one a position. One that is
complete begins with the first special token, has no gap, and ends with the last special token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from attacks.updates._cells import CandidateCells, Cell

_EXACT = 1e-8  # what is left of errors of squared length 1 where the cells are the right ones
_DEPENDENT = 1e-4  # of a cell's squared length: less of it is new, and the rest is rounding


class Explained(NamedTuple):
    """A line of cells in the order of positions, and what it leaves of the errors; `whole` where it is a sentence."""

    left: float
    line: tuple[Cell, ...]
    whole: bool


@dataclass(frozen=True)
class _Partial:
    """Chosen cells, what they leave, and of each cell the part that is new: its products with that, and its square."""

    chosen: frozenset[int]
    left: torch.Tensor
    products: torch.Tensor
    squares: torch.Tensor
    basis: torch.Tensor
    allowed: torch.Tensor

    @property
    def loss(self) -> float:
        return float((self.left**2).sum())


def explain(
    cells: CandidateCells, errors: torch.Tensor, known: Sequence[Cell], *, beam: int, longest: int
) -> list[Explained]:
    """Return the lines that explain the errors, best first; `known` are cells that belong to it.

    Where no sentence was found the one line is what was tried last.
    """
    states = [_begun(cells, errors, known)]
    done: dict[frozenset[int], float] = {}
    for _ in range(longest):
        done |= {state.chosen: state.loss for state in states if _whole(cells, state.chosen)}
        if min(done.values(), default=1.0) < _EXACT:
            break
        following = _following(cells, states, beam)
        if not following:
            break
        states = following
    done |= {state.chosen: state.loss for state in states if _whole(cells, state.chosen)}
    if not done:
        last = min(states, key=lambda state: state.loss)
        return [Explained(last.loss, _line(cells, last.chosen), False)]
    best = sorted(done.items(), key=lambda each: each[1])[:beam]
    return [Explained(loss, _line(cells, chosen), True) for chosen, loss in best]


def refine(cells: CandidateCells, errors: torch.Tensor, line: Sequence[Cell], *, sweeps: int = 3) -> tuple[Cell, ...]:
    """Return the line with each position in turn given to the cell that explains most of what the others leave."""
    now = list(line)
    for _ in range(sweeps):
        before = list(now)
        for place in range(1, len(now) - 1):
            others = [cells.index[cell] for cell in now if cell[1] != place]
            basis = torch.linalg.qr(cells.vectors[:, others].transpose(1, 2))[0]
            left = errors - basis @ (basis.transpose(1, 2) @ errors)
            those = torch.nonzero((cells.places == place) & ~cells.ends).flatten()
            if not len(those):
                continue
            vectors = cells.vectors[:, those]
            new = (vectors**2).sum(2) - ((vectors @ basis) ** 2).sum(2)
            gain = (((vectors @ left) ** 2).sum(2) / new.clamp_min(1e-6)).sum(0)
            now[place] = cells.cells[int(those[gain.argmax()])]
        if now == before:
            break
    return tuple(now)


def _begun(cells: CandidateCells, errors: torch.Tensor, known: Sequence[Cell]) -> _Partial:
    vectors = cells.vectors
    nothing = torch.zeros(*errors.shape[:2], 0)
    everything = torch.ones(len(cells.cells), dtype=torch.bool)
    state = _Partial(frozenset(), errors, torch.bmm(vectors, errors), cells.squares, nothing, everything)
    for cell in (cells.first, *known):
        at = cells.index.get(cell)
        if at is not None and bool(state.allowed[at]):
            state = _with(cells, state, at)
    return state


def _with(cells: CandidateCells, state: _Partial, at: int) -> _Partial:
    """Return the state with one more cell."""
    new = cells.vectors[:, at]
    for _ in range(2):  # once is not enough in float32
        new = new - torch.einsum("bdk,bk->bd", state.basis, torch.einsum("bdk,bd->bk", state.basis, new))
    new = new / new.norm(dim=1, keepdim=True).clamp_min(1e-12)
    share = torch.einsum("bd,bdr->br", new, state.left)
    along = torch.bmm(cells.vectors, new[:, :, None])
    place, end = cells.places[at], bool(cells.ends[at])
    if end:
        fits = (cells.places < place) & ~cells.ends
    else:
        fits = (cells.places != place) & ~(cells.ends & (cells.places < place))
    return _Partial(
        state.chosen | {at},
        state.left - new[:, :, None] * share[:, None],
        state.products - along * share[:, None],
        state.squares - along[:, :, 0] ** 2,
        torch.cat([state.basis, new[:, :, None]], 2),
        state.allowed & fits,
    )


def _following(cells: CandidateCells, states: Sequence[_Partial], beam: int) -> list[_Partial]:
    """Return the best states with one cell more."""
    found: dict[frozenset[int], tuple[float, _Partial, int]] = {}
    for state in states:
        for loss, at in _gains(cells, state, beam):
            found.setdefault(state.chosen | {at}, (loss, state, at))
    best = sorted(found.values(), key=lambda each: each[0])[:beam]
    return [_with(cells, state, at) for _, state, at in best]


def _gains(cells: CandidateCells, state: _Partial, beam: int) -> Iterator[tuple[float, int]]:
    if state.basis.shape[2] >= cells.width - 1 or not bool(state.allowed.any()):
        return
    new, least = state.squares, _DEPENDENT * cells.squares
    gain = (state.products**2).sum(2) / torch.maximum(new, 0.1 * least) * (new > least)
    best, order = gain.sum(0).masked_fill(~state.allowed, -1).topk(min(beam, len(cells.cells)))
    here = state.loss
    yield from ((here - value, at) for value, at in zip(best.tolist(), order.tolist(), strict=True) if value >= 0)


def _whole(cells: CandidateCells, chosen: frozenset[int]) -> bool:
    """Tell whether cells have no gap and one end, the last of them."""
    places = [int(cells.places[at]) for at in chosen]
    ends = [int(cells.places[at]) for at in chosen if cells.ends[at]]
    return bool(ends) and len(places) == max(places) + 1 and max(places) == ends[0]


def _line(cells: CandidateCells, chosen: frozenset[int]) -> tuple[Cell, ...]:
    return tuple(cells.cells[at] for at in sorted(chosen, key=lambda at: int(cells.places[at])))
