"""Files written whole or not at all, and fingerprints of those that are read."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write `content` to a temporary name beside `path`, flush it to disk and rename; OSError leaves `path` as it was."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    save_atomic(path, lambda temporary: temporary.write_bytes(data), mode=mode)


def save_atomic(path: Path, save: Callable[[Path], object], *, mode: int = 0o644) -> None:
    """Let `save` fill a temporary file beside `path`, flush it to disk, then rename it over `path`.

    Devices such as /dev/stdout are written straight: there is nothing to rename onto.
    """
    if path.exists() and not path.is_file():
        save(path)
        return
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        save(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
