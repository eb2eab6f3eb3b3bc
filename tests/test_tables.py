"""Every way a table of text is written, and every way it is broken."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from conftest import SNIPS

from redteam.core import DataError
from redteam.data.table import read_table


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def columns(path):
    return read_table(path).columns


class TestDelimited:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.csv", "text,label\nhello,x\nbye,y\n"),
            ("a.csv", "text,label\r\nhello,x\r\nbye,y\r\n"),
            ("a.csv", "\ufefftext,label\nhello,x\nbye,y"),
            ("a.csv", '"text","label"\n"hello","x"\n"bye","y"\n'),
            ("a.csv", '\ufeff"text","label"\r\n"hello","x"\r\n"bye","y"\r\n'),
            ("a.CSV", "\n text , label\n\nhello,x\n\nbye,y\n\n"),
            ("a.tsv", "text\tlabel\nhello\tx\nbye\ty\n"),
            ("a.tsv", 'text\tlabel\n"hello"\tx\nbye\ty\n'),
        ],
    )
    def test_one_table_written_in_many_ways(self, file, name, content):
        assert columns(file(name, content)) == {"text": ["hello", "bye"], "label": ["x", "y"]}

    def test_quoting_protects_delimiters_newlines_and_quotes(self, file):
        path = file("a.csv", 'text,label\n"one, two",x\n"line\nnext ""said""\r\nend",y\n')
        assert columns(path) == {"text": ["one, two", 'line\nnext "said"\r\nend'], "label": ["x", "y"]}
        assert read_table(path).notes == ()

    def test_a_quoted_newline_between_delimiters_does_not_split_a_csv_row(self, file):
        path = file("a.csv", 'text,label\n"a,b\nc",x\n')
        assert columns(path) == {"text": ["a,b\nc"], "label": ["x"]}

    @pytest.mark.parametrize(
        "content",
        [
            'text\tlabel\n"hello she said\tx\nbye\ty\n',  # never closed
            'text\tlabel\n"hello" she said\tx\nbye\ty\n',  # closed too early
            'text\tlabel\n"hello\tx\nbye"\ty\n',  # closed two rows later
            'text\tlabel\n"\tx\n5" screen\ty\n',
        ],
    )
    def test_stray_quotes_in_an_unquoted_file_are_text(self, file, content):
        table = read_table(file("a.tsv", content))
        assert table.rows == 2
        assert table.columns["text"] == [line.split("\t")[0] for line in content.splitlines()[1:]]
        assert table.notes == ("a.tsv: quote characters are part of the text (the file does not use quoting)",)

    def test_quotes_inside_unquoted_cells_need_no_decision(self, file):
        assert columns(file("a.csv", 'text,label\na 5" screen,x\n'))["text"] == ['a 5" screen']

    @pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "\x1e", "\r"])
    def test_no_other_character_ends_a_row(self, file, odd):
        assert columns(file("a.tsv", f"text\tlabel\none{odd}two\tx\n"))["text"] == [f"one{odd}two"]
        assert columns(file("b.csv", f'text,label\n"one,{odd}two",x\n'))["text"] == [f"one,{odd}two"]
        line = json.dumps({"text": f"one{odd}two"}, ensure_ascii=False)
        assert columns(file("c.jsonl", line + "\n"))["text"] == [f"one{odd}two"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "empty"),
            ("\ufeff", "empty"),
            ("\n\r\n\n", "empty"),
            ("text,label\n", "no rows"),
            ("text,label\nx\n", "line 2 has 1 fields, the header has 2"),
            ("text,label\n\n\nx,y\nx,y,z\n", "line 5 has 3 fields, the header has 2"),
            ('text,label\n"a,\nb",x\n"c",x,y\n', "with quoting, line 4 has 3 fields, the header has 2; without, "),
            ('text,label\n"a,b",x\n"open,x\n', "with quoting, line 3: unexpected end of data; without, line 2 has 3"),
            ("text,label,text\na,b,c\n", "column 'text' occurs twice"),
            ("text\0,label\na,b\n", "line 1: holds a zero byte"),
        ],
    )
    def test_broken(self, file, content, said):
        with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
            read_table(file("a.csv", content))
        assert said in str(caught.value)

    @pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
    def test_invalid_utf8_names_line_and_byte(self, file, start):
        with pytest.raises(DataError, match="line 3: byte 0xe9 is not UTF-8; convert the file"):
            read_table(file("a.csv", start + b"text,label\nhello,x\ncaf\xe9,y\n"))

    def test_utf16_is_named_for_what_it_is(self, file):
        with pytest.raises(DataError, match="line 1: holds a zero byte, so it is not UTF-8"):
            read_table(file("a.csv", "text,label\na,b\n".encode("utf-16-le")))

    def test_a_cell_longer_than_the_csv_module_takes(self, file):
        long = "x, " * 100_000
        assert columns(file("a.csv", f'text,label\n"{long}",y\n'))["text"] == [long]


class TestJsonLines:
    def test_values_become_text(self, file):
        rows = [
            {"text": "one", "label": 1, "extra": None},
            {"text": "two", "label": 2.0, "more": True},
            {"text": "three", "label": 2.5, "more": {"a": [1]}},
        ]
        path = file("a.ndjson", "\n\n".join(map(json.dumps, rows)) + "\r\n\n  \n")
        assert columns(path) == {
            "text": ["one", "two", "three"],
            "label": ["1", "2", "2.5"],
            "extra": [None, None, None],
            "more": [None, "true", '{"a": [1]}'],
        }

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"text": "b"', "line 3: not JSON (Expecting"),
            ("[1, 2]", "line 3: not a JSON object"),
            ("7", "line 3: not a JSON object"),
            ("[" * 100_000, "line 3: not JSON"),
            ('{"text": "\\ud83d half"}', "line 3: holds half of a surrogate pair"),
        ],
    )
    def test_a_broken_line_is_named(self, file, line, said):
        with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
            read_table(file("a.jsonl", '{"text": "a"}\n\n' + line + "\n"))
        assert said in str(caught.value)

    def test_whole_surrogate_pairs_are_text(self, file):
        assert columns(file("a.jsonl", '{"text": "\\ud83d\\ude00"}'))["text"] == ["😀"]

    @pytest.mark.parametrize("content", ["", "\n\n", "{}\n{}\n"])
    def test_no_rows(self, file, content):
        with pytest.raises(DataError, match="no rows"):
            read_table(file("a.jsonl", content))


class TestParquet:
    def write(self, path, **arrays):
        pyarrow.parquet.write_table(pyarrow.table(arrays), path)
        return path

    def test_values_become_text(self, tmp_path):
        path = self.write(
            tmp_path / "x=1.parquet",  # must not be taken for a partition
            text=["one", "two", "three"],
            whole=pyarrow.array([1, None, 3]),
            floats=pyarrow.array([1.0, 2.5, None]),
            truth=[True, False, None],
            kind=pyarrow.array(["a", "b", "a"]).dictionary_encode(),
            raw=pyarrow.array([b"a", "é".encode(), None]),
            when=pyarrow.array([0, 1, None], pyarrow.date32()),
            parts=[["a"], [], None],
        )
        assert columns(path) == {
            "text": ["one", "two", "three"],
            "whole": ["1", None, "3"],
            "floats": ["1", "2.5", None],
            "truth": ["true", "false", None],
            "kind": ["a", "b", "a"],
            "raw": ["a", "é", None],
            "when": ["1970-01-01", "1970-01-02", None],
            "parts": ['["a"]', "[]", None],
        }

    def test_broken(self, tmp_path):
        path = self.write(tmp_path / "a.parquet", text=["one"] * 100)
        whole = path.read_bytes()
        for content in (b"", whole[:4], whole[: len(whole) // 2], whole[:-1], b"text,label\n"):
            path.write_bytes(content)
            with pytest.raises(DataError, match=r"^[^\n]*cannot be read as Parquet[^\n]*$"):
                read_table(path)

    def test_invalid_utf8(self, tmp_path):
        for bad in (pyarrow.array([b"caf\xe9"]), pyarrow.array([b"caf\xe9"]).view(pyarrow.string())):
            with pytest.raises(DataError, match="row 1: text is not UTF-8"):
                read_table(self.write(tmp_path / "a.parquet", text=bad))

    def test_no_rows_and_a_column_twice(self, tmp_path):
        with pytest.raises(DataError, match="no rows"):
            read_table(self.write(tmp_path / "a.parquet", text=pyarrow.array([], pyarrow.string())))
        twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
        pyarrow.parquet.write_table(twice, tmp_path / "b.parquet")
        with pytest.raises(DataError, match="column 'text' occurs twice"):
            read_table(tmp_path / "b.parquet")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_missing_file_and_folder(tmp_path, suffix):
    with pytest.raises(DataError, match=r"No such file or directory"):
        read_table(tmp_path / f"none.{suffix}")
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    with pytest.raises(DataError, match="Is a directory"):
        read_table(folder)


@pytest.mark.parametrize("name", ["a.txt", "a.csv.zip", "a", "a.gz", "a.pkl"])
def test_unknown_kind(tmp_path, name):
    with pytest.raises(DataError, match=r"unknown kind of file '[^']*'; known: .csv, .tsv, .jsonl, .ndjson, .json, "):
        read_table(tmp_path / name)


@pytest.mark.skipif(not SNIPS.is_file(), reason="needs SNIPS at ../shared/data/snips/snips.tsv")
def test_snips_with_its_stray_quotes():
    table = read_table(SNIPS)
    assert table.rows == 14_484
    lines = SNIPS.read_text(encoding="utf-8").split("\n")[1:-1]
    assert table.columns["text"] == [line.split("\t")[0] for line in lines]
