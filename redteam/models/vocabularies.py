"""Other files with a vocabulary beside tokenizer.json: where one tells of other tokens, which were trained?

`vocab.txt`, `vocab.json`, `merges.txt`, a SentencePiece model, `added_tokens.json` and the added tokens of
tokenizer_config.json are compared piece by piece, and only where they say something about the same pieces.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from redteam.core import BundleError

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
_ORDINARY = 1  # the type of a piece that texts are spelled with, in SentencePiece
_WAY_OUT = "remove the file that the model was not trained with"
_USUAL = ("pad_token", "unk_token", "bos_token", "eos_token", "cls_token", "sep_token", "mask_token")


def check_vocabularies(path: Path, whole: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise BundleError where a file beside tokenizer.json numbers, spells or merges tokens otherwise.

    `whole` is tokenizer.json as `tokenizers` writes it, `settings` is tokenizer_config.json.
    """
    model, added = whole["model"], {token["content"]: token for token in whole["added_tokens"]}
    pieces = model["vocab"]
    numbers = {piece: i for i, (piece, _) in enumerate(pieces)} if isinstance(pieces, list) else dict(pieces)
    named = {token: entry["id"] for token, entry in added.items()}
    plain = _read_lines(path / "vocab.txt")
    if plain is not None and not (path / "bpe.codes").exists():  # beside which vocab.txt counts words
        _compare(path, "vocab.txt", {token: i for i, token in enumerate(plain)}, numbers, named)
    stated = _read_json(path / "vocab.json")
    if stated:
        _compare(path, "vocab.json", stated, numbers, named)
    merges = _read_lines(path / "merges.txt")
    if merges is not None and model.get("merges"):
        _compare_merges(path, merges, [" ".join(m) if isinstance(m, list) else m for m in model["merges"]])
    for file in sorted(path.glob("*.model")):
        _compare_pieces(path, file, numbers, dict(pieces) if isinstance(pieces, list) else None)
    _check_added(path, settings, added, numbers | named)
    _check_specials(path, "tokenizer_config.json", settings, added)
    _check_specials(path, "special_tokens_map.json", _read_json(path / "special_tokens_map.json") or {}, added)


def _compare(path: Path, file: str, other: Mapping[str, int], own: Mapping[str, int], added: Mapping[str, int]) -> None:
    known = {**own, **added}
    for token, number in other.items():
        if known.get(token) != number:
            _refuse(path, file, f"token {token!r} is {number}", f"{known.get(token, 'not there')}")
    for token, number in own.items():
        if token not in other and token not in added:
            _refuse(path, file, f"token {token!r} is not there", f"{number}")


def _compare_merges(path: Path, other: list[str], own: list[str]) -> None:
    listed = [line for line in other if line.strip() and not line.startswith("#version")]
    last = {merge: i for i, merge in enumerate(listed)}  # of a merge that is listed twice, the later counts
    listed = [merge for i, merge in enumerate(listed) if last[merge] == i]
    for i, (one, two) in enumerate(zip(listed, own, strict=False)):
        if one != two:
            _refuse(path, "merges.txt", f"merge {i + 1} is {one!r}", repr(two))
    if len(listed) != len(own):
        _refuse(path, "merges.txt", f"there are {len(listed)} merges", f"{len(own)}")


def _compare_pieces(path: Path, file: Path, own: Mapping[str, int], scores: Mapping[str, float] | None) -> None:
    """Compare a SentencePiece model: models shift all its pieces by as much, to make room for their special tokens."""
    try:
        pieces = list(_sentence_pieces(file.read_bytes()))
    except (ValueError, struct.error, IndexError):
        return  # not SentencePiece: some tokenizers of other kinds have the same ending
    shift: int | None = None
    for i, (piece, score, kind) in enumerate(pieces):
        if kind != _ORDINARY:
            continue
        number = own.get(piece)
        if number is None:
            _refuse(path, file.name, f"token {piece!r} is {i}", "not there")
        shift = number - i if shift is None else shift
        if number - i != shift:
            _refuse(path, file.name, f"token {piece!r} is {i}, which would be {i + shift} here", f"{number}")
        if scores is not None and abs(scores[piece] - score) > 1e-4 * max(1.0, abs(score)):
            _refuse(path, file.name, f"token {piece!r} scores {score:.6g}", f"{scores[piece]:.6g}")


