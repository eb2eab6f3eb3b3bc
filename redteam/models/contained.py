"""A model directory speaks for itself only: what lies outside of it must not be read through a link or a path in it."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redteam.core import BundleError

# What is read of a directory, by us or by transformers; a link of another name leads nowhere.
_READ = (".json", ".txt", ".model", ".bin", ".safetensors", ".md", ".codes", ".bpe", ".spm", ".tiktoken", ".jinja")
# Settings of tokenizers that are opened as files; of the last two nothing is.
_OPENED = re.compile(r"files?$|path|dir(ectory)?$|spm$|kwargs$|init_inputs|codes|merges|vocab$|dict(ionary)?$")
_HARMLESS = ("special_tokens_map_file", "name_or_path")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


def check_contained(path: Path) -> None:
    """Raise BundleError where a file of a model directory is a link out of it, or no regular file.

    Links into the store of the Hugging Face cache that the directory belongs to are as it makes them.
    """
    if not path.is_dir():
        return
    root = Path(os.path.realpath(path))
    inside = [root]
    if root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--"):
        inside.append(root.parent.parent / "blobs")
    for entry in sorted(path.iterdir()):
        name = entry.name
        if not name.endswith(_READ) or os.path.isdir(entry):  # noqa: PTH112  (a link to itself is false, no error)
            continue
        target = Path(os.path.realpath(entry))
        if target.is_symlink():  # a link to itself
            continue
        if entry.is_symlink() and not any(target.is_relative_to(place) for place in inside):
            raise BundleError(f"{path}: {name} is a link out of the directory: refused; put the file in its place")
        if target.exists() and not target.is_file():
            raise BundleError(f"{path}: {name} is a pipe or a device, not a file: refused")


def check_settings(path: Path) -> None:
    """Raise BundleError where the settings of a tokenizer, which transformers follows, name a file to be opened."""
    for name in _SETTINGS:
        if not (path / name).is_file():
            continue
        try:
            raw = json.loads((path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path}: {name} cannot be read ({error})") from None
        for key, value in _texts(raw, ()):
            named = any(_OPENED.search(part) for part in key) and key[-1] not in _HARMLESS
            if named or (key[-1:] != ("name_or_path",) and os.sep in value and _is_file(value)):
                raise BundleError(
                    f"{path}: {name} says {'.'.join(key)} = {value[:80]!r}, which would be opened as a file: refused; "
                    "take the key out, or save tokenizer.json beside the model"
                )


def _texts(value: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every text of a JSON document with the keys that lead to it."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, (*key, name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # too long a name, a zero byte
        return False
