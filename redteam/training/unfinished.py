"""What an unfinished training leaves beside its model: the secret that its noise comes from, and how it is removed."""

import contextlib
import hmac
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from redteam.core import UsageError
from redteam.core.files import write_atomic
from redteam.plugins.defense import Checkpoint
from redteam.training.label_canaries import planned_path


@contextlib.contextmanager
def seed_of(noise: dict[str, str], public: int, checkpoint: Checkpoint) -> Iterator[int]:
    """Give the seed of a training: the `public` one, or a secret that lasts as long as the checkpoint does.

    The secret outlives a kill, so that a resumed training repeats the noise of the steps it does again: two noises on
    the same sum would tell more than one.
    """
    if noise != {"noise": "secret"}:
        yield public
        return
    path = _secret_of(checkpoint)
    if not path.exists():
        if checkpoint.path.exists():
            raise UsageError(f"{checkpoint.path}: unfinished training without its secret {path.name}; say --restart")
        write_atomic(path, f"{secrets.randbits(256):064x}\n", mode=0o600)
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise UsageError(f"{path}: the secret of an unfinished training cannot be read; say --restart") from None
    try:  # keyed by the settings too, so that no other training can ever draw the same noise
        yield int.from_bytes(hmac.digest(secret, checkpoint.key.encode(), "sha256"), "big")
    except BaseException:
        if not checkpoint.path.exists():  # nothing to resume
            path.unlink(missing_ok=True)
        raise


def _secret_of(checkpoint: Checkpoint) -> Path:
    return checkpoint.path.with_name(f"{checkpoint.path.name}.secret")


def finish(checkpoint: Checkpoint) -> None:
    """Remove what a training kept, once its model and ledger are written; note first that a private one is done."""
    if _secret_of(checkpoint).exists():
        write_atomic(_finished(checkpoint), f"{checkpoint.key}\n", mode=0o600)
    forget(checkpoint)


def forget(checkpoint: Checkpoint) -> None:
    """Remove all that an unfinished training left."""
    secret = _secret_of(checkpoint)  # first: a checkpoint without its secret is refused
    for path in (secret, checkpoint.path, planned_path(checkpoint), _finished(checkpoint)):
        path.unlink(missing_ok=True)
    shutil.rmtree(checkpoint.clients, ignore_errors=True)


def _finished(checkpoint: Checkpoint) -> Path:
    """Return the file that says that a private training is done, while its secret and its checkpoint are removed."""
    return checkpoint.path.with_name(f"{checkpoint.path.name}.finished")


def finish_cleaning(checkpoint: Checkpoint, output: Path) -> None:
    """Remove what a kill left of a private training that was finished; UsageError where it is this very one.

    To train once more on the same data would spend the budget twice, for nothing.
    """
    path = _finished(checkpoint)
    if not path.exists():
        return
    same = path.read_text(encoding="ascii", errors="replace").strip() == checkpoint.key
    forget(checkpoint)
    if same and output.exists():
        raise UsageError(
            f"{output}: this private training was finished, the model and its ledger are written; what was left of it "
            "is removed now, and there is nothing to train"
        )
