"""`model.pt`: a whole classifier in one file that holds tensors and text and no code.

A dict written by `torch.save` and read only with `weights_only=True`: `format`, `config` (Hugging Face config as
JSON text), `state_dict`, `tokenizer` (`tokenizer.json` as text), `labels`, `max_length`, and `files` (the small text
files of the directory it was packed from, so that unpacking loses nothing). Nothing in it tells who was trained on.
"""

import errno
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from redteam.errors import BundleError
from redteam.files import save_atomic

FORMAT = "redteam.model/1"
_KINDS: dict[str, type] = {
    "format": str,
    "config": str,
    "state_dict": dict,
    "tokenizer": str,
    "labels": list,
    "max_length": int,
    "files": dict,
}


@dataclass(frozen=True)
class Bundle:
    """The parts of a classifier; `config` is the Hugging Face config as a dict, `tokenizer` JSON text."""

    config: dict[str, Any]
    state: Mapping[str, torch.Tensor]
    tokenizer: str
    labels: tuple[str, ...]
    max_length: int
    files: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 of the weights: the same for a bundle and for the directory it unpacks to."""
        return state_digest(self.state)


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of the tensors in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write `model.pt` whole or not at all; OSError where it cannot be written."""
    document = {
        "format": FORMAT,
        "config": json.dumps(bundle.config, sort_keys=True),
        "state_dict": {name: tensor.detach().cpu() for name, tensor in bundle.state.items()},
        "tokenizer": bundle.tokenizer,
        "labels": list(bundle.labels),
        "max_length": bundle.max_length,
        "files": dict(bundle.files),
    }
    try:
        save_atomic(path, lambda temporary: torch.save(document, temporary))
    except RuntimeError as error:  # how torch reports a full disk
        raise OSError(errno.EIO, f"cannot be written ({str(error).splitlines()[0][:80]})", str(path)) from None


def load_bundle(path: Path) -> Bundle:
    """Read `model.pt` without running anything in it; raise BundleError with what is wrong and what would do."""
    _check_archive(path)
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BundleError(_refusal(path, error)) from None
    if not isinstance(document, dict) or "format" not in document:
        what = "a bare state_dict" if isinstance(document, dict) else f"a {type(document).__name__}"
        raise BundleError(f"{path}: holds {what}, not a redteam bundle; make one with: redteam pack HFDIR -o model.pt")
    if document["format"] != FORMAT:
        raise BundleError(f"{path}: format is {document['format']!r}, this version reads {FORMAT!r}; pack it again")
    return _from_document(document, path)


def _check_archive(path: Path) -> None:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise BundleError(f"{path}: is a directory")
        if size == 0:
            raise BundleError(f"{path}: empty file")
        with path.open("rb") as file:
            head = file.read(4)
        if not head.startswith(b"PK"):
            raise BundleError(
                f"{path}: not a zip archive (truncated, or an old pickle, which could run code when loaded: refused); "
                "save the model as a Hugging Face directory and run: redteam pack HFDIR -o model.pt"
            )
        with zipfile.ZipFile(path) as archive:
            inflated = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
    except zipfile.BadZipFile as error:
        raise BundleError(f"{path}: broken or truncated archive ({error}); copy the file again") from None
    if inflated:  # torch.save never compresses; a small file could otherwise swell to fill the memory
        raise BundleError(f"{path}: holds compressed parts, which torch.save never writes: refused")


def _refusal(path: Path, error: Exception) -> str:
    text = str(error)
    if "weights_only" in text or "Unsupported" in text or "WeightsUnpickler" in text:
        return (
            f"{path}: holds more than tensors and text, and loading it could run code: refused, nothing was run; "
            "save the model as a Hugging Face directory and run: redteam pack HFDIR -o model.pt"
        )
    return f"{path}: broken or truncated ({text.splitlines()[0][:120] if text else type(error).__name__})"


def _from_document(document: Mapping[str, Any], path: Path) -> Bundle:
    for key, kind in _KINDS.items():
        if key not in document:
            raise BundleError(f"{path}: key {key!r} is missing; pack it again")
        if not isinstance(document[key], kind) or isinstance(document[key], bool):
            raise BundleError(f"{path}: {key} is a {type(document[key]).__name__}, not a {kind.__name__}")
    unknown = sorted(set(document) - set(_KINDS))
    if unknown:
        raise BundleError(f"{path}: unknown key {unknown[0]!r}")
    labels, state = document["labels"], document["state_dict"]
    if len(labels) < 2 or len(set(labels)) != len(labels) or not all(isinstance(x, str) for x in labels):
        raise BundleError(f"{path}: labels must be at least 2 distinct texts")
    if not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise BundleError(f"{path}: state_dict holds something that is not a tensor")
    try:
        config = json.loads(document["config"])
    except ValueError as error:
        raise BundleError(f"{path}: config is not JSON ({error})") from None
    return Bundle(
        config=config,
        state=state,
        tokenizer=document["tokenizer"],
        labels=tuple(labels),
        max_length=document["max_length"],
        files=document["files"],
    )
