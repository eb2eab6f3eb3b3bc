"""Federated training: who holds what, who is chosen, what the mean is, and that a broken-off training ends the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import learnable, run_redteam

from defenses.federated import partitions, selection
from defenses.federated.aggregation import PlainSum, WeightedMean
from defenses.federated.defense import Federated
from defenses.federated.engines import InProcess
from defenses.federated.flower import job, links, mailbox
from defenses.federated.local import ClientAnswer, LocalTraining, RoundTask, seed_for, train_client
from defenses.federated.rounds import Federation, Rounds
from defenses.federated.selection import Selection
from defenses.federated.server import Adaptive, server_optimizer
from defenses.federated.updates import weights_of
from redteam.core import DataError, RedteamError, UsageError
from redteam.data import Examples
from redteam.models.initial import initial_model
from redteam.plugins.defense import Checkpoint, Problem
from redteam.testing import check_defense


def rows(count, kinds=4):
    labels = tuple("abcdef"[i % kinds] for i in range(count))
    return Examples(np.arange(count), tuple(f"{label} {i}" for i, label in enumerate(labels)), labels)


def linear(count=60, *, seed=0, rule="average", rate=1.0):
    """Regression on three numbers: quick, and its optimum is known."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.normal(size=(count, 3)), dtype=torch.float32)
    y = x @ torch.tensor([0.1, -0.2, 0.05])  # gradients stay below the norm that clients cut them at
    model = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()

    def losses(batch):
        return (model(x[batch])[:, 0] - y[batch]) ** 2

    return Problem(model, server_optimizer(model, rule, rate, 0.0), losses, count, count)


def federation(problem, holders, plan, how=None, aggregate=None, engine=None):
    how = how or LocalTraining(1, 5, "sgd", 0.05, variates=plan.variates)
    return Federation(problem, [holders], plan, engine or InProcess(problem, how), aggregate or WeightedMean())


def cut(count, clients):
    return np.array_split(np.arange(count), clients)


def test_contract():
    check_defense(Federated, rounds=1, clients=3)


@pytest.mark.parametrize("rule", ["labels", "zipf", "lognormal", "labels-zipf", "clusters"])
def test_every_row_goes_to_one_client_and_the_seed_decides_which(rule):
    found, again, other = (
        partitions.partition(rule, rows(200), clients=12, concentration=0.3, exponent=1.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert sorted(np.concatenate(found.holders).tolist()) == list(range(200))
    assert found.sizes.min() >= 1
    assert all(np.array_equal(a, b) for a, b in zip(found.holders, again.holders, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(found.holders, other.holders, strict=True))


def test_a_small_alpha_leaves_few_labels_to_each_client_and_a_large_one_their_usual_mix():
    labels = rows(4000).labels
    largest = {}
    for alpha in (1e-3, 0.1, 100.0):
        found = partitions.partition("labels", rows(4000), clients=20, concentration=alpha, exponent=0.0, seed=0)
        _, table = found.table(labels)
        assert (table.sum(axis=1) == 200).all()
        largest[alpha] = np.median(table.max(axis=1) / 200)
    assert largest[1e-3] > 0.95
    assert largest[0.1] > 0.6
    assert largest[100.0] < 0.35


def test_zipf_sizes_follow_the_rank():
    sizes = partitions.partition("zipf", rows(3000), clients=10, concentration=1, exponent=1.0, seed=0).sizes
    assert sizes.sum() == 3000
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.02)
    assert sizes[0] / sizes[9] == pytest.approx(10, rel=0.05)


def test_users_are_clients_and_their_rows_are_named():
    some = replace(rows(6), users=("ann", "bob", "ann ", "cy", "bob", "ann"))
    found = partitions.by_user(some)
    assert found.names == ("ann", "bob", "cy")
    assert [held.tolist() for held in found.holders] == [[0, 2, 5], [1, 4], [3]]
    assert "3 clients with 1 to 3 rows each" in found.summary(some.labels)


def test_periods_follow_the_order_of_the_file_and_may_leave_a_client_without_rows():
    parts = partitions.periods_of([np.array([0, 1]), np.array([2, 3])], np.array([10, 30, 20, 40]), 2)
    assert [[held.tolist() for held in part] for part in parts] == [[[0], [2]], [[1], [3]]]
    with pytest.raises(DataError, match="5 periods for 4 rows"):
        partitions.periods_of([np.arange(4)], np.arange(4), 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"concentration": 0.0}, "concentration 0"),
        ({"clients": 300}, "300 clients for 200 rows"),
        ({"rule": "users"}, "name the column of users"),
        ({"exponent": float("nan"), "rule": "zipf"}, "exponent nan"),
    ],
)
def test_partitions_that_cannot_be_are_refused(change, said):
    asked = {"rule": "labels", "clients": 12, "concentration": 0.3, "exponent": 1.0, "seed": 0} | change
    with pytest.raises(RedteamError, match=said):
        partitions.partition(asked.pop("rule"), rows(200), **asked)
    with pytest.raises(DataError, match="client-2 has no rows"):
        partitions.given([[0, 1], []])
    with pytest.raises(DataError, match="two clients"):
        partitions.given([[0, 1], [1]])


