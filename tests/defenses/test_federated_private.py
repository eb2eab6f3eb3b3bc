"""Privacy for whole clients: the noise is what it says, next to the client that moves most, and what it costs whom."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import learnable

from defenses.accounting import spent
from defenses.edpsgd.noise import NoiseSource
from defenses.federated.aggregation import PlainSum, WeightedMean, clip_factor
from defenses.federated.local import ClientAnswer, RoundTask
from defenses.federated.privacy import AdaptiveClip, Participation, PrivateMean, capped
from defenses.federated.private import PrivateFederated
from defenses.federated.rounds import Rounds
from defenses.federated.selection import Selection
from defenses.federated.server import server_optimizer
from redteam.core import RedteamError, UsageError
from redteam.models.initial import initial_model
from redteam.plugins.defense import Checkpoint, Problem
from redteam.plugins.settings import tune
from redteam.testing import check_defense
from redteam.verify import run
from redteam.verify.plan import VerificationPlan
from redteam.verify.subject import DefenseSubject

SIZE = 20_000
HEAVY = np.array([1000] + [1] * 9)  # one heavy client among light ones


def everybody(weights, *, rounds=1):
    weights = np.asarray(weights, dtype=np.float64)
    return Participation(np.ones((1, len(weights))), weights[None], rounds)


def collected(aggregate, updates, *, weights=None, number=0, like=None):
    """One round, as the loop does it, of clients that send these updates; the mean."""
    told = RoundTask(number, 0, {"w": torch.zeros(SIZE) if like is None else like})
    everyone = range(len(updates) or 10)
    weights = np.ones(len(everyone)) if weights is None else weights
    told = replace(told, shares=aggregate.shares(number, everyone, weights), clip=aggregate.clip())
    return aggregate.mean(PlainSum().collect(told, answers(updates)), told)["w"]


def answers(updates):
    return (ClientAnswer(k, {"w": update}, 1, 0.0) for k, update in enumerate(updates))


def real_multiplier(collect):
    """Return how much noise there is for what client 0 moves the released mean by, measured."""
    moved = torch.zeros(SIZE)
    moved[0] = 50.0  # far above the clip
    with_it = [moved] + [torch.zeros(SIZE)] * 9
    without = [torch.zeros(SIZE)] * 10
    influence = (collect(with_it, 0.0) - collect(without, 0.0)).norm()
    noise = collect(without, 1.0).std()
    return float(noise / influence)


def test_noise_over_the_number_of_clients_does_not_hide_who_counts_most():
    """What Flower's wrapper adds by default: z C / m to a mean weighed by rows. Asked for z = 1, it is 0.10."""
    generator = torch.Generator().manual_seed(0)

    def as_there(updates, noise):
        clipped = [update * min(1.0, 1.0 / max(float(update.norm()), 1e-9)) for update in updates]
        mean = collected(WeightedMean(), clipped, weights=HEAVY.astype(float))
        return mean + noise * 1.0 / 10 * torch.randn(SIZE, generator=generator)

    assert real_multiplier(as_there) == pytest.approx(0.10, abs=0.005)


@pytest.mark.parametrize("cap", [None, 1, 10, 5000])
def test_ours_hides_the_heaviest_client_as_asked(cap):
    taking_part = everybody(capped(HEAVY.astype(float), cap))

    def ours(updates, noise):
        private = PrivateMean(NoiseSource(3), 1.0, noise, taking_part)
        return collected(private, updates)

    weight = taking_part.weights[0, 0]
    assert real_multiplier(ours) == pytest.approx(1.0 / weight, rel=0.03)
    assert real_multiplier(ours) > 0.97


def test_a_client_moves_the_sum_by_no_more_than_the_clip():
    for norm in (0.0, 0.5, 1.0, 1.0000001, 1e6, 1e30):
        assert norm * clip_factor(norm, 1.0) <= 1.0
    assert clip_factor(0.5, 1.0) == 1.0


def test_noise_comes_before_the_servers_optimiser():
    """Around Adam it would hide nothing: the step of Adam is not bounded by the clip."""
    x = torch.eye(3)
    model = torch.nn.Linear(3, 1, bias=False)
    seen = []
    optimizer = server_optimizer(model, "adam", 0.1, 0.0)
    step = optimizer.step
    optimizer.step = lambda: (seen.append(model.weight.grad.clone()), step())
    problem = Problem(model, optimizer, lambda rows: model(x[rows])[:, 0] ** 2, 3, 3)
    private = PrivateFederated(
        epsilon=None, noise_multiplier=5.0, clip=3.0, rounds=1, clients_per_round=3, algorithm="fedadam"
    )
    private.train_on(problem, seed=0)
    assert float(seen[0].abs().max()) > 1.0  # noise of five clips of 3, over three clients


