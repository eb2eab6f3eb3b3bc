"""Open what a source names, whatever kind of target it is."""

from pathlib import Path
from typing import Any

from redteam.core.errors import TargetError
from redteam.targets.endpoint import Endpoint
from redteam.targets.function import FunctionTarget
from redteam.targets.model import ModelTarget
from redteam.targets.target import Target

_SCORE_FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".gz", ".parquet", ".arrow", ".feather", ".npz")


def load_target(source: str, **options: Any) -> Target:
    """Open what `source` names: model.pt, a Hugging Face directory, module:function or an http(s) URL.

    Options are those of the target's own constructor (`device`, `batch_size`, `max_length`, `base_model`, `limits` for
    a model; see `redteam.targets`). Raises BundleError or TargetError with one line that says what is wrong.
    """
    if source.startswith(("http://", "https://")):
        return Endpoint(source, **options)
    path = Path(source)
    if not path.exists() and ":" in source and "/" not in source.rpartition(":")[2]:
        return FunctionTarget.load(source, **options)
    if not path.exists():
        raise TargetError(f"{source}: no such file or directory, and neither module:function nor a URL")
    if path.suffix.lower() in _SCORE_FILES:
        raise TargetError(f"{source}: a file of scores; say --scores {source} (redteam.targets.saved.load_scores)")
    return ModelTarget.load(path, **options)