SIZES = np.array([1, 2, 4, 8, 0, 16])


def test_gumbel_draws_are_draws_without_replacement_by_weight():
    """The first of two is client k with chance s_k; the second by what is left: compared with drawing one by one."""
    rng, chosen = np.random.default_rng(0), Selection("proportional")
    draws = 20_000
    found = np.zeros(6)
    for _ in range(draws):
        found[chosen.draw(SIZES, 2, rng)] += 1
    p = SIZES / SIZES.sum()
    exact = np.array([p[k] + sum(p[j] * p[k] / (1 - p[j]) for j in range(6) if j != k) for k in range(6)])
    assert np.abs(found / draws - exact).max() < 4 * np.sqrt(0.25 / draws)


@pytest.mark.parametrize("rule", ["uniform", "proportional", "power", "log", "top", "threshold"])
def test_who_has_no_rows_is_never_chosen_and_chances_add_up(rule):
    chosen = Selection(rule, threshold=4)
    drawn = chosen.draw(SIZES, 3, np.random.default_rng(1))
    chances = chosen.inclusion(SIZES, 3)
    assert 4 not in drawn
    assert len(drawn) == 3
    assert chances[4] == 0
    assert chances.sum() == pytest.approx(3)
    assert chances.max() <= 1
    if rule == "top":
        assert drawn.tolist() == [2, 3, 5]
    if rule == "proportional":  # the largest would be above 1: it is certain, and the others share what is left
        assert chances.tolist() == pytest.approx([2 / 15, 4 / 15, 8 / 15, 16 / 15, 0, 1], abs=0.2)
        assert chances[5] == 1
    effective = chances * chosen.weights("matching", SIZES)
    certain = (chances > 0) & (chances < 1)
    if certain.any():  # every row has the same say
        says = effective[certain] / SIZES[certain]
        assert says.max() == pytest.approx(says.min())


def test_double_weighting_is_warned_of():
    assert "once more" in Selection("proportional").warning("sizes")
    assert Selection("proportional").warning("matching") is None
    assert Selection("uniform").warning("sizes") is None
    with pytest.raises(DataError, match="none has 99 rows"):
        Selection("threshold", threshold=99).draw(SIZES, 2, np.random.default_rng(0))
    with pytest.raises(UsageError, match="clients_per_round 7: there are 6"):
        selection.check_count(7, 6, 10)


def test_fedavg_with_one_full_step_each_is_one_step_of_gradient_descent():
    problem = linear()
    before = problem.model.weight.detach().clone()
    problem.losses(torch.arange(60)).mean().backward()
    expected = before - 0.01 * problem.model.weight.grad
    problem.model.weight.grad = None
    how = LocalTraining(1, 60, "sgd", 0.01)
    holders = [np.arange(10), np.arange(10, 60)]  # unequal: the mean has to weigh by rows
    federation(problem, holders, Rounds(1, 2), how).run(seed=0)
    assert torch.allclose(problem.model.weight, expected, atol=1e-6)


def test_the_proximal_term_is_half_mu_times_the_squared_distance():
    problem = linear(10)
    start = {"weight": torch.zeros(1, 3)}
    ends = {}
    for mu in (0.0, 0.5):
        how = LocalTraining(2, 10, "sgd", 0.001, proximal=mu)
        ends[mu] = train_client(problem, np.arange(10), RoundTask(0, 0, start), 0, how).update["weight"]
    first = train_client(problem, np.arange(10), RoundTask(0, 0, start), 0, LocalTraining(1, 10, "sgd", 0.001)).update
    # the second of two steps is pulled back by rate * mu * (w - w0), and the gradient is that of the first
    assert torch.allclose(ends[0.0] - ends[0.5], 0.001 * 0.5 * first["weight"], atol=1e-7)


