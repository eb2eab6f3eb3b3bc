"""The public encoder that training started from, as an option: checked before anything is done with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from redteam.cli.opening import try_encoder
from redteam.cli.options import USUAL_LIMITS
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.models.trial import Limits
    from redteam.plugins.extraction import ExtractionAttack


def check_base(base: Path | None, attacks: "Sequence[ExtractionAttack]", most: "Limits | None" = None) -> None:
    """Raise UsageError where `base` is no encoder's directory, or is lacking and an attack is to be narrowed by it.

    It is tried within the limits `most` of opening first; raises BundleError where it goes beyond.
    """
    if base is not None and not base.is_dir():
        raise UsageError(f"--base {base}: is no directory; give that of the encoder training started from")
    if base is not None and not (base / "config.json").is_file():
        raise UsageError(f"--base {base}: holds no config.json; give that of the encoder training started from")
    if base is not None:
        try_encoder(base, USUAL_LIMITS.limits() if most is None else most)
    for attack in attacks if base is None else ():
        if getattr(attack, "narrow", None) is not None:
            raise UsageError(f"{attack.id} with narrow: needs --base, the encoder from which embeddings moved")
