"""Which column is what, which texts are the same, and what a split leaves of them."""

import unicodedata

import numpy as np
import pytest
from conftest import sentences

from redteam.core import DataError
from redteam.data import Columns, Examples, Split, fold, join, read_examples, read_split, text_key


@pytest.fixture
def csv(tmp_path):
    def write(*lines, name="data.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def examples(*texts, labels=None, start=0):
    return Examples(np.arange(start, start + len(texts)), texts, labels or ("x",) * len(texts))


class TestColumns:
    @pytest.mark.parametrize(
        ("header", "text", "label"),
        [
            ("text,label", "text", "label"),
            ("label,utterance", "utterance", "label"),
            ("Query,Intent", "Query", "Intent"),
            ("intent,text,label", "text", "label"),  # the more usual name wins
            ("sentence,class,TEXT", "TEXT", "class"),
        ],
    )
    def test_guessed_and_said(self, csv, header, text, label):
        cells = ",".join(f"cell of {name}" for name in header.split(","))
        reading = read_examples(csv(header, cells), Columns())
        assert reading.examples.texts == (f"cell of {text}",)
        assert reading.examples.labels == (f"cell of {label}",)
        assert reading.notes == (f"data.csv: guessed columns: text = {text!r}, label = {label!r}",)
        assert (reading.columns.text, reading.columns.label) == (text, label)

    def test_named_columns_need_no_note(self, csv):
        path = csv("a,b,text,label,id,user_id,group", "one,x,no,no,r1,u1,g1", "two,y,no,no,,,")
        reading = read_examples(path, Columns("a", "b", "id", "user_id", "group"))
        got = reading.examples
        assert (got.texts, got.labels, got.users, got.groups) == (("one", "two"), ("x", "y"), ("u1", ""), ("g1", ""))
        assert [got.name(0), got.name(1)] == ["r1", "row 2"]
        assert reading.notes == ()

    def test_a_named_column_is_not_guessed_again(self, csv):
        path = csv("intent,label", "play it,x")
        assert read_examples(path, Columns(text="intent")).examples.labels == ("x",)
        with pytest.raises(DataError, match="no label column among 'intent', 'other'; say --label-column NAME"):
            read_examples(csv("intent,other", "play it,x"), Columns(text="intent"))
        with pytest.raises(DataError, match="'intent' cannot be both text and label"):
            read_examples(path, Columns(text="intent", label="intent"))

    def test_missing_columns(self, csv):
        many = ",".join(f"c{i}" for i in range(100))
        with pytest.raises(DataError, match=r"no text column among 'c0', .*'c9', \.\.\.; say --text-column NAME$"):
            read_examples(csv(many, many), Columns())
        with pytest.raises(DataError, match="no column 'words' for text; the file has 'text', 'label'"):
            read_examples(csv("text,label", "a,b"), Columns(text="words"))

    def test_empty_labels(self, csv):
        with pytest.raises(DataError, match=r"row 2: label is empty; fill it or drop the row"):
            read_examples(csv("text,label", ",", "a, "), Columns())

    def test_rows_without_a_text_are_skipped_counted_and_keep_their_numbers(self, csv):
        reading = read_examples(csv("text,label,id", "a,x,", " ,y,", ",,", "b,y,", "\u3000,y,"), Columns())
        assert (reading.examples.texts, reading.examples.labels) == (("a", "b"), ("x", "y"))
        assert (reading.examples.rows.tolist(), reading.rows) == ([0, 3], 5)
        assert reading.examples.name(1) == "row 4"
        assert reading.notes[-1] == "data.csv: skipped 3 rows without a text"
        with pytest.raises(DataError, match="no row has a text"):
            read_examples(csv("text,label", " ,y"), Columns())

    def test_a_split_column_is_ignored_unless_named(self, csv):
        path = csv("text,label,split", "a,x,validation", "b,y,")
        assert read_examples(path, Columns()).sides is None


class TestSplitColumn:
    def test_words_for_each_side(self, csv):
        inside = ("member", "Train", " IN ", "1", "TRUE")
        outside = ("nonmember", "test", "Non-Member", "0", "false")
        apart = ("reference", "population")
        words = inside + outside + apart
        path = csv("text,label,split", *(f"text {i},x,{word}" for i, word in enumerate(words)))
        split, notes = read_split(path, Columns())
        assert split.members.texts == tuple(f"text {i}" for i in range(5))
        assert split.nonmembers.rows.tolist() == [5, 6, 7, 8, 9]
        assert split.reference is not None
        assert split.reference.texts == ("text 10", "text 11")
        assert not split.randomised
        assert notes == ("data.csv: guessed columns: text = 'text', label = 'label', split = 'split'",)

    def test_refusals(self, csv):
        with pytest.raises(DataError, match="row 2: 'valid' says nothing about membership; known: train, "):
            read_split(csv("text,label,split", "a,x,train", "b,x,valid"), Columns())
        with pytest.raises(DataError, match="no split column among 'text', 'label'; say --split-column NAME"):
            read_split(csv("text,label", "a,x"), Columns())
        with pytest.raises(DataError, match="row 1: part is empty"):
            read_split(csv("text,label,part", "a,x,"), Columns(split="part"))
        with pytest.raises(DataError, match="0 non-members: an audit needs at least 2 of either"):
            read_split(csv("text,label,split", "a,x,train", "b,x,train"), Columns())


class TestFold:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Play It", "play it"),
            ("  play \t\n it\u00a0", "play it"),
            ("caf\u00e9", "cafe\u0301"),
            ("STRASSE", "straße"),
            ("\u0390", "\u03aa\u0301"),  # upper case has no composed form
            ("a\u2028b", "a b"),
        ],
    )
    def test_the_same(self, one, other):
        assert fold(one) == fold(other)
        assert text_key(one) == text_key(other)

    @pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("cafe", "café"), ("a.", "a"), ("1", "l")])
    def test_different(self, one, other):
        assert text_key(one) != text_key(other)

    def test_once_is_enough(self):
        for code in range(0x250, 0x2000):
            letter = chr(code)
            assert fold(fold(letter)) == fold(letter) == fold(unicodedata.normalize("NFD", letter))


