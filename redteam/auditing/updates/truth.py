"""The texts behind an update, as tokens: what an attack's answer is held against, and never shown."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from redteam.core import DataError
from redteam.data import Examples
from redteam.models.tokens import token_ids
from redteam.plugins.update import ClientUpdate
from redteam.targets.target import WhiteBox

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Truth:
    """The texts of one client as token ids, ends counted."""

    client: str
    texts: tuple[Tokens, ...]
    special: frozenset[int]

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


def truths(model: WhiteBox, updates: Sequence[ClientUpdate], examples: Examples) -> tuple[Truth, ...]:
    """Return the texts behind each update: those of the user who bears its name; of a single update, all.

    Raises DataError for an update without texts, or for texts of several users behind a single update of another name.
    """
    if examples.texts is None:
        raise DataError("the data has no texts")
    tokens = [tuple(ids) for ids in token_ids(model.tokenizer, examples.texts, name=model.name)]
    ends = tuple(token_ids(model.tokenizer, ["a"], name=model.name)[0])
    special = frozenset((ends[0], ends[-1])) if len(ends) > 2 else frozenset[int]()
    if examples.users is None:
        if len(updates) != 1:
            raise DataError(f"{len(updates)} updates, and no column says whose the rows are: give --user-column")
        return (Truth(updates[0].name, tuple(tokens), special),)
    of = defaultdict[str, list[Tokens]](list)
    for user, text in zip(examples.users, tokens, strict=True):
        of[user].append(text)
    for update in updates:
        if update.name not in of:
            known = ", ".join(sorted(of)[:3])
            raise DataError(
                f"update {update.name!r}: no row of the data has that user (there are {known}, ...): name the file "
                "after the user whose update it is"
            )
    return tuple(Truth(update.name, tuple(of[update.name]), special) for update in updates)
