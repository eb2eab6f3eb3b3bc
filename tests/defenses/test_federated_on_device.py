"""Clients whose every step is private: each is accounted by how often it takes part; the worst one is promised."""

import numpy as np
import pytest
import torch

from defenses.accounting import Phase, Release, spent
from defenses.federated.aggregation import WeightedMean
from defenses.federated.engines import InProcess
from defenses.federated.local import LocalTraining, RoundTask
from defenses.federated.on_device import FederatedEDPSGD, NoisyClients, _Releases
from defenses.federated.rounds import Federation, Rounds
from defenses.federated.server import server_optimizer
from redteam.core import UsageError
from redteam.plugins.defense import Problem
from redteam.testing import check_defense

HOW = LocalTraining(1, 4, "sgd", 0.1)


def problem(count):
    x = torch.eye(count)
    model = torch.nn.Linear(count, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    optimizer = server_optimizer(model, "average", 1.0, 0.0)
    return Problem(model, optimizer, lambda rows: model(x[rows])[:, 0], count, count)


def releases(sizes, rounds, count, *, seed=0):
    cuts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    of = problem(sum(sizes))
    federation = Federation(of, [cuts], Rounds(rounds, count), InProcess(of, HOW), WeightedMean())
    return _Releases(federation, HOW, seed), federation


def test_contract():
    check_defense(FederatedEDPSGD, rounds=1, clients=2, clients_per_round=1, noise_multiplier=1.0, epsilon=None)


def test_clients_are_accounted_by_how_often_they_take_part():
    found, federation = releases([8, 16, 40], 6, 1)
    times = np.zeros(3, dtype=int)
    for number in range(6):
        times[list(federation.plan.choose(np.array([8, 16, 40]), 0, number)[0])] += 1
    expected = {((4 / size, int(count) * size // 4),) for size, count in zip((8, 16, 40), times, strict=True) if count}
    assert set(found.known) == expected
    costs = [spent([Release((Phase(2.0, s),), "poisson", q)], delta=1e-5) for ((q, s),) in expected]
    assert spent(found.worst(2.0, 1e-5), delta=1e-5) == pytest.approx(max(costs))


def test_the_noise_keeps_the_most_exposed_client_within_epsilon():
    found, _ = releases([4, 16, 64], 5, 2)
    noise = FederatedEDPSGD(epsilon=2.0).noise_for(found)
    costs = [spent(each, delta=1e-5) for each in found.of(noise)]
    assert 1.9 < max(costs) <= 2.0


def test_the_noise_keeps_who_takes_part_in_several_periods_within_epsilon():
    """Her rows of periods before are trained on again: what she spends in all of them adds up."""
    of, periods = problem(16), [[np.arange(8)], [np.arange(16)]]
    found = _Releases(Federation(of, periods, Rounds(3, 1), InProcess(of, HOW), WeightedMean()), HOW, 0)
    noise = FederatedEDPSGD(epsilon=2.0).noise_for(found)
    assert 1.9 < spent(found.worst(noise, 1e-5), delta=1e-5) <= 2.0


def test_a_client_adds_noise_of_the_clip_to_each_step_and_none_that_repeats():
    """One step of a client with all of its rows: its update is the mean of clipped gradients with z C / B of noise."""
    count = 4000
    of = problem(count)
    clients = NoisyClients(of, LocalTraining(1, count, "sgd", 1.0), noise=2.0, clip=0.5, secret=7)
    task = RoundTask(0, 0, {"weight": torch.zeros(1, count)})
    (first,) = clients.answers(task, [0], [np.arange(count)])
    (again,) = clients.answers(task, [0], [np.arange(count)])
    (other,) = clients.answers(RoundTask(1, 0, task.weights), [0], [np.arange(count)])
    spread = float((first.update["weight"] * count).std())
    assert spread == pytest.approx(2.0 * 0.5, rel=0.05)
    assert torch.equal(first.update["weight"], again.update["weight"])
    pair = torch.cat([first.update["weight"], other.update["weight"]])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.06


@pytest.mark.parametrize("settings", [{"algorithm": "scaffold"}, {"algorithm": "fedprox"}, {"engine": "ray"}])
def test_what_clients_cannot_do_privately_is_refused(settings):
    with pytest.raises(UsageError):
        FederatedEDPSGD(**settings)
