"""Directories that the command line opens are tried in a process of their own first: they may be a stranger's."""

from pathlib import Path
from typing import TYPE_CHECKING

from redteam.cli.options import USUAL_LIMITS, OpeningOptions
from redteam.cli.present import say

if TYPE_CHECKING:
    from redteam.models.trial import Limits

_OURS = ("tiny", "bilstm", "minilm")


def try_start(spec: str, opening: OpeningOptions = USUAL_LIMITS) -> None:
    """Try to open the directory that training is to start from, if `spec` names one."""
    most, path = opening.limits(), Path(spec)
    if spec not in _OURS and path.is_dir():
        try_encoder(path, most)


def try_encoder(path: Path, most: "Limits") -> None:
    """Try to open the directory of an encoder and its tokenizer."""
    from redteam.models.opening import load_encoder
    from redteam.models.tokens import load_tokenizer
    from redteam.models.trial import try_first

    for note in try_first(lambda: (load_encoder(path, ("a", "b"), layers=None), load_tokenizer(path)), path, most):
        say(note)
