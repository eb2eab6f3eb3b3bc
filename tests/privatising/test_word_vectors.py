"""Word vectors: what is read, what is refused, and distances."""

import numpy as np
import pytest
from word_tables import cloud

from redteam.core import DataError, UsageError
from redteam.data.words import words_of
from redteam.models.word_vectors import WordVectors, load_word_vectors


def test_distances_are_those_of_loops():
    table = cloud(9, 4, seed=2)
    slow = np.array([[np.linalg.norm(a - b) for b in table.vectors] for a in table.vectors])
    assert np.allclose(table.distances(np.arange(9)), slow, atol=1e-7)
    assert (np.diag(table.distances(np.arange(9))) == 0).all()
    apart = slow[~np.eye(9, dtype=bool)]
    assert table.extremes[0] == pytest.approx(apart.min())
    assert apart.max() <= table.extremes[1] <= apart.max() * 1.0001


@pytest.mark.parametrize("moved", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("near", [1e-7, 1e-5, 1e-3, 0.0])
def test_far_from_the_origin_and_near_each_other(moved, near):
    """The least distance decides what gumbel adds: one too large would be a broken promise."""
    at = np.round(np.random.default_rng(0).normal(size=(700, 6)) * 64) / 64  # so that adding loses nothing
    at[-1] = at[5] + [near, 0, 0, 0, 0, 0]
    table = WordVectors("t", tuple(f"w{i}" for i in range(700)), at + moved)
    true = np.linalg.norm(table.vectors[-1] - table.vectors[5])
    assert table.extremes[0] == true
    assert table.distances(np.array([699]))[0, 5] == pytest.approx(true, rel=1e-6)
    assert table.extremes[1] == pytest.approx(table.distances(np.arange(700)).max(), rel=2e-5)


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_text_files_of_either_kind(tmp_path, header):
    path = tmp_path / "v.txt"
    path.write_text(f"{header}a 0 1\nb 2.5 -1e-1\nunk 1 1\n")
    table = load_word_vectors(str(path))
    assert (table.words, table.vectors.tolist()) == (("a", "b"), [[0, 1], [2.5, -0.1]])


def test_arrays(tmp_path):
    np.savez(tmp_path / "v.npz", words=np.array(["a", "b"]), vectors=np.eye(2))
    assert load_word_vectors(str(tmp_path / "v.npz")).index == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.txt", b"the\nof\n", "line 1: a word without a vector"),
        ("v.txt", b"a 1 2\nb 1\n", "line 2: a vector of 1 numbers among vectors of 2"),
        ("v.txt", b"2 3\na 1 2 3\nb 1 2\n", "line 3: a vector of 2 numbers among vectors of 3"),
        ("v.txt", b"9 2\na 1 2\nb 1 2\n", "2 vectors where its first line says 9"),
        ("v.txt", b"a one two\n", "line 1: is no word with its numbers"),
        ("v.txt", b"a 1 nan\nb 1 2\n", "the vector of 'a' holds what is no finite number"),
        ("v.txt", b"a 1 2\na 1 2\n", "the word 'a' stands twice"),
        ("v.txt", b"a 1 2\n", "give 2 or more"),
        ("v.txt", b"\x89PNG\r\n\x00\x01", "byte 0x89 is not UTF-8"),
        ("v.txt", b"a 1 2\nb 1e20 2\n", "numbers beyond 1e+15 have no distances"),
        ("v.txt", b"a 1e-20\nb 2e-20\n", "scale them up"),
        ("v.txt", b" 1 2\nb 1 2\n", "'' is no single word"),
        ("v.txt", "a\u00a0b 1 2\nc 1 2\n".encode(), "holds white space"),
        ("v.npz", b"PK no archive", "is no file of word vectors"),
        ("v.txt", b"", "holds no word vectors"),
    ],
)
def test_what_is_no_file_of_vectors(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        load_word_vectors(str(tmp_path / name))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_vectors_of_no_numbers():
    with pytest.raises(DataError, match="hold no numbers"):
        WordVectors("t", ("a", "b"), np.zeros((2, 0)))


def test_arrays_of_other_names(tmp_path):
    np.savez(tmp_path / "v.npz", table=np.eye(2))
    with pytest.raises(DataError, match="it needs `words` and `vectors`"):
        load_word_vectors(str(tmp_path / "v.npz"))
    with pytest.raises(UsageError, match="no such file, and neither minilm nor glove"):
        load_word_vectors("none")


def test_words():
    assert words_of("Add Romántica, to O'Neil's 2nd_list!") == [
        "add",
        "romantica",
        "to",
        "o",
        "neil",
        "s",
        "2nd",
        "list",
    ]
    assert words_of("?!") == []
