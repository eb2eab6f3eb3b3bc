"""RT202: the descent against torch's own Adam, the stop rule, and guesses on models whose every loss is known."""

from dataclasses import replace

import inversion_cases as cases
import numpy as np
import pytest
import torch
from enumeration import NoiseModel

from attacks.inversion._relaxation import Descent, Lens, descend, gradients, relax, see
from attacks.inversion.relaxed import RelaxedInversion
from attacks.inversion.sentences import Space
from redteam.inversion import NotApplicable

FAST = RelaxedInversion(restarts=3, iterations=80, patience=30)


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
        lens, settings = prices(), Descent(iterations=30, patience=100, learning_rate=0.1, temperature=0.5)
        z = start().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.1, eps=1e-20)
        picks = []
        for _ in range(30):
            optimizer.zero_grad()
            weights = [(part / 0.5).softmax(dim=1) for part in z.split(lens.sizes, dim=1)]
            lens.losses(weights, torch.zeros(6)).sum().backward()
            optimizer.step()
            picks.append(torch.stack([part.argmax(dim=1) for part in z.split(lens.sizes, dim=1)], dim=1).numpy())
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
        lens = prices()
        found = relax(lens, settled, torch.zeros(2), Descent(patience=7, learning_rate=0.3), seed=0)
        assert found.steps[0] == 7
        assert found.steps[1] > 8  # its argmax changed on the way
        assert lens.asked == [2] * 7 + [1] * (found.steps[1] - 7)
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

    def test_temperature_falls_by_equal_factors(self):
        falling = Descent(iterations=3, temperature=1.0, final_temperature=0.01)
        assert [falling.temperature_at(step) for step in range(3)] == pytest.approx([1.0, 0.1, 0.01])
        assert Descent(temperature=0.7).temperature_at(999) == 0.7


class TestLens:
    @pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "bilstm"])
    def test_weights_of_zero_and_one_are_a_sentence(self, kind):
        target = cases.bilstm() if kind == "bilstm" else cases.target(kind)
        asked = cases.question("a {w:2} b {w:1}", symbols=cases.MIXED)
        space = Space(asked.pattern, asked.alphabets)
        seen = see(target, space, ("down", "up"), None)
        pick = space.picks([("amber", "ab", "abc")])[0]
        lens = Lens(seen, pick)
        assert [m.tolist() for m in lens.members] == [[0, 1, 2], [3, 4, 5], [6]]
        weights = [torch.eye(3)[[0, 1]], torch.eye(3)[[0, 2]], torch.ones(2, 1)]
        with gradients(seen):
            losses = lens.losses(weights, torch.tensor([0, 1])).detach().numpy()
        expected = [
            target.losses(cases.question("a {w:2} b {w:1}", label=label).examples([secret]))[0]
            for label, secret in (("down", ("amber", "ab", "abc")), ("up", ("basil", "ad", "abc")))
        ]
        np.testing.assert_allclose(losses, expected, atol=1e-5)

    def test_slopes_are_those_of_the_loss(self):
        target, reference = cases.target(seed=0), cases.target(seed=1)
        asked = cases.question("call {w:2}")
        space = Space(asked.pattern, asked.alphabets)
        seen = see(target, space, ("up",), reference)
        lens, step = Lens(seen, np.array([0, 0])), 1e-2
        picks = np.array([[0, 3], [5, 1]])
        with gradients(seen):
            slopes = lens.slopes(picks, np.array([0, 0]))
            for row, place, symbol in [(0, 0, 2), (1, 1, 7), (0, 1, 3)]:
                sides = []
                for sign in (1, -1):
                    weights = [torch.eye(8)[picks[:, i]].clone() for i in range(2)]
                    weights[place][row, symbol] += sign * step
                    sides.append(float(lens.losses(weights, torch.zeros(2, dtype=torch.long))[row]))
                numeric = (sides[0] - sides[1]) / (2 * step)
                assert float(slopes[place][row, symbol]) == pytest.approx(numeric, rel=0.03, abs=2e-3)

    def test_with_a_reference_it_is_the_difference(self):
        target, reference = cases.target(seed=0), cases.target(seed=1)
        asked = cases.question("call {w:2}")
        space = Space(asked.pattern, asked.alphabets)
        seen = see(target, space, ("up",), reference)
        with gradients(seen):
            weights = [torch.eye(8)[[4]], torch.eye(8)[[6]]]
            loss = float(Lens(seen, np.array([0, 0])).losses(weights, torch.zeros(1, dtype=torch.long))[0])
        secret = (asked.alphabets[0][4], asked.alphabets[1][6])
        assert loss == pytest.approx(cases.all_losses(target, asked, reference)[secret], abs=1e-5)