def test_a_round_without_anybody_gets_noise_too():
    private = PrivateMean(NoiseSource(0), 1.0, 1.0, everybody(np.ones(10)))
    assert float(collected(private, []).std()) == pytest.approx(0.1, rel=0.05)


def test_another_sum_gets_other_noise_and_the_same_sum_the_same():
    def noise(update):
        private = PrivateMean(NoiseSource(0), 1.0, 1.0, everybody(np.ones(1)))
        return collected(private, [update]) - update

    zero, small = torch.zeros(SIZE), torch.full((SIZE,), 1e-6)
    assert torch.equal(noise(zero), noise(zero))
    assert abs(float(torch.corrcoef(torch.stack([noise(zero), noise(small)]))[0, 1])) < 0.05


def test_the_worst_client_is_the_one_chosen_most_and_is_accounted_with_her_own_chance():
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.rdp import RdpAccountant

    sizes = np.array([128, 32, 16, 8, 4, 2, 1, 1, 1])
    chances = Selection("proportional").inclusion(sizes, 2)[None]
    taking_part = Participation(chances, np.ones_like(chances), 20)
    worst, median = taking_part.epsilons(2.0, 1e-5)

    def naive(q):
        event = GaussianDpEvent(2.0)
        event = event if q == 1 else PoissonSampledDpEvent(float(q), event)
        return RdpAccountant().compose(SelfComposedDpEvent(event, 20)).get_epsilon(1e-5)

    assert chances[0, 0] == 1.0
    assert 0.6 * naive(1.0) < worst <= naive(1.0)
    assert 0.4 * naive(chances[0, 4]) < median <= naive(chances[0, 4])
    assert worst > 5 * median
    guarantee = taking_part.guarantee(2.0, delta=1e-5, runs=1)
    assert guarantee.accounted.epsilon == worst
    assert guarantee.nominal.epsilon < worst  # what one rate for all would claim
    assert (guarantee.accounted.unit, guarantee.accounted.covers("user")) == ("client", True)


def test_over_periods_the_guarantee_covers_every_client():
    chances = np.array([[0.5, 0.1, 0.0], [0.1, 0.5, 0.05]])
    taking_part = Participation(chances, np.ones_like(chances), 10)
    worst, _ = taking_part.epsilons(2.0, 1e-5)
    for client in range(3):
        assert spent(taking_part.releases(client, 2.0), delta=1e-5) <= worst
    assert len(taking_part.releases(2, 2.0)) == 1  # never in the first period


def test_clients_take_part_as_often_as_is_accounted():
    sizes = np.array([40, 20, 10, 5, 5])
    plan = Rounds(1, 2, Selection("proportional"), poisson=True)
    rounds = 3000
    counts = np.zeros(5)
    for number in range(rounds):
        counts[list(plan.choose(sizes, 7, number)[0])] += 1
    expected = plan.selection.inclusion(sizes, 2)
    assert np.abs(counts / rounds - expected).max() < 4 * np.sqrt(0.25 / rounds)


def test_an_adaptive_clip_is_paid_for_and_finds_its_quantile():
    adaptive = AdaptiveClip(0.5, 0.2, 2.0)
    of_sum = adaptive.of_the_sum(1.0)
    assert of_sum > 1.0
    assert of_sum**-2 + (2 * adaptive.noise) ** -2 == pytest.approx(1.0)
    norms = np.linspace(0.5, 1.5, 400)
    private = PrivateMean(NoiseSource(1), 20.0, 1.0, everybody(np.ones(400), rounds=100), adaptive)
    updates = [torch.tensor([norm, 0, 0, 0], dtype=torch.float32) for norm in norms]
    for number in range(60):
        collected(private, updates, number=number, like=torch.zeros(4))
    assert private.norm == pytest.approx(1.0, abs=0.15)


SETTINGS = {"rounds": 3, "clients": 8, "clients_per_round": 4, "noise_multiplier": 1.0, "epsilon": None}


