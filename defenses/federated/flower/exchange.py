"""The requests of secure aggregation over Flower, and what nodes do with them.

The loop sends requests of one of these kinds, a client's part under its number, and gets one part back for each; the
relay sees the same:

    advertise   nothing                                                   -> public keys
    share       its neighbours' public keys, and the threshold            -> sealed shares for each neighbour
    reveal      sealed shares for it, who arrived and who is lost         -> shares of the others' secrets

In between clients train, are told the sealed shares for them, and answer under masks. Keys and seeds stay with Flower's
context of the node. A request goes to a node once for all of its clients, since two at once would overwrite that.
It imports little: each request starts a Python process at a node.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

from defenses.federated.secure.participants import Participant, PublicKeys

Parts = dict[int, Any]


def respond(kind: str, parts: Parts, kept: MutableMapping[int, str]) -> Parts:
    """Answer a request at a node; `kept` is what the node keeps of each of its clients, as text."""
    return {client: _respond(kind, client, told, kept) for client, told in parts.items()}


def _respond(kind: str, client: int, told: Any, kept: MutableMapping[int, str]) -> Any:
    if kind == "advertise":
        own = Participant(client)
        said: Any = as_text(own.advertise())
    elif kind == "share":
        own = Participant.unpacked(kept[client], {})
        near = {int(k): keys_of(each) for k, each in told["keys"].items()}
        said = as_hex(own.share(near, told["threshold"]))
    else:
        own = Participant.unpacked(kept[client], from_hex(told["held"]))
        said = as_hex(own.reveal(told["arrived"], told["lost"]))
    kept[client] = own.packed()
    return said


def as_text(public: PublicKeys) -> list[str]:
    """Return public keys as they travel."""
    return [public.masks.hex(), public.shares.hex()]


def keys_of(said: Any) -> PublicKeys:
    """Return the public keys that travelled."""
    masks, shares = said
    return PublicKeys(bytes.fromhex(masks), bytes.fromhex(shares))


def as_hex(values: Mapping[int, bytes]) -> dict[str, str]:
    """Return messages to clients as they travel."""
    return {str(k): value.hex() for k, value in values.items()}


def from_hex(said: Mapping[str, str]) -> dict[int, bytes]:
    """Return the messages that travelled."""
    return {int(k): bytes.fromhex(value) for k, value in said.items()}
