"""Label canaries in a loop of one's own."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from redteam import LoopCanaries, PrivateTrainer
from redteam.core import UsageError
from redteam.data.label_canaries import ACCESSES, ANSWERS, UPDATES

ROWS, COUNT, STEPS = 300, 400, 40


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))


def trained(*, quiet=1.0, sampling="poisson", rate=0.5, noise=1.0, again=False):
    """What canaries show of a loop that adds `quiet` times the noise that it accounts for, the same one `again`."""
    net = model()
    canaries = LoopCanaries(net, "2", COUNT, lambda of: of(torch.ones(1, 6)))
    x = torch.cat([torch.randn(ROWS, 6), torch.ones(len(canaries.targets), 6)])
    y = torch.cat([(x[:ROWS, 0] > 0).long(), canaries.targets])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    how = {"clip": 1.0, "sample_rate": rate, "population": ROWS + canaries.expected, "sampling": sampling}
    with PrivateTrainer(net, optimizer, noise_multiplier=noise, **how) as private:
        canaries.watch(private, steps=STEPS, delta=1e-5)
        private._steps.std *= quiet
        if again:
            private._source.add = repeated
        for rows in private.batches(steps=STEPS, size=len(x)):
            private.step(lambda part: cross_entropy(net(x[part]), y[part], reduction="none"), rows)
        spent = private.spent(delta=1e-5)
        found = canaries.finish(alpha=0.05)
    return net, spent, found


def repeated(buffer, std, step):
    """Add the noise that every other step added."""
    buffer += std * torch.randn(buffer.shape, generator=torch.Generator().manual_seed(0))


def test_more_is_shown_by_whoever_observes_more_and_never_above_what_is_spent():
    net, spent, found = trained()
    assert net(torch.ones(1, 6)).shape == (1, 2)
    assert set(found.bounds) == set(found.one_run) == set(ACCESSES)
    assert 0.4 * spent < found.bounds[UPDATES].low <= spent
    assert found.bounds[ANSWERS].low < found.bounds[UPDATES].low
    assert all(bound.low <= spent for bound in found.one_run.values())
    assert 4 * found.watched.error < 0.5
    assert found.watched.moved + 4 * found.watched.error > 0.9  # or it is no evidence: .85 to .97
    assert found.watched.moved - 4 * found.watched.error < 1.1
    assert not [*found.watched.troubles()]


def test_a_third_of_the_noise_is_found():
    _, spent, found = trained(quiet=1 / 3)
    assert found.bounds[UPDATES].low > spent


def test_noise_that_is_the_same_at_every_step_is_found():
    _, _, found = trained(again=True)
    (trouble,) = found.watched.troubles()
    assert "left out moved" in trouble


def test_shuffled_steps_are_judged_by_random_inclusion_alone():
    _, _, found = trained(sampling="shuffled")
    assert found.bounds == found.one_run


def test_what_is_no_linear_head_or_comes_too_late_is_refused():
    with pytest.raises(UsageError, match="is a ReLU; label canaries take"):
        LoopCanaries(model(), "1", COUNT, lambda of: of(torch.ones(1, 6)))
    with pytest.raises(UsageError, match="head 'classifier': is no module of the model"):
        LoopCanaries(model(), "classifier", COUNT, lambda of: of(torch.ones(1, 6)))
    with pytest.raises(UsageError, match="give 20 to 50,000"):
        LoopCanaries(model(), "2", 3, lambda of: of(torch.ones(1, 6)))
    with pytest.raises(UsageError, match="reads no single vector"):
        LoopCanaries(model(), "2", COUNT, lambda of: of(torch.ones(3, 6)))
    frozen = model()
    frozen[2].requires_grad_(False)
    with pytest.raises(UsageError, match="is not trained"):
        LoopCanaries(frozen, "2", COUNT, lambda of: of(torch.ones(1, 6)))


def test_they_are_watched_once_from_the_first_step_to_the_last():
    net = model()
    canaries = LoopCanaries(net, "2", COUNT, lambda of: of(torch.ones(1, 6)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    how = {"clip": 1.0, "noise_multiplier": 1.0, "sample_rate": 0.5, "population": ROWS}
    with PrivateTrainer(net, optimizer, **how) as private:
        canaries.watch(private, steps=5, delta=1e-5)
        with pytest.raises(UsageError, match="comes once, before the first step"):
            canaries.watch(private, steps=5, delta=1e-5)
        with pytest.raises(UsageError, match="0 of 5 steps were watched"):
            canaries.finish(alpha=0.05)


def test_a_trainer_of_another_model_is_refused():
    canaries, other = LoopCanaries(model(), "2", COUNT, lambda of: of(torch.ones(1, 6))), model()
    how = {"clip": 1.0, "noise_multiplier": 1.0, "sample_rate": 0.5, "population": ROWS}
    with (
        PrivateTrainer(other, torch.optim.SGD(other.parameters(), lr=0.1), **how) as private,
        pytest.raises(UsageError, match="trains another model: head '2' is not in its optimiser"),
    ):
        canaries.watch(private, steps=5, delta=1e-5)
