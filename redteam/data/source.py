"""The bytes of a data file: compressed or not, in which encoding, line by line, and never more than is stated here.

What is not a file of rows (a pipe, a device, a folder) is refused before it is opened: reading it could wait for ever.
"""

import codecs
import gzip
import hashlib
import json
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from redteam.core import DataError
from redteam.core.files import sha256

LARGEST = 4 * 2**30  # bytes of a file of rows
LARGEST_UNPACKED = 2**30  # bytes that a compressed one may unpack to: a small file can hold a thousand times its size
LONGEST_LINE = 16 * 2**20  # characters
LONGEST_CELL = 10_000_000  # characters
MOST_ROWS = 20_000_000

_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the first half of it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def check_file(path: Path) -> None:
    """Raise DataError for what is no file, or one that is too large to be read."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{path}: Is a directory; name a file in it, or what datasets saved with save_to_disk")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: is a pipe or a device, not a file: it can be read only once; write it to a file")
    if found.st_size > LARGEST:
        raise DataError(f"{path}: {found.st_size:,} bytes; at most {LARGEST:,} are read: audit a part of it")


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a data file; of a folder of `datasets`, of all that its rows are read from."""
    if not path.is_dir():
        return sha256(path)
    digest = hashlib.sha256(b"redteam saved dataset\n")
    for file in saved_files(path):
        digest.update(f"{file.name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def saved_files(path: Path) -> list[Path]:
    """Return the files of a folder that `datasets` saved: its two descriptions, then the rows in order."""
    state = read_document(path / "state.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{path}: was saved with an index of rows; save it again with flatten_indices()")
    try:
        names = [str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError):
        raise DataError(f"{path}: state.json names no data files; save it again with save_to_disk") from None
    if any(Path(name).name != name for name in names):
        raise DataError(f"{path}: state.json names a file outside the folder")
    return [path / "dataset_info.json", path / "state.json", *(path / name for name in names)]


def read_document(path: Path) -> dict[str, Any]:
    """Return the object of a small JSON file; raise DataError."""
    check_file(path)
    try:
        found = json.loads(path.read_bytes()[: 16 * _CHUNK])
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{path}: is not JSON; save the dataset again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is not a JSON object; save the dataset again")
    return found


class TextFile:
    """A file of text: UTF-8, or UTF-16 or UTF-32 with a byte-order mark, perhaps within gzip.

    `encoding` and `packed` say which, `end` is the character that ends its lines: a line feed, or in a file without any
    outside quotes a carriage return.
    """

    def __init__(self, path: Path) -> None:
        """Look at the beginning of the file; raise DataError where it is none."""
        check_file(path)
        self.path, self.packed, self.encoding, self._mark = path, False, "utf-8", b""
        with self._blame(), path.open("rb") as file:
            self.packed = file.read(2) == _GZIP
        with self._blame(), self._open() as file:
            start = file.read(4)
        self._mark, self.encoding = next(((m, e) for m, e in _MARKS if start.startswith(m)), (b"", "utf-8"))
        head = re.sub(r'"[^"]*"', "", next(self._chunks(), ""))
        self.end = "\r" if "\r" in head and "\n" not in head else "\n"

    @property
    def marked(self) -> bool:
        """Whether the file begins with a byte-order mark."""
        return bool(self._mark)

    def lines(self) -> Iterator[str]:
        """Yield the lines with their ends; str.splitlines would also cut at characters that occur inside texts."""
        carry = ""
        for chunk in self._chunks():
            *whole, carry = (carry + chunk).split(self.end)
            for line in whole:
                yield line + self.end
            if len(carry) > LONGEST_LINE:
                raise DataError(f"{self.path}: a line has more than {LONGEST_LINE:,} characters: no file of rows")
        if carry:
            yield carry

    def bare_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not empty, without their ends, by their number from 1."""
        for number, line in enumerate(self.lines(), start=1):
            bare = line.removesuffix(self.end).removesuffix("\r")
            if bare:
                yield number, bare

    def whole(self, most: int) -> str:
        """Return the text, of at most so many characters."""
        parts, size = [], 0
        for chunk in self._chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                raise DataError(f"{self.path}: more than {most:,} characters, too many for one piece; write JSON Lines")
        return "".join(parts)

    def _open(self) -> IO[bytes]:
        return cast(IO[bytes], gzip.open(self.path, "rb")) if self.packed else self.path.open("rb")

    def _blame(self) -> "_Blame":
        return _Blame(self.path)

    def _chunks(self) -> Iterator[str]:
        """Yield the text in pieces; raise DataError with the line of what is no text, and for too much of it."""
        decoder, lines, size = codecs.getincrementaldecoder(self.encoding)(), 0, 0
        with self._blame(), self._open() as file:
            file.read(len(self._mark))
            more = True
            while more:
                raw = file.read(_CHUNK)
                more, size = bool(raw), size + len(raw)
                if self.packed and size > LARGEST_UNPACKED:
                    most = f"at most {LARGEST_UNPACKED:,} are read: unpack it, or audit a part of it"
                    raise DataError(f"{self.path}: unpacks to more bytes than that; {most}")
                try:
                    text = decoder.decode(raw, final=not raw)
                except UnicodeDecodeError as error:
                    raise self._undecodable(error, lines) from None
                if "\0" in text:
                    line = lines + text.count("\n", 0, text.index("\0")) + 1
                    said = f"holds a zero byte, so it is not {self.encoding.upper()} text; convert the file"
                    raise DataError(f"{self.path}: line {line}: {said}")
                lines += text.count("\n")
                if text:
                    yield text

    def _undecodable(self, error: UnicodeDecodeError, lines: int) -> DataError:
        before = error.object[: error.start].decode(self.encoding, "replace")
        said = f"byte 0x{error.object[error.start]:02x} is not {self.encoding.upper()}; convert the file"
        return DataError(f"{self.path}: line {lines + before.count(chr(10)) + 1}: {said}")


class _Blame:
    """Turns what reading a file raises into one line that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | EOFError | zlib.error):
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
            raise DataError(f"{self.path}: cannot be read ({reason})") from None
