"""The API form that a user writes down: a template for requests and a path to the answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redteam.core import TargetError
from redteam.targets.api import Api, is_document, rows_of_one
from redteam.targets.forms import as_document


class Template(Api):
    """Any other form: JSON in which "$texts" stands for the list of texts, or "$text" for one of them.

    A list of one element that holds "$text" is repeated for every text; elsewhere "$text" means a text a request.
    `path` leads to the answers: names and numbers joined by dots, `*` for each of a list.
    """

    name = "template"

    def __init__(self, template: str | None, path: str | None) -> None:
        """Parse both; raise TargetError where the template is no JSON or has no place for texts."""
        try:
            self._template = json.loads(template or '{"texts": "$texts"}')
        except (ValueError, RecursionError):
            raise TargetError('--request-template: not JSON; write for example {"documents": "$texts"}') from None
        self._path = path.split(".") if path else []
        if "" in self._path:
            raise TargetError(f"--response-path {path}: empty name between dots; write for example data.*.scores")
        whole, repeated, single = (_places(self._template, kind) for kind in ("$texts", "each", "$text"))
        if not whole and not repeated and not single:
            raise TargetError('--request-template: no place for texts; put "$texts" (all) or "$text" (one) into it')
        self.one_by_one = bool(single)
        self._shape = json.dumps(self._template, sort_keys=True)

    @property
    def key(self) -> str:
        """The template and the path."""
        return f"{self.name}:{self._shape}:{'.'.join(self._path)}"

    def request(self, texts: Sequence[str]) -> object:
        """Return the template with the texts in their places."""
        return _filled(self._template, list(texts))

    def answers(self, document: Any, texts: int) -> object:
        """Return what the path leads to."""
        value = _along(document, self._path)
        if self.one_by_one and not is_document(value):
            value = rows_of_one(value, texts) if isinstance(value, list) and not _numbers(value) else [value]
        return value if is_document(value) else as_document(value)


def _numbers(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _places(value: Any, kind: str) -> int:
    """Count the places of a template: "$texts", "each" for a list that is repeated, or "$text" outside of one."""
    if isinstance(value, Mapping):
        return sum(_places(each, kind) for each in value.values())
    if isinstance(value, list):
        if len(value) == 1 and _holds_one(value[0]):
            return int(kind == "each")
        return sum(_places(each, kind) for each in value)
    return int(value == kind)


def _holds_one(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_one(each) for each in value.values())
    return any(_holds_one(each) for each in value) if isinstance(value, list) else bool(value == "$text")


def _filled(value: Any, texts: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(each, texts) for name, each in value.items()}
    if isinstance(value, list):
        if len(value) == 1 and _holds_one(value[0]):
            return [_filled(value[0], [text]) for text in texts]
        return [_filled(each, texts) for each in value]
    return texts if value == "$texts" else texts[0] if value == "$text" else value


def _along(value: Any, path: list[str]) -> Any:
    for i, step in enumerate(path):
        if step == "*":
            if not isinstance(value, list):
                raise ValueError("--response-path: * stands where the answer has no list")
            return [_along(each, path[i + 1 :]) for each in value]
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise ValueError(f"--response-path: the answer has nothing at {step[:40]!r}")
    return value
