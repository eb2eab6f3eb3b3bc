"""The forms a judged report can take: one pure `render(report, verdict, *, policy) -> str` per module.

A format is a module of this package with such a function, or a function that an installed package names under the
entry-point group `redteam.formats`; there is no list to edit. Modules are imported when they are first used, so that a
JSON report never waits for what draws tables.

Names, labels and reasons come from models and data files: each format makes them harmless by the functions here. A
label may hold a terminal escape, a newline, a table separator or a mention. Nothing is dropped, because a label that
vanishes is a label nobody looks at: what cannot be printed is written out as `\\u001b`.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from importlib.abc import InspectLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

_MENTION = re.compile(r"(?<!\w)@")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>&#|~$!]")
if TYPE_CHECKING:
    from redteam.policy import Policy, Verdict
    from redteam.report.values import AuditReport

GROUP = "redteam.formats"


class Render(Protocol):
    """What turns a judged report into text; `options` are those of one format, such as a width."""

    def __call__(self, report: "AuditReport", verdict: "Verdict", *, policy: "Policy", **options: Any) -> str:
        """Return the report as text that ends in a newline."""
        ...


class _Formats(Mapping[str, Render]):
    """Every format by its name; a module is imported when its format is first used."""

    def __getitem__(self, name: str) -> Render:
        """Return the format of a name, ours before any other; UsageError where its package is broken."""
        if _is_ours(name):
            return cast(Render, importlib.import_module(f"{__name__}.{name}").render)
        for entry in entry_points(group=GROUP, name=name):
            return cast(Render, _load(entry))
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names, sorted."""
        ours = [info.name for info in pkgutil.iter_modules(__path__) if _is_ours(info.name)]
        yield from sorted({*ours, *(entry.name for entry in entry_points(group=GROUP))})

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self)


def _is_ours(name: str) -> bool:
    """Tell by its text whether a module of this package renders: to import them all would cost what one is to save."""
    spec = find_spec(f"{__name__}.{name}") if name.isidentifier() else None
    source = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
    return re.search(r"^def render\(", source or "", re.MULTILINE) is not None


FORMATS: Mapping[str, Render] = _Formats()


def clean(text: str) -> str:
    """Return `text` on one line, with everything that does not print written out: no bidi tricks either."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _written_out(c) for c in text)


def clip(text: str, width: int) -> str:
    """Return `text` cleaned and cut to `width` characters, with an ellipsis where something is missing."""
    text = clean(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def markdown(text: str) -> str:
    """Return `text` so that Markdown, HTML and GitHub mentions show it as it stands, in a table cell too."""
    escaped = _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", clean(text))
    return _MENTION.sub("@<!-- -->", escaped).replace("://", ":<!-- -->//")


def code(text: str) -> str:
    """Return `text` as a Markdown code span that it cannot break out of."""
    return f"<code>{_MARKDOWN.sub(lambda match: f'&#{ord(match[0])};', clean(text))}</code>"


def json_text(text: str) -> str:
    """Return JSON with characters that do not print as escapes; what it parses to is unchanged."""
    lines = text.split("\n")
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else _utf16(c) for c in line) for line in lines
    )


def _written_out(character: str) -> str:
    point = ord(character)
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _load(entry: EntryPoint) -> Any:
    from redteam.core.discovery import load  # only where a package brings one

    return load(entry)
