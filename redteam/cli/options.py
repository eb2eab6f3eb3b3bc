"""Options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

TextColumn = Annotated[str | None, typer.Option("--text-column", help="Column of the texts [default: guessed].")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="Column of the labels [default: guessed].")]
IdColumn = Annotated[str | None, typer.Option("--id-column", help="Column of row ids, for the report.")]
UserColumn = Annotated[str | None, typer.Option("--user-column", help="Column of the user each row belongs to.")]
GroupColumn = Annotated[str | None, typer.Option("--group-column", help="Column of the group each row belongs to.")]
SplitColumn = Annotated[
    str | None, typer.Option("--split-column", help="With --data: column that says member or nonmember.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same machine, same numbers.")]
Model = Annotated[Path, typer.Option("--output", "-o", help="The model file to write.")]
