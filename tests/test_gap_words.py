"""The gap experiment with words exchanged before training: same rows, same seeds, and what comes back beside it."""

import json

import numpy as np
import pytest
from conftest import sentences
from gap_doubles import numbers

from attacks.membership.loss import LossThreshold
from defenses.plain import Plain
from redteam.core import UsageError
from redteam.data.ledger import Ledger
from redteam.data.words import words_of
from redteam.experiments.cells import run_cells
from redteam.experiments.gap.cells import gap_tasks, open_gap
from redteam.experiments.gap.grid import GapCell, gap_grid, parse_privatised
from redteam.experiments.gap.run import report_gap
from redteam.experiments.gap.table import render_text
from redteam.experiments.setup import Trainer
from redteam.training.train import ModelChoice

PLAIN = Trainer("plain", Plain(1))


def tasks(folder, privatised):
    rows = sentences(120, seed=1)
    data = folder / "data.jsonl"
    pairs = zip(rows.texts, rows.labels, strict=True)
    data.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs))
    words = sorted({word for text in rows.texts for word in words_of(text)})
    places = np.random.default_rng(0).normal(size=(len(words), 4))
    lines = (f"{word} {' '.join(map(str, at))}\n" for word, at in zip(words, places, strict=True))
    (folder / "v.txt").write_text("".join(lines))
    how = {"model": ModelChoice("tiny", 1), "canaries": 0, "embeddings": str(folder / "v.txt")}
    setup, _ = open_gap(data, folder, [LossThreshold()], **how)
    cells = gap_grid((PLAIN,), (None,), 1, privatised)
    return gap_tasks(setup, (PLAIN,), cells, folder, privatised, PLAIN.defense)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    return folder, list(run_cells(tasks(folder, parse_privatised("santext=400,santext=0.001"))))


def test_each_mechanism_and_epsilon_has_a_row(done):
    _, found = done
    assert [task.cell for task, _ in found] == [
        GapCell("plain", None, 0),
        GapCell("santext", 400.0, 0, privatised=True),
        GapCell("santext", 0.001, 0, privatised=True),
    ]
    report = report_gap(found)
    plain, kept, lost = report.rows
    assert (plain.plain, plain.best("words_recovered")) == (None, None)
    assert kept.best("words_recovered").spread.mean > 0.99
    assert lost.best("words_recovered").spread.mean < 0.5
    assert kept.plain > 400 > 1 > lost.plain
    text = " ".join(render_text(report).split())
    assert "words back" in text
    assert "membership is asked with the texts as they were" in text


def test_cells_share_who_was_a_member_and_differ_in_what_is_trained_on(done):
    _, found = done
    ledgers = [Ledger.load(task.folder / "model.ledger.json") for task, _ in found]
    assert len({ledger.membership for ledger in ledgers}) == 1
    plain, kept, lost = (ledger.model for ledger in ledgers)
    assert plain == kept != lost  # at 400 no word is exchanged, and all else is the same
    assert [ledger.privatised and ledger.privatised["epsilon"] for ledger in ledgers] == [None, 400.0, 0.001]
    assert ledgers[1].privatised["randomness"] == "seed"


def test_a_cell_is_done_once_and_the_same_again(done, tmp_path):
    folder, found = done
    again = run_cells(tasks(tmp_path, parse_privatised("santext=400")))
    assert [numbers(result) for _, result in again] == [numbers(result) for _, result in found[:2]]
    taken = run_cells(tasks(folder, parse_privatised("santext=400,santext=0.001")))
    assert [numbers(result) for _, result in taken] == [numbers(result) for _, result in found]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("santext", "write MECHANISM=EPSILON"),
        ("santext=0", "give a finite epsilon above 0"),
        ("santext=inf", "give a finite epsilon above 0"),
        ("custext=2", "unknown id 'custext'"),
    ],
)
def test_what_is_no_mechanism_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse_privatised(text)