def _check_added(path: Path, settings: Mapping[str, Any], added: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
    """Added tokens are cut out of a text before all else: each must be there, with its number and its rules."""
    for token, number in (_read_json(path / "added_tokens.json") or {}).items():
        if numbers.get(token) != number:
            _refuse(path, "added_tokens.json", f"token {token!r} is {number}", f"{numbers.get(token, 'not there')}")
    stated = settings.get("added_tokens_decoder")
    for number, entry in (stated if isinstance(stated, dict) else {}).items():
        token = str(entry.get("content") if isinstance(entry, dict) else entry)
        if str(numbers.get(token, "not there")) != str(number):
            said = numbers.get(token, "not there")
            _refuse(path, "tokenizer_config.json", f"the added token {token!r} is {number}", f"{said}")
        if not isinstance(entry, dict) or (token not in added and entry.get("special")):
            continue
        found = added.get(token)
        if found is None:
            _refuse(path, "tokenizer_config.json", f"{token!r} is an added token", "an ordinary one")
        for flag in _FLAGS:
            if isinstance(entry.get(flag), bool) and entry[flag] != found[flag]:
                _refuse(path, "tokenizer_config.json", f"{flag} of {token!r} is {entry[flag]}", f"{found[flag]}")


def _check_specials(path: Path, file: str, settings: Mapping[str, Any], added: Mapping[str, Any]) -> None:
    """Special tokens of the user's own are cut out of texts as well, by the tokenizer that the model was trained with.

    The usual ones, such as [PAD], no text holds, unless they are words: a tokenizer.json made by hand may leave them
    among the ordinary.
    """
    for key in ("additional_special_tokens", "extra_special_tokens"):
        stated = settings.get(key)
        listed = list(stated.values()) if isinstance(stated, Mapping) else stated
        for entry in listed if isinstance(listed, list) else []:
            token = _content(entry)
            if token is not None and token not in added:
                _refuse(path, file, f"{token!r} is a special token", "none")
    for key in _USUAL:
        token = _content(settings.get(key))
        if token is not None and token.isalnum() and token not in added:
            _refuse(path, file, f"{token!r} is a special token", "a word")


def _content(entry: Any) -> str | None:
    """Return a token that is given as a text, or as an object with its content."""
    token = entry.get("content") if isinstance(entry, Mapping) else entry
    return token if isinstance(token, str) else None


def _refuse(path: Path, file: str, there: str, here: str) -> NoReturn:
    told = f"{there} in the first, {here} in the second"
    raise BundleError(f"{path}: {file} and tokenizer.json disagree: {told}; {_WAY_OUT}")


def _read_lines(file: Path) -> list[str] | None:
    """Return the lines of a text file without their ends; what only looks like a line's end to Python is kept."""
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and lines[-1] == "" else lines


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file.parent}: {file.name} cannot be read ({error})") from None
    return raw if isinstance(raw, dict) else None


def _sentence_pieces(content: bytes) -> Iterator[tuple[str, float, int]]:
    """Yield piece, score and type of every entry of a SentencePiece model, a protocol buffer; ValueError for others."""
    for number, value in _fields(content):
        if number != 1 or not isinstance(value, bytes):
            continue
        piece, score, kind = "", 0.0, _ORDINARY
        for part, inner in _fields(value):
            if part == 1 and isinstance(inner, bytes):
                piece = inner.decode("utf-8")
            elif part == 2 and isinstance(inner, bytes):
                (score,) = struct.unpack("<f", inner)
            elif part == 3 and isinstance(inner, int):
                kind = inner
        yield piece, score, kind


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer's message."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        length, at = _varint(content, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
        if length < 0 or at + length > len(content):
            raise ValueError("not a protocol buffer")
        yield key >> 3, content[at : at + length]
        at += length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("not a protocol buffer")
