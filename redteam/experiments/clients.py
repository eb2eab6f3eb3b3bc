"""The picture of who holds what in a federated training: labels of each client's rows, and how many there are."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import IntArray
from redteam.data import Examples
from redteam.experiments.picture import figure

_NAMED = 30  # labels that are written out


def table_of(clients: Mapping[str, Collection[int]], rows: Examples) -> tuple[tuple[str, ...], IntArray]:
    """Return the labels, sorted, and how many rows of each every client holds, [clients, labels], largest first.

    `clients` are the numbers in the file of each one's rows, as a training tells them.
    """
    if not clients:
        raise DataError("the training has no clients: there is nothing to draw")
    labels = rows.labels or ()
    known = tuple(sorted(set(labels)))
    place = {label: i for i, label in enumerate(known)}
    at = {int(row): place[label] for row, label in zip(rows.rows, labels, strict=True)}
    own = [[at[row] for row in held if row in at] for held in clients.values()]
    counts = np.stack([np.bincount(np.array(each, dtype=np.int64), minlength=len(known)) for each in own])
    return known, counts[np.argsort(-counts.sum(axis=1), kind="stable")]


def draw_clients(clients: Mapping[str, Collection[int]], rows: Examples, path: Path) -> None:
    """Write the picture, .svg, .png or .pdf: left the share of each label in a client's rows, right how many rows.

    Clients are numbered by size and not named. Raises UsageError without matplotlib.
    """
    labels, counts = table_of(clients, rows)
    sizes = counts.sum(axis=1)
    with figure((7.5, min(9.0, 2.0 + 0.12 * len(sizes))), path) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True, width_ratios=[2, 1])
        shares = counts / np.maximum(sizes[:, None], 1)
        seen = left.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        drawn.colorbar(seen, ax=left, label="share of the client's rows")
        left.set(xlabel="label", ylabel="client, largest first")
        if len(labels) <= _NAMED:
            left.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=7)
        right.barh(range(len(sizes)), sizes, color="#0072B2")
        right.set(xlabel="rows")
