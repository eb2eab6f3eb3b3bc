"""Texts in, texts out of an autoencoder, with noise in between: whole texts are rewritten, not word by word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam.core import DataError
from redteam.core.progress import Progress, unwatched
from redteam.core.randomness import Randomness
from redteam.data import Columns, fingerprint, text_key
from redteam.data.reading import read_texts
from redteam.data.words import words_of
from redteam.models.autoencoder import Autoencoder, learn
from redteam.models.word_vectors import MASK
from redteam.plugins.latent import VectorMechanism
from redteam.plugins.settings import settings_of
from redteam.training.privatising.record import WordTally

_FEWEST = 100  # texts that anything can be learned from
_TOGETHER = 512  # texts


@dataclass(frozen=True)
class Rebuilding:
    """A mechanism with an autoencoder that was learned from `source`, in which `shared` of the data's texts stand.

    `public` is false where these are most of them: then the data itself was learned.
    """

    mechanism: VectorMechanism
    autoencoder: Autoencoder
    source: Path
    public: bool
    shared: int = 0

    @classmethod
    def learned(
        cls,
        mechanism: VectorMechanism,
        data: Path,
        public: Path | None,
        columns: Columns,
        progress: Callable[[int, int], None],
    ) -> "Rebuilding":
        """Learn from a file of public texts or, without one, from the data itself; DataError where they are too few."""
        source = public or data
        texts = read_texts(source, columns.text if public is None else None)
        if len(texts) < _FEWEST:
            raise DataError(f"{source}: {len(texts)} texts are too few to learn an autoencoder; give {_FEWEST} or more")
        found = learn(texts, mechanism.size, mechanism.norm, progress=progress)
        own, there = read_texts(data, columns.text), {text_key(text) for text in texts}
        shared = sum(text_key(text) in there for text in own)
        return cls(mechanism, found, source, 2 * shared <= len(own), shared)

    def texts(
        self, texts: Sequence[str], randomness: Randomness, progress: Progress = unwatched
    ) -> tuple[list[str], WordTally]:
        """Return texts rewritten, each independently, and what came of their words, by their places."""
        made: list[str] = []
        for start in range(0, len(texts), _TOGETHER):
            vectors = self.autoencoder.encode(texts[start : start + _TOGETHER])
            made += self.autoencoder.decode(self.mechanism.perturbed(vectors, randomness), MASK)
            progress(len(made), len(texts))
        known, unknown, same, whole, longest = set(self.autoencoder.words), 0, 0, 0, 0
        before = [words_of(text) for text in texts]
        for words, text in zip(before, made, strict=True):
            kept = sum(a == b for a, b in zip(words, text.split(), strict=False))
            same, whole = same + kept, whole + (0 < len(words) == kept == len(text.split()))
            unknown += sum(word not in known for word in words)
            longest = max(longest, len(words))
        return made, WordTally(sum(map(len, before)), unknown, same, len(texts), whole, longest)

    def described(self) -> dict[str, Any]:
        """Return what a record says of it."""
        return {
            "mechanism": self.mechanism.id,
            "settings": settings_of(self.mechanism),
            "embeddings": f"autoencoder learned from {self.source.name}",
            "embeddings_sha256": fingerprint(self.source),
            "unknown": "mask",
            "epsilon": self.mechanism.epsilon,
            "plain": self.mechanism.epsilon,
            "distance": "whole text",
            "unit": "text",
            "delta": self.mechanism.claimed_delta,
            "public": self.public,
        }
