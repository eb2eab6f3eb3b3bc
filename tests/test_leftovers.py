"""What a kill leaves behind is taken away by the next run, and nothing that is in use."""

import fcntl
import os
import time

import pytest
from conftest import sentences

from redteam.core import UsageError
from redteam.core.files import write_atomic
from redteam.data import Columns
from redteam.plugins.registry import choose, discover_defenses
from redteam.training.train import train


def test_temporary_files_of_a_kill(tmp_path):
    old, young, held, other = (tmp_path / f".m.json.{c * 16}.tmp" for c in "0123")
    other = tmp_path / f".n.json.{'3' * 16}.tmp"
    for path in (old, young, held, other):
        path.write_text("private")
        if path != young:
            os.utime(path, (time.time() - 1000,) * 2)
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomic(tmp_path / "m.json", "new")
    assert [path.exists() for path in (old, young, held, other)] == [False, True, True, True]
    assert (tmp_path / "m.json").read_text() == "new"


def test_a_kill_while_a_finished_private_training_is_cleaned_away(tmp_path, monkeypatch):
    data = tmp_path / "data.csv"
    examples = sentences(60, seed=1)
    rows = zip(examples.texts, examples.labels, strict=True)
    data.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    (private,) = choose(discover_defenses(), ["RD102"])
    output = tmp_path / "model.pt"

    class Killed(BaseException):
        pass

    def killed(checkpoint):
        checkpoint.path.write_bytes(b"kept")
        checkpoint.path.with_name(f"{checkpoint.path.name}.secret").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("redteam.training.unfinished.forget", killed)
        with pytest.raises(Killed):
            train(data, output, private, columns=Columns())
    before = output.read_bytes()
    with pytest.raises(UsageError, match="this private training was finished"):
        train(data, output, private, columns=Columns())
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "model.ledger.json", "model.pt"]


def test_a_training_text_is_not_quoted_as_the_word_of_a_split():
    from redteam.data.cells import shown

    assert shown("perhaps") == "'perhaps'"
    assert shown("I have it since May") == "a text of 19 characters"
    assert shown("x" * 21) == "a text of 21 characters"
