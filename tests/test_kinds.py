"""A text is a string and a name is a scalar, in whatever file and for whoever reads it: nothing is made into text."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import sentences

from redteam.core import DataError
from redteam.data import Columns, read_examples, read_split
from redteam.targets.saved import load_scores

ROWS = sentences(60, seed=5)
SIDES = ("train", "test") * 30
NO_TEXTS = {
    "an object": {"role": "user", "content": "hi"},
    "a list": [101, 2023, 102],
    "a list of turns": [{"role": "user", "content": "hi"}],
    "a whole number": 7,
    "a number": 7.5,
    "true or false": True,
}
NO_NAMES = {"an object": {"a": 1}, "a list": ["a", "b"], "not a finite number": float("nan")}


def columns(**changed):
    return {"text": list(ROWS.texts), "label": list(ROWS.labels), "split": list(SIDES)} | changed


def save(path, table):
    if path.suffix == ".jsonl":
        rows = (dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pa.table(table), path)
    return path


def mixed(value, row=2, name="text"):
    cells = columns()[name]
    cells[row] = value
    return columns(**{name: cells})


def refused(read, path):
    with pytest.raises(DataError, match=r"^[^\n]+$") as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


READERS = {
    "examples": lambda path: read_examples(path, Columns()),
    "split": lambda path: read_split(path, Columns()),
}


@pytest.mark.parametrize("reader", READERS)
class TestTables:
    @pytest.mark.parametrize("kind", NO_TEXTS)
    def test_a_json_text_that_is_no_string(self, tmp_path, reader, kind):
        said = refused(READERS[reader], save(tmp_path / "d.jsonl", mixed(NO_TEXTS[kind])))
        assert f"row 3: column 'text' holds {kind.removesuffix(' of turns')}, not a string; " in said
        assert "--text-column NAME" in said

    @pytest.mark.parametrize("kind", NO_NAMES)
    @pytest.mark.parametrize("what", ["label", "id", "user", "group"])
    def test_a_json_name_that_is_no_scalar(self, tmp_path, reader, kind, what):
        cells = [f"{what}{i}" for i in range(60)]
        cells[2] = NO_NAMES[kind]
        path = save(tmp_path / "d.jsonl", columns(**{what: cells}))
        named = Columns(**{what: what})
        read = read_examples if reader == "examples" else read_split
        said = refused(lambda path: read(path, named), path)
        assert f"row 3: column {what!r} holds {kind}, not the name of a {what}" in said

    def test_null_in_the_middle_is_an_empty_text(self, tmp_path, reader):
        for name in ("d.jsonl", "d.parquet"):
            read = READERS[reader](save(tmp_path / name, mixed(None)))
            notes = read.notes if reader == "examples" else read[1]
            assert f"{name}: skipped 1 row without a text" in notes

    @pytest.mark.parametrize(
        ("kind", "cells"),
        [
            ("an object", pa.array([{"content": "a"}] * 60)),
            ("a list", pa.array([["a", "b"]] * 60)),
            ("a list", pa.array([["a", "b"]] * 60, pa.large_list(pa.string()))),
            ("a list", pa.array([[1, 2]] * 60, pa.list_(pa.int32(), 2))),
            ("an object", pa.array([[("a", 1)]] * 60, pa.map_(pa.string(), pa.int32()))),
            ("bytes", pa.array([b"hello"] * 60)),
            ("bytes", pa.array([b"hello"] * 60, pa.large_binary())),
            ("bytes", pa.array([b"hello"] * 60, pa.binary(5))),
            ("bytes", pa.array([b"hello"] * 60).dictionary_encode()),
            ("a whole number", pa.array(range(60))),
            ("a whole number", pa.array(range(60)).dictionary_encode()),
            ("a number", pa.array(np.arange(60.0))),
            ("true or false", pa.array([True, False] * 30)),
            ("a value of type date32[day]", pa.array(range(60), pa.date32())),
        ],
    )
    def test_a_parquet_text_that_is_no_string(self, tmp_path, reader, kind, cells):
        said = refused(READERS[reader], save(tmp_path / "d.parquet", columns(text=cells)))
        assert f"row 1: column 'text' holds {kind}, not a string" in said
        if kind in ("an object", "a list", "bytes"):
            said = refused(READERS[reader], save(tmp_path / "d.parquet", columns(label=cells)))
            assert f"row 1: column 'label' holds {kind}, not the name of a label" in said

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
    def test_every_string_of_parquet_is_one(self, tmp_path, reader, kind):
        for cells in (pa.array(ROWS.texts, kind), pa.array(ROWS.texts, pa.large_string()).dictionary_encode()):
            READERS[reader](save(tmp_path / "d.parquet", columns(text=cells)))


@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1], ("0", "1")),
        ([0.0, 1.0], ("0", "1")),  # what pandas makes of whole numbers beside a gap
        ([True, False], ("true", "false")),
        (["0", "1"], ("0", "1")),
    ],
)
def test_scalars_are_labels_as_before(tmp_path, name, labels, names):
    reading = read_examples(save(tmp_path / name, columns(label=labels * 30)), Columns())
    assert reading.examples.labels == names * 30


def test_what_nobody_reads_may_hold_anything(tmp_path):
    path = save(tmp_path / "d.jsonl", columns(meta=[{"a": [1]}] * 60, raw=[[1]] * 60))
    assert read_examples(path, Columns()).examples.texts == ROWS.texts


@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet"])
def test_a_guess_that_cannot_be_is_passed_over(tmp_path, name):
    """A column of that name that holds whole profiles is nobody's wish, so it is said and not used."""
    path = save(tmp_path / name, columns(user=[{"name": "a"}] * 60))
    reading = read_examples(path, Columns())
    assert reading.examples.users is None
    assert reading.columns.user is None
    assert reading.notes[-1] == f"{name}: row 1: column 'user' holds an object, not the name of a user: not used"


