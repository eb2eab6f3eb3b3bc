"""Names, labels and reasons come from models and data files: make them harmless in every format.

A label may hold a terminal escape, a newline, a table separator or a mention. Nothing is dropped, because a
label that vanishes is a label nobody looks at: what cannot be printed is written out as `\\u001b`.
"""

import re

_MENTION = re.compile(r"(?<!\w)@")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>&#|~$!]")


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
