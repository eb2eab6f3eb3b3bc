"""Settings of attacks and defences: what each does, and how the command line gives them, as `RT203.restarts=8`.

Whatever plugs in is a frozen dataclass, and its fields are its settings. `Setting` says of one what it does, in which
unit and within which bounds; a plug-in may leave that out and say only type and default.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from redteam.core import UsageError

Value = TypeVar("Value")
Tuned = TypeVar("Tuned")

_GIVEN = re.compile(r"(?:([\w-]+)\.)?([A-Za-z_][\w-]*)=(.+)", re.DOTALL)
_SETTING = "setting"
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Setting:
    """What a setting does, in a sentence; its unit, if it has one; and the bounds of a number.

    `least` and `most` are allowed themselves, `above` and `below` are not.
    """

    does: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def default(self, value: Value) -> Value:
        """Return the field of a dataclass with this default: `restarts: int = Setting("...", least=1).default(4)`."""
        made: Value = dataclasses.field(default=value, metadata={_SETTING: self})
        return made

    def admits(self, number: float) -> bool:
        """Tell whether a number is within the bounds; NaN is not."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
            and not math.isnan(number)
        )

    @property
    def bounds(self) -> str:
        """The bounds in words, such as "above 0 and at most 0.5"; empty where there are none."""
        named = (("above", self.above), ("at least", self.least), ("below", self.below), ("at most", self.most))
        return " and ".join(f"{word} {number:g}" for word, number in named if number is not None)


@dataclass(frozen=True)
class Described:
    """A setting of one plug-in: its name, the type of its value, its default, and what is said of it."""

    name: str
    kind: Any
    default: Any
    setting: Setting

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        kinds = [kind for kind in self.kinds if kind is not NoneType]
        if get_origin(kinds[0]) is Literal:
            words = [*map(str, get_args(kinds[0])), *(["none"] if NoneType in self.kinds else [])]
            return f"one of {', '.join(words)}"
        said = {bool: "true or false", int: "a whole number", float: "a number"}.get(kinds[0], "text")
        bounds = f" {self.setting.bounds}" if self.setting.bounds and kinds[0] in (int, float) else ""
        return f"{said}{bounds}{', or none' if NoneType in self.kinds else ''}"

    @property
    def shown(self) -> str:
        """The default as it would be given."""
        return "none" if self.default is None else f"{self.default}".lower()

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value may have; a Literal counts as one."""
        return (self.kind,) if get_origin(self.kind) is Literal else get_args(self.kind) or (self.kind,)

    def parse(self, text: str) -> Any:
        """Return the value that a text stands for; ValueError where it is none that the setting can have."""
        word, kinds = text.strip().lower(), set(self.kinds)
        if word == "none" and NoneType in kinds:
            return None
        (kind,) = kinds - {NoneType}
        if get_origin(kind) is Literal:
            return {str(each): each for each in get_args(kind)}[text.strip()]
        if kind is bool:
            return _WORDS[word]
        if kind not in (int, float):
            return text
        number: float = kind(word)
        if "_" in word or not math.isfinite(number) or not self.setting.admits(number):
            raise ValueError
        return number


DROPOUT = Setting("Dropout while training, wherever the model has some; none: the model's own.", least=0, most=0.95)


def describe(plugin: object) -> tuple[Described, ...]:
    """Return the settings of a plug-in, with its own values as their defaults; what says nothing of itself inherits."""
    if not dataclasses.is_dataclass(plugin):
        return ()
    hints = get_type_hints(type(plugin))
    return tuple(
        Described(field.name, hints[field.name], getattr(plugin, field.name), _said_of(type(plugin), field.name))
        for field in dataclasses.fields(plugin)
    )


def settings_of(plugin: object) -> dict[str, Any]:
    """Return a plug-in's settings by name."""
    return {each.name: each.default for each in describe(plugin)}


def tune(plugins: Sequence[Tuned], given: Sequence[str]) -> tuple[Tuned, ...]:
    """Return the plug-ins with settings changed, each given as [ID.]NAME=VALUE: without an ID, all that have it.

    Raises UsageError for a plug-in that is not among them, a setting that none has, one that is given twice, and a
    value that the setting cannot have.
    """
    changes = given_to(plugins, given)
    return tuple(
        dataclasses.replace(plugin, **change) if change else plugin  # type: ignore[type-var]
        for plugin, change in zip(plugins, changes, strict=True)
    )


def changes_of(plugin: object) -> str:
    """Return the settings of a plug-in that are not its usual ones, as they would be given; empty where none is."""
    usual = settings_of(type(plugin)())
    return ", ".join(f"{each.name}={each.shown}" for each in describe(plugin) if usual[each.name] != each.default)


def given_to(plugins: Sequence[object], given: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Return the new values of each plug-in's settings by name; raise what `tune` raises."""
    changes: tuple[dict[str, Any], ...] = tuple({} for _ in plugins)
    seen: set[tuple[str, str]] = set()
    for each in given:
        parts = _GIVEN.fullmatch(each)
        if parts is None:
            raise UsageError(f"--set {each}: write NAME=VALUE or ID.NAME=VALUE")
        of, name = (parts[1] or "").lower(), parts[2].replace("-", "_")
        if (of, name) in seen:
            raise UsageError(f"--set {each}: {name} is given twice")
        seen.add((of, name))
        for plugin, change in zip(plugins, changes, strict=True):
            change.update(_changed(plugin, of, name, parts[3], each))
        if not any(name in change for change in changes):
            raise UsageError(f"--set {each}: {_unknown(plugins, of, parts[1] or '', name)}")
    return changes


def _changed(plugin: object, of: str, name: str, text: str, each: str) -> Iterator[tuple[str, Any]]:
    """Yield the setting with its new value where the plug-in is meant and has it."""
    if of and of not in _names(plugin):
        return
    for known in describe(plugin):
        if known.name == name:
            try:
                yield name, known.parse(text)
            except (ValueError, KeyError):
                raise UsageError(f"--set {each}: must be {known.wanted}") from None


def _unknown(plugins: Sequence[object], of: str, said: str, name: str) -> str:
    meant = [plugin for plugin in plugins if not of or of in _names(plugin)]
    if not meant:
        return f"{said} is not among what is run: {', '.join(map(_id, plugins))}"
    known = dict.fromkeys(setting for plugin in meant for setting in settings_of(plugin))
    what = _id(meant[0]) if len(meant) == 1 else f"none of {', '.join(map(_id, meant))}"
    has = f"{what} has no setting" if len(meant) == 1 else f"{what} has a setting"
    return f"{has} {name!r}; known: {', '.join(known) or 'none'}"


def _names(plugin: object) -> set[str]:
    return {_id(plugin).lower(), str(getattr(plugin, "name", "")).lower()}


def _id(plugin: object) -> str:
    return str(getattr(plugin, "id", type(plugin).__name__))


def _said_of(cls: type, name: str) -> Setting:
    """Return what the nearest class says of a setting; one that only changes the default inherits the rest."""
    for base in cls.__mro__:
        field = getattr(base, "__dataclass_fields__", {}).get(name)
        if field is not None and _SETTING in field.metadata:
            found: Setting = field.metadata[_SETTING]
            return found
    return Setting("")
