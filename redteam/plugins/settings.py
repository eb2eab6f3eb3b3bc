"""Settings of attacks, as the command line gives them: `RT203.relaxation=gumbel`."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from redteam.core.errors import UsageError
from redteam.plugins.attack import Attack
from redteam.plugins.extraction import ExtractionAttack

Tuned = TypeVar("Tuned", bound=ExtractionAttack)

_GIVEN = re.compile(r"(\w+)\.(\w+)=(\S+)")


def tune(attacks: Sequence[Tuned], given: Sequence[str]) -> tuple[Tuned, ...]:
    """Return the attacks with settings changed, each given as ID.NAME=VALUE; `none` switches one off that can be off.

    Raises UsageError for an attack that is not run, a setting that it lacks and a value that the setting cannot have.
    """
    by_id = {attack.id.lower(): attack for attack in attacks}
    for each in given:
        parts = _GIVEN.fullmatch(each)
        if parts is None:
            raise UsageError(f"--set {each}: write ID.NAME=VALUE, such as RT203.relaxation=gumbel")
        attack = by_id.get(parts[1].lower())
        if attack is None:
            run = ", ".join(attack.id for attack in attacks)
            raise UsageError(f"--set {each}: {parts[1]} is not among the attacks that are run: {run}")
        by_id[parts[1].lower()] = _with(attack, parts[2], parts[3], each)
    return tuple(by_id[attack.id.lower()] for attack in attacks)


def settings_of(attack: Attack | ExtractionAttack) -> dict[str, Any]:
    """Return an attack's settings by name."""
    return dataclasses.asdict(attack) if dataclasses.is_dataclass(attack) else {}


def _with(attack: Tuned, name: str, value: str, each: str) -> Tuned:
    known = settings_of(attack)
    if name not in known:
        raise UsageError(f"--set {each}: {attack.id} has no setting {name!r}; it has {', '.join(known) or 'none'}")
    settings: Any = attack  # a dataclass, as having settings shows
    changed: Tuned = dataclasses.replace(settings, **{name: _value(value, get_type_hints(type(attack))[name], each)})
    return changed


def _value(text: str, kind: Any, each: str) -> Any:
    if get_origin(kind) is Literal:
        if text in get_args(kind):
            return text
        raise UsageError(f"--set {each}: must be one of {', '.join(get_args(kind))}")
    kinds = get_args(kind) or (kind,)
    if text.lower() == "none" and type(None) in kinds:
        return None
    if not {int, float} & set(kinds) or "_" in text:
        raise UsageError(f"--set {each}: is no setting that takes such a value")
    try:
        number = int(text) if int in kinds else float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        off = ", or none" if type(None) in kinds else ""
        raise UsageError(f"--set {each}: must be a {'whole ' if int in kinds else ''}number above 0{off}")
    return number
