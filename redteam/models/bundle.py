"""`model.pt`: a whole classifier in one file that holds tensors and text and no code.

A dict written by `torch.save` and read only with `weights_only=True`: `format`, `config` (Hugging Face config
as JSON text), `state_dict`, `tokenizer` (`tokenizer.json` as text), `labels`, `max_length`, and `files` (the small
text files of the directory it was packed from, so that unpacking loses nothing). Nothing in it tells who was
trained on.
"""

import errno
import hashlib
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from redteam.core import BundleError, each_once
from redteam.core.files import save_atomic
from redteam.models.plain import plain_tensor
from redteam.models.settled import settled

FORMAT = "redteam.model/1"
_WAY_OUT = "save the model as a Hugging Face directory and run: redteam pack HFDIR -o model.pt"
# Tensors may share bytes of the file, as tied weights do; beyond this they would only swell in memory.
_MOST_SHARING = 4
_NO_ANSWER_DEPENDS_ON = (
    "architectures",
    "transformers_version",
    "_name_or_path",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
    "problem_type",
)
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
    """The parts of a classifier; `config` is the Hugging Face config as a dict, `tokenizer` JSON text.

    `notes` say what was left out on the way into it; they are no part of the file.
    """

    config: dict[str, Any]
    state: Mapping[str, torch.Tensor]
    tokenizer: str
    labels: tuple[str, ...]
    max_length: int
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the SHA-256 of all that answers depend on: weights, labels, tokenizer, architecture, input length.

        The same for a bundle and for the directory it unpacks to.
        """
        tokenizer = settled(Tokenizer.from_str(self.tokenizer))
        side = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        config = {k: v for k, v in self.config.items() if k not in _NO_ANSWER_DEPENDS_ON}
        parts = [state_digest(self.state), self.labels, self.max_length, config, tokenizer.to_str()]
        parts += [side] if side != "right" else []  # the side on which long texts are cut
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of the tensors in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def save_bundle(bundle: Bundle, path: Path, *, mode: int = 0o666) -> None:
    """Write `model.pt` whole or not at all, readable as `mode` says; OSError where it cannot be written."""
    document = {
        "format": FORMAT,
        "config": json.dumps(bundle.config, sort_keys=True),
        "state_dict": {name: _apart(tensor) for name, tensor in bundle.state.items()},
        "tokenizer": bundle.tokenizer,
        "labels": [str(label) for label in bundle.labels],  # a NumPy string would be refused on loading
        "max_length": bundle.max_length,
        "files": dict(bundle.files),
    }
    try:
        save_atomic(path, lambda temporary: torch.save(document, temporary), mode=mode)
    except RuntimeError as error:  # how torch reports a full disk
        raise OSError(errno.EIO, f"cannot be written ({str(error).splitlines()[0][:80]})", str(path)) from None


def _apart(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without what it may be a view of, which torch.save would write along."""
    here = tensor.detach().cpu()
    return here if here.nbytes == here.untyped_storage().nbytes() else here.clone()


def load_bundle(path: Path) -> Bundle:
    """Read `model.pt` without running anything in it; raise BundleError with what is wrong and what would do."""
    _check_archive(path)
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BundleError(_refusal(path, error)) from None
    if not _is_plain(document, dict) or "format" not in document:
        what = "a bare state_dict" if isinstance(document, dict) else f"a {type(document).__name__}"
        raise BundleError(f"{path}: holds {what}, not a redteam bundle; {_WAY_OUT}")
    if document["format"] != FORMAT:
        found = repr(document["format"])[:40]
        raise BundleError(f"{path}: format is {found}, this version reads {FORMAT!r}; pack it again")
    return _from_document(document, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of named tensors and nothing else; BundleError where it holds more, or is broken."""
    _check_archive(path)
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BundleError(_refusal(path, error)) from None
    if not _is_plain(document, dict):
        raise BundleError(f"{path}: holds a {type(document).__name__}, not named tensors")
    return _tensors(document, path)


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
                f"{path}: not a zip archive (truncated, or an old pickle, which could run code when loaded: "
                f"refused); {_WAY_OUT}"
            )
        with zipfile.ZipFile(path) as archive:
            _check_parts(path, archive.infolist(), size)
            broken = archive.testzip()  # torch does not look: weights with a flipped bit would be audited as they are
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, struct.error) as error:
        raise BundleError(f"{path}: broken or truncated archive ({error}); copy the file again") from None
    if broken is not None:
        raise BundleError(f"{path}: broken file: a checksum is wrong; copy the file again")


def _check_parts(path: Path, entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Refuse what torch.save never does, compressing and overlapping: a small file could swell to fill the memory."""
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise BundleError(f"{path}: holds compressed parts (TorchScript?), as no bundle does: refused; {_WAY_OUT}")
    if sum(entry.file_size for entry in entries) > size:
        raise BundleError(f"{path}: its parts are together larger than the file: refused")


def _refusal(path: Path, error: Exception) -> str:
    text = str(error)
    if "weights_only" in text or "Unsupported" in text or "WeightsUnpickler" in text:
        return (
            f"{path}: holds more than tensors and text, and loading it could run code: refused, nothing was run; "
            f"{_WAY_OUT}"
        )
    return f"{path}: broken or truncated ({text.splitlines()[0][:120] if text else type(error).__name__})"


def _from_document(document: Mapping[str, Any], path: Path) -> Bundle:
    for key, kind in _KINDS.items():
        if key not in document:
            raise BundleError(f"{path}: key {key!r} is missing; pack it again")
        if not _is_plain(document[key], kind):
            raise BundleError(f"{path}: {key} is a {type(document[key]).__name__}, not a {kind.__name__}")
    unknown = sorted(map(repr, document.keys() - _KINDS.keys()))
    if unknown:
        raise BundleError(f"{path}: unknown key {unknown[0][:40]}; pack it again")
    labels, files = document["labels"], document["files"]
    if not all(isinstance(x, str) for x in labels) or not 2 <= len(labels) == len(set(labels)):
        raise BundleError(f"{path}: labels must be at least 2 distinct texts")
    if not all(isinstance(x, str) for item in files.items() for x in item):
        raise BundleError(f"{path}: files must be texts by name")
    try:
        config = json.loads(document["config"], object_pairs_hook=each_once)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: config is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise BundleError(f"{path}: config is not a JSON object")
    return Bundle(
        config=config,
        state=_tensors(document["state_dict"], path),
        tokenizer=document["tokenizer"],
        labels=tuple(labels),
        max_length=document["max_length"],
        files=files,
    )


def _is_plain(value: object, kind: type) -> bool:
    """True for the very type: an ordered dict could carry an attribute `items` that tells of other items.

    What `Module.state_dict()` returns is one, with the versions of the modules as its only attribute.
    """
    if kind is dict and type(value) is OrderedDict:
        return vars(value).keys() <= {"_metadata"}
    return type(value) is kind


def _tensors(state: Mapping[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """Refuse tensors that are no plain block of bytes from the file: they could swell when touched, or lie."""
    plain = {name: plain_tensor(tensor, name, str(path)) for name, tensor in state.items()}
    if sum(tensor.nbytes for tensor in plain.values()) > _MOST_SHARING * path.stat().st_size:
        raise BundleError(f"{path}: its tensors are far larger than the file: refused")
    return plain