class TestSplit:
    def test_repeats_go_and_texts_on_both_sides_leave_the_audit(self):
        members = examples("one", "ONE ", "two", "both", "caf\u00e9")
        nonmembers = examples("three", "four", " Both", "bOTH", "cafe\u0301", "five")
        split = Split.of(members, nonmembers, examples("three", "six", "Six", "both"))
        assert split.members.texts == ("one", "two")
        assert split.nonmembers.texts == ("three", "four", "five")
        assert split.nonmembers.rows.tolist() == [0, 1, 5]
        assert split.reference is not None
        assert split.reference.texts == ("six",)
        assert (split.moved_out, split.duplicates) == (2, 2)

    def test_too_few(self):
        same = examples("a", "b", "c")
        with pytest.raises(DataError, match="0 members after 3 texts found on both sides were moved out"):
            Split.of(same, examples("A", "B", "C"))
        with pytest.raises(DataError, match=r"^1 members: an audit needs at least 2 of either$"):
            Split.of(examples("a", "A"), examples("b", "c"))
        with pytest.raises(DataError, match=r"^1 non-members: "):
            Split.of(Examples(np.arange(5)), Examples(np.arange(1)))

    def test_scores_without_texts_pass(self):
        split = Split.of(Examples(np.arange(3)), Examples(np.arange(3, 5)), salt="s")
        assert (len(split.members), len(split.nonmembers), split.salt) == (3, 2, "s")

    def test_the_pool_is_shuffled_and_the_mask_is_right(self):
        split = Split.of(sentences(300, seed=1), sentences(200, seed=2))
        pool, mask = split.pool(3)
        again, same = split.pool(3)
        other, _ = split.pool(4)
        assert pool.texts == again.texts
        assert (mask == same).all()
        assert pool.texts != other.texts
        inside = set(split.members.texts or ())
        assert [text in inside for text in pool.texts or ()] == mask.tolist()
        assert set(pool.texts or ()) == inside | set(split.nonmembers.texts or ())
        ranks = np.flatnonzero(mask)  # members stand anywhere: mean place of 300 of 500, 6 standard errors
        assert abs(ranks.mean() - 249.5) < 6 * 500 / np.sqrt(12 * 300)

    def test_two_hundred_thousand_texts(self):
        texts = tuple(f"Text number {i} in café {i % 7}" for i in range(200_000))
        everything = Examples(np.arange(200_000), texts, ("x",) * 200_000)
        half = np.arange(100_000)
        split = Split.of(everything.take(half), everything.take(half + 100_000), everything.take(half))
        assert len(split.pool(0)[1]) == len(split.members) + len(split.nonmembers)
        assert len(split.members) == 100_000


class TestExamples:
    def test_columns_of_unequal_length(self):
        with pytest.raises(DataError, match="1 labels for 2 rows"):
            Examples(np.arange(2), ("a", "b"), ("x",))

    def test_take_and_join(self):
        one = Examples(np.arange(2), ("a", "b"), ("x", "y"), ids=("1", "2"))
        both = join(one, examples("c", start=7))
        assert both.rows.tolist() == [0, 1, 7]
        assert both.texts == ("a", "b", "c")
        assert both.ids is None
        assert both.take([2, 0]).texts == ("c", "a")
        assert len(both.take([])) == 0