def test_contract():
    check_defense(PrivateFederated, **SETTINGS)


def test_a_broken_off_training_ends_with_the_same_numbers_and_its_clip(tmp_path):
    rows = learnable(64, seed=0)
    trainer = PrivateFederated(**SETTINGS, clip_quantile=0.5)
    ends = []
    for stop in (None, 2):
        initial = initial_model("tiny", rows, learn_from=rows, seed=0)
        checkpoint = Checkpoint(tmp_path / f"kept{stop}", "k")

        def progress(done, total, loss, stop=stop):
            if done == stop:
                raise KeyboardInterrupt

        if stop:
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(initial, rows, seed=5, checkpoint=checkpoint, progress=progress)
            initial = initial_model("tiny", rows, learn_from=rows, seed=0)
        ends.append(trainer.fit(initial, rows, seed=5, checkpoint=checkpoint))
    assert ends[0].bundle.digest() == ends[1].bundle.digest()
    assert [each["round"] for each in ends[1].rounds] == [1, 2, 3]
    said = " ".join(ends[0].notes)
    assert "for the worst client" in said
    assert "for the median one" in said
    assert ends[0].guarantee.accounted.unit == "client"


def test_epsilon_chooses_the_noise_for_the_worst_client():
    sizes = np.array([100, 10, 10, 10])
    chances = Selection("proportional").inclusion(sizes, 1)[None]
    taking_part = Participation(chances, np.ones_like(chances), 10)
    noise = PrivateFederated(epsilon=3.0).noise_for(taking_part)
    assert 2.9 < taking_part.epsilons(noise, 1e-5)[0] <= 3.0
    with pytest.raises(UsageError, match="on the worst client, above the epsilon 1"):
        PrivateFederated(epsilon=1.0, noise_multiplier=0.5).noise_for(taking_part)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"aggregation": "sizes"}, "noise would not hide it"),
        ({"algorithm": "scaffold"}, "scaffold"),
        ({"delta": 1.0}, "delta 1"),
        ({"epsilon": None}, "neither epsilon nor noise_multiplier"),
        ({"epsilon": float("nan")}, "epsilon nan"),
        ({"clip": 0.0}, "clip"),
    ],
)
def test_what_cannot_be_private_is_refused(settings, said):
    with pytest.raises(RedteamError, match=said):
        PrivateFederated(**settings)


def test_a_power_whose_scores_overflow_is_refused():
    with pytest.raises(UsageError, match="at most 10"):
        tune((PrivateFederated(),), ["power=150"])
    assert np.isfinite(Selection("power", 10.0).inclusion(np.array([1, 10**9]), 1)).all()


class Weighed(PrivateFederated):
    """Counts a client ten times and adds the noise of one."""

    id = "RD299"
    name = "weighed"

    def private(self, problem, periods, how, seed, checkpoint):
        federation, part, noise = super().private(problem, periods, how, seed, checkpoint)
        federation.aggregate.taking_part = replace(part, weights=part.weights * 10)
        return federation, part, noise


class HalfNoise(PrivateFederated):
    """Adds half the noise that it says."""

    id = "RD298"
    name = "half-noise"

    def private(self, problem, periods, how, seed, checkpoint):
        federation, part, noise = super().private(problem, periods, how, seed, checkpoint)
        federation.aggregate.noise_multiplier = noise / 2
        return federation, part, noise


class NoClip(PrivateFederated):
    """Adds updates up as they come, and noise for clipped ones."""

    id = "RD297"
    name = "no-clip"

    def private(self, problem, periods, how, seed, checkpoint):
        federation, part, noise = super().private(problem, periods, how, seed, checkpoint)
        federation.aggregate.clip = lambda: None
        return federation, part, noise


TRAINERS = {PrivateFederated: "consistent", Weighed: "violated", HalfNoise: "violated", NoClip: "violated"}


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.name)
def test_verify_tells_honest_trainers_from_others(trainer, monkeypatch):
    """The whole verification, on few canaries, each a client of one row; without families, which take minutes."""
    monkeypatch.setattr(run, "_FAMILIES", (8,))
    plan = VerificationPlan(canaries=200, epsilon=2.0, rate=0.2, epochs=2, short=103)
    found = run.verify(DefenseSubject(trainer(), {}), plan, seed=1)
    assert found.verdict == TRAINERS[trainer], found.reason
    assert found.accounted.unit == "client"
