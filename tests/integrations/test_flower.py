"""Engines of federated training give the same numbers: in this process, on Ray, over a SuperLink on loopback."""

import subprocess
import time

import numpy as np
import pytest
from conftest import learnable, needs

from defenses.federated import Federated, partitions
from defenses.federated.flower import links
from defenses.federated.flower.mailbox import Mailbox
from defenses.federated.secure.field import PRIME
from defenses.federated.secure.rounds import MASKED
from defenses.federated.tagging.tagger import initial_tagger
from defenses.federated.tagging.texts import TaggedTexts
from defenses.federated.tagging.training import train_tagger
from redteam.core import UsageError
from redteam.models.initial import initial_model

pytestmark = [pytest.mark.integration, needs("flwr")]
ROWS = learnable(72, seed=0)
SETTINGS = {"rounds": 2, "clients": 6, "clients_per_round": 4, "concentration": 0.5, "batch_size": 4}


def trained(**settings):
    initial = initial_model("tiny", ROWS, learn_from=ROWS, seed=0)
    return Federated(**SETTINGS | settings).fit(initial, ROWS, seed=3)


@pytest.fixture(scope="module")
def here():
    return trained()


def furthest(one, other):
    return max(float((one.bundle.state[name] - value).abs().max()) for name, value in other.bundle.state.items())


def test_ray_ends_with_the_weights_of_this_process(here):
    there = trained(engine="ray")
    assert furthest(here, there) < 1e-6
    assert [r["chosen"] for r in here.rounds] == [r["chosen"] for r in there.rounds]
    assert not any(r["failed"] for r in there.rounds)


def test_a_tagger_trained_on_ray_has_the_weights_of_this_process():
    words = tuple(tuple(text.split()[:4]) for text in ROWS.texts)
    texts = TaggedTexts(words, tuple(("B-first", "O", "O", "O")[: len(each)] for each in words))
    ends = []
    for engine in ("in-process", "ray"):
        trainer = Federated(**SETTINGS | {"rounds": 1, "engine": engine})
        ends.append(train_tagger(trainer, initial_tagger("tiny", texts, seed=0), texts, seed=3))
    here, there = (each.initial.model.state_dict() for each in ends)
    assert max(float((here[name] - value).abs().max()) for name, value in there.items()) < 1e-6
    assert not any(record.failed for record in ends[1].rounds)


OPENSSL = (  # as in docs/federated.md
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=our-ca"
    " -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem",
    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=superlink -keyout link.key -out link.csr",
    "x509 -req -in link.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out link.pem",
)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """A SuperLink with a certificate of our own CA, and two SuperNodes with keys that it knows; its address and CA."""
    home = tmp_path_factory.mktemp("federation")
    (home / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in OPENSSL:
        subprocess.run(["openssl", *command.split()], cwd=home, check=True, capture_output=True)
    link, *ports = [links.free_port() for _ in range(3)]
    at, ca = f"127.0.0.1:{link}", home / "ca.pem"
    shown = ["--ssl-ca-certfile", ca, "--ssl-certfile", home / "link.pem", "--ssl-keyfile", home / "link.key"]
    config = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{at}"\nroot-certificates = "{ca}"\n'
    (home / "config.toml").write_text(config)

    def begin(name, *arguments, log):
        return links.start(name, *map(str, arguments), home=home, log=log)

    where = ["--host", "127.0.0.1", "--port", link]
    processes = [begin("flower-superlink", *shown, "--enable-supernode-auth", *where, log="link")]
    try:
        wait_for(at, home / "link.log")
        for k, port in enumerate(ports):
            key = home / f"node{k}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", key], check=True)
            register = [links.program("flwr"), "supernode", "register", f"{key}.pub", "here"]
            subprocess.run(register, env=links.surroundings(home), check=True, capture_output=True)
            node = ["--root-certificates", ca, *shown, "--superlink", at, "--host", "127.0.0.1", "--port", port]
            own = ["--auth-supernode-private-key", key, "--node-config", f"partition-id={k} num-partitions=2"]
            processes.append(begin("flower-supernode", *node, *own, log=f"node{k}"))
        yield {"engine": "superlink", "superlink": at, "nodes": 2, "certificates": str(ca)}
    finally:
        for process in reversed(processes):
            links.stop(process)


def wait_for(at, log):
    begun = time.monotonic()
    while True:
        try:
            return links.check_reachable(at)
        except UsageError:
            assert time.monotonic() - begun < 120, log.read_text()
            time.sleep(0.2)


def test_a_federation_on_loopback_ends_where_this_process_does(federation):
    """Every message starts a process at a node there, so that two clients and a round have to do."""
    few = {"rounds": 1, "clients": 2, "clients_per_round": 2}
    there, here = trained(**few, **federation), trained(**few)
    right = [each.target.predict(ROWS) for each in (here, there)]
    assert np.array_equal(*right)
    assert furthest(here, there) < 1e-6
    assert not any(r["failed"] for r in there.rounds)


def test_under_masks_all_that_the_server_gets_from_a_node_is_noise_and_the_sum_is_right(federation, monkeypatch):
    few = {"rounds": 1, "clients": 3, "clients_per_round": 3}
    got, taken = [], Mailbox.answer

    def spy(box, number, client, watch):
        got.append(taken(box, number, client, watch))
        return got[-1]

    monkeypatch.setattr(Mailbox, "answer", spy)
    there, here = trained(**few, **federation, secure_aggregation=True), trained(**few)
    assert furthest(here, there) < 1e-6
    assert len(got) == 3
    for answer in got:
        assert set(answer.update) == {MASKED}
        tenth = np.minimum((answer.update[MASKED].numpy() / PRIME * 10).astype(int), 9)
        shares, even = np.bincount(tenth, minlength=10), len(tenth) / 10
        assert ((shares - even) ** 2 / even).sum() < 40  # chi-square with 9 degrees: once in 10^5
    total = sum(answer.update[MASKED] for answer in got) % PRIME  # masks of their own are left: pairwise ones are not
    assert ((total > PRIME // 10) & (total < PRIME - PRIME // 10)).float().mean() == pytest.approx(0.8, abs=0.05)


def test_partitioners_of_flower_datasets_are_taken():
    from flwr_datasets.partitioner import DirichletPartitioner

    some = partitions.from_flower(DirichletPartitioner(4, "label", alpha=1.0, min_partition_size=1, seed=0), ROWS)
    assert sorted(np.concatenate(some.holders).tolist()) == list(range(len(ROWS)))
    assert len(some.names) == 4
