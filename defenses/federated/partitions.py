"""Which client holds which rows: by the users of the data, or drawn, to see what skew does.

Drawn partitions follow FedNLP (Lin et al., NAACL Findings 2022, arXiv 2104.08815): with label skew each client has a
mix of labels from Dirichlet(alpha * the labels' shares), so that a small alpha leaves few labels to each; quantity skew
gives clients sizes from Zipf's law or a log-normal; clusters of texts stand for labels where what differs between
clients is what they speak of. All of it is numpy with a seed, and every row goes to exactly one client.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from redteam.core import DataError, UsageError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.data.units import number_users, user_name

PartitionRule = Literal["users", "labels", "zipf", "lognormal", "labels-zipf", "clusters"]


@dataclass(frozen=True)
class Partition:
    """The rows of each client, as positions int64 [n_k] among the examples, and the clients' names."""

    names: tuple[str, ...]
    holders: tuple[IntArray, ...]

    def __post_init__(self) -> None:
        """Raise DataError for a client without rows, and for a row that two clients hold."""
        for name, rows in zip(self.names, self.holders, strict=True):
            if not len(rows):
                raise DataError(f"client {name} has no rows: leave it out, or take fewer clients")
        held = np.concatenate(self.holders) if self.holders else np.empty(0, dtype=np.int64)
        if len(np.unique(held)) != len(held):
            raise DataError("a row is held by two clients: every row goes to one")

    @property
    def sizes(self) -> IntArray:
        """How many rows each client holds, [clients]."""
        return np.array([len(rows) for rows in self.holders], dtype=np.int64)

    def table(self, labels: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
        """Return the labels and how many rows of each every client holds, [clients, labels]."""
        known = tuple(sorted(set(labels)))
        place = {label: i for i, label in enumerate(known)}
        own = np.array([place[label] for label in labels], dtype=np.int64)
        return known, np.stack([np.bincount(own[rows], minlength=len(known)) for rows in self.holders])

    def summary(self, labels: Sequence[str]) -> str:
        """Return one line: how many clients, how their rows are spread, and how many hold a single label."""
        sizes, (_, table) = self.sizes, self.table(labels)
        single = int(((table > 0).sum(axis=1) == 1).sum())
        return (
            f"{len(sizes):,} clients with {sizes.min():,} to {sizes.max():,} rows each, median {np.median(sizes):g}; "
            f"the largest tenth holds {_largest_tenth(sizes):.0%}; {single:,} hold rows of one label only"
        )


def partition(
    rule: PartitionRule, examples: Examples, *, clients: int, concentration: float, exponent: float, seed: int
) -> Partition:
    """Divide the examples over clients.

    `concentration` is Dirichlet's, `exponent` that of Zipf's law or the log-normal's standard deviation. The rule
    "users" takes the clients from the data instead. Raises DataError for more clients than rows, or no users.
    """
    if rule == "users":
        return by_user(examples, seed=seed)
    if not 0 < concentration < np.inf:
        raise UsageError(
            f"concentration {concentration:g}: Dirichlet's concentration is a positive number; 0.1 is much skew"
        )
    if clients < 1:
        raise UsageError(f"clients {clients}: take at least 1")
    if clients > len(examples):
        raise DataError(f"{clients:,} clients for {len(examples):,} rows: some would hold nothing; take fewer clients")
    rng = np.random.default_rng([seed, 201])
    kinds = _kinds(examples, clusters=rule == "clusters", seed=seed)
    sizes = sizes_of(rule, len(examples), clients, exponent, rng)
    skewed = rule in ("labels", "labels-zipf", "clusters")
    holders = _by_label(kinds, sizes, concentration, rng) if skewed else _cut(rng.permutation(len(examples)), sizes)
    return Partition(tuple(f"client-{i + 1}" for i in range(clients)), tuple(np.sort(rows) for rows in holders))


def by_user(examples: Examples, *, seed: int = 0) -> Partition:
    """Give every user a client of her own; canaries that name nobody go to clients at random."""
    if examples.users is None:
        raise DataError("nothing says whose the rows are: name the column of users, or set partition=labels")
    users = list(examples.users)
    if examples.planted is not None:
        known = sorted({user for user, planted in zip(users, examples.planted, strict=True) if not planted and user})
        rng = np.random.default_rng([seed, 202])
        for row in np.flatnonzero(examples.planted).tolist():
            if not user_name(users[row]) and known:
                users[row] = known[int(rng.integers(len(known)))]
    numbers = number_users(users)
    order = np.argsort(numbers, kind="stable")
    holders = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    return Partition(tuple(user_name(users[rows[0]]) for rows in holders), tuple(holders))


def given(rows: Iterable[Sequence[int]], names: Sequence[str] | None = None) -> Partition:
    """Take positions that somebody else divided, such as a partitioner of `flwr-datasets`."""
    holders = tuple(np.asarray(list(each), dtype=np.int64) for each in rows)
    return Partition(tuple(names or (f"client-{i + 1}" for i in range(len(holders)))), holders)


def from_flower(partitioner: Any, examples: Examples) -> Partition:
    """Divide the examples as a partitioner of `flwr-datasets` does; it sees columns row, text, label and user."""
    from datasets import Dataset

    columns = {"row": list(range(len(examples))), "text": examples.texts, "label": examples.labels}
    named = columns | {"user": examples.users}
    partitioner.dataset = Dataset.from_dict({name: list(each) for name, each in named.items() if each is not None})
    parts = range(partitioner.num_partitions)
    return given([sorted(partitioner.load_partition(part)["row"]) for part in parts])


def sizes_of(rule: PartitionRule, rows: int, clients: int, exponent: float, rng: np.random.Generator) -> IntArray:
    """Return how many rows each client gets, at least 1, in all `rows`; int64 [clients]."""
    if not 0 <= exponent < np.inf:
        raise UsageError(f"exponent {exponent:g}: give a number that is not negative; 0 makes all sizes alike")
    if rule in ("zipf", "labels-zipf"):
        shares: FloatArray = np.arange(1, clients + 1, dtype=np.float64) ** -exponent
    elif rule == "lognormal":
        shares = np.exp(exponent * rng.standard_normal(clients))
    else:
        shares = np.ones(clients)
    exact: FloatArray = 1 + shares / shares.sum() * (rows - clients)
    sizes: IntArray = np.floor(exact).astype(np.int64)
    most_cut = np.argsort(sizes - exact, kind="stable")
    sizes[most_cut[: rows - int(sizes.sum())]] += 1
    return sizes


def periods_of(holders: Sequence[IntArray], rows: IntArray, periods: int) -> list[list[IntArray]]:
    """Cut the rows into consecutive periods of as many rows, by their order in the file; what each client has in each.

    `rows` are the rows' numbers in the file, int64 [n]. Returns lists [periods][clients] of positions, some empty.
    """
    if periods > len(rows):
        raise DataError(f"{periods:,} periods for {len(rows):,} rows: take fewer")
    place = np.empty(len(rows), dtype=np.int64)
    place[np.argsort(rows, kind="stable")] = np.arange(len(rows))
    period = place * periods // len(rows)
    return [[held[period[held] == p] for held in holders] for p in range(periods)]


def _by_label(kinds: IntArray, sizes: IntArray, alpha: float, rng: np.random.Generator) -> list[IntArray]:
    """Give each client a mix of labels from Dirichlet; where one is used up, the others fill in by what is left."""
    prior = np.bincount(kinds) / len(kinds)
    left = [rng.permutation(np.flatnonzero(kinds == k)).tolist() for k in range(len(prior))]
    holders = []
    for size in sizes.tolist():
        mix = _dirichlet(alpha * prior, rng)
        taken: list[int] = []
        while len(taken) < size:
            there = np.array([len(rows) for rows in left], dtype=np.float64)
            shares = np.where(there > 0, mix, 0.0)
            if not shares.sum() > 1e-12:
                shares = there
            wanted = np.minimum(rng.multinomial(size - len(taken), shares / shares.sum()), there.astype(np.int64))
            for label, count in enumerate(wanted.tolist()):
                taken += [left[label].pop() for _ in range(count)]
        holders.append(np.array(taken, dtype=np.int64))
    return holders


def _dirichlet(alpha: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw shares; in logarithms, since for a small alpha all gammas underflow to zero: G(a) = G(a + 1) U^(1/a)."""
    logs = np.log(rng.standard_gamma(alpha + 1)) + np.log(rng.uniform(1e-300, 1.0, len(alpha))) / alpha
    shares = np.exp(logs - logs.max())
    found: FloatArray = shares / shares.sum()
    return found


def _cut(order: IntArray, sizes: IntArray) -> list[IntArray]:
    return np.split(order, np.cumsum(sizes)[:-1])


def _kinds(examples: Examples, *, clusters: bool, seed: int) -> IntArray:
    """Return the label of each row as a number, or the cluster of its text."""
    if not clusters:
        place = {label: i for i, label in enumerate(sorted(set(examples.labels or ())))}
        return np.array([place[label] for label in examples.labels or ()], dtype=np.int64)
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True).fit_transform(examples.texts or ())
    count = min(10, len(examples) // 2 or 1)
    width = max(1, min(32, counts.shape[1] - 1, len(examples) - 1))
    features = TruncatedSVD(width, random_state=seed % 2**32).fit_transform(counts)
    found = KMeans(count, n_init=3, random_state=seed % 2**32).fit_predict(features)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _largest_tenth(sizes: IntArray) -> float:
    count = max(1, round(len(sizes) / 10))
    return float(np.sort(sizes)[-count:].sum() / sizes.sum())
