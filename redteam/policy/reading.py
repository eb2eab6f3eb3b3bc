"""The limits a release must keep, read from `redteam.toml` or from `[tool.redteam]` of a pyproject.toml.

    max_auc = 0.55                             # how well members may be told from non-members; 0.5 is chance
    max_tpr = { fpr = 0.01, limit = 0.05 }     # or a list of such tables
    max_epsilon = 8.0                          # measured from below, guaranteed from above
    max_delta = 1e-5                           # the largest delta at which a guarantee counts; 1e-5 if not given
    max_exposure = 10.0                        # bits by which canaries may stand out (their median)
    max_extraction_rate = 0.1                  # share of the canaries that may come out whole
    require = ["RT101", "RT901"]               # attacks and controls that must have given evidence
    strict = false                             # true: a limit that is not settled is not passed
    allow_untrained = false                    # true: a model that is not shown to have learned anything may pass
    [[waivers]]
    id = "RT101.auc"                           # a rule, one signal of it, or claim:epsilon
    reason = "accepted for the pilot, see ticket 12"
    expires = 2027-01-31

`max_epsilon` and `max_delta` are one limit on what a single example may give away. A guarantee meets it with an epsilon
and a delta that are both no larger; one for whole clients covers their examples too. An epsilon measured at delta d
proves it broken only where d is at least `max_delta`, and a stated guarantee only where d is at least the claim's
delta: at a larger delta a mechanism has a smaller epsilon. Where the two do not compare, nothing is passed, and neither
is it where no guarantee meets the limit: an attack that finds little bounds nothing from above, strict or not.

`max_exposure` and `max_extraction_rate` need canaries in the training data. At 0 they say that nothing may be proven to
come out; no attack can prove that nothing does, so under `strict` a limit of 0 is never met.

A target that is not right on its own members significantly more often than always answering their commonest label is
no pass: nothing can leak from a model that learned nothing, or whose labels or tokens are other ones. `allow_untrained`
is for models that are meant to know little, as under a small epsilon.

A file replaces the built-in limits; it does not add to them. Only a limit on canaries that it leaves out is 0, as built
in, and an audit that asks no attack after them is no pass. Everything that is not in this list is an error: a
misspelt limit must not turn into no limit.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from redteam.core.errors import PolicyError
from redteam.core.files import read_text
from redteam.policy.limits import BUILT_IN, DEFAULT, SAME_FPR, Limit, Policy, TprLimit, Waiver

__all__ = [
    "BUILT_IN",
    "DEFAULT",
    "Limit",
    "Policy",
    "TprLimit",
    "Waiver",
    "expired",
    "load_policy",
    "parse_policy",
]


def load_policy(path: Path | None, *, today: date) -> Policy:
    """Read the policy file `path`, or find one in the working directory, or return the built-in limits.

    Without a path: ./redteam.toml, then ./pyproject.toml where it has a [tool.redteam] table. Raises
    PolicyError for anything that is not plainly a policy, and for a waiver that expired before `today`.
    """
    if path is not None:
        return _load(path, today)
    if _stands(Path("redteam.toml")):
        return _load(Path("redteam.toml"), today)
    if _stands(Path("pyproject.toml")) and _has_table(Path("pyproject.toml")):
        return _load(Path("pyproject.toml"), today)
    return DEFAULT


def expired(waivers: Iterable[Waiver], *, today: date) -> str | None:
    """Return what to say about the first waiver that ended before `today`, if there is one."""
    for waiver in waivers:
        if waiver.expires < today:
            return f"waiver {waiver.id!r} expired on {waiver.expires}: mend the leak or decide anew"
    return None


def _stands(path: Path) -> bool:
    return path.exists() or path.is_symlink()  # a broken link is a policy that is missing, not one never written


def _has_table(path: Path) -> bool:
    tool = _toml(path, _read(path)).get("tool")
    return isinstance(tool, dict) and "redteam" in tool


def _load(path: Path, today: date) -> Policy:
    text = _read(path)
    table: Any = _toml(path, text)
    in_pyproject = path.name == "pyproject.toml"
    if in_pyproject:
        if not _has_table(path):
            raise PolicyError(f"{path}: has no [tool.redteam] table: add one, or give another --policy")
        table = table["tool"]["redteam"]
    try:
        policy = parse_policy(table, source=_shown(path), lines=_lines(text, in_pyproject))
    except ValueError as error:
        raise PolicyError(f"{path}: {error}") from None
    if outdated := expired(policy.waivers, today=today):
        raise PolicyError(f"{path}: {outdated}")
    return policy


def _toml(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: an integer of 5000 digits is another kind
        raise PolicyError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise PolicyError(f"{path}: not a policy: its tables are nested too deep") from None


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror or error}") from None


def _shown(path: Path) -> str:
    """Name a file below the working directory relative to it: reports travel, home folders do not."""
    absolute = path.absolute()
    here = Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else path.as_posix()


_HEADER = re.compile(r"^\s*\[\s*tool\s*\.\s*(redteam|\"redteam\"|'redteam')\b")
_KEY = re.compile(r"^\s*(?:\[\[?\s*(?:tool\.redteam\.)?)?([a-z_]+)\s*(?:=|\])")


def _lines(text: str, in_pyproject: bool) -> tuple[tuple[str, int], ...]:
    """Find the line of each key by its looks, for reports that point at it; a miss costs only precision."""
    found: dict[str, int] = {}
    inside = not in_pyproject
    for number, line in enumerate(text.splitlines(), start=1):
        inside = inside or _HEADER.match(line) is not None
        match = _KEY.match(line) if inside else None
        if match and match[1] in _KEYS:
            found.setdefault(match[1], number)
    return tuple(found.items())


def parse_policy(table: Any, *, source: str, lines: tuple[tuple[str, int], ...] = ()) -> Policy:
    """Build a policy from parsed TOML; a ValueError names the key, what stands there and what would do."""
    if not isinstance(table, Mapping):
        raise ValueError(f"[tool.redteam] must be a table, not {_quote(table)}")
    _known(table, _KEYS, "")
    values = {key: read(key, table[key]) for key, read in _KEYS.items() if key in table}
    policy = Policy(source=source, lines=lines, **values)
    if "max_delta" in table and policy.max_epsilon is None:
        raise ValueError("max_delta limits nothing by itself: set max_epsilon too, or leave it out")
    if not any(key.startswith("max_") for key in table):
        limits = ", ".join(key for key in _KEYS if key.startswith("max_") and key != "max_delta")
        raise ValueError(f"sets no limit, so nothing could fail: set at least one of {limits}")
    return policy


def _auc(key: str, value: Any) -> float:
    return _number(key, value, "at least 0.5 (chance) and below 1", lambda x: 0.5 <= x < 1)


def _rate(key: str, value: Any) -> float:
    return _number(key, value, "at least 0 and below 1", lambda x: 0 <= x < 1)


def _amount(key: str, value: Any) -> float:
    return _number(key, value, "a finite number, at least 0", lambda x: x >= 0)


def _number(key: str, value: Any, what: str, allowed: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} = {_quote(value)} is not a number: it must be {what}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and allowed(number)):
        raise ValueError(f"{key} = {_quote(value)} is out of range: it must be {what}")
    return number


def _tpr_limits(key: str, value: Any) -> tuple[TprLimit, ...]:
    tables = value if isinstance(value, list) else [value]
    if not tables:
        raise ValueError(f"{key} = [] sets no limit: give {{ fpr = 0.01, limit = 0.05 }} or leave the key out")
    limits = tuple(_tpr_limit(key, each) for each in tables)
    for index, each in enumerate(limits):
        if any(abs(each.fpr - other.fpr) <= SAME_FPR for other in limits[:index]):
            raise ValueError(f"{key}: fpr = {each.fpr:g} stands there twice: keep one")
    return limits


def _tpr_limit(key: str, value: Any) -> TprLimit:
    _complete(value, ("fpr", "limit"), key, "{ fpr = 0.01, limit = 0.05 }")
    fpr = _number(f"{key}.fpr", value["fpr"], "above 0 and below 1", lambda x: 0 < x < 1)
    limit = _rate(f"{key}.limit", value["limit"])
    if limit <= fpr:
        raise ValueError(
            f"{key}.limit = {limit:g} is not above fpr = {fpr:g}: random guessing has a TPR equal to the "
            f"FPR, so even a model that leaks nothing could not pass; give a limit above {fpr:g}"
        )
    return TprLimit(fpr=fpr, limit=limit)


def _required(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise ValueError(f'{key} = {_quote(value)} is not a list of attack ids, such as ["RT101"]')
    return tuple(dict.fromkeys(each.strip() for each in value))


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} = {_quote(value)} must be true or false")
    return value


def _waivers(key: str, value: Any) -> tuple[Waiver, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} = {_quote(value)} must be tables that start with [[{key}]]")
    waivers = tuple(_waiver(f"{key}[{index}]", each) for index, each in enumerate(value))
    seen: set[str] = set()
    for waiver in waivers:
        if waiver.id in seen:
            raise ValueError(f"{key}: id = {waiver.id!r} is waived twice: keep one")
        seen.add(waiver.id)
    return waivers


def _waiver(key: str, value: Any) -> Waiver:
    _complete(value, ("id", "reason", "expires"), key, "id, reason and expires")
    for name in ("id", "reason"):
        if not isinstance(value[name], str) or not value[name].strip():
            raise ValueError(f"{key}.{name} = {_quote(value[name])} must be a text that is not empty")
    expires = value["expires"]
    if isinstance(expires, str):
        try:
            expires = date.fromisoformat(expires)
        except ValueError:
            expires = None
    if not isinstance(expires, date) or isinstance(expires, datetime):
        raise ValueError(f"{key}.expires = {_quote(value['expires'])} must be a date, such as 2027-01-31")
    return Waiver(id=value["id"].strip(), reason=value["reason"].strip(), expires=expires)


def _complete(value: Any, names: tuple[str, ...], key: str, example: str) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} = {_quote(value)} must be a table with {example}")
    _known(value, names, f"{key}.")
    for name in names:
        if name not in value:
            raise ValueError(f"{key}: {name} is missing: give {example}")


def _known(table: Mapping[str, Any], names: Iterable[str], prefix: str) -> None:
    names = tuple(names)
    for key, value in table.items():
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
            raise ValueError(f"unknown key {f'{prefix}{key}'!r} = {_quote(value)}: {hint}")


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


_KEYS: dict[str, Callable[[str, Any], Any]] = {
    "max_auc": _auc,
    "max_tpr": _tpr_limits,
    "max_epsilon": _amount,
    "max_delta": _rate,
    "max_exposure": _amount,
    "max_extraction_rate": _rate,
    "require": _required,
    "strict": _flag,
    "allow_untrained": _flag,
    "waivers": _waivers,
}
