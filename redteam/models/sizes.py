"""Is the model that a config describes about as large as the weights beside it?"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification
from transformers.initialization import no_init_weights

from redteam.core import BundleError, first_line
from redteam.models.configs import quiet

_TIMES = 4
_BESIDES = (
    50_000_000  # numbers that need no place in a file: tables of positions, a classifier that is yet to be trained
)


def check_size(config: Any, stored: Mapping[str, torch.Tensor], name: str) -> None:
    """Raise BundleError where a config asks for far more numbers than the weights hold, before memory is taken."""
    try:
        with quiet(), torch.device("meta"), no_init_weights():
            model = AutoModelForSequenceClassification.from_config(config)
    except Exception as error:
        raise BundleError(f"{name}: no classifier can be built from the config ({first_line(error)})") from None
    asked = sum(part.numel() for part in chain(model.parameters(), model.buffers()))
    found = sum(tensor.numel() for tensor in stored.values())
    if asked > _TIMES * found + _BESIDES:
        raise BundleError(f"{name}: the config asks for {asked:,} numbers, the weights hold {found:,}: refused")
