"""Read what was planted: from `PLANTED.canaries.json`, or from the ledger of a model that was trained on it."""

import json
from pathlib import Path

from redteam import core
from redteam.core import LedgerError, read_text
from redteam.data.ledger import Ledger
from redteam.data.planting import FORMAT, LOST, Planting, canaries_path


def load_planting(path: Path) -> Planting:
    """Read a canary ledger, or the canaries in a model's ledger; raise LedgerError where it is lost or edited."""
    try:
        text = read_text(path)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror or error}); {LOST}") from None
    except UnicodeDecodeError as error:
        raise LedgerError(f"{path}: cannot be read (not UTF-8 text, byte {error.start}); {LOST}") from None
    if is_of_model(path):
        return _of_model(path)
    try:
        planting = core.parse(Planting, text, "canaries", format=FORMAT, advice="it is of another version")
    except ValueError as error:
        raise LedgerError(f"{path}: {error}: restore the file, or {LOST}") from None
    planting.check(path)
    return planting


def canaries_beside(data: Path) -> Planting | None:
    """Return the canaries of a data file, None where none were planted; LedgerError where they are of another file."""
    path = canaries_path(data)
    if not (path.exists() or path.is_symlink()):  # a broken link is a ledger that is lost, not one never written
        return None
    planting = load_planting(path)
    planting.check_data(data)
    return planting


def is_of_model(path: Path) -> bool:
    """Tell whether a file is the ledger of a model, which keeps the canaries among other things."""
    try:
        document = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and str(document.get("format", "")).startswith("redteam.ledger/")


def _of_model(path: Path) -> Planting:
    planting = Planting.of(Ledger.load(path).canaries, path)
    if planting is None:
        raise LedgerError(f"{path}: the model was trained on data without canaries; plant some and train again")
    return planting