@pytest.mark.parametrize("rule", ["adam", "yogi", "adagrad"])
def test_fedopt_takes_the_papers_step(rule):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = Adaptive([weight], lr=0.1, rule=rule, tau=0.01, betas=(0.9, 0.99))
    m, v, x = 0.0, 1e-4, 0.0
    for delta in (0.5, -0.2, 0.3):
        weight.grad = torch.tensor([-delta])
        optimizer.step()
        m = 0.9 * m + 0.1 * delta
        square = delta**2
        v = {
            "adam": 0.99 * v + 0.01 * square,
            "yogi": v - 0.01 * square * np.sign(v - square),
            "adagrad": v + square,
        }[rule]
        x += 0.1 * m / (np.sqrt(v) + 0.01)
    assert weight.item() == pytest.approx(x, rel=1e-5)


def test_scaffold_reaches_the_optimum_that_client_drift_keeps_fedavg_from():
    """Two clients that disagree: after several local steps the mean of their optima is not the optimum of both."""
    ends = {}
    for variates in (False, True):
        x = torch.tensor([[1.0], [3.0]])
        y = torch.tensor([0.1, 0.0])
        model = torch.nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            model.weight.zero_()

        def losses(batch, model=model, x=x, y=y):
            return (model(x[batch])[:, 0] - y[batch]) ** 2

        problem = Problem(model, server_optimizer(model, "average", 1.0, 0.0), losses, 2, 2)
        how = LocalTraining(10, 1, "sgd", 0.02, variates=variates)
        plan = Rounds(40, 2, variates=variates)
        federation(problem, [np.array([0]), np.array([1])], plan, how).run(seed=0)
        ends[variates] = model.weight.item()
    best = 0.01  # minimises (w - 0.1)^2 + 9 w^2
    assert abs(ends[True] - best) < 1e-4
    assert abs(ends[False] - best) > 0.005


class Breaking(InProcess):
    """An engine whose clients send what they should not."""

    def __init__(self, problem, how, bad):
        super().__init__(problem, how)
        self.bad = bad

    def answers(self, task, clients, holders):
        for answer in super().answers(task, clients, holders):
            yield replace(answer, update=self.bad[answer.client]) if answer.client in self.bad else answer


HOSTILE = {
    0: {"weight": torch.full((1, 3), float("nan"))},
    1: {"weight": torch.zeros(3, 1)},
    2: {"bias": torch.zeros(1, 3)},
    3: "nothing",
    4: {"weight": torch.zeros(1, 3, dtype=torch.int64)},
}


def test_a_hostile_client_changes_nothing_but_the_record():
    how, plan = LocalTraining(1, 5, "sgd", 0.05), Rounds(1, 6)
    problem = linear()
    bad = federation(problem, cut(60, 6), plan, how, engine=Breaking(problem, how, HOSTILE))
    bad.run(seed=0)
    alone, told = linear(), RoundTask(0, seed_for(0, "clients"), {"weight": torch.zeros(1, 3)})
    honest = train_client(alone, cut(60, 6)[5], told, 5, how)
    assert torch.allclose(problem.model.weight, honest.update["weight"])
    said = bad.records[0].failed
    assert set(said) == set("01234")
    assert "not finite" in said["0"]
    assert "(3, 1) for weight, which is (1, 3)" in said["1"]


