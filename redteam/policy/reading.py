"""The limits a release must keep, read from `redteam.toml` or from `[tool.redteam]` of a pyproject.toml.

    max_auc = 0.55                             # how well members may be told from non-members; 0.5 is chance
    max_tpr = { fpr = 0.01, limit = 0.05 }     # or a list of such tables
    max_epsilon = 8.0                          # measured from below, guaranteed from above
    max_delta = 1e-5                           # the largest delta at which a guarantee counts; 1e-5 if not given
    max_exposure = 10.0                        # bits by which canaries may stand out (their median)
    max_extraction_rate = 0.1                  # share of the canaries that may be extracted whole
    require = ["RT101", "RT901"]               # attacks and controls that must have given evidence
    strict = false                             # true: a limit that is not settled is not passed
    require_references = 0                     # reference models that the audit must have used
    allow_untrained = false                    # true: a model that is not shown to have learned anything may pass
    [[waivers]]
    id = "RT101.auc"                           # a rule, one signal of it, or claim:epsilon
    reason = "accepted for the pilot, see ticket 12"
    expires = 2027-01-31

`max_epsilon` and `max_delta` are one limit on what a single example may leak. A guarantee meets it with an epsilon
and a delta that are both no larger; one for whole clients covers their examples too. An epsilon measured at delta d
proves it broken only where d is at least `max_delta`, and a stated guarantee only where d is at least the claim's
delta: at a larger delta a mechanism has a smaller epsilon. Where the two do not compare, nothing is passed, and neither
is it where no guarantee meets the limit: an attack that finds little bounds nothing from above, strict or not.

`max_exposure` and `max_extraction_rate` need canaries in the training data. At 0 they say that nothing may be proven to
be extracted; no attack can prove that nothing can, so under `strict` a limit of 0 is never met.

A target that is not right on its own members significantly more often than always answering their commonest label is
no pass: nothing can leak from a model that learned nothing, or whose labels or tokens are other ones. `allow_untrained`
is for models that are meant to know little, as under a small epsilon.

A file replaces the built-in limits; it does not add to them. Only a limit on canaries that it leaves out is 0, as built
in, and an audit that asks no attack after them is no pass. Everything that is not in this list is an error: a
misspelt limit must not turn into no limit.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, NoReturn

from redteam.core import PolicyError, read_text
from redteam.policy import BUILT_IN, DEFAULT, Policy, Waiver
from redteam.report import Limit, quote, require_keys, require_known
from redteam.report.metrics import Metric, known_metrics, metric, names

__all__ = [
    "BUILT_IN",
    "DEFAULT",
    "Limit",
    "Policy",
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
        if match and (match[1] in _OTHERS or match[1].startswith(("max_", "min_"))):
            found.setdefault(match[1], number)
    return tuple(found.items())


def parse_policy(table: Any, *, source: str, lines: tuple[tuple[str, int], ...] = ()) -> Policy:
    """Build a policy from the parsed TOML `table`; a ValueError names the key, what stands there and what would do.

    `source` is the file as findings name it, `lines` where in it each key stands.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"[tool.redteam] must be a table, not {quote(table)}")
    limited = _limited(table)
    known = {*_OTHERS, *(key for each in limited for key in (each.key, *each.options))}
    if not known >= table.keys():
        _refuse(table)
    values = {key: read(key, table[key]) for key, read in _OTHERS.items() if key in table}
    limits = tuple(limit for each in limited for limit in each.read(table))
    if not limits:
        keys = ", ".join(each.key for each in known_metrics())
        raise ValueError(f"sets no limit, so nothing could fail: set at least one of {keys}")
    return Policy(limits, source=source, lines=lines, **values)


def _limited(table: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the metrics that a policy limits, in their order; no other is imported."""
    there = names()
    named = [key.partition("_")[2] for key in table if key.startswith(("max_", "min_"))]
    found = {metric(name) for name in named if name in there}
    return tuple(sorted((each for each in found if each.key in table), key=lambda each: (each.order, each.name)))


def _refuse(table: Mapping[str, Any]) -> NoReturn:
    """Raise ValueError for a key that limits nothing here, or is unknown."""
    every = known_metrics()
    for each in every:
        if alone := [option for option in each.options if option in table and each.key not in table]:
            raise ValueError(f"{alone[0]} limits nothing by itself: set {each.key} too, or leave it out")
    keys = [key for each in every for key in (each.key, *each.options)]
    require_known(table, (*keys, *_OTHERS))
    raise AssertionError("every key is known")


def _required(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise ValueError(f"{key} = {quote(value)} is not a list of attack ids, such as redteam attacks lists")
    return tuple(dict.fromkeys(each.strip() for each in value))


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} = {quote(value)} must be true or false")
    return value


def _count(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{key} = {quote(value)} must be a whole number, 0 or more")
    return value


def _waivers(key: str, value: Any) -> tuple[Waiver, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} = {quote(value)} must be tables that start with [[{key}]]")
    waivers = tuple(_waiver(f"{key}[{index}]", each) for index, each in enumerate(value))
    seen: set[str] = set()
    for waiver in waivers:
        if waiver.id in seen:
            raise ValueError(f"{key}: id = {waiver.id!r} is waived twice: keep one")
        seen.add(waiver.id)
    return waivers


def _waiver(key: str, value: Any) -> Waiver:
    require_keys(value, ("id", "reason", "expires"), key, "id, reason and expires")
    for name in ("id", "reason"):
        if not isinstance(value[name], str) or not value[name].strip():
            raise ValueError(f"{key}.{name} = {quote(value[name])} must be a text that is not empty")
    expires = value["expires"]
    if isinstance(expires, str):
        try:
            expires = date.fromisoformat(expires)
        except ValueError:
            expires = None
    if not isinstance(expires, date) or isinstance(expires, datetime):
        raise ValueError(f"{key}.expires = {quote(value['expires'])} must be a date, such as 2027-01-31")
    return Waiver(id=value["id"].strip(), reason=value["reason"].strip(), expires=expires)


_OTHERS: dict[str, Callable[[str, Any], Any]] = {
    "require": _required,
    "strict": _flag,
    "allow_untrained": _flag,
    "require_references": _count,
    "waivers": _waivers,
}
