import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonschema
import pytest

from redteam import core


@dataclass(frozen=True)
class Inner:
    """One number."""

    number: float

    def __post_init__(self):
        if self.number > 100:
            raise ValueError("more than 100")


@dataclass(frozen=True)
class Outer:
    """Every kind of field.

    More words that are no part of the schema.
    """

    name: str
    count: int
    flag: bool
    kind: Literal["a", "b"]
    many: tuple[Inner, ...]
    maybe: Inner | None
    table: Mapping[str, float]
    anything: Any = None
    later: tuple[int, ...] = field(default=())


FULL = Outer("n", 1, True, "a", (Inner(1.5), Inner(2.0)), None, {"x": 1.0}, [1, "two"], (3,))


def document(**changes):
    return core.encode(FULL) | changes


def test_what_is_encoded_decodes_to_itself():
    again = json.loads(json.dumps(core.encode(FULL)))
    assert core.decode(Outer, again) == FULL


def test_defaults_may_be_left_out():
    less = {key: value for key, value in document().items() if key not in ("anything", "later")}
    assert core.decode(Outer, less).later == ()


def test_an_integer_is_a_float_where_a_float_is_wanted():
    value = core.decode(Inner, {"number": 3}).number
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extra": 1}, "report: unknown key 'extra'"),
        ({"name": 3}, "report.name must be of type string, not '3'"),
        ({"count": True}, "report.count must be of type integer"),
        ({"count": 1.0}, "report.count must be of type integer"),
        ({"flag": 1}, "report.flag must be of type boolean"),
        ({"kind": "c"}, "report.kind must be one of a, b, not 'c'"),
        ({"kind": []}, "report.kind must be one of a, b"),
        ({"many": {}}, "report.many must be a list"),
        ({"many": [{"number": 1}, {"number": "x"}]}, "report.many[1].number must be a number"),
        ({"many": [{"number": True}]}, "report.many[0].number must be a number"),
        ({"many": [{"number": float("nan")}]}, "a finite number"),
        ({"many": [{"number": float("inf")}]}, "a finite number"),
        ({"many": [{"number": 10**400}]}, "a finite number"),
        ({"many": [{}]}, "report.many[0]: key 'number' is missing"),
        ({"many": [{"number": 101}]}, "report.many[0]: more than 100"),
        ({"maybe": 3}, "report.maybe must be an object"),
        ({"table": []}, "report.table must be an object"),
        ({"table": {"x": "y"}}, "report.table.x must be a number"),
    ],
)
def test_anything_else_names_the_place_and_what_stands_there(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        core.decode(Outer, document(**changes), "report")


def test_a_missing_key_is_named():
    less = document()
    del less["name"]
    with pytest.raises(ValueError, match="key 'name' is missing"):
        core.decode(Outer, less)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_hold_is_not_encoded(value):
    with pytest.raises(ValueError, match="cannot be saved"):
        core.encode({"deep": [value]})


def test_the_schema_accepts_what_the_decoder_does_and_refuses_what_it_refuses():
    schema = core.schema(Outer, title="outer", identifier="urn:outer")
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(document())
    for changes in ({"extra": 1}, {"name": 3}, {"kind": "c"}, {"many": [{}]}, {"maybe": 3}, {"table": []}):
        assert list(validator.iter_errors(document(**changes))), changes
    assert schema["$defs"]["Outer"]["description"] == "Every kind of field."
    assert "later" not in schema["$defs"]["Outer"]["required"]


def test_a_key_that_stands_twice_is_found_among_many_at_once():
    pairs = [(str(i), i) for i in range(200_000)]
    assert core.each_once(pairs) == dict(pairs)
    with pytest.raises(ValueError, match=r"^key '199999' occurs twice$"):  # a look at each pair of them took hours
        core.each_once([*pairs, pairs[-1]])