ODD = {
    "float64 beyond float32": torch.full((1, 3), 1e300, dtype=torch.float64),
    "float8": torch.zeros(1, 3).to(torch.float8_e4m3fn),
    "sparse": torch.eye(3)[:1].to_sparse(),
    "meta": torch.zeros(1, 3, device="meta"),
    "complex": torch.zeros(1, 3, dtype=torch.complex64),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_tensors_of_any_other_kind_are_failures_of_their_client(kind, clip):
    told = RoundTask(0, 0, {"w": torch.zeros(1, 3)}, shares={0: 1.0, 1: 1.0}, clip=clip)
    sent = [ClientAnswer(0, {"w": ODD[kind]}, 1, 0.0), ClientAnswer(1, {"w": torch.full((1, 3), 0.1)}, 1, 0.0)]
    found = PlainSum().collect(told, iter(sent))
    assert list(found.failed) == [0]
    assert torch.allclose(found.total["w"], torch.full((1, 3), 0.1))


def test_a_loss_that_is_no_number_is_a_failure_and_a_sum_beyond_float32_ends_the_training():
    told = RoundTask(0, 0, {"w": torch.zeros(2)}, shares={0: 1.0})
    assert PlainSum().collect(told, iter([ClientAnswer(0, {"w": torch.ones(2)}, 1, float("nan"))])).failed
    how, problem = LocalTraining(1, 5, "sgd", 0.05), linear()
    huge = {k: {"weight": torch.full((1, 3), 3e38)} for k in range(6)}
    bad = federation(problem, cut(60, 6), Rounds(1, 6), how, engine=Breaking(problem, how, huge))
    with pytest.raises(RedteamError, match="round 1: the sum of updates is too large"):
        bad.run(seed=0)


def test_every_client_failing_ends_in_one_line_with_the_finished_rounds_kept(tmp_path):
    how, plan = LocalTraining(1, 5, "sgd", 0.05), Rounds(4, 2)
    checkpoint = Checkpoint(tmp_path / "kept", "k")
    problem = linear()
    engine = Breaking(problem, how, {})
    breaking = federation(problem, cut(60, 6), plan, how, engine=engine)
    breaking.watch = lambda record, *_: (
        engine.bad.update({client: {} for client in range(6)}) if record.round == 2 else None
    )
    with pytest.raises(RedteamError, match=r"round 3: all 2 clients failed, .*2 finished rounds are kept"):
        breaking.run(seed=0, checkpoint=checkpoint)
    whole, resumed = linear(), linear()
    federation(whole, cut(60, 6), plan, how).run(seed=0)
    again = federation(resumed, cut(60, 6), plan, how)
    again.run(seed=0, checkpoint=checkpoint)
    assert torch.equal(whole.model.weight, resumed.model.weight)
    assert [record.round for record in again.records] == [1, 2, 3, 4]


@pytest.mark.parametrize(("rule", "variates"), [("adam", False), ("average", True)])
def test_a_broken_off_training_ends_with_the_same_numbers(tmp_path, rule, variates):
    plan = Rounds(6, 3, variates=variates, drop_out=0.2)
    how = LocalTraining(1, 5, "sgd", 0.05, variates=variates)
    whole = linear(rule=rule, rate=0.1)
    federation(whole, cut(60, 6), plan, how).run(seed=1)

    def interrupt(record, *_):
        if record.round == 4:
            raise KeyboardInterrupt

    checkpoint, broken = Checkpoint(tmp_path / "kept", "k"), linear(rule=rule, rate=0.1)
    first = federation(broken, cut(60, 6), plan, how, engine=InProcess(broken, how, checkpoint.clients))
    first.watch = interrupt
    with pytest.raises(KeyboardInterrupt):
        first.run(seed=1, checkpoint=checkpoint)
    resumed = linear(rule=rule, rate=0.1)
    second = federation(resumed, cut(60, 6), plan, how, engine=InProcess(resumed, how, checkpoint.clients))
    second.run(seed=1, checkpoint=checkpoint)
    assert torch.equal(whole.model.weight, resumed.model.weight)


def test_numbers_do_not_depend_on_the_order_in_which_clients_run():
    problem, how = linear(), LocalTraining(2, 4, "adamw", 0.01)
    task = RoundTask(3, 7, {"weight": torch.zeros(1, 3)})
    engine, holders = InProcess(problem, how), cut(60, 6)
    there = {a.client: a.update["weight"] for a in engine.answers(task, [0, 1, 2], holders)}
    back = {a.client: a.update["weight"] for a in engine.answers(task, [2, 1, 0], holders)}
    assert all(torch.equal(there[client], back[client]) for client in there)


def test_a_thousand_clients_take_the_memory_of_ten():
    """No more than one answer is alive at a time, whatever the number of clients."""
    alive, most = 0, 0

    class Counted(dict):
        def __init__(self, update):
            nonlocal alive, most
            super().__init__(update)
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    task = RoundTask(0, 0, {"weight": torch.zeros(1, 3)}, shares=dict.fromkeys(range(1000), 1.0))
    answers = (ClientAnswer(k, Counted({"weight": torch.ones(1, 3)}), 1, 0.0) for k in range(1000))
    found = PlainSum().collect(task, answers)
    assert torch.equal(WeightedMean().mean(found, task)["weight"], torch.ones(1, 3))
    assert most <= 3


def test_later_periods_start_warm_and_see_their_own_rows_alone():
    seen = []
    problem = linear()
    losses = problem.losses
    problem = replace(problem, losses=lambda batch: (seen.append(batch), losses(batch))[1])
    parts = partitions.periods_of(cut(60, 3), np.arange(60)[::-1].copy(), 2)
    how = LocalTraining(1, 5, "sgd", 0.05)
    run = Federation(problem, parts, Rounds(2, 3), InProcess(problem, how), WeightedMean())
    steps = []
    run.watch = lambda record, before, mean: steps.append((record.period, before["weight"].clone(), len(seen)))
    run.run(seed=0)
    assert [period for period, _, _ in steps] == [1, 1, 2, 2]
    first = torch.cat(seen[: steps[1][2]])
    assert set(first.tolist()) == set(range(30, 60))
    assert set(torch.cat(seen[steps[1][2] :]).tolist()) == set(range(30))
    assert not torch.equal(steps[2][1], torch.zeros(1, 3))
    assert run.records[2].chosen == (0, 1)  # who has rows now


def test_old_rows_are_kept_where_that_is_said():
    some, divided = rows(40), partitions.given(cut(40, 4))
    deleted = Federated(periods=2).in_time(divided, some)
    kept = Federated(periods=2, old_data="kept").in_time(divided, some)
    assert [sum(map(len, part)) for part in deleted] == [20, 20]
    assert [sum(map(len, part)) for part in kept] == [20, 40]


def test_it_learns_over_skewed_clients():
    train, test = learnable(240, seed=1), learnable(100, seed=2)
    initial = initial_model("tiny", train, learn_from=train, seed=0)
    trained = Federated(rounds=8, clients=6, concentration=0.5, learning_rate=3e-3, batch_size=8).fit(
        initial, train, seed=0
    )
    labels = np.array(trained.target.labels)
    assert (labels[trained.target.predict(test)] == np.array(test.labels)).mean() > 0.9
    assert trained.guarantee is None
    assert sorted(row for held in trained.clients.values() for row in held) == train.rows.tolist()


def test_the_command_writes_who_held_what_and_refuses_in_one_line(tmp_path):
    some = learnable(60, seed=3)
    lines = ["text\tlabel\tuser"]
    lines += [f"{t}\t{label}\tu{i % 24}" for i, (t, label) in enumerate(zip(some.texts, some.labels, strict=True))]
    (tmp_path / "data.tsv").write_text("\n".join(lines) + "\n")
    command = ["train", "data.tsv", "--defense", "federated", "--set", "rounds=2"]
    done = run_redteam(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = json.loads((tmp_path / "model.ledger.json").read_text())
    members = set(ledger["membership"]["members"])
    assert ledger["membership"]["unit"] == "user"
    assert {row for held in ledger["clients"].values() for row in held} == members
    assert all({row % 24 for row in held} == {int(name[1:])} for name, held in ledger["clients"].items())
    assert [record["round"] for record in ledger["rounds"]] == [1, 2]
    assert not list(tmp_path.glob("*.checkpoint*"))
    refused = run_redteam(*command, "--set", "clients_per_round=99", cwd=tmp_path)
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1), refused.stderr
    assert "clients_per_round 99: there are" in refused.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "superlink"}, "go together"),
        ({"superlink": "127.0.0.1:1"}, "go together"),
        ({"engine": "ray", "algorithm": "scaffold"}, "scaffold is for engine in-process alone"),
    ],
)
def test_engines_say_what_they_do_not_do(settings, said):
    with pytest.raises(UsageError, match=said):
        Federated(**settings)


