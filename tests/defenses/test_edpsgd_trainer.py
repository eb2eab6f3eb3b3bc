"""`PrivateTrainer`: each step is what a naive loop would do, and what is counted is never too little."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from defenses.edpsgd import PrivateTrainer
from defenses.edpsgd.noise import NoiseSource
from redteam.core import RedteamError, UsageError

ROWS, CLASSES, CLIP, SIGMA, RATE = 60, 3, 0.7, 0.5, 0.3


def data(seed=0):
    made = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, 5, generator=made) * 3, torch.randint(CLASSES, (ROWS,), generator=made)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, CLASSES))


def trainer(model, optimizer=None, **changes):
    settings = {"clip": CLIP, "noise_multiplier": SIGMA, "sample_rate": RATE, "population": ROWS, "seed": 5} | changes
    return PrivateTrainer(model, optimizer or torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def losses_of(model, seed=0):
    x, y = data(seed)
    return lambda part: functional.cross_entropy(model(x[part]), y[part], reduction="none")


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def naive_gradient(model, rows, step, history, *, clip=CLIP, sigma=SIGMA, divisor=RATE * ROWS):
    """The textbook: a loop over the examples, and the noise of that step and history from the same source."""
    losses, parameters = losses_of(model), list(model.parameters())
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for row in rows.tolist():
        grads = torch.autograd.grad(losses(torch.tensor([row])).sum(), parameters)
        one = torch.cat([g.flatten() for g in grads]).double()
        total += one * min(1.0, clip * (1 - 1e-5) / one.norm().item())
    noise = torch.empty(total.numel())
    source = NoiseSource(5)
    source.history = history
    source.fill(noise, sigma * clip / divisor, step=step)
    return total / divisor + noise


class TestOneStep:
    @pytest.mark.parametrize("physical_batch", [1, 7, 64])
    @pytest.mark.parametrize("clip", [0.05, 0.7, 50.0])
    def test_is_what_a_naive_loop_does(self, clip, physical_batch):
        model, naive = network(), network()
        private = trainer(model, clip=clip, physical_batch=physical_batch)
        for step, rows in enumerate(private.batches(steps=3, lengths=range(ROWS))):
            before = flat(model)
            naive.load_state_dict(model.state_dict())
            private.step(losses_of(model), rows)
            moved, wanted = (
                (before - flat(model)) / 0.1,
                naive_gradient(naive, rows, step, private._source.history, clip=clip),
            )
            assert (moved - wanted).norm() <= 2e-6 * wanted.norm() + 1e-6 * before.norm()

    def test_an_empty_batch_releases_noise(self):
        model = network()
        private = trainer(model, sample_rate=1e-9)
        rows = next(private.batches(steps=1))
        assert len(rows) == 0
        before = flat(model)
        outcome = private.step(losses_of(model), rows)
        assert (outcome.rows, outcome.dropped) == (0, 0)
        assert math.isnan(outcome.loss)
        moved = (before - flat(model)) / 0.1
        std = SIGMA * CLIP / (1e-9 * ROWS)
        assert moved.std().item() == pytest.approx(std, rel=0.3)

    def test_the_divisor_is_not_the_realised_size(self):
        steps = []
        for size in (30, 60):  # as many rows as happen to be there; the population is public and the same
            model = network()
            before = flat(model)
            private = trainer(model, noise_multiplier=0.0, sample_rate=1.0, clip=1e-3)
            losses = losses_of(model)
            for rows in private.batches(steps=1, size=size):
                private.step(lambda part, losses=losses: losses(part * 0), rows)  # the same example over and over
            steps.append((flat(model) - before).norm().item())
        assert steps[1] == pytest.approx(2 * steps[0], rel=1e-2)  # dividing by the batch would make them equal

    def test_zero_grad_between_steps_does_no_harm(self):
        ends = []
        for wiped in (False, True):
            model = network()
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
            private = trainer(model, optimizer)
            for rows in private.batches(steps=4):
                if wiped:
                    optimizer.zero_grad(set_to_none=True)
                private.step(losses_of(model), rows)
            ends.append(flat(model))
        assert torch.equal(*ends)

    def test_a_non_finite_example_is_dropped_and_counted(self):
        model, (x, y) = network(), data()
        x[7] = math.nan
        private = trainer(model, sample_rate=1.0)

        def losses(part):
            return functional.cross_entropy(model(x[part]), y[part], reduction="none")

        for rows in private.batches(steps=2):
            outcome = private.step(losses, rows)
            assert (outcome.rows, outcome.dropped) == (ROWS, 1)
            assert math.isfinite(outcome.loss)
        assert private.dropped == 2
        assert flat(model).isfinite().all()


class TestSpent:
    def test_grows_with_the_steps_and_is_the_accountants(self):
        from defenses.accounting import Phase, Release, spent

        model = network()
        private, seen = trainer(model), []
        assert private.spent(delta=1e-5) == 0
        for rows in private.batches(steps=3):
            private.step(losses_of(model), rows)
            seen.append(private.spent(delta=1e-5))
        assert seen == [spent([Release((Phase(SIGMA, n),), "poisson", RATE)], delta=1e-5) for n in (1, 2, 3)]
        assert seen[0] < seen[1] < seen[2]

    def test_shuffled_is_not_amplified(self):
        model = network()
        shuffled = trainer(model, sampling="shuffled", sample_rate=0.1, noise_multiplier=1.0)
        with shuffled:
            for rows in shuffled.batches(steps=10):
                shuffled.step(losses_of(model), rows)
        assert shuffled.spent(delta=1e-5) == pytest.approx(4.38, abs=0.02)  # one Gaussian of mu = 1

    def test_a_step_that_fails_half_way_is_counted(self):
        model = network()
        private = trainer(model)
        rows = next(private.batches(steps=1))
        with pytest.raises(ZeroDivisionError):
            private.step(lambda part: 1 / 0, rows)
        assert private.steps_done == 1

    def test_no_noise_has_no_epsilon(self):
        model = network()
        private = trainer(model, noise_multiplier=0.0)
        for rows in private.batches(steps=1):
            private.step(losses_of(model), rows)
        assert private.spent(delta=1e-5) == math.inf


class TestResume:
    def steps(self, private, model, until):
        for rows in private.batches(steps=until, lengths=[1] * ROWS):
            private.step(losses_of(model), rows)

    @pytest.mark.parametrize("sampling", ["poisson", "shuffled"])
    def test_goes_on_to_the_same_bits(self, sampling):
        whole = network()
        self.steps(trainer(whole, sampling=sampling, seed=9), whole, 12)
        for broken_at in (1, 5, 11):
            model = network()
            first = trainer(model, sampling=sampling, seed=9)
            self.steps(first, model, broken_at)
            state, weights = first.state_dict(), model.state_dict()
            again = network(3)
            again.load_state_dict(weights)
            second = trainer(again, sampling=sampling, seed=None)  # the state brings the seed
            second.load_state_dict(state)
            assert second.spent(delta=1e-5) == first.spent(delta=1e-5) > 0
            self.steps(second, again, 12)
            assert torch.equal(flat(again), flat(whole))
            assert second.steps_done == 12

    @pytest.mark.parametrize("resumed", [False, True])
    def test_shuffled_rows_stay_as_many_until_the_pass_ends(self, resumed):
        model = network()
        private = trainer(model, sampling="shuffled", sample_rate=0.25)  # 4 steps a pass
        losses = losses_of(model)

        def rows_of(until, size):
            taken = []
            for rows in private.batches(steps=until, size=size):
                private.step(losses, rows)
                taken += rows.tolist()
            return taken

        first = rows_of(2, ROWS - 1)
        if resumed:
            state = private.state_dict()
            private.close()
            private = trainer(model, sampling="shuffled", sample_rate=0.25)
            private.load_state_dict(state)
        for size in (ROWS, ROWS - 2):
            with pytest.raises(UsageError, match=f"{size} rows in a shuffled pass that began with 59"):
                rows_of(4, size)
        assert sorted(first + rows_of(4, ROWS - 1)) == list(range(ROWS - 1))
        assert sorted(rows_of(8, ROWS)) == list(range(ROWS))  # a new pass may have others
        with pytest.raises(UsageError, match="began with 60"):
            rows_of(9, ROWS), rows_of(10, ROWS - 1)

    def test_poisson_rows_may_become_more_at_any_time(self):
        model = network()
        private = trainer(model)
        for until, size in ((1, 50), (2, 60)):
            for rows in private.batches(steps=until, size=size):
                private.step(losses_of(model), rows)
        assert private.steps_done == 2

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"noise_multiplier": 2.0}, "noise_multiplier is 2.0, but the training began with 0.5"),
            ({"clip": 1.0}, "clip is 1.0"),
            ({"sample_rate": 0.1}, "sample_rate is 0.1"),
            ({"population": 61}, "population is 61"),
            ({"sampling": "shuffled"}, "sampling is shuffled"),
            ({"secure": True}, "secure is True"),
        ],
    )
    def test_with_other_settings_is_refused(self, change, words):
        state = trainer(network()).state_dict()
        with pytest.raises(UsageError, match=words):
            trainer(network(), **change).load_state_dict(state)

    def test_only_before_the_first_step(self):
        model = network()
        private = trainer(model)
        state = private.state_dict()
        self.steps(private, model, 1)
        with pytest.raises(UsageError, match="before the first one"):
            private.load_state_dict(state)

    def test_without_a_seed_it_is_a_secret_of_its_own(self):
        one, other = (trainer(network(), seed=None).state_dict()["seed"] for _ in range(2))
        assert one != other
        assert len(one) > 50


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"clip": 0.0}, "clip 0"),
            ({"clip": -1.0}, "clip -1"),
            ({"clip": math.nan}, "clip nan"),
            ({"clip": math.inf}, "clip inf"),
            ({"noise_multiplier": -0.1}, "noise multiplier -0.1"),
            ({"noise_multiplier": math.nan}, "noise multiplier nan"),
            ({"sample_rate": 1.5}, "sample rate 1.5 of 60 rows.*cannot be larger than the data"),
            ({"sample_rate": math.nan}, "sample rate nan"),
            ({"population": 0}, "population 0"),
            ({"sampling": "fixed"}, "must be poisson or shuffled"),
            ({"physical_batch": 0}, "physical batch 0"),
            ({"seed": -1}, "seed"),
        ],
    )
    def test_settings(self, change, words):
        model = network()
        with pytest.raises(UsageError, match=words):
            trainer(model, **change)
        assert all(p.requires_grad for p in model.parameters())

    @pytest.mark.parametrize("reduce", [torch.mean, torch.sum, lambda values: values.mean().expand(2)])
    def test_losses_that_are_not_one_a_row(self, reduce):
        model = network()
        private = trainer(model, sample_rate=1.0)
        rows = next(private.batches(steps=1))
        with pytest.raises(UsageError, match="one loss a row, not averaged"):
            private.step(lambda part: reduce(losses_of(model)(part)), rows)

    def test_batch_normalisation(self):
        model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
        with pytest.raises(UsageError, match="BatchNorm1d"):
            trainer(model)

    def test_a_foreign_optimizer(self):
        with pytest.raises(UsageError, match="holds 4 trainable parameters that are not the model's"):
            trainer(
                nn.Linear(5, 3), torch.optim.SGD(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3)).parameters(), lr=1)
            )

    def test_batches_of_ones_own(self):
        model = network()
        private = trainer(model)
        batches = private.batches(steps=3)
        rows = next(batches)
        for others in (rows.clone(), torch.arange(3)):
            with pytest.raises(UsageError, match="rows that batches\\(\\) yielded last"):
                private.step(losses_of(model), others)
        private.step(losses_of(model), rows)
        with pytest.raises(UsageError, match="yielded last"):
            private.step(losses_of(model), rows)  # twice
        next(batches)
        with pytest.raises(UsageError, match="was not given to step"):
            next(batches)

    def test_lengths_of_other_rows(self):
        with pytest.raises(UsageError, match="2 lengths for 60 rows"):
            next(trainer(network()).batches(steps=1, size=60, lengths=[1, 2]))


class TestTheModel:
    def test_is_given_back(self):
        model, (x, _) = network(), data()
        model[0].bias.requires_grad_(False)
        wanted = [p.requires_grad for p in model.parameters()]
        with trainer(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)) as private:
            for rows in private.batches(steps=1):
                private.step(losses_of(model), rows)
        assert [p.requires_grad for p in model.parameters()] == wanted
        model(x).sum().backward()  # ordinary training works again
        assert model[3].weight.grad.abs().sum() > 0

    def test_weights_gone_stop_with_what_was_spent_and_the_good_ones_back(self):
        model = network()
        start = flat(model)
        private = trainer(model, torch.optim.SGD(model.parameters(), lr=1e30))
        rows = next(private.batches(steps=1))
        with pytest.raises(RedteamError, match=r"after step 1: those after step 0 are back; .*epsilon [\d.]+ at delta"):
            private.step(losses_of(model), rows)
        assert torch.equal(flat(model), start)
        assert private.steps_done == 1  # spent all the same
