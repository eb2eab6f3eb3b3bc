"""Secure aggregation: exact sums, whoever is lost, and a server that never has a single update."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import learnable

from defenses.federated.aggregation import PlainSum, WeightedMean
from defenses.federated.defense import Federated
from defenses.federated.engines import InProcess
from defenses.federated.flower import exchange, masking
from defenses.federated.local import ClientAnswer, LocalTraining, RoundTask
from defenses.federated.rounds import Federation, Rounds
from defenses.federated.secure import coordinator, field
from defenses.federated.server import server_optimizer
from redteam.core import RedteamError, UsageError
from redteam.models.initial import initial_model
from redteam.plugins.defense import Problem

pytest.importorskip("cryptography")
pytest.importorskip("Crypto")

from defenses.federated.secure import keys
from defenses.federated.secure.field import RANGE, decode, encode, levels
from defenses.federated.secure.participants import Participant
from defenses.federated.secure.rounds import MASKED, Masked, SecureSum, contribution

SIZE = 3000


class Sending:
    """An engine whose clients send given updates; None are lost."""

    def __init__(self, updates):
        self.updates = updates

    def answers(self, task, clients, holders):
        for k in clients:
            update = self.updates[k]
            if update is None:
                yield ClientAnswer(k, None, failure="lost")
            else:
                yield ClientAnswer(k, {"w": update}, 1, 0.5)

    def kept(self, rounds):
        pass

    def close(self):
        pass


def task(count, *, clip=None):
    shares = {k: 1.0 / (1 + k % 3) for k in range(count)}
    return RoundTask(0, 11, {"w": torch.zeros(SIZE)}, shares=shares, clip=clip)


def updates(count, lost=()):
    rng = np.random.default_rng(0)
    return [None if k in lost else torch.tensor(rng.normal(size=SIZE), dtype=torch.float32) for k in range(count)]


def both(sent, *, clip=None):
    told, engine = task(len(sent), clip=clip), Sending(sent)
    masked = Masked(engine)
    chosen = range(len(sent))
    secure = SecureSum(masked).collect(told, masked.answers(told, chosen, []))
    return secure, PlainSum().collect(told, engine.answers(told, chosen, []))


@pytest.mark.parametrize(("count", "lost"), [(3, ()), (8, ()), (8, (0, 5)), (24, (1, 7, 20)), (6, (2,))])
def test_the_sum_is_that_of_who_stayed(count, lost):
    secure, plain = both(updates(count, lost))
    assert secure.counted == plain.counted
    assert set(secure.failed) == set(lost)
    assert float((secure.total["w"] - plain.total["w"]).abs().max()) < 1e-5
    assert secure.loss == pytest.approx(plain.loss, abs=1e-6)


def test_clients_clip_what_they_send():
    secure, plain = both(updates(5), clip=1.0)
    assert float((secure.total["w"] - plain.total["w"]).abs().max()) < 1e-6
    assert secure.below == pytest.approx(plain.below, abs=1e-6)


def test_masks_make_no_update_longer_than_its_clip():
    """Noise is chosen for the clip: a million entries rounded to the nearest would have been twice as long here."""
    level = RANGE / levels(5_000)
    vector = np.full(1_000_000, 0.501 * level)
    for sign in (1, -1):
        assert np.linalg.norm(decode(encode(sign * vector, 5_000), 5_000)) <= np.linalg.norm(vector)


def test_too_few_that_stayed_is_one_line():
    with pytest.raises(RedteamError, match="the round cannot be added up"):
        both(updates(8, lost=(0, 1, 2, 3, 4, 5)))
    secure, _ = both(updates(2))
    assert secure.counted == []
    assert "hides one among 3" in secure.failed[0]


def test_the_server_never_forms_a_single_update(monkeypatch):
    """All that its code is given or makes, vector by vector, is as far from each update as chance is, but the sum."""
    sent = updates(6, lost=(3,))
    told, seen = task(6), []
    engine = Masked(Sending(sent))
    true = [
        field.encode(contribution(ClientAnswer(k, {"w": u}, 1, 0.5), told), 6) for k, u in enumerate(sent) if k != 3
    ]

    def spy(vector, *others):
        seen.extend(each.copy() for each in (vector, *others))

    for name in ("add", "subtract"):
        original = getattr(coordinator, name)
        monkeypatch.setattr(coordinator, name, lambda t, o, f=original: (spy(t, o), f(t, o), spy(t))[1])
    SecureSum(engine).collect(told, engine.answers(told, range(6), []))
    assert len(seen) > 20
    for vector in seen:
        for one in true:
            assert (vector == one).mean() < 0.01
            negated = np.mod(field.PRIME - vector.astype(np.int64), field.PRIME).astype(np.uint64)
            assert (negated == one).mean() < 0.01
    total = np.zeros(SIZE + 2, dtype=np.uint64)
    for one in true:
        field.add(total, one)
    assert any(np.array_equal(vector, total) for vector in seen)  # the spy would have seen an update


def test_what_a_client_sends_is_uniform_over_the_field_and_tells_nothing_of_its_update():
    engine = Masked(Sending([torch.zeros(SIZE)] * 4))
    told = task(4)
    engine.begin(told, range(4))
    for answer in engine.answers(told, range(4), []):
        assert set(answer.update) == {MASKED}
        assert np.isnan(answer.loss)
        tenth = np.minimum((answer.update[MASKED].numpy() / field.PRIME * 10).astype(int), 9)
        shares = np.bincount(tenth, minlength=10)
        assert ((shares - SIZE / 10) ** 2 / (SIZE / 10)).sum() < 40  # chi-square with 9 degrees: once in 10^5


def test_a_client_gives_no_second_secret():
    one = Participant(0)
    one.advertise()
    with pytest.raises(RedteamError, match="both secrets"):
        one.reveal([1, 2], [2])
    one.reveal([], [])
    with pytest.raises(RedteamError, match="both secrets"):
        one.reveal([], [])


def test_fewer_shares_than_the_threshold_do_not_give_the_secret():
    secret = bytes(range(32))
    shares = keys.share_out(secret, 3, [4, 7, 9, 11])
    assert keys.put_together({k: shares[k] for k in (4, 9, 11)}, [4, 7, 9, 11]) == secret
    assert keys.put_together({k: shares[k] for k in (4, 9)}, [4, 7, 9, 11]) != secret


def test_many_clients_have_few_neighbours_and_they_agree_on_it():
    graph = coordinator.graph_of(list(range(200)), 3)
    sizes = {len(near) for near in graph.values()}
    assert sizes == {coordinator.degree_of(200)}
    assert max(sizes) < 40
    assert all(k in graph[other] for k, near in graph.items() for other in near)


def test_numbers_beyond_the_range_are_a_failure_and_sums_never_wrap():
    assert field.encode(np.array([field.RANGE * 1.01]), 3) is None
    assert field.encode(np.array([np.nan]), 3) is None
    for sign in (-1, 1):
        total = np.zeros(1, dtype=np.uint64)
        for _ in range(1000):
            field.add(total, field.encode(np.array([sign * field.RANGE]), 1000))
        assert field.decode(total, 1000)[0] == pytest.approx(sign * 8000)


class Nodes:
    """Clients at two nodes, without Flower between: each request goes to a node as JSON, for all of its clients."""

    def __init__(self, sent, deaf=()):
        self.clients, self.kept, self.deaf, self.asked = Sending(sent), ({}, {}), deaf, []

    def ask(self, kind, parts):
        self.asked.append(kind)
        found = {}
        for at, kept in enumerate(self.kept):
            own = {k: json.loads(json.dumps(part)) for k, part in parts.items() if k % 2 == at}
            if (kind, at) not in self.deaf:
                found |= json.loads(json.dumps(exchange.respond(kind, own, kept)), object_hook=numbered)
        return found

    def answers(self, task, clients, holders, masks):
        bare = replace(task, shares={}, clip=None)  # all that a node knows of the round is beside the masks
        for found in self.clients.answers(bare, clients, holders):
            yield masking.under_masks(found, bare, masks[found.client], self.kept[found.client % 2][found.client])


def numbered(parts):
    return {int(k): part for k, part in parts.items()}


@pytest.mark.parametrize(("count", "lost"), [(3, ()), (7, (2, 5))])
def test_clients_at_nodes_are_added_up_as_those_of_this_process_are(count, lost):
    sent = updates(count, lost)
    told, nodes = task(count, clip=1.0), masking.MaskedNodes(Nodes(sent))
    secure = SecureSum(nodes).collect(told, nodes.answers(told, range(count), []))
    plain = PlainSum().collect(told, Sending(sent).answers(told, range(count), []))
    assert secure.counted == plain.counted
    assert float((secure.total["w"] - plain.total["w"]).abs().max()) < 1e-5
    assert nodes.engine.asked == ["advertise", "share", "reveal"]


@pytest.mark.parametrize("kind", ["advertise", "share"])
def test_a_node_that_does_not_exchange_keys_ends_the_round(kind):
    nodes = masking.MaskedNodes(Nodes(updates(4), deaf=((kind, 1),)))
    with pytest.raises(RedteamError, match="client 2 did not answer when keys were exchanged"):
        nodes.begin(task(4), range(4))


def test_where_too_many_do_not_reveal_their_shares_no_round_is_added_up():
    nodes = masking.MaskedNodes(Nodes(updates(6), deaf=(("reveal", 1),)))
    told = task(6)
    with pytest.raises(RedteamError, match="are needed: the round cannot be added up"):
        SecureSum(nodes).collect(told, nodes.answers(told, range(6), []))


@pytest.mark.parametrize(
    "sent", [{}, {"w": torch.zeros(SIZE)}, {MASKED: torch.zeros(3, dtype=torch.int64)}, {MASKED: torch.zeros(SIZE + 2)}]
)
def test_what_is_not_under_masks_is_a_failure_of_its_client(sent):
    engine = Masked(Sending(updates(4)))
    told = task(4)

    def answers():
        for found in engine.answers(told, range(4), []):
            yield replace(found, update=sent) if found.client == 1 else found

    found = SecureSum(engine).collect(told, answers())
    assert found.failed == {1: "sent something else than its update under masks"}
    assert found.counted == [0, 2, 3]


def test_training_under_masks_ends_where_open_training_does():
    ends = {}
    for secure in (False, True):
        rng = np.random.default_rng(0)
        x = torch.tensor(rng.normal(size=(40, 3)), dtype=torch.float32)
        model = torch.nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            model.weight.zero_()

        def losses(rows, model=model, x=x):
            return (model(x[rows])[:, 0] - x[rows, 0] * 0.1) ** 2

        problem = Problem(model, server_optimizer(model, "average", 1.0, 0.0), losses, 40, 40)
        engine = InProcess(problem, LocalTraining(1, 5, "sgd", 0.05))
        holders = np.array_split(np.arange(40), 8)
        plan = Rounds(4, 6, drop_out=0.2)
        run = Federation(problem, [holders], plan, engine, WeightedMean())
        if secure:
            run.engine = Masked(engine)
            run.collector = SecureSum(run.engine)
        run.run(seed=3)
        ends[secure] = (model.weight.detach().clone(), run.records)
    assert torch.allclose(ends[False][0], ends[True][0], atol=1e-6)
    assert any(record.failed for record in ends[True][1])
    assert [replace(r, loss=0.0) for r in ends[False][1]] == [replace(r, loss=0.0) for r in ends[True][1]]


def test_it_is_a_setting():
    rows = learnable(40, seed=0)
    initial = initial_model("tiny", rows, learn_from=rows, seed=0)
    trained = Federated(rounds=1, clients=4, secure_aggregation=True).fit(initial, rows, seed=0)
    assert np.isfinite(trained.target.log_probabilities(rows)).all()
    with pytest.raises(UsageError, match="scaffold"):
        Federated(algorithm="scaffold", secure_aggregation=True)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(keys.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"cryptography is not installed; run: pip install"):
        Masked(Sending([]))
