"""Sentences composed from token ids are those that the tokenizer writes, or are not composed at all."""

import extraction_models as cases
import numpy as np
import pytest
import tiny_models
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from attacks.extraction.sentences import CandidateSet, by_candidate_set, spell
from redteam.canary import Pattern
from redteam.models.tokens import cut_at, token_ids


def candidate_set(template="call {w:2} book", symbols=tiny_models.WORDS[:8]):
    asked = cases.query(template, symbols=symbols)
    return CandidateSet(asked.pattern, asked.alphabets)


def composed(spelling, picks):
    found = {}
    for positions, ids in spelling.rows(picks):
        assert ids.shape[0] == len(positions)
        found |= dict(zip(positions.tolist(), ids.tolist(), strict=True))
    return [found[i] for i in range(len(picks))]


def byte_level():
    """Words are spelled otherwise at the start of a text, and one merge reaches over a blank."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return made


def over_blanks():
    """A tokenizer that takes `4 7` for one token."""
    words = {token: i for i, token in enumerate(["[UNK]", " ", *"0123456789abcdefghijklmnopqrstuvwxyz", "4 ", "4 7"])}
    return Tokenizer(models.BPE(words, [("4", " "), ("4 ", "7")], unk_token="[UNK]"))


class TestCandidateSet:
    def test_numbers_are_in_the_order_of_candidates(self):
        asked = cases.query("x {w:3}", symbols=("amber", "basil", "cedar"))
        own = CandidateSet(asked.pattern, asked.alphabets)
        assert [own.secret(pick) for pick in own.number(0, 27)] == list(asked.candidates())
        assert own.texts(own.number(5, 6)) == (asked.pattern.fill(own.secret(own.number(5, 6)[0])),)

    def test_picks_and_secrets_are_inverse(self):
        own = CandidateSet(Pattern.parse("x {a:1} {b:2}"), (("p", "q"), ("r", "s", "t"), ("r", "s", "t")))
        everything = own.number(0, own.size)
        assert len(everything) == 18
        np.testing.assert_array_equal(own.picks([own.secret(pick) for pick in everything]), everything)
        assert own.picks([]).shape == (0, 3)

    def test_queries_that_differ_in_the_label_share_a_space(self):
        first, second = cases.query(label="up"), cases.query(label="down", id="P")
        other = cases.query("play {w:2}")
        assert list(by_candidate_set([first, second, other, first]).values()) == [("up", "down"), ("up",)]


class TestSpelling:
    @pytest.mark.parametrize(
        ("template", "symbols"),
        [
            ("call {w:2} book", tiny_models.WORDS[:8]),
            ("{w:3}", cases.MIXED),
            ("a {w:1} b {w:2}.", cases.MIXED),
            ("call {w:2}", ("Amber", "ÀB", "7", "zyx")),
        ],
    )
    @pytest.mark.parametrize("special", [True, False])
    def test_is_what_the_tokenizer_writes(self, template, symbols, special):
        own, tokenizer = candidate_set(template, symbols), tiny_models.tokenizer(special=special)
        spelling = spell(tokenizer, own, name="t")
        picks = own.number(0, own.size)
        assert composed(spelling, picks) == token_ids(tokenizer, own.texts(picks), name="t")

    def test_by_the_place_where_that_matters(self):
        own, tokenizer = candidate_set("{w:2} x", ("4", "7", "11")), byte_level()
        spelling = spell(tokenizer, own, name="t")
        picks = own.number(0, own.size)
        assert composed(spelling, picks) == token_ids(tokenizer, own.texts(picks), name="t")
        assert spelling.counts[0].tolist() == [1, 1, 2]

    def test_none_where_symbols_change_their_neighbours(self):
        assert spell(over_blanks(), candidate_set("pin {w:2}", cases.DIGITS), name="t") is None

    def test_none_where_sentences_are_cut(self):
        tokenizer = tiny_models.tokenizer()
        cut_at(tokenizer, 5)
        assert spell(tokenizer, candidate_set("call book {w:2}"), name="t") is None
        cut_at(tokenizer, 6)
        assert spell(tokenizer, candidate_set("call book {w:2}"), name="t") is not None
        assert spell(tokenizer, candidate_set("call book {w:2}", cases.MIXED), name="t") is None

    def test_large_alphabets_are_looked_at_whole(self):
        """One symbol of 300 that is two words to the tokenizer is still right; one that is cut is seen."""
        symbols = (*[f"w{i}" for i in range(299)], "a-b")
        own, tokenizer = candidate_set("call {w:2}", symbols), tiny_models.tokenizer()
        picks = own.draw(500, np.random.default_rng(0))
        picks[:50, 0] = 299
        assert composed(spell(tokenizer, own, name="t"), picks) == token_ids(tokenizer, own.texts(picks), name="t")


def merged_digits(digits="123456789", *, prefix=False):
    """Byte-level pieces, of which some are a blank with a digit: the other digits stand beside their blank."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"\u0120{digit}" for digit in digits)]
    merges = [("\u0120", digit) for digit in digits]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=prefix), decoders.ByteLevel()
    return made


def unigram(digits="123456789"):
    """Pieces of a Unigram model, in which a blank is a letter of the word behind it."""
    letters = [(letter, -8.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz0123456789."]
    pieces = [("<unk>", -20.0), *letters, *((f"\u2581{digit}", -4.0) for digit in digits), ("12", -3.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return made


def characters():
    """Every character is a token, blanks too."""
    made = Tokenizer(models.BPE({c: i for i, c in enumerate([" ", ".", *"abcdefghijklmnopqrstuvwxyz0123456789"])}, []))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return made


class TestEveryKindOfTokenizer:
    @pytest.mark.parametrize("template", ["my pin is {w:4}", "{w:3} is my pin", "pin {w:2}.", "a {w:1} b {w:2}"])
    @pytest.mark.parametrize(
        "tokenizer",
        [
            merged_digits(),
            merged_digits(prefix=True),
            merged_digits("0"),
            merged_digits("37"),
            unigram(),
            unigram("5"),
            characters(),
            byte_level(),
        ],
    )
    @pytest.mark.parametrize("symbols", [tuple("0123456789"), ("12", "1", "0", "mary", "ann", "1212", "a")])
    def test_a_blank_belongs_to_the_symbol_where_some_symbol_is_merged_with_it(self, template, tokenizer, symbols):
        own = candidate_set(template, symbols)
        spelling = spell(tokenizer, own, name="t")
        assert spelling is not None
        picks = own.draw(200, np.random.default_rng(0))
        assert composed(spelling, picks) == token_ids(tokenizer, own.texts(picks), name="t")

    def test_merged_and_unmerged_symbols_are_of_several_shapes(self):
        spelling = spell(merged_digits(), candidate_set("my pin is {w:4}", tuple("0123456789")), name="t")
        assert [counts.tolist() for counts in spelling.counts] == [[2] + [1] * 9] * 4