class TestAttack:
    @pytest.mark.parametrize("kind", ["bert", "bilstm"])
    def test_guesses_are_among_the_best(self, kind):
        target = cases.bilstm() if kind == "bilstm" else cases.target(kind)
        asked = cases.question()
        (answer,) = RelaxedInversion(iterations=200).extract(target, [asked], [], seed=0)
        losses = cases.all_losses(target, asked)
        assert answer.loss == pytest.approx(losses[answer.guess], abs=1e-5)
        assert sum(loss < answer.loss - 1e-5 for loss in losses.values()) <= 3  # of 64
        assert not answer.exact
        assert answer.ranked == ()

    def test_more_restarts_are_no_worse_and_the_first_are_the_same(self):
        target, asked = cases.target(), cases.question()
        few, many = (replace(FAST, restarts=n).extract(target, [asked], [], seed=1)[0].loss for n in (1, 6))
        assert many <= few + 1e-6

    def test_symbols_of_several_pieces(self):
        asked = cases.question("call {w:2}", symbols=cases.MIXED)
        target = cases.target()
        (answer,) = replace(FAST, restarts=12).extract(target, [asked], [], seed=0)
        losses = cases.all_losses(target, asked)
        assert sum(loss < answer.loss - 1e-5 for loss in losses.values()) <= 5  # of 49
        space = Space(asked.pattern, asked.alphabets)
        seen = see(target, space, ("up",), None)
        with gradients(seen):
            found = descend(seen, space, ("up",), restarts=12, descent=Descent(iterations=3), seed=0)
        shapes = seen[0].spelling.shapes(found.picks)
        for row in range(12):
            assert len(np.unique(shapes[found.rows == row], axis=0)) == 1
        assert len(np.unique(shapes, axis=0)) > 3

    def test_same_seed_same_answers_whatever_else_is_asked(self):
        target = cases.target()
        asked = [cases.question(label=label, id=label) for label in ("up", "down")]
        both = FAST.extract(target, asked, cases.suspects(*asked), seed=2)
        assert both == FAST.extract(target, asked, [], seed=2)
        (alone,) = FAST.extract(target, asked[1:], [], seed=2)
        assert (alone.question, alone.guess) == (both[1].question, both[1].guess)

    def test_questions_alike_get_the_same_answer_once(self, monkeypatch):
        target, passes = cases.target(), []
        whole = target.model.forward
        monkeypatch.setattr(target.model, "forward", lambda *a, **k: passes.append(1) or whole(*a, **k))
        first, second = FAST.extract(target, [cases.question(), cases.question(id="P")], [], seed=0)
        count = len(passes)
        FAST.extract(target, [cases.question()], [], seed=0)
        assert len(passes) == 2 * count
        assert (first.question, second.question, first.guess) == ("Q", "P", second.guess)

    def test_needs_weights_that_it_can_see_into(self, monkeypatch):
        with pytest.raises(NotApplicable, match="noise does not show its weights"):
            FAST.extract(cases.target(), [cases.question()], [], reference=NoiseModel(("down", "up")), seed=0)
        target = cases.target()
        monkeypatch.setattr(target.model, "get_input_embeddings", lambda: torch.nn.Embedding(60, 16))
        with pytest.raises(NotApplicable, match="does not answer for embeddings"):
            FAST.extract(target, [cases.question()], [], seed=0)
        with pytest.raises(NotApplicable, match="differently beside"):
            FAST.extract(cases.target(), [cases.question("a {w:2} " + "b " * 50, symbols=cases.MIXED)], [], seed=0)

    def test_an_interrupted_descent_leaves_the_model_as_it_was(self, monkeypatch):
        target = cases.target()
        next(target.model.parameters()).requires_grad_(False)
        before = cases.state(target)
        monkeypatch.setattr("attacks.inversion._relaxation.relax", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            FAST.extract(target, [cases.question()], [], seed=0)
        assert cases.state(target) == before
