"""What tells one training from all others: by it an unfinished one is taken up, or refused."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import torch
import transformers

from redteam import __version__
from redteam.data.ledger import DataFile
from redteam.data.planting import Planting
from redteam.plugins.defense import Defense


def fingerprint_of(
    source: DataFile,
    planting: Planting | None,
    defense: Defense,
    chosen: list[Any],
    noise: dict[str, str],
) -> str:
    """Identify all that the numbers of a training depend on, so that only the same training is resumed.

    `chosen` is what was said of model, canaries and inclusion, in plain values.
    """
    identity = {
        "data": asdict(replace(source, path="")),
        "canaries": planting.digest if planting else None,
        "defense": [defense.id, defense.parameters()],
        "chosen": chosen,
        "noise": noise,
        "versions": [__version__, torch.__version__, transformers.__version__],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
