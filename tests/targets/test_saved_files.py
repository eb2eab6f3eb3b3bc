"""Score files as they are found: quoted, half written, broken, hostile."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scorefiles import MEMBER, SCORE, failure, write

from redteam.targets.saved import load_scores


@pytest.fixture
def save(tmp_path):
    """Write text or bytes to a file, by default a .csv."""

    def to_file(content, name="scores.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def test_a_spreadsheet_with_mark_carriage_returns_blank_lines_and_spaces(save):
    path = save(b"\xef\xbb\xbf Member , Score\r\n1, 0.5\r\n\r\n0,1e-3\r\n1,.5\r\n0,-2\r\n\r\n")
    target, split, _ = load_scores(path)
    assert target.losses(split.nonmembers).tolist() == [-1e-3, 2]


def test_quoted_cells_with_line_breaks(save):
    path = save('member,text,score\n1,"a, ""b""\nc",1\n0,"x",2\n1,y,3\n0,z,4\n')
    assert load_scores(path)[1].members.texts == ('a, "b"\nc', "y")


def test_stray_quotes_swallow_no_rows(save):
    path = save('member\ttext\tscore\n1\t"a\t1\n0\tb\t2\n1\t"c" d\t3\n0\t"e\t4\n1\tf\t5\n', "scores.tsv")
    _, split, notes = load_scores(path)
    assert split.members.texts == ('"a', '"c" d', "f")
    assert split.nonmembers.texts == ("b", '"e')
    assert "quote characters are part of the text" in notes[0]


ROWS = "member,score\n1,1\n0,2\n1,3\n0,4\n"


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("member,score\n", "no rows"),
        ("member\n1\n0\n", "no score, loss, predicted or probability (prob:LABEL) columns among 'member'"),
        ("score\n1\n0\n", "no membership column (member, split) among 'score'"),
        ("member,score,loss\n1,1,1\n", "both score and loss columns; keep one"),
        ("member,score,p:a,p:b\n1,1,1,0\n", "both score and probabilities columns"),
        ("member,p:a,p:b\n1,1,0\n", "probability columns need a label column"),
        ("member,label,p:a,P:a\n1,a,1,0\n", "columns 'p:a' and 'P:a' are of one label"),
        ("member,score,score\n1,1,1\n", "column 'score' occurs twice"),
        (ROWS + "1,abc\n", "row 5: score: 'abc' is not a number"),
        (ROWS + "1,\n", "row 5: score: empty"),
        (ROWS + "1,nan\n", "row 5: score: nan is not a finite number"),
        (ROWS + "1,-inf\n", "row 5: score: -inf is not a finite number"),
        (ROWS + "1,1e999\n", "row 5: score: inf is not a finite number"),
        (ROWS + "1,NA\n", "row 5: score: 'NA' is not a number"),
        (ROWS + "maybe,1\n", "row 5: 'maybe' says nothing about membership; known: train,"),
        (ROWS + ",1\n", "row 5: member is empty; known"),
        (ROWS + "2,1\n", "row 5: '2' says nothing"),
        (ROWS + "1,2,3\n", "line 6 has 3 fields, the header has 2"),
        (ROWS + "1\n", "line 6 has 1 fields, the header has 2"),
        ("member,score\n1,1\n1,2\n1,3\n", "0 non-members: an audit needs at least 2 of either"),
        ("member,score\n1,1\n0,2\n0,3\n", "1 members: an audit needs at least 2 of either"),
        (b"member,score,text\n1,1,a\n0,2,\xff\n", "line 3: byte 0xff is not UTF-8"),
        (b"member,score,text\n1,1,a\n0,2\xff\n", "line 3: byte 0xff is not UTF-8"),
        (b"memb\xe9r,score\n1,1\n", "not UTF-8"),
        ("member,score\n1,1\n".encode("utf-16-le"), "line 1: holds a zero byte"),
        (b"\x00\x01\x02\x00\n\x00\x00", "line 1: holds a zero byte"),
        ("member,score,text\n1,1,a\n0,2, \n", "1 members: an audit needs"),
        ("member,label,p:a,p:b\n1,a,0.5,0.5\n0,b,0.5,0.4\n", "row 2: the probabilities sum to 0.9, not 1"),
        ("member,label,p:a,p:b\n1,a,0.5,0.5\n0,b,1.5,-0.5\n", "row 2: a probability is negative (-0.5)"),
        ("member,label,p:a,p:b\n1,a,0.5,0.5\n0,b,1,nan\n", "row 2: p:b: nan is not a finite"),
        ("member,label,p:a,p:b\n1,a,0.5,0.5\n0,c,1,0\n", "row 2: label 'c' has no probability column among 'a', 'b'"),
        ("member,label,p:a,p:b\n1,a,0.5,0.5\n0,,1,0\n", "row 2: label is empty"),
    ],
)
def test_broken_text_files(save, content, fragment):
    assert fragment in failure(save(content))


def test_duplicates_count_against_the_sides(save):
    path = save("member,score,text\n1,1,a\n1,1,b\n0,2,A\n0,1,c\n")
    assert "1 members after 1 texts found on both sides were moved out" in failure(path)


def test_files_that_are_none(tmp_path, save):
    assert "unknown kind of file '.pkl'; known: .csv" in failure(save("", "scores.pkl"))
    assert "No such file" in failure(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in failure(tmp_path / "folder.csv")


LINES = '{"member": true, "score": 1}\n{"member": false, "score": 2.5}\n'


def test_json_lines_with_blank_lines_and_other_keys(save):
    content = LINES + '\n{"score": 3, "member": true, "text": null, "x": [1]}\n{"member": false, "score": -1}\n'
    target, split, _ = load_scores(save(content, "scores.jsonl"))
    assert target.losses(split.members).tolist() == [-1, -3]


def test_json_texts_that_look_like_dates_stay(save):
    line = '{"member": %d, "score": 1, "text": "2020-01-0%d"}\n'
    path = save("".join(line % (i % 2, i) for i in range(1, 5)), "scores.jsonl")
    assert load_scores(path)[1].members.texts == ("2020-01-01", "2020-01-03")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("", "empty"),
        ("hello\n", "line 1: not JSON"),
        ("[1]\n", "line 1: not a JSON object"),
        (LINES + "hello\n", "line 3: not JSON"),
        (LINES + "[1]\n", "line 3: not a JSON object"),
        (LINES + '{"member": true, "score": "x"}\n', "row 3: score: 'x' is not a number"),
        (LINES + '{"member": true, "score": true}\n', "row 3: column 'score' holds true or false, not numbers"),
        (LINES + '{"member": true, "score": "a b"}\n', "row 3: score: a text of 3 characters is not a number"),
        (LINES + '{"member": true, "score": NaN}\n', "row 3: score: nan is not a finite number"),
        (LINES + '{"member": true, "score": null}\n', "row 3: score: empty"),
        (LINES + '{"score": 1}\n', "row 3: member is empty"),
        (
            b'{"member": 1, "score": 1, "text": "a"}\n{"member": 1, "score": 1, "text": "\xff"}\n',
            "line 2: byte 0xff is not UTF-8",
        ),
        ('{"member": 1, "score": 1, "text": "\\ud800"}\n', "line 1: holds half of a surrogate pair"),
    ],
)
def test_broken_json_lines(save, content, fragment):
    assert fragment in failure(save(content, "scores.jsonl"))


@pytest.mark.parametrize(
    "score",
    [
        pa.array([1, 2, 3, 4, 5]),
        pa.array([1, 2, 3, 4, 5], pa.float16()),
        pa.array([1, 2, 3, 4, 5], pa.decimal128(5, 2)),
    ],
)
def test_parquet_types(tmp_path, score):
    side = pa.array(["in", "out", "in", "out", "in"]).dictionary_encode()
    text = pa.array(list("abcde"), pa.large_string())
    pq.write_table(
        pa.table({"split": side, "score": score, "text": text, "label": text.dictionary_encode()}),
        tmp_path / "s.parquet",
    )
    target, split, _ = load_scores(tmp_path / "s.parquet")
    assert target.losses(split.members).tolist() == [-1, -3, -5]
    assert split.members.texts == split.members.labels == ("a", "c", "e")


@pytest.mark.parametrize(
    ("columns", "fragment"),
    [
        ({"member": MEMBER, "score": ["a"] * 5}, "row 1: score: 'a' is not a number"),
        ({"member": MEMBER, "score": [b"\x80\x04K\x01."] * 5}, "column 'score' holds bytes, not numbers"),
        ({"member": MEMBER, "score": [[1.0]] * 5}, "column 'score' holds a list"),
        ({"member": MEMBER, "score": [1.0, 2, 3, None, 5]}, "row 4: score: empty"),
        ({"member": [b"1"] * 5, "score": SCORE}, "column 'member' holds bytes, not a side of the split"),
        ({"member": [0.5] * 5, "score": SCORE}, "row 1: '0.5' says nothing"),
        ({"member": [1, 0, None, 1, 0], "score": SCORE}, "row 3: member is empty"),
        (
            {"member": MEMBER, "score": SCORE, "text": [b"\x80\x04K\x01."] * 5},
            "row 1: column 'text' holds bytes, not a string",
        ),
        ({"member": [], "score": []}, "no rows"),
    ],
)
def test_broken_parquet(tmp_path, columns, fragment):
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    assert fragment in failure(tmp_path / "s.parquet")


@pytest.mark.parametrize("large", [1e30, 2.0**60 + 2**10, 1.5])
def test_labels_that_are_large_numbers(tmp_path, large):
    labels = [large, 2 * large, large, 2 * large]
    pq.write_table(
        pa.table({"label": labels, "member": [1, 1, 0, 0], "score": [0.1, 0.2, 0.3, 0.4]}), tmp_path / "s.parquet"
    )
    _, split, _ = load_scores(tmp_path / "s.parquet")
    assert [float(label) for label in split.members.labels] == labels[:2]


def test_parquet_that_is_none(tmp_path, save):
    assert "cannot be read" in failure(save("hello", "s.parquet"))
    whole = write(tmp_path, ".parquet", {"member": MEMBER, "score": SCORE}).read_bytes()
    assert "cannot be read" in failure(save(whole[:-20], "s.parquet"))


def test_parquet_text_that_is_not_utf8(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 5, pa.array([b"a", b"b", b"\xff", b"d", b"e"]).buffers())
    pq.write_table(pa.table({"member": MEMBER, "score": SCORE, "text": bad}), tmp_path / "s.parquet")
    assert "row 3: text is not UTF-8" in failure(tmp_path / "s.parquet")


def test_npz_with_a_matrix_of_probabilities(tmp_path):
    p = np.array([[0.25, 0.75]] * 5)
    labels = np.array(["a", "b"])
    for own in (np.array(["b"] * 5), np.ones(5, int)):  # names, or positions among the labels
        np.savez(tmp_path / "s.npz", member=MEMBER, probabilities=p, labels=labels, label=own)
        target, split, _ = load_scores(tmp_path / "s.npz")
        assert target.labels == ("a", "b")
        assert target.losses(split.members) == pytest.approx([-np.log(0.75)] * 3)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"score": np.array([Bomb()] * 5, dtype=object)}, "Object arrays cannot be loaded"),
        ({"score": np.zeros((5, 1))}, "'score' has shape (5, 1)"),
        ({"score": np.zeros(5, complex)}, "type complex128; wanted numbers"),
        ({"score": np.zeros(4)}, "columns of different lengths"),
        ({"score": np.array(["x"] * 5)}, "row 1: score: 'x' is not a number"),
        ({"score": np.array([1, 2, np.nan, 4, 5])}, "row 3: score: nan"),
        ({"probabilities": np.ones((5, 2))}, "need 'labels'"),
        ({"probabilities": np.ones((5, 2)), "labels": np.array(["a"])}, "need 'labels'"),
        ({"probabilities": np.ones((5, 2)) / 2, "labels": np.array(["a", "b"])}, "need a label column"),
        (
            {"probabilities": np.ones((5, 2)) / 2, "labels": np.array(["a", "b"]), "label": np.arange(5)},
            "row 3: label 2 is not a position among 2 labels",
        ),
    ],
)
def test_broken_npz(tmp_path, arrays, fragment):
    np.savez(tmp_path / "s.npz", member=MEMBER, **arrays)
    assert fragment in failure(tmp_path / "s.npz")


def test_npz_that_is_none(tmp_path, save):
    for content in (b"", b"hello", b"PK\x03\x04broken", pickle.dumps(Bomb())):
        assert "not an .npz archive; save the arrays with numpy.savez" in failure(save(content, "s.npz"))
    whole = write(tmp_path, ".npz", {"member": MEMBER, "score": SCORE}).read_bytes()
    assert "cannot be read" in failure(save(whole[:60] + b"x" + whole[61:], "s.npz"))


def test_numbers_of_another_byte_order(tmp_path):
    np.savez(tmp_path / "s.npz", member=MEMBER, score=np.array(SCORE, dtype=">f8"))
    target, split, _ = load_scores(tmp_path / "s.npz")
    assert target.losses(split.nonmembers).tolist() == [1, 0]