def test_two_values_of_one_key_are_refused(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "x", "text": "c"}\n')
    assert "line 2: not JSON (key 'text' occurs twice)" in refused(READERS["examples"], path)


class TestScores:
    def scores(self, **changed):
        return {"member": [1, 0] * 30, "score": list(np.linspace(0, 1, 60)), "text": list(ROWS.texts)} | changed

    @pytest.mark.parametrize(("kind", "cell"), NO_TEXTS.items())
    def test_a_text_that_is_no_string(self, tmp_path, kind, cell):
        for name in ("s.jsonl", "s.parquet"):
            said = refused(load_scores, save(tmp_path / name, self.scores(text=[cell] * 60)))
            assert kind.removesuffix(" of turns") in said
            assert "row 1: column 'text' holds" in said or "line 1: text is" in said

    def test_one_among_strings(self, tmp_path):
        for cell, said in (({"a": 1}, "an object"), ([1], "a list"), (7, "a whole number")):
            texts = [*ROWS.texts[:2], cell, *ROWS.texts[3:]]
            assert f"row 3: column 'text' holds {said}, not a string" in refused(
                load_scores, save(tmp_path / "s.jsonl", self.scores(text=texts))
            )

    @pytest.mark.parametrize("what", ["label", "id", "user", "group"])
    def test_a_name_that_is_no_scalar(self, tmp_path, what):
        for cell, kind in ((["a"], "a list"), ({"a": 1}, "an object"), (float("nan"), "not a finite number")):
            path = save(tmp_path / "s.parquet", self.scores(**{what: [cell] * 60}))
            said = refused(lambda path: load_scores(path, columns=Columns(**{what: what})), path)
            assert f"row 1: column {what!r} holds {kind}, not the name of a {what}" in said

    def test_numbers_as_texts_in_arrays(self, tmp_path):
        np.savez(tmp_path / "s.npz", **{k: np.array(v) for k, v in self.scores(text=list(range(60))).items()})
        assert "row 1: column 'text' holds a whole number" in refused(load_scores, tmp_path / "s.npz")

    def test_what_is_honest_gets_in(self, tmp_path):
        texts = pa.array(ROWS.texts)
        for cells in (texts, texts.dictionary_encode(), texts.cast(pa.large_string()), texts.cast(pa.string_view())):
            _, split, _ = load_scores(save(tmp_path / "s.parquet", self.scores(text=cells, id=list(range(60)))))
            assert len(split.members) == 30
        _, split, notes = load_scores(save(tmp_path / "s.parquet", self.scores(user=[{"name": "a"}] * 60)))
        assert split.members.users is None
        assert "s.parquet: row 1: column 'user' holds an object, not the name of a user: not used" in notes


class TestCommands:
    """All that reads labelled texts refuses them alike; the model is never asked."""

    @pytest.fixture
    def turns(self, tmp_path):
        return save(tmp_path / "turns.jsonl", mixed([{"role": "user", "content": "hi"}]))

    def test_every_reader_of_data(self, turns, tmp_path):
        from attacks.extraction.exposure import ExposureRank
        from attacks.membership.confidence import Confidence
        from defenses.plain import Plain
        from redteam.canary import PlantingPlan, plant
        from redteam.experiments.drill.run import open_drill
        from redteam.experiments.gap.cells import open_gap
        from redteam.training.train import train

        plan = PlantingPlan(("my pin is {digit:4}",), canaries=4, repetitions=(2,))
        for read in (
            lambda path: train(path, tmp_path / "m.pt", Plain(epochs=1)),
            lambda path: plant(path, tmp_path / "planted.jsonl", plan),
            lambda path: open_gap(path, tmp_path, [Confidence()]),
            lambda path: open_drill(path, tmp_path, [ExposureRank()]),
        ):
            assert "row 3: column 'text' holds a list, not a string" in refused(read, turns)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["turns.jsonl"]

    def test_audit_exits_2_with_one_line(self, turns, redteam, tmp_path):
        Path(tmp_path / "f.py").write_text(
            "labels = ['a', 'b', 'c']\ndef f(texts): return [[1, 0, 0] for _ in texts]\n"
        )
        end = redteam("audit", "f:f", "--data", turns)
        assert end.returncode == 2
        assert end.stdout == ""
        assert end.stderr.count("\n") == 1
        assert (
            "row 3: column 'text' holds a list, not a string; join its parts as the model is given them" in end.stderr
        )
