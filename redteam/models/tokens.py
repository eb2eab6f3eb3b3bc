"""Tokenizers from bundles and directories, and token ids from texts; a crash in their Rust code is an error of ours."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from redteam.core import BundleError, first_line
from redteam.models.bundle import Bundle
from redteam.models.configs import quiet, read_config, read_tokenizer_config
from redteam.models.contained import check_contained, check_settings
from redteam.models.growth import check_growth, check_numbers
from redteam.models.settled import settled
from redteam.models.sources import check_sources, with_ends

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")


def open_tokenizer(bundle: Bundle, *, name: str) -> Tokenizer:
    """Return the bundle's tokenizer, cutting at `max_length` tokens and never padding; raise BundleError."""
    with _no_panic(name):
        tokenizer = settled(Tokenizer.from_str(bundle.tokenizer))
        check_numbers(tokenizer, name)
        check_growth(tokenizer, name)
        tokenizer.no_padding()
        special = tokenizer.num_special_tokens_to_add(False)
        marked = any(tokenizer.encode("a").type_ids)
    if not special < bundle.max_length < 1 << 31:
        raise BundleError(f"{name}: max_length is {bundle.max_length}: no room for a token besides {special} special")
    if marked:
        raise BundleError(f"{name}: its tokenizer marks token types, as XLNet's does, which is not supported")
    cut_at(tokenizer, bundle.max_length)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a directory: tokenizer.json as it stands, where there is one.

    Raises BundleError where there is none, or where another file of the directory tells of other tokens.
    """
    check_contained(path)
    if (path / _VOCABULARIES[0]).is_file():
        return _from_its_own_file(path)
    if not any((path / name).is_file() for name in _VOCABULARIES) and not any(path.glob("*.model")):
        # transformers would make up an empty one, to which every word is unknown
        raise BundleError(f"{path}: has no tokenizer ({_VOCABULARIES[0]}); save it beside the model")
    if not any((path / name).is_file() for name in _VOCABULARIES) and find_spec("sentencepiece") is None:
        model = min(path.glob("*.model")).name
        raise BundleError(
            f"{path}: has {model} but no {_VOCABULARIES[0]}; save its fast tokenizer beside the model, or run: "
            "pip install sentencepiece"
        )
    check_settings(path)
    with _no_panic(str(path)), quiet():
        whole = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = settled(whole.backend_tokenizer)
        tokenizer.enable_truncation(512, direction=whole.truncation_side)  # the side is what matters here
        tokenizer.no_padding()
    return tokenizer


def _from_its_own_file(path: Path) -> Tokenizer:
    """Read tokenizer.json; transformers 5 would take its vocabulary only, and build the rest by the class's name."""
    settings: Mapping[str, Any] = {}
    if (path / "tokenizer_config.json").is_file():
        settings = read_tokenizer_config(path)
    config = read_config(path) if (path / "config.json").is_file() else {}
    with _no_panic(str(path)):
        tokenizer = settled(Tokenizer.from_file(str(path / _VOCABULARIES[0])))
        check_numbers(tokenizer, str(path))
        check_growth(tokenizer, str(path))
        tokenizer.no_padding()
        check_sources(path, tokenizer, settings, config)
        with_ends(path, tokenizer, settings)
        kept = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.enable_truncation(512, direction=settings.get("truncation_side") or kept)  # for its side alone
        tokenizer.no_padding()
    return tokenizer


def cut_at(tokenizer: Tokenizer, longest: int) -> None:
    """Let the tokenizer cut texts at `longest` tokens, on the side it always did, and pad nothing."""
    tokenizer.enable_truncation(longest, direction=(tokenizer.truncation or {}).get("direction", "right"))
    tokenizer.no_padding()


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], *, name: str) -> list[list[int]]:
    """Return the token ids of each text; raise BundleError where the tokenizer cannot take one."""
    with _no_panic(name):
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


@contextmanager
def _no_panic(name: str) -> Iterator[None]:
    try:
        with _hushed():
            yield
    except (KeyboardInterrupt, SystemExit, MemoryError, BundleError):
        raise
    except BaseException as error:  # a panic in Rust code is no Exception, and would end the program as a traceback
        raise BundleError(f"{name}: its tokenizer is broken ({first_line(error)})") from None


_LOCK = threading.Lock()
_hushing: list[int] = []  # how many are inside: the first keeps the real stderr, the last puts it back


@contextmanager
def _hushed() -> Iterator[None]:
    """Point the process's stderr at nothing: a panic in Rust code prints lines of its own, with pieces of the text."""
    with _LOCK:
        if not _hushing:
            try:
                real = os.dup(2)
            except OSError:  # there is none
                real = -1
            else:
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
            _hushing.append(real)
        _hushing.append(0)
    try:
        yield
    finally:
        with _LOCK:
            _hushing.pop()
            if len(_hushing) == 1:
                real = _hushing.pop()
                if real >= 0:
                    os.dup2(real, 2)
                    os.close(real)
