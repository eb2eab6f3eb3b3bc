"""Where a token stands that stands at one position only: a LayerNorm's gradient is orthogonal to its input."""

import torch

from attacks.updates._first_layer import FirstLayer

CLEAN = 2e-7  # cosine: true positions of float32 gradients are at 2.5e-8 and below, tokens at several places above 2e-5
_LARGEST = 1e-4  # beyond, a token at several places passes by chance
_SURE = 10.0  # the second best position must be so many times farther from orthogonal
_ROUNDED = 2.0**-24 / 3**0.5  # the error of one number of float32, as a share of it


def place_of(layer: FirstLayer, word: int, row: torch.Tensor, length: int, *, error: float = 0.0) -> int | None:
    """Return the only position of a token by its row of the embedding gradient, [H]; None where it has several.

    `error` is the standard deviation of what is wrong with each number of the row.
    """
    x = layer.centred(torch.full((length,), word), torch.arange(length))
    row = row - row.mean()
    size = float(row.norm())
    if not size > 0:
        return None
    cosines, order = ((x @ row).abs() / (x.norm(dim=1) * size)).sort()
    near = max(CLEAN, 4 * error / size)
    best, second = float(cosines[0]), float(cosines[1]) if length > 1 else 1.0
    sure = best < near <= _LARGEST and second > _SURE * best
    return int(order[0]) if sure and int(order[0]) > 0 else None


def rounding(layer: FirstLayer, change: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
    """Return the error that each of these rows has where the update is a difference of float32 weights, [n]; else 0.

    A difference added to the weights gives numbers of float32 again, a gradient hardly ever does.
    """
    before = layer.words[list(rows)]
    after = before + change[list(rows)].double()
    exact = bool((after.float().double() == after).double().mean() > 0.9)
    return before.abs().pow(2).mean(1).sqrt() * _ROUNDED * (1.0 if exact else 0.0)
