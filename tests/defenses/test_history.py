"""Two trainings that go on from one state: the same where nothing differs, and fresh noise where anything does."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from defenses.dpsgd import DPSGD
from defenses.edpsgd import EDPSGD, PrivateTrainer
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import Sampler
from redteam.core import UsageError
from redteam.plugins.defense import Checkpoint, Problem

ROWS, SIZE, SIGMA, RATE = 120, 40, 4.0, 0.25


class Stop(Exception):
    pass


def data(flip=None):
    made = torch.Generator().manual_seed(0)
    x, y = torch.randn(ROWS, SIZE, generator=made), torch.randint(2, (ROWS,), generator=made)
    if flip is not None:
        y[flip] = 1 - y[flip]
    return x, y


def losses_of(model, flip=None, scale=1.0):
    x, y = data(flip)
    return lambda part: functional.cross_entropy(model(scale * x[part]), y[part], reduction="none")


def trainer(model, **changes):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"clip": 1.0, "noise_multiplier": SIGMA, "sample_rate": RATE, "population": ROWS, "seed": 7} | changes
    return PrivateTrainer(model, optimizer, **settings)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double()


def half_way(**changes):
    torch.manual_seed(0)
    model = nn.Linear(SIZE, 50)
    private = trainer(model, **changes)
    for rows in private.batches(steps=3):
        private.step(losses_of(model), rows)
    return private.state_dict(), copy.deepcopy(model.state_dict())


def go_on(state, weights, *, steps=1, size=None, lr=0.1, flip=None, scale=1.0, data="", **changes):
    model = nn.Linear(SIZE, 50)
    model.load_state_dict(weights)
    private = trainer(model, **changes)
    private._optimizer.param_groups[0]["lr"] = lr
    private.load_state_dict(state)
    taken, moved = [], []
    for rows in private.batches(steps=3 + steps, size=size, data=data):
        before = flat(model)
        private.step(losses_of(model, flip, scale), rows)
        taken.append(rows.tolist())
        moved.append((before - flat(model)) / lr)
    return moved, taken


def noise_of(moved):
    """How far apart two steps would lie if each drew its own noise."""
    return SIGMA / (RATE * ROWS) * np.sqrt(2 * len(moved))


def in_the_next_batch(state, weights):
    return go_on(state, weights)[1][0][0]


class TestBranches:
    def test_the_same_again_is_the_same_to_the_bit(self):
        kept = half_way()
        (one, rows), (other, others) = go_on(*kept, steps=5), go_on(*kept, steps=5)
        assert rows == others
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    @pytest.mark.parametrize("what", ["label", "scale", "a bit of the weights", "size", "data"])
    def test_whatever_differs_makes_the_noise_fresh(self, what):
        state, weights = half_way()
        (one,), _ = go_on(state, weights)
        branch = {}
        if what == "a bit of the weights":
            weights = copy.deepcopy(weights)
            weights["bias"][3] = torch.nextafter(weights["bias"][3], torch.tensor(1e9))
        elif what == "label":
            branch = {"flip": in_the_next_batch(state, weights)}
        elif what == "data":
            branch = {"data": "other"}
        else:
            branch = {"scale": 1 + 1e-6} if what == "scale" else {"size": ROWS - 60}
        (other,), _ = go_on(state, weights, **branch)
        apart = (one - other).norm().item()
        assert 0.8 * noise_of(one) < apart < 1.3 * noise_of(one)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2

    def test_draws_are_fresh_once_the_branches_part(self):
        state, weights = half_way()
        flip = in_the_next_batch(state, weights)
        _, one = go_on(state, weights, steps=3)
        _, other = go_on(state, weights, steps=3, flip=flip)
        assert one[0] == other[0]  # drawn before anything differed
        assert one[1] != other[1]
        assert one[2] != other[2]

    def test_shuffled_orders_stay_or_rows_would_come_twice(self):
        state, weights = half_way(sampling="shuffled")
        flip = in_the_next_batch_of(state, weights)
        moved, one = go_on(state, weights, steps=2, sampling="shuffled")
        others, other = go_on(state, weights, steps=2, sampling="shuffled", flip=flip)
        assert one == other
        assert all((a - b).norm().item() > 0.8 * noise_of(a) for a, b in zip(moved, others, strict=True))

    def test_branches_that_parted_stay_apart_though_sums_agree(self):
        """With nobody in a batch both sums are zero, and the noise is fresh all the same."""
        kept = half_way(sample_rate=0.01)
        one, rows = go_on(*kept, steps=60, sample_rate=0.01)
        first = next(i for i in range(60) if rows[i])
        other, others = go_on(*kept, steps=60, sample_rate=0.01, flip=rows[first])
        both_empty = [i for i in range(first + 1, 60) if not rows[i] and not others[i]]
        assert both_empty
        assert all(abs(np.corrcoef(one[i], other[i])[0, 1]) < 0.2 for i in both_empty)

    def test_another_learning_rate_makes_the_next_draws_fresh(self):
        """The step that it changes releases the same sum; were the draws of the next the same, two would share them."""
        kept = half_way()
        (one, _), taken = go_on(*kept, steps=2)
        (other, _), others = go_on(*kept, steps=2, lr=0.2)
        assert taken[0] == others[0]
        assert taken[1] != others[1]
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2

    def test_what_the_optimiser_remembers_counts(self):
        """Else the next step would be the same, and the one after it would share its draws."""
        torch.manual_seed(0)
        model = nn.Linear(SIZE, 50)
        private = trainer(model)
        private._optimizer = private._steps.optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for rows in private.batches(steps=3):
            private.step(losses_of(model), rows)
        state, weights, memory = private.state_dict(), model.state_dict(), private._optimizer.state_dict()
        taken = []
        for remembers in (True, True, False):
            again = nn.Linear(SIZE, 50)
            again.load_state_dict(weights)
            other = trainer(again)
            other._optimizer = other._steps.optimizer = torch.optim.Adam(again.parameters(), lr=0.01)
            if remembers:
                other._optimizer.load_state_dict(copy.deepcopy(memory))
            other.load_state_dict(state)
            taken.append(next(other.batches(steps=4)).tolist())
        assert taken[0] == taken[1] != taken[2]

    def test_a_state_that_was_taken_before_the_first_batch_changes_nothing(self):
        ends = []
        for _ in range(2):
            torch.manual_seed(0)
            model = nn.Linear(SIZE, 50)
            private = trainer(model)
            if ends:
                private.load_state_dict(private.state_dict())
            for rows in private.batches(steps=2):
                private.step(losses_of(model), rows)
            ends.append(flat(model))
        assert torch.equal(*ends)

    def test_a_state_is_handed_on_by_who_did_no_step(self):
        state, weights = half_way()
        torch.manual_seed(5)
        between = trainer(nn.Linear(SIZE, 50))
        between.load_state_dict(state)
        handed_on = pickle.loads(pickle.dumps(between.state_dict()))
        (one, rows), (other, others) = go_on(state, weights), go_on(handed_on, weights)
        assert rows == others
        assert torch.equal(one[0], other[0])

    @pytest.mark.parametrize("name", ["settings", "steps", "size", "seed"])
    def test_a_state_that_lacks_something(self, name):
        state, weights = half_way()
        del state[name]
        with pytest.raises(UsageError, match=f"the saved state has no usable {name}: give what state_dict"):
            go_on(state, weights)

    def test_a_damaged_state(self):
        state, weights = half_way()
        for name, value in {"history": "0g", "seed": "secret", "steps": "3", "training": 7}.items():
            with pytest.raises(UsageError, match=f"no usable {name}"):
                go_on(state | {name: value}, weights)
        with pytest.raises(UsageError, match="no usable settings"):
            go_on([state], weights)

    def test_trainers_are_not_copied(self):
        """Both would train one model, and the first to close would take the rules from under the other."""
        for copied in (copy.deepcopy, pickle.dumps):
            with pytest.raises(UsageError, match="keep its state_dict"):
                copied(trainer(nn.Linear(SIZE, 50)))

    def test_a_state_of_before_goes_on_with_fresh_noise(self):
        state, weights = half_way()
        old = {name: value for name, value in state.items() if name not in ("history", "weights")}
        (one,), _ = go_on(state, weights)
        (other,), _ = go_on(old, weights)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def in_the_next_batch_of(state, weights):
    return go_on(state, weights, sampling="shuffled")[1][0][0]


class TestFirstBatch:
    """Of a training that begins: its batch is drawn before there is a sum that could tell two of them apart."""

    @pytest.mark.parametrize("name", ["example", "microbatch of poisson", "opacus"])
    def test_other_data_or_settings_draw_anew(self, name, monkeypatch):
        if name == "opacus":
            pytest.importorskip("opacus")
        same = drawn_first(monkeypatch, name)
        assert drawn_first(monkeypatch, name) == same
        others = [
            drawn_first(monkeypatch, name, flip=3),
            drawn_first(monkeypatch, name, lr=0.2),
            drawn_first(monkeypatch, name, data="a digest"),
            drawn_first(monkeypatch, name, clip=2.0),
            drawn_first(monkeypatch, name, epochs=5),
            drawn_first(monkeypatch, name, physical_batch=63),
        ]
        assert all(abs(np.corrcoef(hits(other), hits(same))[0, 1]) < 0.4 for other in others)
        assert len({tuple(rows) for rows in [same, *others]}) == len(others) + 1

    def test_trainers_share_no_draws(self, monkeypatch):
        pytest.importorskip("opacus")
        drawn = [drawn_first(monkeypatch, name) for name in ("example", "microbatch of poisson", "opacus")]
        assert len({tuple(rows) for rows in drawn}) == 3

    def test_private_trainers_that_name_their_data(self):
        drawn = []
        for data in ("one", "one", "other", b"other"):
            torch.manual_seed(0)
            private = trainer(nn.Linear(SIZE, 50))
            drawn.append(next(private.batches(steps=1, data=data)).tolist())
        assert drawn[0] == drawn[1]
        assert len({tuple(rows) for rows in drawn}) == 3

    @pytest.mark.parametrize(("what", "value"), [("clip", 2.0), ("noise_multiplier", 5.0), ("population", ROWS + 1)])
    def test_private_trainers_with_other_settings(self, what, value):
        drawn = []
        for changes in ({}, {what: value}):
            torch.manual_seed(0)
            drawn.append(next(trainer(nn.Linear(SIZE, 50), **changes).batches(steps=1, size=ROWS)).tolist())
        assert drawn[0] != drawn[1]


def hits(rows):
    return np.isin(np.arange(ROWS), rows)


def drawn_first(monkeypatch, name, *, flip=None, lr=0.1, data="", **changes):
    """The rows of the first step."""
    drawn, rows_of = [], Sampler.rows

    def noted(self, step):
        drawn.append(rows_of(self, step).tolist())
        raise Stop

    monkeypatch.setattr(Sampler, "rows", noted)
    torch.manual_seed(0)
    model = nn.Linear(SIZE, 50)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    problem = Problem(model, optimizer, losses_of(model, flip), ROWS, ROWS, data=data)
    with pytest.raises(Stop):
        replace(TRAINERS[name], **changes).train_on(problem, seed=1)
    monkeypatch.setattr(Sampler, "rows", rows_of)
    return drawn[0]


QUICK = {"epsilon": None, "noise_multiplier": SIGMA, "epochs": 4, "batch_size": 30}
TRAINERS = {
    "example": EDPSGD(**QUICK),
    "shuffled": EDPSGD(**QUICK, sampling="shuffled"),
    "microbatch": EDPSGD(**QUICK, clipping="microbatch", sampling="shuffled", microbatch=3),
    "microbatch of poisson": EDPSGD(**QUICK, clipping="microbatch", microbatch=3),
    "opacus": DPSGD(**QUICK),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_checkpoint_that_goes_on_with_other_data(name, tmp_path, monkeypatch):
    if name == "opacus":
        pytest.importorskip("opacus")
    monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)

    def run(path, flip, stop=None):
        torch.manual_seed(0)
        model, seen = nn.Linear(SIZE, 50), []

        def progress(step, steps, loss):
            seen.append(flat(model))
            if step == stop:
                raise Stop

        problem = Problem(model, torch.optim.SGD(model.parameters(), lr=0.1), losses_of(model, flip), ROWS, ROWS)
        TRAINERS[name].train_on(problem, seed=1, checkpoint=Checkpoint(path, "key"), progress=progress)
        return seen

    kept = tmp_path / "kept"
    with pytest.raises(Stop):
        run(kept, None, stop=7)
    ends = []
    for flip in (None, None, slice(0, ROWS)):
        path = tmp_path / f"{len(ends)}"
        path.write_bytes(kept.read_bytes())
        ends.append(run(path, flip))
    assert all(torch.equal(a, b) for a, b in zip(ends[0], ends[1], strict=True))
    steps = [torch.diff(torch.stack(end), dim=0) for end in ends]
    for one, other in zip(steps[0], steps[2], strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


@pytest.mark.parametrize("name", TRAINERS)
def test_one_seed_at_two_scales_of_noise_does_not_expose_the_sum(name):
    """Were the noise the same but for its scale, two first steps would be two equations, solved by the clean sum."""
    if name == "opacus":
        pytest.importorskip("opacus")
    moved = []
    for sigma in (SIGMA, 2 * SIGMA):
        torch.manual_seed(0)
        model, seen = nn.Linear(SIZE, 50), []
        problem = Problem(model, torch.optim.SGD(model.parameters(), lr=0.1), losses_of(model), ROWS, ROWS)
        before = flat(model)
        settings = replace(TRAINERS[name], noise_multiplier=sigma, epochs=1)
        settings.train_on(problem, seed=1, progress=lambda *_, model=model, seen=seen: seen.append(flat(model)))
        moved.append(seen[0] - before)
    assert abs(np.corrcoef(*moved)[0, 1]) < 0.2


@pytest.mark.parametrize("clip", [100.0, 200.0])
def test_clips_that_nobody_reaches_share_no_noise(clip):
    moved = []
    for each in (clip, 2 * clip):
        torch.manual_seed(0)
        model = nn.Linear(SIZE, 50)
        private, before = trainer(model, clip=each), flat(model)
        for rows in private.batches(steps=1):
            private.step(losses_of(model), rows)
        moved.append(flat(model) - before)
    assert abs(np.corrcoef(*moved)[0, 1]) < 0.2


def test_noise_that_is_added_is_the_noise_that_would_fill():
    for secure in (False, True):
        source = NoiseSource(3, secure=secure)
        source.history = b"something"
        for count in (1, 127, 70_001, (1 << 18) + 129):
            filled, added = torch.empty(count), torch.ones(count)
            source.fill(filled, 2.0, step=5)
            source.add(added, 2.0, step=5)
            assert torch.equal(added, filled + 1.0)
            source.add(added, 0.0, step=5)
            assert torch.equal(added, filled + 1.0)


def test_draws_depend_on_the_history_and_a_shuffled_order_does_not():
    for sampling, same in (("poisson", False), ("shuffled", True)):
        drawn = []
        for history in (b"one", b"other"):
            source = NoiseSource(3)
            source.history = history
            drawn.append(Sampler(source, size=100, population=100, sample_rate=0.5, sampling=sampling).rows(1).tolist())
        assert (drawn[0] == drawn[1]) is same
