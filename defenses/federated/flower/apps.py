"""Relay and client as Flower's apps, of flwr 1.42's Message API; no other file knows its types.

`flwr run` gives the relay a `mailbox`, and clients a `job`: a folder each. A SuperNode that keeps its own data says
where in its node config, as `job="/path"`. A node serves the clients whose number modulo the number of nodes is its
own. What is imported at once is little: each message starts a process.
"""

import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defenses.federated.flower.exchange import respond

if TYPE_CHECKING:
    from defenses.federated.local import ClientAnswer


def client_app() -> Any:
    """Return what runs on nodes."""
    from flwr.clientapp import ClientApp

    app = ClientApp()
    app.query("position")(position)
    app.query("masks")(exchange)
    app.train()(train)
    return app


def server_app() -> Any:
    """Return what runs at the SuperLink."""
    from flwr.serverapp import ServerApp

    app = ServerApp()
    app.main()(relay)
    return app


def position(message: Any, context: Any) -> Any:
    """Tell which node this is: ids of nodes are drawn anew for every run."""
    from flwr.app import Message, MetricRecord, RecordDict

    told = MetricRecord({"position": int(context.node_config["partition-id"])})
    return Message(RecordDict({"position": told}), reply_to=message)


def train(message: Any, context: Any) -> Any:
    """Train one client of the job."""
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

    from defenses.federated.flower.job import answer
    from defenses.federated.flower.masking import under_masks
    from defenses.federated.local import RoundTask

    told = message.content["task"]
    folder = Path(str(context.node_config.get("job") or context.run_config["job"]))
    task = RoundTask(int(told["round"]), int(told["seed"]), message.content["weights"].to_torch_state_dict())
    rows = message.content["rows"].to_torch_state_dict()["rows"].numpy()
    found = answer(folder, int(told["client"]), rows, task)
    if (masks := json.loads(str(told["masks"]))) is not None:
        found = under_masks(found, task, masks, _kept(context)[found.client])
    content: dict[str, Any] = {"said": ConfigRecord({"rows": found.rows, "failure": found.failure})}
    if found.update is not None:
        content["update"] = ArrayRecord(OrderedDict(found.update))
        content["loss"] = MetricRecord({"loss": found.loss})
    return Message(RecordDict(content), reply_to=message)


def exchange(message: Any, context: Any) -> Any:
    """Answer for all clients of this node what secure aggregation asks; secrets stay in the node's context."""
    from flwr.app import ConfigRecord, Message, RecordDict

    told, kept = message.content["parts"], _kept(context)
    parts = {int(k): json.loads(str(part)) for k, part in told.items() if k != "kind"}
    said = respond(str(told["kind"]), parts, kept)
    context.state["masks"] = ConfigRecord({str(k): text for k, text in kept.items()})
    back = ConfigRecord({str(k): json.dumps(each) for k, each in said.items()})
    return Message(RecordDict({"parts": back}), reply_to=message)


def _kept(context: Any) -> dict[int, str]:
    return {int(k): str(text) for k, text in context.state["masks"].items()} if "masks" in context.state else {}


def relay(grid: Any, context: Any) -> None:
    """Send every task of the mailbox to the nodes, and put the answers back, until there are no more."""
    from defenses.federated.flower.mailbox import Mailbox

    box, wanted = Mailbox(Path(str(context.run_config["mailbox"]))), int(context.run_config["nodes"])
    nodes = _nodes(grid, wanted)
    for number in itertools.count():
        told = box.task(number)
        if told is None:
            return
        if told["kind"] != "train":
            box.respond(number, _said(grid, nodes, told))
            continue
        for found in _answers(grid, nodes, told):
            box.reply(number, found)


def _nodes(grid: Any, wanted: int) -> list[int]:
    """Wait for so many nodes and return their ids, in the order of their positions."""
    from flwr.app import Message, RecordDict

    while len(ids := list(grid.get_node_ids())) < wanted:
        time.sleep(0.1)
    asked = [Message(RecordDict(), each, "query.position") for each in ids]
    replies = [each for each in grid.send_and_receive(asked, timeout=300) if not each.has_error()]
    found = {int(each.content["position"]["position"]): each.metadata.src_node_id for each in replies}
    return [found[at] for at in sorted(found)]


def _said(grid: Any, nodes: list[int], told: dict[str, Any]) -> dict[int, str]:
    """Return what clients say to a request; one message goes to each node, for all of its clients."""
    from flwr.app import ConfigRecord, Message, RecordDict

    sent = []
    for at, node in enumerate(nodes):
        own = {str(k): part for k, part in told["parts"].items() if k % len(nodes) == at}
        if own:
            content = RecordDict({"parts": ConfigRecord({"kind": told["kind"], **own})})
            sent.append(Message(content, node, "query.masks", group_id=told["kind"]))
    found: dict[int, str] = {}
    for reply in grid.send_and_receive(sent):
        if not reply.has_error():
            found |= {int(k): str(part) for k, part in reply.content["parts"].items()}
    return found


def _answers(grid: Any, nodes: list[int], told: dict[str, Any]) -> "Iterator[ClientAnswer]":
    from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

    weights, sent = ArrayRecord(OrderedDict(told["weights"])), []
    for each, rows, masks in zip(told["clients"], told["rows"], told["masks"], strict=True):
        task = ConfigRecord({"round": told["round"], "seed": told["seed"], "client": each, "masks": masks})
        content = {"task": task, "weights": weights, "rows": ArrayRecord(OrderedDict(rows=rows))}
        sent.append(Message(RecordDict(content), nodes[each % len(nodes)], "train", group_id=str(each)))
    of = dict(zip(grid.push_messages(sent), told["clients"], strict=True))
    waiting = set(of)
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            identity = reply.metadata.reply_to_message_id
            waiting.discard(identity)
            yield _answer(of[identity], reply)
        time.sleep(0.02)


def _answer(each: int, reply: Any) -> "ClientAnswer":
    from defenses.federated.local import ClientAnswer

    if reply.has_error():
        return ClientAnswer(each, None, failure=f"broke (Flower's error {reply.error.code})")
    said = reply.content["said"]
    if "update" not in reply.content:
        return ClientAnswer(each, None, failure=str(said["failure"]))
    update = dict(reply.content["update"].to_torch_state_dict())
    return ClientAnswer(each, update, int(said["rows"]), float(reply.content["loss"]["loss"]))
