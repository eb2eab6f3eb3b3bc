"""Opacus as a defence: the same mechanism as ours, on models it would raise on, resumable, and honest about limits."""

import math

import numpy as np
import pytest
import torch
from conftest import sentences
from torch import nn
from torch.nn import functional

from defenses.dpsgd import DPSGD, OpacusSteps
from defenses.edpsgd.noise import NoiseSource
from redteam.core import UsageError
from redteam.models.initial import initial_model
from redteam.plugins.defense import Problem

pytest.importorskip("opacus")

ROWS, CLIP = 30, 0.5
EXAMPLES = sentences(40, seed=3)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def data():
    made = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, 5, generator=made) * 3, torch.randint(3, (ROWS,), generator=made)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def steps_of(model, *, sigma=0.0, divisor=12.0, physical_batch=64, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1.0)
    return OpacusSteps(
        model,
        optimizer,
        NoiseSource(1),
        clip=CLIP,
        noise_multiplier=sigma,
        divisor=divisor,
        physical_batch=physical_batch,
    )


def losses_of(model):
    x, y = data()
    return lambda part: functional.cross_entropy(model(x[part]), y[part], reduction="none")


@pytest.mark.parametrize("physical_batch", [1, 4, 64])
def test_one_step_is_what_a_naive_loop_does(physical_batch):
    model, rows = network(), np.arange(0, ROWS, 3)
    losses, wanted = losses_of(model), torch.zeros(75)
    for row in rows.tolist():
        one = torch.cat(
            [g.flatten() for g in torch.autograd.grad(losses(torch.tensor([row])).sum(), model.parameters())]
        )
        wanted += one * min(1.0, CLIP / one.norm().item()) / 12.0
    before = flat(model)
    made = steps_of(model, physical_batch=physical_batch)
    outcome = made.step(0, losses, rows, None)
    made.close()
    assert outcome.rows == len(rows)
    torch.testing.assert_close(before - flat(model), wanted, rtol=1e-4, atol=1e-6)


def test_noise_is_as_large_as_it_should_be_and_a_function_of_seed_and_step():
    moved = []
    for step in (0, 0, 1):
        model = nn.Embedding(5000, 4)
        before = flat(model)
        made = steps_of(model, sigma=2.0, divisor=10.0)
        made.step(step, lambda part, model=model: model(part).sum(1), np.array([], dtype=np.int64), None)
        moved.append(before - flat(model))
    assert moved[0].std().item() == pytest.approx(2.0 * CLIP / 10, rel=0.03)
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-6)  # but for the starting weights' rounding
    assert abs(np.corrcoef(moved[0], moved[2])[0, 1]) < 0.05


def test_noise_is_drawn_in_float64_and_the_clip_has_slack():
    """Opacus's own draws, in float32, end at 5.8 sigma; what comes out here is the noise of `fill_normal`, no other."""
    model, expected = nn.Linear(60, 50), []
    generator, before = torch.Generator(), [p.detach().clone() for p in model.parameters()]
    made = steps_of(model, sigma=2.0, divisor=1.0)
    made.step(4, lambda part: model(torch.ones(len(part), 60)).sum(1), np.array([], dtype=np.int64), None)
    made.source.reseed(generator, 4)  # with the history that the noise was drawn for
    for parameter in model.parameters():
        expected.append(torch.empty_like(parameter, dtype=torch.float64).normal_(0, 2 * CLIP, generator=generator))
    for parameter, was, noise in zip(model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(was - parameter.detach(), noise.float(), rtol=1e-6, atol=1e-6)
    assert made.optimizer.max_grad_norm == CLIP * (1 - 1e-5)


def test_position_ids_of_one_row_are_expanded():
    """Hugging Face looks positions up once for the whole batch; the clipped sum is that of expanded ids."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.places, self.head = nn.Embedding(20, 6), nn.Embedding(9, 6), nn.Linear(6, 3)

        def forward(self, ids, rows):
            return self.head((self.words(ids) + self.places(torch.arange(9).expand(rows, 9))).tanh().mean(1))

    ids, ends = torch.randint(20, (ROWS, 9), generator=torch.Generator().manual_seed(0)), []
    for once in (True, False):
        model = Text()
        made = steps_of(model)

        def losses(part, model=model, once=once):
            return functional.cross_entropy(model(ids[part], 1 if once else len(part)), part % 3, reduction="none")

        made.step(0, losses, np.arange(7), None)
        ends.append(flat(model))
    assert torch.equal(*ends)


def test_the_model_is_given_back():
    model = network()
    before = [m._forward_hooks.copy() for m in model.modules()]
    made = steps_of(model)
    made.step(0, losses_of(model), np.arange(5), None)
    made.close()
    assert [m._forward_hooks for m in model.modules()] == before
    losses_of(model)(torch.arange(3)).sum().backward()
    assert all(set(vars(p)) == set() for p in model.parameters())
    steps_of(model).close()  # can be hooked again


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(5), "BatchNorm1d mixes the rows"),
        (nn.LSTM(5, 5), "Opacus has no rule for LSTM"),
        (nn.MultiheadAttention(5, 1), "Opacus has no rule for MultiheadAttention"),
    ],
)
def test_layers_it_cannot_train(layer, words):
    with pytest.raises(UsageError, match=words):
        steps_of(nn.Sequential(nn.Linear(5, 5), layer))


class TestDefence:
    def start(self, spec="tiny"):
        return initial_model(spec, EXAMPLES, learn_from=EXAMPLES, seed=0)

    def test_guarantee_and_mechanism(self):
        model = network()
        x, y = data()
        problem = Problem(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            lambda part: functional.cross_entropy(model(x[part]), y[part], reduction="none"),
            ROWS,
            ROWS,
        )
        done = DPSGD(epsilon=4.0, epochs=2, batch_size=10).train_on(problem, seed=0)
        assert done.mechanism.steps == 6
        assert done.mechanism.sample_rate == pytest.approx(1 / 3)
        assert done.guarantee.nominal == done.guarantee.accounted
        assert 3.95 < done.guarantee.accounted.epsilon <= 4.0
        assert done.guarantee.accounted.neighbouring == "add or remove one"

    def test_no_noise_no_guarantee(self):
        trained = DPSGD(epsilon=None, noise_multiplier=0.0, epochs=1, batch_size=20).fit(self.start(), EXAMPLES, seed=0)
        assert trained.guarantee is None
        assert [note for note in trained.notes if "no epsilon is claimed" in note] == list(trained.notes) != []

    def test_bilstm_is_refused_by_name(self):
        with pytest.raises(UsageError, match="no rule for LSTM"):
            DPSGD(epochs=1).fit(self.start("bilstm"), EXAMPLES, seed=0)

    def test_losses_are_told(self):
        seen = []
        DPSGD(noise_multiplier=1.0, epsilon=None, epochs=3, batch_size=30).fit(
            self.start(), EXAMPLES, seed=0, progress=lambda *told: seen.append(told)
        )
        assert [step for step, *_ in seen] == [1, 2, 3, 4]
        assert all(math.isfinite(loss) for *_, loss in seen)
