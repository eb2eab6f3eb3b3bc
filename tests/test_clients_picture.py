"""The picture of who holds what: what it counts, that it is drawn the same every time, and what is refused first."""

import numpy as np
import pytest
from conftest import run_redteam

from redteam.core import DataError
from redteam.data import Examples
from redteam.experiments.clients import draw_clients, table_of

ROWS = Examples(np.array([4, 7, 8, 9, 12]), ("t",) * 5, ("b", "a", "b", "b", "a"))
CLIENTS = {"ann": (7,), "bob": (4, 8, 12)}


def test_it_counts_the_labels_of_each_client_and_names_none(tmp_path):
    labels, counts = table_of(CLIENTS, ROWS)
    assert labels == ("a", "b")
    assert counts.tolist() == [[1, 2], [1, 0]]
    for name in ("one.svg", "two.svg"):
        draw_clients(CLIENTS, ROWS, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "share of the client" in drawn
    assert "bob" not in drawn
    with pytest.raises(DataError, match="no clients"):
        draw_clients({}, ROWS, tmp_path / "none.svg")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--picture", "c.svg"], "--picture c.svg: plain has no clients; it goes with --defense federated"),
        (["--defense", "federated", "--picture", "c.txt"], "--picture c.txt: name a .svg, .png or .pdf file"),
        (["--defense", "federated", "--picture", "no/c.svg"], "--picture no/c.svg: the folder no does not exist"),
        (["--defense", "federated", "--picture", "model.svg", "-o", "model.svg"], "is the data or the model"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_training(tmp_path, arguments, said):
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    found = run_redteam("train", "data.csv", *arguments, cwd=tmp_path)
    assert (found.returncode, len(found.stderr.strip().splitlines())) == (2, 1), found.stderr
    assert said in found.stderr
