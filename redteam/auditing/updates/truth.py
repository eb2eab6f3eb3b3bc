"""The texts behind an update, as tokens: what an attack's answer is held against, and never shown."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from redteam.core import DataError
from redteam.data import Examples
from redteam.models.tokens import token_ids
from redteam.targets.target import WhiteBox, label_index, labels_of

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Truth:
    """The texts behind what was sent as token ids, ends counted: those of one client, or of all in `clients`.

    `labels` are the indices of their labels, empty where the data or the model has none or others.
    """

    client: str
    texts: tuple[Tokens, ...]
    special: frozenset[int]
    labels: tuple[int, ...] = ()
    clients: "tuple[Truth, ...]" = ()

    @property
    def parts(self) -> "tuple[Truth, ...]":
        """The texts client by client."""
        return self.clients or (self,)

    @cached_property
    def tokens(self) -> frozenset[int]:
        """All tokens of the texts but the special ones, which every text has."""
        return frozenset(token for text in self.texts for token in text) - self.special

    @cached_property
    def places(self) -> Mapping[int, int]:
        """The position of each token that occurs once."""
        where = defaultdict[int, list[int]](list)
        for text in self.texts:
            for place, token in enumerate(text):
                where[token].append(place)
        return {token: places[0] for token, places in where.items() if len(places) == 1 and token in self.tokens}

    @cached_property
    def counts(self) -> Counter[Tokens]:
        """How often each text occurs."""
        return Counter(self.texts)


def joined(parts: "Sequence[Truth]") -> Truth:
    """Return the texts of several clients as those behind one update."""
    if len(parts) == 1:
        return parts[0]
    texts, labels = (tuple(each for part in parts for each in getattr(part, what)) for what in ("texts", "labels"))
    return Truth(" and ".join(part.client for part in parts), texts, parts[0].special, labels, tuple(parts))


def truths(model: WhiteBox, examples: Examples, *, client: str | None = None) -> dict[str, Truth]:
    """Return the texts of each user; without users, all as those of `client`. DataError where that is not known."""
    if examples.texts is None:
        raise DataError("the data has no texts")
    tokens = [tuple(ids) for ids in token_ids(model.tokenizer, examples.texts, name=model.name)]
    ends = tuple(token_ids(model.tokenizer, ["a"], name=model.name)[0])
    special = frozenset((ends[0], ends[-1])) if len(ends) > 2 else frozenset[int]()
    labels = _labels(model, examples)
    if examples.users is None:
        if client is None:
            raise DataError("several updates, and no column says whose the rows are: give --user-column")
        return {client: Truth(client, tuple(tokens), special, labels)}
    rows = defaultdict[str, list[int]](list)
    for row, user in enumerate(examples.users):
        rows[user].append(row)
    return {
        user: Truth(user, tuple(tokens[i] for i in own), special, tuple(labels[i] for i in own) if labels else ())
        for user, own in rows.items()
    }


def _labels(model: WhiteBox, examples: Examples) -> tuple[int, ...]:
    """Return the index of each row's label; none where the model has other labels, which texts are found without."""
    index = label_index(labels_of(model))
    labels = examples.labels or ()
    return tuple(index[label] for label in labels) if set(labels) <= index.keys() else ()
