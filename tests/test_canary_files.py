"""Planted files: users' rows stay as they were in every format, and the secrets are in the ledger alone."""

import csv
import io
import json
import stat
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from canary_rows import PIN, write_rows
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redteam.canary import (
    Pattern,
    PlantingPlan,
    canaries_beside,
    canaries_path,
    canary_rows,
    plant,
)
from redteam.canary.insertion import insert_rows
from redteam.core import RedteamError, UsageError
from redteam.data import Columns, read_examples, text_key
from redteam.data.planted import load_planting
from redteam.data.table import read_table


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path)


class TestFiles:
    def test_secrets_are_in_the_ledger_alone(self, data, tmp_path):
        out = tmp_path / "planted.csv"
        planted = plant(data, out, PlantingPlan((PIN,), decoys=1))
        assert planted.ledger == canaries_path(out) == tmp_path / "planted.canaries.json"
        assert stat.S_IMODE(planted.ledger.stat().st_mode) == 0o600
        assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "planted.canaries.json", "planted.csv"]
        assert load_planting(planted.ledger) == planted.planting == canaries_beside(out)
        said = repr(planted)
        for canary in planted.planting.canaries:
            assert repr(canary.secrets[0]) not in said
            assert " ".join(canary.secret) not in said

    def test_what_is_planted_is_what_the_ledger_says(self, data, tmp_path):
        out = tmp_path / "planted.csv"
        planting = plant(data, out, PlantingPlan((PIN,), canaries=6, repetitions=(1, 4), decoys=2)).planting
        examples = read_examples(out, Columns()).examples
        before = read_examples(data, Columns()).examples
        rows = canary_rows(planting)
        assert len(rows) == 3 * (1 + 4) * 3
        users = [i for i in range(len(examples)) if i not in rows]
        assert examples.take(users).texts == before.texts
        assert examples.take(users).users == before.users
        for canary in planting.canaries:
            fill = Pattern.parse(canary.template).fill
            for each, secret in ((canary, canary.secret), *((d, d.secret) for d in canary.decoys)):
                assert {examples.texts[row] for row in each.rows} == {fill(secret)}
                assert {examples.labels[row] for row in each.rows} == {each.label}
        keys = {text_key(text) for text in examples.texts}
        assert not any(text_key(Pattern.parse(c.template).fill(c.heldout)) in keys for c in planting.canaries)
        assert len(set(examples.ids)) == len(examples)

    def test_the_mode_of_the_data_is_kept(self, data, tmp_path):
        data.chmod(0o600)
        assert stat.S_IMODE(plant(data, tmp_path / "p.csv", PlantingPlan((PIN,))).data.stat().st_mode) == 0o600

    def test_nothing_is_overwritten_or_left_behind(self, data, tmp_path, monkeypatch):
        plan, out = PlantingPlan((PIN,)), tmp_path / "p.csv"
        for wrong, said in (
            (data, "is the data itself"),
            (tmp_path / "no" / "p.csv", "folder does not exist"),
            (tmp_path / "p.tsv", "keeps the format"),
        ):
            with pytest.raises(UsageError, match=said):
                plant(data, wrong, plan)
        for taken in (out, canaries_path(out)):
            taken.write_text("mine")
            with pytest.raises(UsageError, match="exists; remove it"):
                plant(data, out, plan)
            assert taken.read_text() == "mine"
            taken.unlink()
        for broken in ("write_atomic", "_check_result"):

            def fail(*_, **__):
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(f"redteam.canary.files.{broken}", fail)
                with pytest.raises(OSError, match="No space"):
                    plant(data, out, plan)
        assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]

    def test_columns_that_say_who_is_trained_on(self, tmp_path):
        (tmp_path / "d.csv").write_text(
            "text,label,split,note\n" + "".join(f"t{i},x{i % 2},Train,n\n" for i in range(9))
        )
        plant(tmp_path / "d.csv", tmp_path / "p.csv", PlantingPlan((PIN,), canaries=1, repetitions=(2,)))
        table = read_table(tmp_path / "p.csv")
        assert set(table.columns["split"]) == {"Train"}
        assert Counter(table.columns["note"]) == {"n": 9, "": 2}

    def test_the_rows_of_one_secret_are_those_of_one_new_user(self, tmp_path):
        path = tmp_path / "data.csv"
        path.write_text("text,label,who,g\n" + "".join(f"say {i},x,{i % 7},{'aab'[i % 3]}\n" for i in range(30)))
        plan = PlantingPlan((PIN,), canaries=2, repetitions=(3,), decoys=1, label="fresh")
        planted = plant(path, tmp_path / "out.csv", plan, columns=Columns(user="who", group="g"))
        groups = read_table(planted.data).columns["g"]
        assert {groups[row] for row in canary_rows(planted.planting)} == {"a"}
        users = read_table(planted.data).columns["who"]
        mine = [
            {users[row] for row in one.rows} for canary in planted.planting.canaries for one in (canary, *canary.decoys)
        ]
        assert sorted(min(some) for some in mine) == ["10", "7", "8", "9"]
        assert all(len(some) == 1 for some in mine)

    def test_a_column_whose_word_for_training_is_not_known(self, tmp_path):
        (tmp_path / "d.csv").write_text("text,label,split\n" + "".join(f"t{i},x{i % 2},trn\n" for i in range(9)))
        with pytest.raises(RedteamError, match=r"^column 'split' seems to say .* one of train, training, [^\n]*$"):
            plant(tmp_path / "d.csv", tmp_path / "p.csv", PlantingPlan((PIN,), canaries=1))
        assert [p.name for p in tmp_path.iterdir()] == ["d.csv"]

    def test_a_pattern_that_the_file_cannot_hold(self, tmp_path):
        (tmp_path / "d.csv").write_text('text,label\n"open,a\n8" two,b\n')
        with pytest.raises(RedteamError, match=r"^[^\n]*p\.csv: [^\n]*$"):
            plant(tmp_path / "d.csv", tmp_path / "p.csv", PlantingPlan(("pin, {digit:4}",), canaries=2))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["d.csv"]

    def test_a_pattern_with_a_comma_is_quoted(self, data, tmp_path):
        planted = plant(data, tmp_path / "p.csv", PlantingPlan(("well, pin {digit:4}",)))
        texts = read_examples(planted.data, Columns()).examples.texts
        assert sum(text.startswith("well, pin ") for text in texts) == 200


