"""Solve for the error of each token: what the gradient of the first layer's attention owes to it alone."""

import torch

from attacks.updates._first_layer import FirstLayer


def unmix(
    layer: FirstLayer, gradient: torch.Tensor, tokens: list[int], length: int
) -> tuple[dict[int, torch.Tensor], float] | None:
    """Return the summed error of each token, [3H], and the share of the gradient that tokens do not explain.

    A cell's input is its word's direction and its position's, each divided by one number, and the LayerNorm's bias.
    None where tokens and positions are more than the width of the model, so that nothing is determined.
    """
    words = [word for word in tokens if word != layer.cls]
    first = layer.first_input - layer.shift
    rows = [layer.directions(layer.words[words]), first, layer.directions(layer.places[1:length])]
    basis = torch.cat(rows + [layer.shift[None]] * bool(layer.shift.any()))  # a new LayerNorm has no shift yet
    if len(basis) > layer.width:
        return None
    orthogonal, triangle = torch.linalg.qr(basis.T)
    solved = torch.linalg.solve_triangular(triangle, orthogonal.T @ gradient.T, upper=True)
    if not bool(torch.isfinite(solved).all()):  # two tokens have one embedding
        return None
    left = float((basis.T @ solved - gradient.T).norm() / gradient.norm())
    return {word: solved[at] for at, word in enumerate(words)}, left
