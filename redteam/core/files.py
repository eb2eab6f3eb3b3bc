"""Files written whole or not at all, and fingerprints of those that are read."""

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

_OLD = 60.0  # seconds; a younger file may be of somebody who is about to lock it


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write `content` to a temporary name beside `path` and rename; OSError leaves `path` as it was."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    save_atomic(path, lambda temporary: temporary.write_bytes(data), mode=mode)


def save_atomic(path: Path, save: Callable[[Path], object], *, mode: int = 0o666) -> None:
    """Let `save` fill a temporary file beside `path`, flush it to disk, then rename it over `path`.

    `mode` is what the user's umask cuts down, as with any new file. An OSError names `path`, not the temporary
    file. Devices such as /dev/stdout are written straight: there is nothing to rename onto.
    """
    if path.exists() and not path.is_file():
        save(path)
        return
    final = path.resolve()
    temporary = final.with_name(f".{final.name[:40]}.{secrets.token_hex(8)}.tmp")
    _sweep(final)
    lock = -1
    try:
        lock = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):  # some network drives know no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        save(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def _sweep(final: Path) -> None:
    """Take away temporary files for `final` that a kill left: whoever still writes one holds its lock."""
    with contextlib.suppress(OSError):
        for left in final.parent.iterdir():
            head, _, end = left.name.removesuffix(".tmp").rpartition(".")
            if head == f".{final.name[:40]}" and len(end) == 16 and left.name.endswith(".tmp"):
                _remove_if_left(left)


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):
        if time.time() - path.lstat().st_mtime < _OLD:
            return
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(number)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_to_others(path: Path) -> str | None:
    """Return what to say of a private file that others than its owner may read; None where they may not."""
    mode = path.stat().st_mode & 0o777 if os.name == "posix" and path.is_file() else 0
    if not mode & 0o044:
        return None
    return f"{path}: can be read by others (mode {mode:o}), and says what was trained on: chmod 600 {path}"