def removed(whole, planted):
    """The lines of a planted text file without those that were planted."""
    return b"".join(line for line in whole.splitlines(keepends=True) if b"pin code" not in line) if planted else whole


class TestFormats:
    """Every byte of the user's rows stays, whatever the line ends, quotes, marks and types of the file."""

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("d.csv", b"text,label\nx y,a\nz,b\n"),
            ("d.csv", b"text,label\r\nx y,a\r\nz,b\r\n"),
            ("d.csv", b"\xef\xbb\xbftext,label\nx y,a\nz,b\n"),
            ("d.csv", b'text,label\n"x, ""y""",a\n"z",b\n'),
            ("d.csv", b'text,label\n5" x,a\n6" z,b\n'),
            ("d.csv", b"\ntext,label\n\nx y,a\n\n\nz,b\n\n"),
            ("d.tsv", b'text\tlabel\n"open\ta\nz\tb\n'),
            ("d.tsv", "text\tlabel\nünï x\ta\nz\tb\n".encode()),
            (
                "d.jsonl",
                b'{"text": "x",  "label":"a", "extra": [1, {"b": null}]}\n\n{"label": "b", "text": "\\u00e9"}\n',
            ),
            ("d.ndjson", b'{"text": "x", "label": "a"}\r\n{"text": "z", "label": "b"}\r\n'),
        ],
    )
    def test_text_files(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        out = plant(
            tmp_path / name, tmp_path / f"out{name[1:]}", PlantingPlan((PIN,), canaries=3, repetitions=(2,))
        ).data
        whole = out.read_bytes()
        assert whole.count(b"pin code") == 6
        assert removed(whole, True) == content

    def test_a_last_line_without_its_end(self, tmp_path):
        (tmp_path / "d.csv").write_bytes(b"text,label\nx,a\nz,b")
        whole = plant(tmp_path / "d.csv", tmp_path / "p.csv", PlantingPlan((PIN,))).data.read_bytes()
        assert removed(whole, True) == b"text,label\nx,a\nz,b\n"

    def test_quoted_cells_over_several_lines(self, tmp_path):
        content = 'text,label\n"one\ntwo, ""three""\n",a\n\n"four\r\nfive",b\n'
        (tmp_path / "d.csv").write_bytes(content.encode())
        planted = plant(tmp_path / "d.csv", tmp_path / "p.csv", PlantingPlan((PIN,), canaries=4))
        rows = canary_rows(planted.planting)
        table = read_table(planted.data)
        kept = [text for i, text in enumerate(table.columns["text"]) if i not in rows]
        assert kept == ['one\ntwo, "three"\n', "four\r\nfive"]
        assert removed(planted.data.read_bytes(), True) == content.encode()

    def test_json_numbers_stay_numbers(self, tmp_path):
        lines = [json.dumps({"id": i, "text": f"t{i}", "label": i % 3, "x": 0.5}) for i in range(8)]
        (tmp_path / "d.jsonl").write_text("\n".join(lines) + "\n")
        planted = plant(tmp_path / "d.jsonl", tmp_path / "p.jsonl", PlantingPlan((PIN,), canaries=2, label="fresh"))
        new = [json.loads(line) for line in planted.data.read_text().splitlines() if "pin" in line]
        assert {(type(each["id"]), each["label"], each["x"]) for each in new} == {(int, 3, None)}
        assert {each["id"] for each in new} == set(range(8, 28))

    def test_parquet(self, tmp_path):
        schema = pyarrow.schema(
            [
                pyarrow.field("id", pyarrow.int32()),
                pyarrow.field("text", pyarrow.large_string()),
                pyarrow.field("label", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
                pyarrow.field("weight", pyarrow.float32(), nullable=False),
                pyarrow.field("tags", pyarrow.list_(pyarrow.string())),
                pyarrow.field("is_member", pyarrow.bool_()),
            ],
            metadata={"mine": "yes"},
        )
        columns = {
            "id": list(range(9)),
            "text": [f"text {i}" for i in range(9)],
            "label": ["a", "b", "c"] * 3,
            "weight": [0.25] * 9,
            "tags": [["x"], None, []] * 3,
            "is_member": [True, False, None] * 3,
        }
        table = pyarrow.table(columns, schema=schema)
        pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
        planted = plant(tmp_path / "d.parquet", tmp_path / "p.parquet", PlantingPlan((PIN,), canaries=3, label="fresh"))
        found = pyarrow.parquet.read_table(planted.data)
        assert found.schema.equals(schema, check_metadata=False)
        assert found.schema.metadata[b"mine"] == b"yes"
        rows = canary_rows(planted.planting)
        users = found.take([i for i in range(found.num_rows) if i not in rows])
        assert users.to_pylist() == table.to_pylist()
        new = found.take(sorted(rows)).to_pylist()
        assert {each["label"] for each in new} == {"canary-1"}
        assert {each["is_member"] for each in new} == {True}
        assert {each["weight"] for each in new} == {0.25}
        assert [each["id"] for each in new] == list(range(9, 39))

    def test_parquet_labels_of_whole_numbers(self, tmp_path):
        table = pyarrow.table({"text": [f"t{i}" for i in range(6)], "label": [0, 1, 2] * 2})
        pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
        planted = plant(
            tmp_path / "d.parquet", tmp_path / "p.parquet", PlantingPlan((PIN,), canaries=2, label="per-canary")
        )
        assert set(pyarrow.parquet.read_table(planted.data)["label"].to_pylist()) == {0, 1, 2, 3, 4}

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example(cells=[("a", "x"), ("\t\n", "x")], end="\n", tsv=True, seed=0)
    @given(
        cells=st.lists(
            st.tuples(st.text(st.sampled_from('ab ,"\n\r\t é'), min_size=1, max_size=8), st.sampled_from("xy")),
            min_size=2,
            max_size=6,
        ),
        end=st.sampled_from(["\n", "\r\n"]),
        tsv=st.booleans(),
        seed=st.integers(0, 99),
    )
    def test_any_delimited_file(self, tmp_path, cells, end, tsv, seed):
        """Whatever the csv module writes: what was read before is read again, the new rows are where they belong."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter="\t" if tsv else ",", lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *cells])
        path = tmp_path / ("d.tsv" if tsv else "d.csv")
        path.write_bytes(buffer.getvalue().encode())
        table = read_table(path)
        places = np.random.default_rng(seed).choice(table.rows + 3, size=3, replace=False).tolist()
        text, label = table.columns  # with its quotes, where a TSV reads as one that does not quote
        new = {p: {text: f"new {p}", label: "x"} for p in places}
        result = tmp_path / f"out{path.suffix}"
        result.write_bytes(insert_rows(path, table, new))
        found = read_table(result)
        for name, before in table.columns.items():
            assert [cell for i, cell in enumerate(found.columns[name]) if i not in new] == before
            assert {i: found.columns[name][i] for i in new} == {i: row[name] for i, row in new.items()}
