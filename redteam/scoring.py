"""A target that answers each text once, however many attacks ask, and keeps its answers if it is interrupted."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from redteam.data import Examples
from redteam.errors import TargetError
from redteam.files import save_atomic
from redteam.target import Access, FloatArray, IntArray, Target, label_indices, own_label_losses

_CHUNK = 512  # rows asked for at a time, unless the target says what it takes in one request
_KEEP_EVERY = 10.0  # seconds of scoring that a kill can cost at the most


class ScoreCache:
    """The target as attacks see it: one pass over each text, answers kept by text.

    `progress(done, total)` is called as texts are scored. With `folder`, answers so far are kept there (0600) when
    the pass is broken off and taken up again next time; nothing is left behind once a pass is complete. Saved
    scores pass through, since they cost nothing.
    """

    def __init__(
        self,
        target: Target,
        *,
        folder: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Wrap `target`; nothing is scored yet."""
        self.target, self.folder = target, folder
        self.name, self.kind, self.access = target.name, target.kind, target.access
        self.labels, self.digest = target.labels, target.digest
        self.resumed = 0
        self._progress = progress or (lambda done, total: None)
        self._row_of: dict[str, int] = {}
        self._answers = np.empty((0, len(self.labels)))

    def __getattr__(self, name: str) -> Any:
        """Pass on what only attacks with more access ask for, such as `model`."""
        if name == "target":  # not set yet, as when an instance is being copied
            raise AttributeError(name)
        return getattr(self.target, name)

    def predict(self, examples: Examples) -> IntArray:
        """Return the index of each predicted label, shape [n]."""
        if self.access == Access.LABELS:
            return self._look_up(examples)[:, 0].astype(np.int64)
        return self.log_probabilities(examples).argmax(axis=1)

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each example's own label, shape [n]."""
        if examples.texts is None or self.access < Access.PROBABILITIES:
            return self.target.losses(examples)
        own = label_indices(self.labels, examples, name=self.name)
        return own_label_losses(self.log_probabilities(examples), own)

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, k]."""
        if examples.texts is None or self.access < Access.PROBABILITIES:
            return self.target.log_probabilities(examples)
        return self._look_up(examples)

    def _look_up(self, examples: Examples) -> FloatArray:
        if examples.texts is None:
            raise TargetError(f"{self.name}: the examples carry no texts to score")
        new = [i for i, text in enumerate(examples.texts) if text not in self._row_of]
        if new:
            self._score(examples.take(new))
        return self._answers[[self._row_of[text] for text in examples.texts]]

    def _score(self, examples: Examples) -> None:
        """Score texts not seen before, texts of like length together so that chunks pad little."""
        texts = examples.texts or ()
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), texts[i]))
        todo = examples.take(order)
        part = self._part_file(todo)
        answers = self._take_up(part, len(todo))
        self.resumed += len(answers)
        size, kept_at = getattr(self.target, "batch_size", _CHUNK), time.monotonic()
        try:
            while len(answers) < len(todo):
                chunk = todo.take(range(len(answers), min(len(answers) + size, len(todo))))
                answers = np.concatenate([answers, self._ask(chunk)])
                self._progress(len(answers), len(todo))
                if time.monotonic() - kept_at > _KEEP_EVERY:
                    self._keep(part, answers)
                    kept_at = time.monotonic()
        except BaseException:
            self._keep(part, answers)
            raise
        if part is not None:
            part.unlink(missing_ok=True)
        for text in todo.texts or ():
            self._row_of[text] = len(self._row_of)
        self._answers = np.concatenate([self._answers.reshape(-1, answers.shape[1]), answers])

    def _ask(self, chunk: Examples) -> FloatArray:
        if self.access == Access.LABELS:
            return self.target.predict(chunk).astype(np.float64)[:, None]
        return self.target.log_probabilities(chunk)

    def _part_file(self, todo: Examples) -> Path | None:
        """Name the file of a broken-off pass after everything its answers depend on."""
        if self.folder is None:
            return None
        identity = [self.kind, self.name, self.digest, self.labels, todo.texts]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return self.folder / f"{key[:32]}.scores.npy"

    def _take_up(self, part: Path | None, rows: int) -> FloatArray:
        width = 1 if self.access == Access.LABELS else len(self.labels)
        if part is not None and part.is_file():
            with contextlib.suppress(OSError, ValueError):
                answers = np.load(part, allow_pickle=False)
                if answers.ndim == 2 and answers.shape[1] == width and len(answers) <= rows:
                    return answers.astype(np.float64)
        return np.empty((0, width))

    def _keep(self, part: Path | None, answers: FloatArray) -> None:
        """Save what was paid for; a folder that cannot be written only costs the time to score again."""
        if part is None or not len(answers):
            return
        with contextlib.suppress(OSError):
            part.parent.mkdir(parents=True, exist_ok=True)
            save_atomic(part, lambda path: _save_array(path, answers), mode=0o600)


def _save_array(path: Path, values: FloatArray) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
