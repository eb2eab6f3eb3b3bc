"""A public model of language, by which an attack knows which texts resemble each other."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redteam.core import BundleError, UsageError, first_line
from redteam.core.arrays import FloatArray
from redteam.core.files import save_atomic
from redteam.core.progress import Progress, unwatched

_BATCH = 64  # texts of like length in one pass
_LONGEST = 256  # tokens of a text that are read: what it is about stands at its beginning
_HASHED = 512  # numbers of a text where there is no encoder
_TINY = 1e-12


Encode = Callable[[list[str], Progress], FloatArray]


class PublicEncoder:
    """Texts as vectors of length 1; those of the last texts are kept, so that several attacks pay once."""

    def __init__(self, name: str, encode: Encode, folder: Path | None = None) -> None:
        """Take the function behind it, which gets distinct texts in sorted order and returns shape [n, d].

        With `folder` other processes that compare the very same texts find the vectors there, as do later ones.
        """
        self.name, self._encode, self._folder = name, encode, folder
        self._row_of: dict[str, int] = {}
        self._vectors = np.empty((0, 0))

    def embed(self, texts: Sequence[str], progress: Progress = unwatched) -> FloatArray:
        """Return one vector of length 1 per text, shape [n, d]; a text that gives nothing is 0.

        The same texts in another order give the same vectors, to the bit. `progress` hears of texts read and all of
        them.
        """
        if not set(texts) <= self._row_of.keys():
            distinct = sorted(set(texts), key=lambda text: (len(text), text))
            vectors = self._kept(distinct, progress)
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            self._vectors = vectors / np.maximum(length, _TINY)
            self._row_of = {text: i for i, text in enumerate(distinct)}
        taken: FloatArray = self._vectors[[self._row_of[text] for text in texts]]
        return taken

    def _kept(self, texts: list[str], progress: Progress) -> FloatArray:
        """Return the vectors that the folder keeps; else encode the texts, and keep them there for the owner alone."""
        if self._folder is None:
            return self._encode(texts, progress)
        told = json.dumps([self.name, texts]).encode()
        path = self._folder / f"vectors-{hashlib.sha256(told).hexdigest()[:16]}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):  # absent, or none of ours
            found = np.load(path, allow_pickle=False)
            if found.dtype == np.float64 and found.ndim == 2 and len(found) == len(texts) and np.isfinite(found).all():
                return np.asarray(found)
        vectors = self._encode(texts, progress)

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, vectors, allow_pickle=False)

        save_atomic(path, save, mode=0o600)
        return vectors


def public_encoder(directory: Path | None = None, folder: Path | None = None) -> PublicEncoder:
    """Return the encoder of a Hugging Face directory; by default MiniLM of its package, hashed n-grams without it.

    The environment variable REDTEAM_ENCODER=hashed has hashed n-grams taken where MiniLM would be too slow. In `folder`
    MiniLM's vectors are kept, over which it takes long. Raises BundleError for a directory that holds none, UsageError
    for another value.
    """
    if directory is not None:
        return PublicEncoder(directory.resolve().name, _MeanOfTokens(directory))
    from redteam.models.initial import minilm_directory

    wanted = os.environ.get("REDTEAM_ENCODER", "minilm")
    if wanted not in ("minilm", "hashed"):
        raise UsageError(f"REDTEAM_ENCODER={wanted}: must be minilm or hashed; another encoder is given by --base")
    if wanted == "hashed":
        return hashed_ngrams()
    try:
        return PublicEncoder("all-MiniLM-L6-v2", _MeanOfTokens(minilm_directory()), folder)
    except UsageError:  # its package is not installed
        return hashed_ngrams()


def hashed_ngrams() -> PublicEncoder:
    """Return an encoder that needs no model: words, pairs of words and pieces of words, hashed."""
    return PublicEncoder("hashed n-grams", _hashed)


def _hashed(texts: list[str], progress: Progress) -> FloatArray:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import normalize

    total = np.zeros((len(texts), _HASHED))
    for kind, lengths in (("word", (1, 2)), ("char_wb", (3, 4))):
        pattern = {"token_pattern": r"\S+"} if kind == "word" else {}
        counted = HashingVectorizer(n_features=_HASHED, analyzer=kind, ngram_range=lengths, **pattern)
        total += normalize(counted.transform(texts)).toarray()
    return total


class _MeanOfTokens:
    """The mean of the last states of a text's tokens; the model is opened with the first text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._opened: tuple[Any, Any] | None = None

    def __call__(self, texts: list[str], progress: Progress) -> FloatArray:
        from redteam.models.tokens import token_ids

        tokenizer, model = self._opened = self._opened or _open(self.directory)
        tokens = [ids or [0] for ids in token_ids(tokenizer, texts, name=str(self.directory))]
        order, found = sorted(range(len(texts)), key=lambda i: len(tokens[i])), list[FloatArray]()
        try:
            for rows in _batches(order):
                found.append(_means(model, [tokens[i] for i in rows]))
                progress(sum(map(len, found)), len(texts))
        except Exception as error:  # each architecture has its own
            raise BundleError(f"{self.directory}: the encoder fails on its own tokens ({first_line(error)})") from None
        vectors = np.empty((len(texts), found[0].shape[1]))
        vectors[order] = np.concatenate(found)
        return vectors


def _batches(order: list[int]) -> Iterator[list[int]]:
    return (order[start : start + _BATCH] for start in range(0, len(order), _BATCH))


def _open(directory: Path) -> tuple[Any, Any]:
    """Return tokenizer and encoder; the state of torch's generator is left as it was."""
    import torch

    from redteam.models.configs import longest_input
    from redteam.models.opening import load_encoder
    from redteam.models.tokens import cut_at, load_tokenizer

    with torch.random.fork_rng(devices=[]):  # the classifier on top, which nobody asks, is drawn
        model = load_encoder(directory, ("0", "1"), layers=None).eval()
    tokenizer = load_tokenizer(directory)
    cut_at(tokenizer, min(longest_input(model, directory) or _LONGEST, _LONGEST))
    return tokenizer, model.base_model


def _means(model: Any, tokens: list[list[int]]) -> FloatArray:
    """Return the mean of the last states of each text's own tokens, shape [batch, d]."""
    import torch

    longest = max(len(ids) for ids in tokens)
    ids = torch.tensor([each + [0] * (longest - len(each)) for each in tokens])
    mask = (torch.arange(longest) < torch.tensor([len(each) for each in tokens])[:, None]).long()
    with torch.inference_mode():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state.double()
    mean: FloatArray = ((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
    return mean
