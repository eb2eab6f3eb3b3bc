"""RT203: swaps that are tried exactly, and what comes out against everything that could have."""

from dataclasses import replace

import extraction_models as cases
import numpy as np
import pytest
import tiny_models

from attacks.extraction._losses import Losses, Memory
from attacks.extraction._soft_embeddings import embed, gradients
from attacks.extraction._swaps import _promise, _single_swaps
from attacks.extraction.search import SwapSearch
from attacks.extraction.sentences import CandidateSet
from redteam.plugins.context import AttackContext

FAST = SwapSearch(restarts=1, random_starts=3, rounding_interval=8)
WORDS = tuple(f"{a}{b}" for a in "abcdefgh" for b in "klmnopqrst") + tuple(tiny_models.WORDS)


class Table:
    """Losses from an array, counting what is asked."""

    labels = ("x", "y")

    def __init__(self, values):
        self.values, self.asked = values, 0

    def of(self, picks):
        self.asked += len(picks)
        return self.values[tuple(picks.T)]


def spaces(symbols=WORDS, template="call {w:3} book"):
    asked = cases.query(template, symbols=symbols)
    return asked, CandidateSet(asked.pattern, asked.alphabets)


def test_memory_asks_for_nothing_twice():
    table = Table(np.random.default_rng(0).normal(size=(4, 5, 2)))
    memory = Memory(table, 2)
    picks = np.array([[0, 1], [3, 4], [0, 1], [2, 2]])
    np.testing.assert_array_equal(memory.of(picks), table.values[tuple(picks.T)])
    np.testing.assert_array_equal(memory.of(picks[::-1]), table.values[tuple(picks[::-1].T)])
    assert table.asked == 3
    everything = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)
    memory.of(everything)
    assert table.asked == 20
    best = np.unravel_index(table.values[:, :, 1].argmin(), (4, 5))
    assert tuple(memory.best(1, 3)[0]) == best


class TestSwaps:
    def test_all_of_them_where_they_are_few(self):
        _, candidate_set = spaces(tiny_models.WORDS[:4], "{w:2}")
        swaps = _single_swaps([], candidate_set, np.array([[1, 2]]), np.array([0]), 8, np.random.default_rng(0))[0]
        assert {tuple(s) for s in swaps} == {(i, 2) for i in range(4)} | {(1, i) for i in range(4)}

    def test_the_most_promising_and_some_at_random(self):
        asked, candidate_set = spaces()
        embedded = embed(cases.target(), candidate_set, (asked.label,), None)
        picks, labels = candidate_set.draw(3, np.random.default_rng(0)), np.zeros(3, dtype=np.int64)
        with gradients(embedded):
            promise = _promise(embedded, candidate_set, picks, labels)
            swaps = _single_swaps(embedded, candidate_set, picks, labels, 40, np.random.default_rng(0))
        assert swaps.shape == (3, 40, 3)
        for row in range(3):
            changed = (swaps[row] != picks[row]).sum(axis=1)
            assert changed.max() == 1
            for place, symbol in zip(*np.unravel_index(np.argsort(promise[row])[:35], (3, len(WORDS))), strict=True):
                expected = picks[row].copy()
                expected[place] = symbol
                assert (swaps[row] == expected).all(axis=1).any()

    def test_promise_is_of_symbols_of_as_many_pieces_and_tells_good_swaps_from_bad(self):
        asked, candidate_set = spaces()
        target = cases.bilstm(scale=1.0)  # nearly linear
        embedded = embed(target, candidate_set, (asked.label,), None)
        picks, labels = candidate_set.draw(4, np.random.default_rng(1)), np.zeros(4, dtype=np.int64)
        with gradients(embedded):
            promise = _promise(embedded, candidate_set, picks, labels).reshape(4, 3, -1)
        shapes = embedded[0].spelling.counts
        losses, agree = Losses(target, candidate_set, (asked.label,)), []
        for row in range(4):
            for place in range(3):
                same = shapes[place] == shapes[place][picks[row, place]]
                np.testing.assert_array_equal(np.isfinite(promise[row, place]), same)
                assert promise[row, place, picks[row, place]] == 0
                swapped = np.tile(picks[row], (len(WORDS), 1))
                swapped[:, place] = np.arange(len(WORDS))
                change = losses.of(swapped)[same, 0]
                agree.append(np.corrcoef(change, promise[row, place, same])[0, 1])
        assert np.median(agree) > 0.9


class TestAttack:
    @pytest.mark.parametrize("kind", ["bert", "bilstm", "roberta", "gpt2 without padding"])
    @pytest.mark.parametrize("symbols", [tiny_models.WORDS[:8], cases.MIXED])
    def test_finds_the_best_of_all(self, kind, symbols):
        target = cases.bilstm() if kind == "bilstm" else cases.target(kind)
        asked = [cases.query("call {w:3}", symbols=symbols, label=label, id=label) for label in ("up", "down")]
        for query, answer in zip(asked, FAST.extract(target, asked, [], AttackContext(0)), strict=True):
            losses = cases.all_losses(target, query)
            assert answer.loss == pytest.approx(min(losses.values()), abs=1e-5)
            assert losses[answer.guess] == pytest.approx(answer.loss, abs=1e-5)
            assert answer.details["evaluated"] <= len(losses)

    @pytest.mark.parametrize("relaxation", ["softmax", "straight-through", "gumbel"])
    def test_beats_the_best_of_many_random_ones(self, relaxation):
        """Of 830,584 candidates 20,000 are drawn, and RT203 looks at fewer."""
        asked, candidate_set = spaces()
        target = cases.target()
        attack = replace(FAST, relaxation=relaxation)
        (answer,) = attack.extract(target, [asked], [], AttackContext(0))
        random = Losses(target, candidate_set, (asked.label,)).of(candidate_set.draw(20_000, np.random.default_rng(1)))
        assert answer.loss <= random.min()
        assert answer.details["evaluated"] < 10_000

    def test_with_a_reference(self):
        target, reference, asked = cases.target(seed=0), cases.target(seed=1), cases.query("call {w:3}")
        (answer,) = FAST.extract(target, [asked], [], AttackContext(0, references=(reference,)))
        losses = cases.all_losses(target, asked, reference)
        assert answer.guess == min(losses, key=losses.get)

    def test_a_reference_with_other_pieces(self, tmp_path):
        """The two tokenizers spell symbols differently: weights are over symbols, so that does not matter."""
        target, asked = cases.bilstm(), cases.query("call {w:2}", symbols=cases.MIXED)
        other = cases.bilstm(seed=3)
        vocabulary = tiny_models.VOCABULARY.copy()
        vocabulary[vocabulary.index("fjord")] = "ab"
        other.tokenizer = tiny_models.tokenizer()
        other.tokenizer.model = type(other.tokenizer.model)(
            {word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"
        )
        (answer,) = FAST.extract(target, [asked], [], AttackContext(0, references=(other,)))
        losses = cases.all_losses(target, asked, other)
        assert answer.guess == min(losses, key=losses.get)

    def test_same_seed_same_answers_and_another_space_beside_it_changes_nothing(self):
        target = cases.target()
        asked = [cases.query(), cases.query("play {w:3} now", id="P", label="down")]
        first = FAST.extract(target, asked, cases.candidates(*asked), AttackContext(1))
        assert first == FAST.extract(target, asked, [], AttackContext(1))
        assert FAST.extract(target, asked[1:], [], AttackContext(1)) == first[1:]
