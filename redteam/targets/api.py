"""What every API form is: texts to a request body, a body to answers."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from redteam.core import each_once


class Api(ABC):
    """One way to ask. `one_by_one` forms take a single text in a request; `media_type` is that of the body."""

    name: str
    one_by_one = False
    media_type = "application/json"

    @abstractmethod
    def request(self, texts: Sequence[str]) -> object:
        """Return what is sent as JSON."""

    def answers(self, document: Any, texts: int) -> object:
        """Return the answers for so many texts out of the parsed body; ValueError where they are not in it."""
        return document

    def content(self, texts: Sequence[str]) -> bytes:
        """Return the body of a request."""
        return json.dumps(self.request(texts)).encode("ascii")

    def parse(self, body: bytes) -> object:
        """Return the parsed body; ValueError or RecursionError where it is none of this form."""
        return json.loads(body, object_pairs_hook=each_once)

    @property
    def key(self) -> str:
        """All that the form's answers depend on: kept answers of another form are not this one's."""
        return self.name


def is_document(value: Any) -> bool:
    """Tell whether a value says itself what it holds, as in `redteam.targets.answers`."""
    return isinstance(value, Mapping) and ("probabilities" in value or "labels" in value)


def rows_of_one(document: Any, texts: int) -> Any:
    """Wrap the answer to a single text, several labels with scores, as that of a batch of one."""
    several = isinstance(document, list) and len(document) > 1 and all(isinstance(each, Mapping) for each in document)
    return [document] if texts == 1 and several else document
