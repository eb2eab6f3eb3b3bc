"""Who sent what: the updates of one client over rounds, or those of clients that were added up, with the texts behind.

What the intervals are over must be independent of each other. A client's rounds are one thing, and so are all sums that
hold a client together: of those that share no client, each is one.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from redteam.auditing.updates.truth import Truth, joined, truths
from redteam.core import DataError, first_line, read_text
from redteam.data import Examples
from redteam.plugins.update import ClientUpdate
from redteam.report import plural
from redteam.targets.target import WhiteBox

Clients = tuple[str, ...]


@dataclass(frozen=True)
class Sender:
    """A client, or clients whose updates were added up: what was sent, in the order of rounds, and the texts behind."""

    updates: tuple[ClientUpdate, ...]
    truth: Truth


def senders(
    model: WhiteBox, updates: Mapping[str, ClientUpdate], examples: Examples, sums: Mapping[str, Clients] | None = None
) -> tuple[tuple[Sender, ...], tuple[Truth, ...]]:
    """Return who sent what, and the texts of users of whom there is no update.

    `updates` are by `client` or `folder/client`; `sums` says by the same names whose updates each is the sum of, where
    it is one. Raises DataError for an update without texts, or whose texts are not known.
    """
    of = {key: _clients(key, update, sums) for key, update in updates.items()}
    whose = {client for clients in of.values() for client in clients}
    own = truths(model, examples, client=next(iter(whose)) if len(whose) == 1 else None)
    for client in sorted(whose - own.keys()):
        known = ", ".join(sorted(own)[:3])
        raise DataError(
            f"update {client!r}: no row of the data has that user (there are {known}, ...): name the file "
            "after the user whose update it is, or say in --sums whose sum it is"
        )
    found = []
    for clients in _apart(list(of.values())):
        sent = [replace(updates[key], clients=len(each)) for key, each in of.items() if each[0] in clients]
        found.append(Sender(tuple(sent), joined([own[client] for client in clients])))
    return tuple(found), tuple(truth for client, truth in own.items() if client not in whose)


def _clients(key: str, update: ClientUpdate, sums: Mapping[str, Clients] | None) -> Clients:
    if sums is None:
        return (update.name,)
    found = sums.get(key) or sums.get(update.name)
    if found is None:
        raise DataError(f"update {key!r}: --sums does not say whose updates it is the sum of")
    return found


def _apart(groups: Sequence[Clients]) -> list[Clients]:
    """Return clients that hang together by a common sum, in the order in which they come."""
    found: list[dict[str, None]] = []
    for group in groups:
        with_it = [each for each in found if not each.keys().isdisjoint(group)]
        found = [each for each in found if each not in with_it]
        found.append({client: None for each in (*with_it, dict.fromkeys(group)) for client in each})
    return [tuple(each) for each in found]


def read_sums(path: Path) -> dict[str, Clients]:
    """Return whose updates each is the sum of, from a CSV file with the columns `update` and `client`.

    Raises DataError, in one line, for a file that does not say so.
    """
    try:
        reader = csv.DictReader(read_text(path).splitlines())
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)})") from None
    missing = sorted({"update", "client"} - set(reader.fieldnames or ()))
    if missing:
        raise DataError(f"{path}: has no column {missing[0]!r}: give update,client, one line for each client of a sum")
    found: dict[str, dict[str, None]] = {}
    for at, row in enumerate(reader, start=2):
        update, client = (row["update"] or "").strip(), (row["client"] or "").strip()
        if not update or not client:
            raise DataError(f"{path}: line {at} names no {'client' if update else 'update'}")
        found.setdefault(update, {})[client] = None
    if not found:
        raise DataError(f"{path}: names no sum: give update,client, one line for each client of a sum")
    return {update: tuple(clients) for update, clients in found.items()}


def described(senders: Sequence[Sender]) -> str:
    """Say what was sent, for the head of a report: `6 updates`, `2 sums of 8 clients, 16 rounds of 3 clients`."""
    every = [update for sender in senders for update in sender.updates]
    sizes = {update.clients for update in every}
    clients = sum(len(sender.truth.parts) for sender in senders)
    what = plural(len(every), "update")
    if sizes != {1}:
        of = f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"
        what = f"{plural(len(every), 'sum')} of {of} clients' updates"
    return what if clients == len(every) else f"{what}, {plural(clients, 'client')}"
