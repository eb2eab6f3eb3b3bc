"""RT202: the descent against torch's own Adam, the stop rule, and guesses on models whose every loss is known."""

from dataclasses import replace

import extraction_models as cases
import numpy as np
import pytest
import torch
from enumeration import NoiseModel

from attacks.extraction._descent import Descent, descend, relax
from attacks.extraction._soft_embeddings import SoftEmbeddings, embed, gradients
from attacks.extraction.relaxed import RelaxedSearch
from attacks.extraction.sentences import CandidateSet
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable

FAST = RelaxedSearch(restarts=3, rounding_interval=12)


class Prices:
    """A loss that is a sum over places of what each symbol costs: its best secret is known."""

    def __init__(self, *prices):
        self.prices = [torch.tensor(each) for each in prices]
        self.sizes = [len(each) for each in prices]
        self.asked = []

    def losses(self, weights, labels):
        self.asked.append(len(labels))
        return sum(w @ price for w, price in zip(weights, self.prices, strict=True)) * (1 + labels)


def prices():
    return Prices([3.0, 1.0, 2.0], [0.5, 0.9])


def start(rows=6, *, width=5, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def ends(found):
    """The last pick of each row."""
    return np.array([found.picks[np.nonzero(found.rows == row)[0][-1]] for row in range(len(found.steps))])


class TestDescent:
    def test_is_adam_on_the_mean_under_softmax(self):
        soft, settings = prices(), Descent(iterations=30, patience=100, learning_rate=0.1, temperature=0.5)
        z = start().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.1, eps=1e-20)
        picks = []
        for _ in range(30):
            optimizer.zero_grad()
            weights = [(part / 0.5).softmax(dim=1) for part in z.split(soft.sizes, dim=1)]
            soft.losses(weights, torch.zeros(6)).sum().backward()
            optimizer.step()
            picks.append(torch.stack([part.argmax(dim=1) for part in z.split(soft.sizes, dim=1)], dim=1).numpy())
        found = relax(prices(), start(), torch.zeros(6), settings, seed=0)
        np.testing.assert_array_equal(ends(found), picks[-1])
        for row in range(6):
            own = {tuple(pick) for pick in found.picks[found.rows == row]}
            assert {tuple(pick[row]) for pick in picks} <= own

    @pytest.mark.parametrize("relaxation", ["softmax", "straight-through", "gumbel"])
    def test_finds_the_cheapest(self, relaxation):
        settings = Descent(learning_rate=0.1, relaxation=relaxation)
        found = relax(prices(), start(20), torch.arange(20), settings, seed=0)
        np.testing.assert_array_equal(ends(found), [[1, 0]] * 20)
        assert found.steps.max() < 1000

    def test_stops_a_row_when_its_argmax_stays(self):
        settled = torch.tensor([[0.0, 9.0, 0.0, 9.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
        soft = prices()
        found = relax(soft, settled, torch.zeros(2), Descent(patience=7, learning_rate=0.3), seed=0)
        assert found.steps[0] == 7
        assert found.steps[1] > 8  # its argmax changed on the way
        assert soft.asked == [2] * 7 + [1] * (found.steps[1] - 7)
        endless = relax(prices(), settled, torch.zeros(2), Descent(iterations=5, learning_rate=0.3), seed=0)
        assert endless.steps.tolist() == [5, 5]

    def test_rows_do_not_see_each_other(self):
        together = relax(prices(), start(8), torch.arange(8), Descent(patience=20), seed=0)
        for row in range(8):
            alone = relax(prices(), start(8)[row : row + 1], torch.tensor([row]), Descent(patience=20), seed=0)
            np.testing.assert_array_equal(ends(alone)[0], ends(together)[row])
            assert alone.steps[0] == together.steps[row]

    def test_tiny_gradients_move_as_fast(self):
        class Sure(Prices):
            def losses(self, weights, labels):
                return super().losses(weights, labels) * 1e-12

        small = Sure([3.0, 1.0, 2.0], [0.5, 0.9])
        found, plain = (relax(each, start(), torch.zeros(6), Descent(), seed=0) for each in (small, prices()))
        np.testing.assert_array_equal(found.steps, plain.steps)

    @pytest.mark.parametrize("relaxation", ["softmax", "straight-through", "gumbel"])
    def test_with_rounding_it_finds_the_cheapest_and_the_better_go_on(self, relaxation):
        soft, settings = prices(), Descent(learning_rate=0.2, relaxation=relaxation, rounding_interval=20)
        found = relax(soft, start(20), torch.arange(4).repeat_interleave(5), settings, restarts=5, seed=0)
        assert soft.asked == [20] * 13 + [8] * 20  # of each of four labels five restarts begin, and two go on
        assert sorted(found.steps.tolist()) == [13] * 12 + [33] * 8
        for label in range(4):
            assert (1, 0) in set(map(tuple, found.picks[found.rows // 5 == label]))
        if relaxation == "softmax":
            np.testing.assert_array_equal(ends(found)[found.steps == 33], [[1, 0]] * 8)

    @pytest.mark.parametrize("relaxation", ["softmax", "straight-through", "gumbel"])
    def test_the_surest_place_is_rounded_and_stays_so_whatever_the_noise(self, relaxation):
        embedded = []

        class Watched(Prices):
            def losses(self, weights, labels):
                embedded.append([part.detach() for part in weights])
                return super().losses(weights, labels)

        sure_of_the_second = torch.tensor([[0.3, 0.2, 0.0, 0.0, 6.0]])
        settings = Descent(0.01, relaxation=relaxation, rounding_interval=10, draws=40)
        found = relax(Watched([3.0, 1.0, 2.0], [0.5, 0.9]), sure_of_the_second, torch.zeros(1), settings, seed=0)
        assert all(part[1].tolist() == [[0.0, 1.0]] for part in embedded[7:])
        other = {int(part[0].argmax()) for part in embedded[7:]}
        assert len(other) == (3 if relaxation == "gumbel" else 1)
        assert len(set(found.picks[:, 0].tolist())) == 3  # drawn by the weights, not the heaviest alone

    def test_a_rounded_place_stays_and_the_rest_makes_up_for_it(self):
        """The mixture is cheapest; of its two roundings only the one that comes after the other is known is right."""

        class Pairs(Prices):
            table = torch.tensor([[1.0, 9.0, 3.0], [9.0, 2.0, 9.0], [0.5, 9.0, 8.0]])

            def losses(self, weights, labels):
                joint = weights[0][:, :, None] * weights[1][:, None, :]
                even = (weights[0] * weights[1]).sum(dim=1)  # rewards no symbol, but to be in between
                return (joint * self.table).sum(dim=(1, 2)) - 0.1 * even

        soft = Pairs([0.0] * 3, [0.0] * 3)
        found = relax(
            soft, start(64, width=6), torch.zeros(64), Descent(0.2, rounding_interval=20), restarts=64, seed=0
        )
        tried = {tuple(pick): float(soft.table[tuple(pick)]) for pick in found.picks}
        assert min(tried, key=tried.get) == (2, 0)

    def test_labels_do_not_see_each_other_whoever_goes_on(self):
        settings = Descent(0.2, rounding_interval=5, draws=3)
        together = relax(prices(), start(8), torch.arange(2).repeat_interleave(4), settings, restarts=4, seed=0)
        alone = relax(prices(), start(8)[4:], torch.ones(4), settings, restarts=4, seed=0)
        own = together.rows >= 4
        np.testing.assert_array_equal(together.picks[own], alone.picks)
        np.testing.assert_array_equal(together.rows[own] - 4, alone.rows)
        np.testing.assert_array_equal(together.steps[4:], alone.steps)

    def test_secrets_are_drawn_by_their_weights(self):
        from attacks.extraction._descent import _drawn

        weights = [torch.tensor([[0.2, 0.5, 0.3]]).repeat(20_000, 1), torch.tensor([[0.0, 1.0]]).repeat(20_000, 1)]
        lots = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0)).clamp(1e-20, 1 - 1e-7)
        drawn = _drawn(weights, lots).numpy()
        np.testing.assert_allclose(np.bincount(drawn[:, 0]) / 20_000, [0.2, 0.5, 0.3], atol=0.015)
        assert (drawn[:, 1] == 1).all()

    def test_more_symbols_take_more_steps_and_labels_beyond_the_memory_go_one_by_one(self, monkeypatch):
        assert Descent(rounding_interval=24).phases([10] * 4) == [16, 24, 24, 24]
        assert Descent(rounding_interval=24).phases([1000, 2]) == [48, 72]
        assert Descent(rounding_interval=24, iterations=100).phases([10] * 10) == [7] + [10] * 9
        assert Descent(iterations=100).phases([10] * 4) == [100]
        target, asked = cases.target(), cases.query()
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        embedded = embed(target, candidate_set, ("up", "down"), None)
        with gradients(embedded):
            whole = descend(
                embedded, candidate_set, ("up", "down"), restarts=4, descent=Descent(0.2, rounding_interval=5), seed=0
            )
            monkeypatch.setattr("attacks.extraction._descent._MOST", 1)
            parts = descend(
                embedded, candidate_set, ("up", "down"), restarts=4, descent=Descent(0.2, rounding_interval=5), seed=0
            )
        np.testing.assert_array_equal(whole.steps, parts.steps)
        for row in range(8):
            assert set(map(tuple, whole.picks[whole.rows == row])) == set(map(tuple, parts.picks[parts.rows == row]))

    def test_temperature_falls_by_equal_factors(self):
        falling = Descent(iterations=3, temperature=1.0, final_temperature=0.01)
        assert [falling.temperature_at(step, 3) for step in range(3)] == pytest.approx([1.0, 0.1, 0.01])
        assert Descent(temperature=0.7).temperature_at(999, 1000) == 0.7


class TestSoftEmbeddings:
    @pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "gpt2 without padding", "bilstm"])
    def test_weights_of_zero_and_one_are_a_sentence(self, kind):
        target = cases.bilstm() if kind == "bilstm" else cases.target(kind)
        asked = cases.query("a {w:2} b {w:1}", symbols=cases.MIXED)
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        embedded = embed(target, candidate_set, ("down", "up"), None)
        pick = candidate_set.picks([("amber", "ab", "abc")])[0]
        soft = SoftEmbeddings(embedded, pick)
        assert [m.tolist() for m in soft.members] == [[0, 1, 2], [3, 4, 5], [6]]
        weights = [torch.eye(3)[[0, 1]], torch.eye(3)[[0, 2]], torch.ones(2, 1)]
        with gradients(embedded):
            losses = soft.losses(weights, torch.tensor([0, 1])).detach().numpy()
        expected = [
            target.losses(cases.query("a {w:2} b {w:1}", label=label).examples([secret]))[0]
            for label, secret in (("down", ("amber", "ab", "abc")), ("up", ("basil", "ad", "abc")))
        ]
        np.testing.assert_allclose(losses, expected, atol=1e-5)

    def test_slopes_are_those_of_the_loss(self):
        target, reference = cases.target(seed=0), cases.target(seed=1)
        asked = cases.query("call {w:2}")
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        embedded = embed(target, candidate_set, ("up",), reference)
        soft, step = SoftEmbeddings(embedded, np.array([0, 0])), 1e-2
        picks = np.array([[0, 3], [5, 1]])
        with gradients(embedded):
            slopes = soft.slopes(picks, np.array([0, 0]))
            for row, place, symbol in [(0, 0, 2), (1, 1, 7), (0, 1, 3)]:
                sides = []
                for sign in (1, -1):
                    weights = [torch.eye(8)[picks[:, i]].clone() for i in range(2)]
                    weights[place][row, symbol] += sign * step
                    sides.append(float(soft.losses(weights, torch.zeros(2, dtype=torch.long))[row]))
                numeric = (sides[0] - sides[1]) / (2 * step)
                assert float(slopes[place][row, symbol]) == pytest.approx(numeric, rel=0.03, abs=2e-3)

    def test_with_a_reference_it_is_the_difference(self):
        target, reference = cases.target(seed=0), cases.target(seed=1)
        asked = cases.query("call {w:2}")
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        embedded = embed(target, candidate_set, ("up",), reference)
        with gradients(embedded):
            weights = [torch.eye(8)[[4]], torch.eye(8)[[6]]]
            loss = float(
                SoftEmbeddings(embedded, np.array([0, 0])).losses(weights, torch.zeros(1, dtype=torch.long))[0]
            )
        secret = (asked.alphabets[0][4], asked.alphabets[1][6])
        assert loss == pytest.approx(cases.all_losses(target, asked, reference)[secret], abs=1e-5)


class TestAttack:
    @pytest.mark.parametrize("kind", ["bert", "bilstm"])
    def test_guesses_are_among_the_best(self, kind):
        target = cases.bilstm() if kind == "bilstm" else cases.target(kind)
        asked = cases.query()
        (answer,) = RelaxedSearch().extract(target, [asked], [], AttackContext(0))
        losses = cases.all_losses(target, asked)
        assert answer.loss == pytest.approx(losses[answer.guess], abs=1e-5)
        assert sum(loss < answer.loss - 1e-5 for loss in losses.values()) <= 3  # of 64
        assert not answer.exact
        assert answer.ranked == ()

    def test_more_restarts_are_no_worse_and_the_first_are_the_same(self):
        target, asked = cases.target(), cases.query()
        few, many = (replace(FAST, restarts=n).extract(target, [asked], [], AttackContext(1))[0].loss for n in (1, 6))
        assert many <= few + 1e-6

    def test_symbols_of_several_pieces(self):
        asked = cases.query("call {w:2}", symbols=cases.MIXED)
        target = cases.target()
        (answer,) = replace(FAST, restarts=12).extract(target, [asked], [], AttackContext(0))
        losses = cases.all_losses(target, asked)
        assert sum(loss < answer.loss - 1e-5 for loss in losses.values()) <= 5  # of 49
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        embedded = embed(target, candidate_set, ("up",), None)
        with gradients(embedded):
            found = descend(embedded, candidate_set, ("up",), restarts=12, descent=Descent(iterations=3), seed=0)
        shapes = embedded[0].spelling.shapes(found.picks)
        for row in range(12):
            assert len(np.unique(shapes[found.rows == row], axis=0)) == 1
        assert len(np.unique(shapes, axis=0)) > 3

    def test_same_seed_same_answers_whatever_else_is_asked(self):
        target = cases.target()
        asked = [cases.query(label=label, id=label) for label in ("up", "down")]
        both = FAST.extract(target, asked, cases.candidates(*asked), AttackContext(2))
        assert both == FAST.extract(target, asked, [], AttackContext(2))
        (alone,) = FAST.extract(target, asked[1:], [], AttackContext(2))
        assert (alone.query, alone.guess) == (both[1].query, both[1].guess)

    def test_queries_alike_get_the_same_answer_once(self, monkeypatch):
        target, passes = cases.target(), []
        whole = target.model.forward
        monkeypatch.setattr(target.model, "forward", lambda *a, **k: passes.append(1) or whole(*a, **k))
        first, second = FAST.extract(target, [cases.query(), cases.query(id="P")], [], AttackContext(0))
        count = len(passes)
        FAST.extract(target, [cases.query()], [], AttackContext(0))
        assert len(passes) == 2 * count
        assert (first.query, second.query, first.guess) == ("Q", "P", second.guess)

    def test_needs_weights_that_it_can_see_into(self, monkeypatch):
        with pytest.raises(NotApplicable, match="noise does not show its weights"):
            FAST.extract(
                cases.target(), [cases.query()], [], AttackContext(references=(NoiseModel(("down", "up")),), seed=0)
            )
        target = cases.target()
        monkeypatch.setattr(target.model, "get_input_embeddings", lambda: torch.nn.Embedding(60, 16))
        with pytest.raises(NotApplicable, match="does not answer for embeddings"):
            FAST.extract(target, [cases.query()], [], AttackContext(0))
        with pytest.raises(NotApplicable, match="differently beside"):
            FAST.extract(
                cases.target(), [cases.query("a {w:2} " + "b " * 50, symbols=cases.MIXED)], [], AttackContext(0)
            )

    def test_an_interrupted_descent_leaves_the_model_as_it_was(self, monkeypatch):
        target = cases.target()
        next(target.model.parameters()).requires_grad_(False)
        before = cases.state(target)
        monkeypatch.setattr("attacks.extraction._descent.relax", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            FAST.extract(target, [cases.query()], [], AttackContext(0))
        assert cases.state(target) == before
