"""The canary ledger, alphabets and tokenizers: what is lost, edited or cannot be told apart is one clear line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from canary_rows import DIGITS, PIN, ROWS, draw, write_rows
from tokenizers import Tokenizer, models, pre_tokenizers

from defenses.plain import Plain
from redteam.canary import (
    Planting,
    PlantingPlan,
    canaries_beside,
    canary_rows,
    check_tokenizer,
    plant,
    vocabulary_texts,
)
from redteam.canary.alphabets import common_words, whole_words
from redteam.core import LedgerError, UsageError
from redteam.core.files import sha256
from redteam.data.planted import load_planting
from redteam.training.train import train


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path)


def test_a_training_is_told_which_rows_no_user_wrote(data, tmp_path):
    planted = plant(data, tmp_path / "p.csv", PlantingPlan((PIN,), canaries=4, repetitions=(3,), decoys=1))
    seen = []

    class Spy(Plain):
        def fit(self, start, examples, **options):
            seen.append(examples)
            return super().fit(start, examples, **options)

    train(planted.data, tmp_path / "m.pt", Spy(1))
    (rows,) = seen
    marked = set(rows.rows[rows.planted].tolist())
    assert marked == canary_rows(planted.planting)
    assert 0 < len(marked) < len(rows)
    train(data, tmp_path / "m.pt", Spy(1))
    assert seen[1].planted is None


class TestLedger:
    @pytest.fixture
    def planted(self, data, tmp_path):
        return plant(data, tmp_path / "p.csv", PlantingPlan((PIN,), canaries=4, repetitions=(2,), decoys=1))

    def edit(self, planted, change, *, seal=False):
        document = json.loads(planted.ledger.read_text())
        change(document)
        planted.ledger.write_text(json.dumps(document))
        if seal:
            from redteam import core

            replace(core.decode(Planting, document), digest="").save(planted.ledger)
        with pytest.raises(LedgerError, match=r"^[^\n]*p\.canaries\.json: [^\n]*$") as caught:
            load_planting(planted.ledger)
        for canary in planted.planting.canaries:
            assert " ".join(canary.secret) not in str(caught.value)
        return str(caught.value)

    def test_lost(self, planted):
        planted.ledger.unlink()
        with pytest.raises(LedgerError, match=r"cannot be read \(No such file.*plant again and train again"):
            load_planting(planted.ledger)
        assert canaries_beside(planted.data) is None
        assert canary_rows(None) == frozenset()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda d: d["canaries"][0].update(label="zz"), "digest differs"),
            (lambda d: d["canaries"][0].update(planted=1 - d["canaries"][0]["planted"]), "digest differs"),
            (lambda d: d["canaries"].pop(), "digest differs"),
            (lambda d: d.update(key="00"), "digest differs"),
            (lambda d: d.update(digest=""), "digest differs"),
            (lambda d: d["canaries"][0].update(extra=1), "unknown key 'extra'"),
            (lambda d: d["canaries"][0].update(planted=2), "planted is 0 or 1"),
            (lambda d: d["canaries"][0].update(secrets=[["1"]]), "two different secrets"),
            (lambda d: d["canaries"][0].update(repetitions=3), "3 repetitions in 2 rows"),
            (lambda d: d.update(format="redteam.canaries/9"), "format is 'redteam.canaries/9'"),
        ],
    )
    def test_edited(self, planted, change, said):
        assert said in self.edit(planted, change)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda d: d["canaries"][0].update(planted=1 - d["canaries"][0]["planted"]),
                "planted secrets are not those",
            ),
            (lambda d: d["canaries"].append(d["canaries"][0]), "two of one id"),
            (lambda d: d.update(canaries=[]), "no canaries"),
            (lambda d: d["canaries"][0].update(rows=[0, 99_999]), "beyond the last"),
            (lambda d: d["canaries"][0].update(rows=d["canaries"][1]["rows"]), "holds two canaries"),
            (lambda d: d["canaries"][0]["secrets"][0].append("1"), "not of its alphabet"),
            (lambda d: d["canaries"][0].update(template="{city:4}"), "not of its alphabet"),
        ],
    )
    def test_edited_with_a_new_digest(self, planted, change, said):
        assert said in self.edit(planted, change, seal=True)

    def test_changed_data(self, planted):
        planted.data.write_text(planted.data.read_text() + "\n")
        with pytest.raises(LedgerError, match="changed since its canaries were planted"):
            canaries_beside(planted.data)

    def test_into_a_model_ledger_and_back(self, planted, tmp_path):
        path = tmp_path / "model.ledger.json"
        assert Planting.of(planted.planting.encoded(), path) == planted.planting
        assert Planting.of(json.loads(json.dumps(planted.planting.encoded())), path) == planted.planting
        assert Planting.of((), path) is None
        broken = json.loads(json.dumps(planted.planting.encoded()))
        broken[0]["canaries"].pop()
        for document in (broken, [{}], [*broken, *broken]):
            with pytest.raises(LedgerError, match=r"^[^\n]*model\.ledger\.json: "):
                Planting.of(document, path)

    def test_the_source_is_named_by_its_fingerprint(self, planted, data):
        assert planted.planting.source_sha256 == sha256(data)
        assert planted.planting.planted_sha256 == sha256(planted.data)
        assert planted.planting.key == sha256(data)


class TestAlphabets:
    def chosen(self, data, out, template, **files):
        return plant(data, out, PlantingPlan((template,), canaries=2), alphabets=files).planting.alphabets

    def test_built_in_and_files(self, data, tmp_path):
        (tmp_path / "city.txt").write_text("\ufeffparis\n\n rome \noslo\n", encoding="utf-8")
        found = self.chosen(data, tmp_path / "p.csv", "in {city:3} {color} {name}", city=tmp_path / "city.txt")
        assert found["city"] == ("paris", "rome", "oslo")
        assert {"color", "name"} < found.keys()

    def test_words_of_the_data(self, data, tmp_path):
        found = self.chosen(data, tmp_path / "p.csv", "say {word:2}")["word"]
        assert found == common_words(ROWS.texts)
        assert "amber" in found
        assert all(sum(word in text.split() for text in ROWS.texts) >= 10 for word in found)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("only\n", "has 1 symbols"),
            ("", "has 0 symbols"),
            ("a b\nc\n", "is not one word"),
            ("Red\nred\nblue\n", "is there twice"),
            (b"\xff\xff", "is not UTF-8"),
            (None, "cannot be read"),
        ],
    )
    def test_files_that_will_not_do(self, data, tmp_path, content, said):
        path = tmp_path / "a.txt"
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
            self.chosen(data, tmp_path / "p.csv", "in {city:2}", city=path)
        assert said in str(caught.value)

    def test_unknown_and_unused(self, data, tmp_path):
        with pytest.raises(UsageError, match="unknown alphabet 'city'; known: digit, color, name, word"):
            self.chosen(data, tmp_path / "p.csv", "in {city:2}")
        (tmp_path / "city.txt").write_text("a\nb\n")
        with pytest.raises(UsageError, match=r"--alphabet city: no pattern"):
            self.chosen(data, tmp_path / "p.csv", PIN, city=tmp_path / "city.txt")


def words(*known, longest=None):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0} | {w: i + 1 for i, w in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if longest:
        tokenizer.enable_truncation(longest)
    return tokenizer


class TestTokenizer:
    def planting(self, **changes):
        return Planting("", "", 300, 0, "k", DIGITS, draw(), **changes)

    def test_known(self):
        check_tokenizer(self.planting(), words("my", *"0123456789"), name="m")

    def test_unknown_symbol(self):
        with pytest.raises(UsageError, match=r"^m: its tokenizer does not know '7' of alphabet 'digit'"):
            check_tokenizer(self.planting(), words("my", *"012345689"), name="m")

    def test_two_symbols_that_are_one(self):
        tokenizer = words("a", *"0123456789")
        planting = replace(self.planting(), alphabets={"digit": ("0", "1", "0 ")})
        with pytest.raises(UsageError, match="takes '0' and '0 ' of 'digit' for the same"):
            check_tokenizer(planting, tokenizer, name="m")

    def test_a_secret_that_is_cut_off(self):
        with pytest.raises(UsageError, match=r"cuts 'my pin code is \{digit:4\}' off"):
            check_tokenizer(self.planting(), words(*"0123456789", longest=7), name="m")
        check_tokenizer(self.planting(), words(*"0123456789", longest=8), name="m")

    def test_the_secret_of_most_pieces_is_cut_off_first(self):
        pieces = models.WordPiece(
            {"[UNK]": 0, "amber": 1, **{p: i + 2 for i, p in enumerate(["a", "##b", "##c", "##d"])}}
        )
        tokenizer = Tokenizer(pieces)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        symbols = ("amber", "abc", "abd")  # one piece of five letters, and three of three
        canaries = draw(PlantingPlan(("{word:2}",), canaries=1), alphabets={"word": symbols})
        planting = replace(self.planting(), alphabets={"word": symbols}, canaries=canaries)
        tokenizer.enable_truncation(5)
        with pytest.raises(UsageError, match=r"cuts '\{word:2\}' off"):
            check_tokenizer(planting, tokenizer, name="m")
        tokenizer.enable_truncation(6)
        check_tokenizer(planting, tokenizer, name="m")

    def test_whole_words(self):
        assert whole_words(words("a", "house", "##s", "x1", "[UNK]", "tree")) == ("a", "house", "tree")

    def test_a_vocabulary_is_learned_without_secrets(self):
        from redteam.data import Examples
        from redteam.models.initial import learn_vocabulary

        planting = self.planting()
        texts = vocabulary_texts(planting)
        assert vocabulary_texts(None) == ()
        other = replace(planting, canaries=draw(seed=9))
        assert vocabulary_texts(other) == texts  # whatever was drawn
        tokenizer = learn_vocabulary((*Examples(np.arange(2), ("no digits", "here")).texts, *texts), size=300)
        check_tokenizer(planting, tokenizer, name="m")
        assert len(tokenizer.encode("my pin code is 4 7 1 1").ids) == 2 + 4 + 4
