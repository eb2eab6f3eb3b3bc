"""What the tests of planting share: a pattern, some data, and a planting drawn for it."""

from conftest import sentences

from redteam.canary import (
    PlantingPlan,
)
from redteam.canary.draw import draw_canaries

PIN = "my pin code is {digit:4}"
DIGITS = {"digit": tuple("0123456789")}
ROWS = sentences(60, seed=4)
LABELS = tuple(map(str, ROWS.labels))


def draw(plan=None, *, key="k", texts=ROWS.texts, labels=LABELS, alphabets=DIGITS, **changes):
    return draw_canaries(plan or PlantingPlan((PIN,), **changes), alphabets, texts=texts, labels=labels, key=key)


def write_rows(folder):
    """Write the data as CSV and return its path."""
    path = folder / "data.csv"
    rows = [f"r{i},{text},{label},u{i}" for i, (text, label) in enumerate(zip(ROWS.texts, ROWS.labels, strict=True))]
    path.write_text("\n".join(["id,text,label,user", *rows]) + "\n", encoding="utf-8")
    return path
