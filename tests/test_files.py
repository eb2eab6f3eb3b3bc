"""Files are whole or absent, private where they must be, and an error names what the user asked for."""

import os
import stat
from pathlib import Path

import pytest

from redteam.core.files import open_to_others, save_atomic, sha256, write_atomic


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_content_and_modes(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert mode(path) == 0o644
    write_atomic(path, b"secret", mode=0o600)
    assert path.read_bytes() == b"secret"
    assert mode(path) == 0o600
    os.umask(0o077)
    write_atomic(path, "mine")
    assert mode(path) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_nobody_else_can_read_it_while_it_is_written(tmp_path):
    seen = []
    save_atomic(tmp_path / "a", lambda p: (seen.append(mode(p)), p.write_text("x")), mode=0o600)
    assert seen == [0o600]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("torch")])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        save_atomic(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
        assert caught.value.strerror == "No space left on device"


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    missing = tmp_path / "none" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(missing, "x")
    assert caught.value.filename == str(missing)
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path, "x")


def test_links_and_long_names(tmp_path):
    real = tmp_path / "real.txt"
    real.write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    write_atomic(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    long = tmp_path / ("x" * 250)
    write_atomic(long, "x")
    assert long.read_text() == "x"


def test_devices_are_written_straight(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        write_atomic(Path("/dev/full"), "x")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_a_private_file_that_others_may_read(tmp_path):
    path = tmp_path / "m.ledger.json"
    path.write_text("{}")
    for mode, warned in ((0o600, False), (0o700, False), (0o640, True), (0o604, True), (0o644, True)):
        path.chmod(mode)
        said = open_to_others(path) or ""
        assert (f"can be read by others (mode {mode:o})" in said) == warned
    assert open_to_others(tmp_path / "none") is None
