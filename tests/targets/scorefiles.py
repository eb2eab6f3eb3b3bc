"""Score files of every kind, and what every refusal of one must look like."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redteam.core import DataError
from redteam.targets.saved import load_scores

MEMBER = [1, 0, 1, 0, 1]
SCORE = [0.5, -1.0, 2.25, 0.0, 1e-3]


def write(directory, suffix, columns):
    """Write columns of equal length as a file of the given kind."""
    path = directory / f"scores{suffix}"
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if suffix in (".csv", ".tsv"):
        cut = "," if suffix == ".csv" else "\t"
        lines = [cut.join(columns), *(cut.join(str(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    return path


def failure(path, **options):
    with pytest.raises(DataError) as caught:
        load_scores(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message
