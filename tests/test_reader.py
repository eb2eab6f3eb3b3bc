"""One reader for every file: whatever a table comes in, `--data` and `--scores` read the same rows, or neither does."""

import gzip
import io
import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from redteam.core import DataError
from redteam.data import Columns, fingerprint, read_examples, read_split, source
from redteam.data.ledger import Ledger
from redteam.data.vocabulary import MEMBER, NONMEMBER, UNKNOWN, name_of, number_of, side_of
from redteam.report.reading import load_report
from redteam.targets.saved import load_scores

TEXTS = ["first; of all, this", 'said "hello"', "naïve | plain", "four\tfive", "a, b; c"]
ROWS = {"text": TEXTS, "label": ["x", "y", "x", "y", "x"], "split": ["train", "test"] * 2 + ["train"]}
ROWS |= {"score": [0.5, -1.0, 2.25, 0.0, 1e-3]}
RECORDS = [dict(zip(ROWS, cells, strict=True)) for cells in zip(*ROWS.values(), strict=True)]


def delimited(cut=",", end="\n", rows=RECORDS):
    import csv

    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=cut, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in RECORDS)
BY_INDEX = {name: {str(i): cell for i, cell in enumerate(cells)} for name, cells in ROWS.items()}
FILES = {
    "comma.csv": delimited(),
    "semicolon.csv": delimited(";"),
    "pipe.csv": delimited("|"),
    "tab.csv": delimited("\t"),
    "comma.tsv": delimited(","),
    "old-mac.csv": delimited(end="\r"),
    "windows.csv": delimited(end="\r\n"),
    "old-mac.jsonl": LINES.replace("\n", "\r"),
    "mark.csv": "\ufeff" + delimited(),
    "mark.jsonl": "\ufeff" + LINES,
    "mark.json": "\ufeff" + json.dumps(RECORDS),
    "wide.csv": delimited().encode("utf-16"),
    "wide-be.tsv": b"\xfe\xff" + delimited("\t").encode("utf-16-be"),
    "widest.jsonl": LINES.encode("utf-32"),
    "packed.csv.gz": gzip.compress(delimited(";").encode()),
    "packed.TSV.GZ": gzip.compress(delimited("\t").encode()),
    "packed.jsonl.gz": gzip.compress(LINES.encode()),
    "packed.json.gz": gzip.compress(json.dumps(RECORDS).encode()),
    "unpacked-on-the-way.csv.gz": delimited(),
    "array.json": json.dumps(RECORDS, indent=2),
    "wrapped.json": json.dumps({"version": "1.0", "data": RECORDS}),
    "columns.json": json.dumps(ROWS),
    "pandas.json": json.dumps(BY_INDEX),
    "lines.json": LINES,
}


def arrow(path, table, *, stream):
    opener = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, opener(file, table.schema) as writer:
        writer.write_table(table)


def saved(folder, table, parts=2, **features):
    """What `datasets` 5.2 writes with save_to_disk."""
    folder.mkdir()
    names = [f"data-{i:05}-of-{parts:05}.arrow" for i in range(parts)]
    for i, name in enumerate(names):
        arrow(folder / name, table.slice(i * 3, 3), stream=True)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


@pytest.fixture(params=[*FILES, "a.parquet", "a.arrow", "stream.arrow", "saved", "a.npz"])
def file(request, tmp_path):
    path, table = tmp_path / request.param, pa.table(ROWS)
    if request.param in FILES:
        content = FILES[request.param]
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    elif request.param == "saved":
        saved(path, table)
    elif path.suffix == ".arrow":
        arrow(path, table, stream=path.stem == "stream")
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.array(cells) for name, cells in ROWS.items()})
    else:
        pyarrow.parquet.write_table(table, path)
    return path


