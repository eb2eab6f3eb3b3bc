"""Engines of federated training give the same numbers: in this process, on Ray, over a SuperLink on loopback."""

import time

import numpy as np
import pytest
from conftest import learnable, needs

from defenses.federated import Federated, partitions
from defenses.federated.flower import links
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


def test_a_federation_on_loopback_ends_where_this_process_does(tmp_path):
    """Every message starts a process at a node there, so that two clients and a round have to do."""
    few = {"rounds": 1, "clients": 2, "clients_per_round": 2}
    (tmp_path / "config.toml").write_text("")
    ports = [links.free_port() for _ in range(3)]
    at = f"127.0.0.1:{ports[0]}"
    processes = [
        links.start(
            "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(ports[0]), home=tmp_path, log="link"
        )
    ]
    try:
        begun = time.monotonic()
        while True:
            try:
                links.check_reachable(at)
                break
            except UsageError:
                assert time.monotonic() - begun < 120, (tmp_path / "link.log").read_text()
                time.sleep(0.2)
        for k in range(2):
            node = ["--insecure", "--superlink", at, "--host", "127.0.0.1", "--port", str(ports[k + 1])]
            config = ["--node-config", f"partition-id={k} num-partitions=2"]
            processes.append(links.start("flower-supernode", *node, *config, home=tmp_path, log=f"node{k}"))
        there = trained(**few, engine="superlink", superlink=at, nodes=2)
    finally:
        for process in reversed(processes):
            links.stop(process)
    here = trained(**few)
    right = [each.target.predict(ROWS) for each in (here, there)]
    assert np.array_equal(*right)
    assert furthest(here, there) < 1e-6
    assert not any(r["failed"] for r in there.rounds)


def test_partitioners_of_flower_datasets_are_taken():
    from flwr_datasets.partitioner import DirichletPartitioner

    some = partitions.from_flower(DirichletPartitioner(4, "label", alpha=1.0, min_partition_size=1, seed=0), ROWS)
    assert sorted(np.concatenate(some.holders).tolist()) == list(range(len(ROWS)))
    assert len(some.names) == 4
