"""Federated training: clients hold the rows, a server adds up what they send.

A client update is a mapping from parameter names to float32 tensors: weights after local training minus those before
(updates.py). From data to model:

    partitions.py   who holds which rows; periods of the rows by time
    selection.py    who takes part in a round, by how much data, and how much each then counts
    local.py        what a client does; the same function in every engine
    engines.py      where clients run: in this process
    flower/         on other processes and machines
    aggregation.py  from answers to one mean; broken and hostile ones are failures in the record
    server.py       the step that the mean stands for: FedAvg, FedOPT
    rounds.py       the loop over rounds, its records, and how it resumes
    secure/         sums under masks, which hide single updates from the server
    tagging/        tags for words instead of a label for a text
    flower/         clients on other processes and machines
    defense.py      RD201, which puts them together
    privacy.py      bounded sums with noise, and what each client is promised
    private.py      RD202, differential privacy for whole clients
    on_device.py    RD203, for single examples, on the clients
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from defenses.federated.defense import Federated
    from defenses.federated.on_device import FederatedEDPSGD
    from defenses.federated.private import PrivateFederated

__all__ = ["Federated", "FederatedEDPSGD", "PrivateFederated"]

_HOMES = {"Federated": "defense", "FederatedEDPSGD": "on_device", "PrivateFederated": "private"}


def __getattr__(name: str) -> Any:
    """Import a trainer when it is first asked for: nodes start a process for each message, and need none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