def test_the_same_rows_out_of_every_file(file):
    examples = read_examples(file, Columns()).examples
    assert (examples.texts, examples.labels) == (tuple(TEXTS), tuple(ROWS["label"]))
    split, _ = read_split(file, Columns())
    assert split.members.rows.tolist() == [0, 2, 4]
    target, scored, _ = load_scores(file)
    assert scored.members.texts == split.members.texts
    assert target.losses(scored.members).tolist() == [-0.5, -2.25, -1e-3]
    assert len(fingerprint(file)) == 64


def refusal(path, *readers):
    said = set()
    for read in readers or (lambda p: read_examples(p, Columns()), load_scores):
        with pytest.raises(DataError, match=r"^[^\n]+$") as caught:
            read(path)
        said.add(str(caught.value))
    (one,) = said  # whoever reads it says the same
    return one


class TestSeparators:
    @pytest.mark.parametrize(
        "content",
        [
            "text,label\na; b,x\nc; d,y\n",  # every row as often as the header could have it
            "text;note,label\na;b,x\nc;d,y\n",  # even the header has one
            'text,label\n"a;b",x\n"c,d;e",y\n',
        ],
    )
    def test_a_comma_file_stays_one(self, tmp_path, content):
        (tmp_path / "a.csv").write_text(content)
        named = Columns(text="text;note") if "note" in content else Columns()
        reading = read_examples(tmp_path / "a.csv", named)
        assert reading.examples.labels == ("x", "y")
        assert not any("separated" in note for note in reading.notes)

    def test_another_separator_is_said_and_a_comma_in_its_header_is_none(self, tmp_path):
        (tmp_path / "a.csv").write_text("text;label;what, exactly\na, b, c;x;1\nd;y;2\n")
        reading = read_examples(tmp_path / "a.csv", Columns())
        assert (reading.examples.texts, reading.notes[0]) == (("a, b, c", "d"), "a.csv: separated by ';'")

    def test_an_uneven_file_is_refused_as_what_its_name_says(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,label\na,x\nb,x,y\n")
        assert "line 3 has 3 fields, the header has 2" in refusal(
            tmp_path / "a.csv", lambda p: read_split(p, Columns())
        )


class TestVocabulary:
    def test_numbers(self):
        for cell in ("1", "1.0", " 1 ", "1e0", "+1", "1.", "10e-1"):
            assert number_of(cell) == 1.0
        for cell in ("", "one", "1,0", "0x1", "1_0", "1 0", "true", "1e", ".", "٣"):
            assert number_of(cell) is None
        assert [str(number_of(cell)) for cell in ("NaN", "-inf", "Infinity")] == ["nan", "-inf", "inf"]

    def test_sides(self):
        for cell in ("1", "1.0", " 1 ", "1e0", "True", "YES", "t", "Train", "in"):
            assert side_of(cell) == MEMBER
        for cell in ("0", "0.0", "-0", "FALSE", "no", "non_member", "Held_Out", "test"):
            assert side_of(cell) == NONMEMBER
        for cell in ("", "2", "0.5", "nan", "valid", "maybe"):
            assert side_of(cell) == UNKNOWN

    def test_names(self):
        same = [("1", "1.0", " 1 ", "1.000"), ("0", "-0.0"), ("true", "True", "TRUE "), ("-3", "-3.0")]
        for names in same:
            assert {name_of(name) for name in names} == {names[0]}
        apart = ["1", "01", "1e0", "1.5", "1.50", "10e4", "1e5", "1.0.0", ".0", "t", "yes", "nan", "None", "Truely", ""]
        assert len({name_of(name) for name in apart}) == len(apart)

    @pytest.mark.parametrize("values", [[1, 0], [1.0, 0.0], ["1", "0"], ["1.0", "0.0"], [True, False], [" 1 ", "0"]])
    def test_one_value_however_it_is_stored(self, tmp_path, values):
        cells = {"text": TEXTS[:4], "label": values * 2, "member": values * 2, "score": values * 2}
        rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
        (tmp_path / "a.csv").write_text(delimited(rows=rows))
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        pyarrow.parquet.write_table(pa.table(cells), tmp_path / "a.parquet")
        names = ("true", "false") if values[0] is True else ("1", "0")
        for path in sorted(tmp_path.iterdir()):
            assert read_examples(path, Columns()).examples.labels == names * 2
            assert read_split(path, Columns())[0].members.rows.tolist() == [0, 2]
            if values[0] is not True:
                target, split, _ = load_scores(path)
                assert target.losses(split.members).tolist() == [-1, -1]

    def test_labels_of_two_files_that_spell_them_otherwise_are_the_same(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,label\na,1.0\nb,True\nc, x\n")
        (tmp_path / "b.jsonl").write_text("".join(f'{{"text": "a", "label": {v}}}\n' for v in ("1", "true", '"x "')))
        one, other = (read_examples(tmp_path / name, Columns()).examples for name in ("a.csv", "b.jsonl"))
        assert one.labels == other.labels == ("1", "true", "x")


class TestOnlyWhatIsNeeded:
    def odd(self):
        return {
            "ns": pa.array([1, 2, 3, 4, 5], pa.timestamp("ns", "Europe/Berlin")),
            "zone": pa.array([1, 2, 3, 4, 5], pa.timestamp("us", "Mars/Base")),
            "far": pa.array([10**7] * 5, pa.date32()),
            "far64": pa.array([2**62] * 5, pa.timestamp("us")),
            "bytes": pa.array([b"\xff\xfe"] * 5),
            "broken": pa.array([b"\xff"] * 5).view(pa.string()),
            "span": pa.array([2**62] * 5, pa.duration("ns")),
            "month": pa.array([None] * 5, pa.month_day_nano_interval()),
            "nested": pa.array([[{"a": b"\xff"}]] * 5),
        }

    def test_in_columns_that_nobody_asked_for(self, tmp_path):
        odd = self.odd()
        arrow(tmp_path / "a.arrow", pa.table(ROWS | odd), stream=True)
        odd.pop("month")  # Parquet has none
        pyarrow.parquet.write_table(pa.table(ROWS | odd), tmp_path / "a.parquet")
        for path in sorted(tmp_path.iterdir()):
            assert read_examples(path, Columns()).examples.texts == tuple(TEXTS)
            assert load_scores(path)[1].members.rows.tolist() == [0, 2, 4]
            for name in odd:
                said = refusal(path, lambda p, name=name: read_examples(p, Columns(label=name)))
                assert name in said

    def test_nameless_columns_of_a_spreadsheet(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,label,,\na,x,,\n")
        assert read_examples(tmp_path / "a.csv", Columns()).examples.texts == ("a",)


class TestBounds:
    """What could fill the memory, or never end, is refused with what is wrong."""

    def test_a_pipe(self, tmp_path):
        for name in ("p.csv", "p.parquet", "p.jsonl.gz", "p.arrow", "p.npz"):
            os.mkfifo(tmp_path / name)
            assert "is a pipe or a device" in refusal(tmp_path / name)

    def test_a_bomb_in_gzip(self, tmp_path, monkeypatch):
        monkeypatch.setattr(source, "LARGEST_UNPACKED", 2**21)
        for name, content in (("a.csv.gz", b"text,label\n" + b"a,b\n" * 2**20), ("a.json.gz", b"[" * 2**22)):
            (tmp_path / name).write_bytes(gzip.compress(content))
            assert "unpacks to more bytes than that; at most 2,097,152 are read" in refusal(tmp_path / name)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20  # KiB

    def test_a_line_without_an_end(self, tmp_path):
        for name in ("a.csv", "a.jsonl", "a.tsv", "a.csv.gz"):
            pack = gzip.compress if name.endswith(".gz") else bytes
            (tmp_path / name).write_bytes(pack(b'{"text": "a"}\n' + b"x" * 2**25))
            assert "a line has more than 16,777,216 characters" in refusal(tmp_path / name)
            (tmp_path / name).write_bytes(pack(b'{"text": "a"}\n' + bytes(2**25)))
            assert "line 2: holds a zero byte" in refusal(tmp_path / name)

    @pytest.mark.parametrize(
        "content",
        [b"\x1f\x8b\x08\x00broken", gzip.compress(b"text,label\na,b\n" * 99)[:-9]],
        ids=["not gzip inside", "cut short"],
    )
    def test_broken_gzip(self, tmp_path, content):
        (tmp_path / "a.csv.gz").write_bytes(content)
        assert "cannot be read" in refusal(tmp_path / "a.csv.gz")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("[1, 2]", "row 1: not a JSON object"),
            ("7", "neither an array of objects nor columns by name"),
            ('{"train": [{"a": 1}], "test": [{"a": 2}]}', "several tables, 'train', 'test'"),
            ('{"a": [1, 2], "b": [1]}', "not of one length"),
            ('[{"text": "a", "text": "b"}]', "key 'text' occurs twice"),
            ("[" * 10_000, "not JSON"),
            ('[{"text": "a", "label": "b"}', "not JSON"),
            ("[]", "no rows"),
        ],
    )
    def test_json_that_is_no_table(self, tmp_path, content, said):
        (tmp_path / "a.json").write_text(content)
        assert said in refusal(tmp_path / "a.json")

    def test_texts_stay_out_of_messages(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,label,member,score\nmy secret word,x,my secret word,my secret word\n" * 2)
        for read in (load_scores, lambda p: read_split(p, Columns()), lambda p: read_split(p, Columns(split="text"))):
            assert "secret" not in refusal(tmp_path / "a.csv", read)


class TestSavedDatasets:
    def test_classes_by_name(self, tmp_path):
        table = pa.table(ROWS | {"label": [0, 1, 0, 1, 0]})
        folder = saved(tmp_path / "d", table, label={"names": ["no", "yes"], "_type": "ClassLabel"})
        reading = read_examples(folder, Columns())
        assert reading.examples.labels == ("no", "yes", "no", "yes", "no")
        assert reading.classes == ("no", "yes")
        features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
        for labels, said in (([0, 1, 0, 1, 0], None), ([0, 1, -1, 1, 0], "row 3: label '-1' is none of the 2 classes")):
            named = pa.table(ROWS | {"label": labels}).replace_schema_metadata({"huggingface": json.dumps(features)})
            pyarrow.parquet.write_table(named, tmp_path / "a.parquet")
            if said is None:
                assert read_examples(tmp_path / "a.parquet", Columns()).examples.labels == reading.examples.labels
            else:
                assert said in refusal(tmp_path / "a.parquet")

    def test_several_splits(self, tmp_path):
        (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        assert f"name one of them: {tmp_path / 'train'} or {tmp_path / 'test'}" in refusal(tmp_path)

    def test_a_changed_part_or_name_of_a_class_is_another_dataset(self, tmp_path):
        folder = saved(tmp_path / "d", pa.table(ROWS))
        first = fingerprint(folder)
        (folder / "cache-1.arrow").write_bytes(b"what datasets keeps of a map")
        assert fingerprint(folder) == first
        (folder / "dataset_info.json").write_text('{"features": {"x": 1}}')
        assert fingerprint(folder) != first

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ('{"_data_files": [{"filename": "../x.arrow"}]}', "outside the folder"),
            ('{"_data_files": [{"filename": "gone.arrow"}]}', "No such file"),
            ('{"_data_files": [], "_indices_data_files": [1]}', "flatten_indices"),
            ("[]", "not a JSON object"),
            ("{", "is not JSON"),
            ("{}", "names no data files"),
        ],
    )
    def test_broken(self, tmp_path, state, said):
        folder = saved(tmp_path / "d", pa.table(ROWS))
        (folder / "state.json").write_text(state)
        assert said in refusal(folder)


class TestLedgers:
    """Rows are those of the file, whatever was skipped between them, and for whoever reads it next."""

    @pytest.mark.parametrize("kind", ["csv", "saved"])
    def test_rows_without_a_text_move_no_one(self, tmp_path, kind):
        from defenses.plain import Plain
        from redteam.auditing.inputs import Sources, open_inputs
        from redteam.training.train import train

        texts = [f"say {i} word {i % 7}" if i % 3 else " " for i in range(90)]
        table = {"text": texts, "label": ["a", "b", "c"] * 15 + ["b", "a", "c"] * 15}
        data = tmp_path / "d.csv"
        if kind == "csv":
            data.write_text(
                delimited(rows=[dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)])
            )
        else:
            data = saved(tmp_path / "d", pa.table(table), parts=30)
        files = train(data, tmp_path / "m.pt", Plain(epochs=1))
        assert any("skipped 30 rows without a text" in note for note in files.notes)
        ledger = Ledger.load(files.ledger)
        assert ledger.data.rows == 90
        assert all(texts[row].strip() for row in (*ledger.membership.members, *ledger.membership.nonmembers))
        inputs = open_inputs(str(tmp_path / "m.pt"), Sources(), {"device": "cpu"})
        assert inputs.split.randomised
        for side, rows in (("members", ledger.membership.members), ("nonmembers", ledger.membership.nonmembers)):
            found = getattr(inputs.split, side)
            assert found.rows.tolist() == list(rows)
            assert found.texts == tuple(texts[row] for row in rows)

    def test_canaries_among_rows_without_a_text_in_a_file_with_semicolons(self, tmp_path):
        from redteam.canary import PlantingPlan, canary_rows, plant
        from redteam.canary.files import trained_texts

        (tmp_path / "d.csv").write_text(
            "text;label\n" + "".join(f"{(i % 4 and f't{i}') or ''};x{i % 2}\n" for i in range(40))
        )
        planted = plant(
            tmp_path / "d.csv", tmp_path / "p.csv", PlantingPlan(("pin {digit:4}",), canaries=2, repetitions=(3,))
        )
        lines = (tmp_path / "p.csv").read_text().splitlines()[1:]
        rows = canary_rows(planted.planting)
        assert {row for row, line in enumerate(lines) if line.startswith("pin ")} == rows
        assert sum(text.startswith("pin ") for text in trained_texts(planted.data, planted.planting)) == len(rows)

    def test_canaries_in_parquet_with_classes(self, tmp_path):
        from redteam.canary import PlantingPlan, plant

        features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
        table = pa.table({"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20})
        table = table.append_column("at", pa.array([10**9 + 1] * 40, pa.timestamp("ns")))
        named = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        pyarrow.parquet.write_table(named, tmp_path / "d.parquet")
        planted = plant(tmp_path / "d.parquet", tmp_path / "p.parquet", PlantingPlan(("pin {digit:4}",), canaries=2))
        labels = read_examples(planted.data, Columns()).examples.labels
        assert {canary.label for canary in planted.planting.canaries} <= set(labels) == {"no", "yes"}

    def test_what_is_only_read_is_not_planted_in(self, tmp_path):
        from redteam.canary import PlantingPlan, plant

        for name in ("wide.csv", "packed.csv.gz", "array.json", "old-mac.csv"):
            content = FILES[name]
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            refusal(
                tmp_path / name,
                lambda p: plant(p, tmp_path / f"out-{p.name}", PlantingPlan(("pin {digit:4}",), canaries=1)),
            )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_reports_as_a_shell_of_windows_writes_them(tmp_path, encoding):
    found = load_report(Path(__file__).parent.parent / "fixtures" / "safe" / "report.json")
    (tmp_path / "r.json").write_text(found.to_json(), encoding=encoding)
    assert load_report(tmp_path / "r.json") == found
