"""What the pictures of experiments share; drawn by matplotlib (the extra `plot`) without a display.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart, and markers differ as well.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redteam.core import UsageError
from redteam.core.files import save_atomic

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"


def require_matplotlib() -> None:
    """Raise UsageError where matplotlib is not installed: before the training, not after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("the picture needs matplotlib: pip install '.[plot]',")


@contextmanager
def figure(size: tuple[float, float], *paths: Path) -> Iterator[Any]:
    """Yield a figure of so many inches, and write it to files, each of the kind its suffix names: .png, .svg or .pdf.

    Text is text, and nothing is dated or numbered at random: the same report gives the same file.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "redteam", "font.size": 9.0}):
        drawn = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        for path in paths:
            save_atomic(path, _saver(drawn, path.suffix[1:]))


def _saver(figure: Any, kind: str) -> Callable[[Path], None]:
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    return lambda path: figure.savefig(path, format=kind, dpi=160, metadata=undated.get(kind))


def say_empty(axes: Any, words: str) -> None:
    """Write into a panel why it has nothing to show."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=GREY)


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Give each name, in the order in which they first come, a colour, a marker and a line of its own."""
    return {
        name: {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
        | {"linestyle": "-" if i < len(_COLOURS) else ":"}
        for i, name in enumerate(dict.fromkeys(names))
    }


def legend(figure: Any, marks: Sequence[dict[str, Any]], *, columns: int) -> None:
    """Draw a legend below the panels: one entry for each dict, its label and how its line looks."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], **mark) for mark in marks]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(columns, len(lines)), frameon=False)