def test_a_missing_flower_and_an_unreachable_superlink_are_one_line(monkeypatch):
    with pytest.raises(
        UsageError, match=r"127\.0\.0\.1:1: cannot be reached \(Connection refused\); start flower-superlink"
    ):
        links.check_reachable("127.0.0.1:1")
    with pytest.raises(UsageError, match="write HOST:PORT"):
        links.check_reachable("here")
    monkeypatch.setattr(links.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"engine ray: Flower is not installed; run: pip install '\.\[federated\]'"):
        links.check_installed("ray")


def test_a_client_of_another_process_gives_the_update_that_it_gives_here(tmp_path):
    some = learnable(24, seed=0)
    initial = initial_model("tiny", some, learn_from=some, seed=0)
    initial.model.train()
    trainer = Federated(batch_size=4).settled(initial, 24)
    problem, how = trainer.problem(initial, some, None), trainer.local_training()
    held = np.array([1, 5, 9, 11, 20, 22])
    job.write_job(tmp_path / "job", initial, job.ClientData("labels", some), [held], how)
    box = mailbox.Mailbox(tmp_path / "box")
    task = RoundTask(2, 7, weights_of(initial.model))
    box.post(0, task, [0], [np.arange(6)])
    told = box.task(0)
    there = RoundTask(told["round"], told["seed"], told["weights"])
    box.reply(0, job.answer(tmp_path / "job", told["clients"][0], told["rows"][0].numpy(), there))
    found, here = box.answer(0, 0, lambda: None), train_client(problem, held, task, 0, how)
    assert all(torch.equal(found.update[name], value) for name, value in here.update.items())
    assert (found.rows, found.loss) == (here.rows, pytest.approx(here.loss))
    box.end()
    assert box.task(1) is None
