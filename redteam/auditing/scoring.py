"""A target that answers each text once, however many attacks ask, and keeps its answers if it is interrupted."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from redteam import __version__
from redteam.auditing.order import alike, check_order
from redteam.core import TargetError
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.core.files import save_atomic
from redteam.data import Examples
from redteam.targets.distributions import hard, widened
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of, own_label_losses

_CHUNK = 1024  # rows asked for at a time, and the most that an interruption can lose
_REQUESTS = 4  # requests at a time, of a target that says how many rows it takes in one
_KEEP_EVERY = 10.0  # seconds of scoring that a kill can cost at the most
_SAME_FOR = 86400.0  # seconds for which a target without a digest is taken to be still the same
_AGAIN, _AGAIN_COARSE = (16, 50, 256), (64, 20, 1024)  # kept answers asked again: at least, one of so many, at most
_ROOTS = 4  # of coarse answers, at least so many times the root of their number


class ScoreCache:
    """The target as attacks see it: one pass over each text, answers kept by text.

    `progress(done, total)` is called as texts are scored. With `folder`, answers so far are kept there (0600) when
    the pass is broken off and taken up again next time; nothing is left behind once a pass is complete. They are used
    only for a target of the same `identity`, digest and labels that still gives the same answers to some of them;
    `tell` is told how many, and `restart` forgets them. Saved scores pass through, since they cost nothing.

    A black box may refuse a share `max_skipped` of the texts of a pass: `answered` says which, and all other methods
    take none of these.
    """

    def __init__(
        self,
        target: Target,
        *,
        folder: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        restart: bool = False,
        tell: Callable[[str], None] | None = None,
        max_skipped: float = 0.0,
    ) -> None:
        """Wrap `target`; nothing is scored yet."""
        self.target, self.folder, self.restart = target, folder, restart
        self._tell = tell or (lambda line: None)
        self.name, self.kind, self.access = target.name, target.kind, target.access
        self.digest, self.max_skipped = target.digest, max_skipped
        self.resumed, self._ordered = 0, False
        self.noticed: tuple[str, ...] = ()  # for the report, of the answers
        self._progress = progress or (lambda done, total: None)
        self._row_of: dict[str, int] = {}
        self._answers = np.empty((0, len(self.labels)))

    def __getattr__(self, name: str) -> Any:
        """Pass on what only attacks with more access ask for, such as `model`."""
        if name == "target":  # not set yet, as when an instance is being copied
            raise AttributeError(name)
        return getattr(self.target, name)

    @property
    def labels(self) -> tuple[str, ...]:
        """The target's labels: those of one that answers labels only grow with its answers."""
        return labels_of(self.target)

    def predict(self, examples: Examples) -> IntArray:
        """Return the index of each predicted label, shape [n]."""
        if examples.texts is None or (Access.LOSSES in self.access and Access.PROBABILITIES not in self.access):
            return classifier(self.target).predict(examples)
        if self.access == Access.LABELS:
            return self._whole(examples)[:, 0].astype(np.int64)
        predicted: IntArray = self.log_probabilities(examples).argmax(axis=1)
        return predicted

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each example's own label, shape [n]."""
        if examples.texts is None or Access.PROBABILITIES not in self.access:
            return self.target.losses(examples)
        own = label_indices(self.labels, examples, name=self.name)
        return own_label_losses(self.log_probabilities(examples), own)

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, k]."""
        if examples.texts is None or Access.PROBABILITIES not in self.access:
            return classifier(self.target).log_probabilities(examples)
        return self._whole(examples)

    def answered(self, examples: Examples) -> BoolArray:
        """Ask for every text, and tell which were answered, shape [n]; raise TargetError where too many were not."""
        if examples.texts is None or not hasattr(self.target, "attempt"):
            return np.ones(len(examples), dtype=np.bool_)
        there: BoolArray = np.logical_not(np.isnan(self._look_up(examples)).any(axis=1))
        return there

    def settle(self) -> None:
        """Lower the access to labels where every probability so far is 0 or 1: that is what the target shows."""
        there = self._answers[~np.isnan(self._answers).any(axis=1)]
        if self.access == Access.PROBABILITIES and hasattr(self.target, "attempt") and hard(there):
            self.access = Access.LABELS
            gone = np.isnan(self._answers).any(axis=1)
            self._answers = np.where(gone, np.nan, self._answers.argmax(axis=1))[:, None]

    def _whole(self, examples: Examples) -> FloatArray:
        values = self._look_up(examples)
        if hasattr(self.target, "attempt") and (gone := int(np.isnan(values).any(axis=1).sum())):
            raise TargetError(f"{self.name}: refused {gone} of {len(values)} texts")
        return values

    def _look_up(self, examples: Examples) -> FloatArray:
        texts = examples.texts or ()
        new = {text: i for i, text in enumerate(texts) if text not in self._row_of}
        if new:
            self._score(examples.take(list(new.values())))
        return self._answers[[self._row_of[text] for text in texts]]

    def _score(self, examples: Examples) -> None:
        """Score texts not seen before, texts of like length together so that chunks pad little."""
        texts = examples.texts or ()
        lengths = self.target.lengths(texts) if hasattr(self.target, "lengths") else [len(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: (lengths[i], texts[i]))
        todo = examples.take(order)
        part, labels = self._part_file(todo), self.labels
        answers, done = self._take_up(part, todo)
        self.resumed += done
        allowed = int(self.max_skipped * len(todo))
        size, kept_at = _REQUESTS * getattr(self.target, "batch_size", _CHUNK // _REQUESTS), time.monotonic()
        if hasattr(self.target, "check_budget"):
            # Before the first request, not at the last.
            self.target.check_budget(len(todo) - done, again=self._first_batch(todo))
        try:
            while done < len(todo):
                chunk = todo.take(range(done, min(done + size, len(todo))))
                got = self._ask(chunk, refusals=allowed - int(np.isnan(answers[:done]).any(axis=1).sum()))
                answers = widened(answers, got.shape[1])
                answers[done : done + len(chunk)] = got
                done += len(chunk)
                self._progress(done, len(todo))
                if time.monotonic() - kept_at > _KEEP_EVERY:
                    self._keep(part, answers[:done], labels)
                    kept_at = time.monotonic()
        except BaseException:
            self._keep(part, answers[:done], labels)
            raise
        self._check_order(todo, answers)
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()
        self._row_of |= {text: len(self._answers) + i for i, text in enumerate(todo.texts or ())}
        before = widened(self._answers, answers.shape[1]) if len(self._answers) else np.empty((0, answers.shape[1]))
        self._answers = np.concatenate([before, answers])

    def _first_batch(self, todo: Examples) -> int:
        """Return how many texts are asked once more to see whether answers come in their order; 0 for none."""
        size = min(getattr(self.target, "batch_size", 1), len(todo))
        return size if not self._ordered and size > 2 and hasattr(self.target, "again") else 0

    def _check_order(self, todo: Examples, answers: FloatArray) -> None:
        """Ask for the first batch once more, mixed; raise TargetError where the answers are those of other texts."""
        size = self._first_batch(todo)
        if not size:
            return
        self._ordered = True
        mixed, target = np.random.default_rng(0x0DE7).permutation(size), cast(Any, self.target)
        now = target.again(todo.take(mixed))
        self.noticed = check_order(self.name, widened(answers[:size], now.shape[1])[mixed], now)

    def _ask(self, chunk: Examples, *, refusals: int) -> FloatArray:
        if hasattr(self.target, "attempt"):
            values: FloatArray = self.target.attempt(chunk, refusals=max(0, refusals))
            hardened = self.access == Access.LABELS and values.shape[1] > 1  # see `settle`
            gone = np.isnan(values).any(axis=1)
            return np.where(gone, np.nan, values.argmax(axis=1))[:, None] if hardened else values
        if self.access == Access.LABELS:
            return classifier(self.target).predict(chunk).astype(np.float64)[:, None]
        return classifier(self.target).log_probabilities(chunk)

    def _part_file(self, todo: Examples) -> Path | None:
        """Name the file of a broken-off pass after everything its answers depend on."""
        if self.folder is None:
            return None
        chosen_by = getattr(self.target, "identity", None)
        identity = [
            __version__,
            self.kind,
            self.name,
            chosen_by,
            self.digest,
            self.access.word,
            self.labels,
            todo.texts,
        ]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return self.folder / f"{key[:32]}.scores.npy"

    def _take_up(self, part: Path | None, todo: Examples) -> tuple[FloatArray, int]:
        """Return an array for the answers and how many of them a broken-off pass has left; a bad file is none."""
        answers = np.empty((len(todo), 1 if self.access == Access.LABELS else len(self.labels)))
        if part is None:
            return answers, 0
        if self.restart:
            with contextlib.suppress(OSError):
                part.unlink()
            return answers, 0
        kept, when = self._read(part, answers.shape)
        if not len(kept):
            return answers, 0
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
        asked, same = self._ask_again(part, kept, todo)
        if not same:
            self._tell(f"{len(kept):,} answers kept on {since} are dropped: {self.name} answers otherwise now")
            return answers, 0
        self._tell(
            f"re-using {len(kept):,} of {len(todo):,} answers, kept on {since}; {asked} of them were asked again and "
            "are the same; --restart asks for all"
        )
        answers[: len(kept)] = kept
        return answers, len(kept)

    def _read(self, part: Path, shape: tuple[int, ...]) -> tuple[FloatArray, float]:
        """Return the answers that were kept, none where they do not fit, and when they were."""
        with contextlib.suppress(OSError, ValueError, EOFError), part.open("rb") as file:
            when = os.fstat(file.fileno()).st_mtime
            if self.digest is not None or time.time() - when <= _SAME_FOR:
                kept = np.lib.format.read_array(file, allow_pickle=False)
                if kept.ndim == 2 and kept.shape[1] == shape[1] and len(kept) <= shape[0] and kept.dtype == np.float64:
                    return kept, when
        return np.empty((0, shape[1])), 0.0

    def _ask_again(self, part: Path, kept: FloatArray, todo: Examples) -> tuple[int, bool]:
        """Ask for some kept answers once more; return how many, and whether they are the same but for rounding."""
        count = min(len(kept), _to_ask(kept))
        rows = np.sort(np.random.default_rng(int(part.name[:16], 16)).permutation(len(kept))[:count])
        if hasattr(self.target, "check_budget"):
            self.target.check_budget(len(todo) - len(kept), again=count)
        before, now = kept[rows], self._ask(todo.take(rows), refusals=count)
        return count, before.shape == now.shape and bool(alike(before, now).all())

    def _keep(self, part: Path | None, answers: FloatArray, labels: tuple[str, ...]) -> None:
        """Save what was paid for; a folder that cannot be written only costs the time to score again.

        Answers of a target whose labels grew meanwhile mean nothing to a process that has not seen them grow.
        """
        if part is None or not len(answers) or labels != self.labels:
            return
        with contextlib.suppress(OSError):
            part.parent.mkdir(parents=True, exist_ok=True)
            save_atomic(part, lambda path: _save_array(path, answers), mode=0o600)


def _to_ask(kept: FloatArray) -> int:
    """Return how many of kept answers to ask again.

    Another model gives nearly every text other probabilities. Labels, and probabilities rounded so much that fewer than
    half of them differ, it may change for few: of those a share of 1.7 / sqrt(n), which moves an AUC by no more than
    its interval reaches to either side, passes unnoticed once in a thousand.
    """
    coarse = 2 * len(np.unique(kept, axis=0)) < len(kept)
    least, share, most = _AGAIN_COARSE if coarse else _AGAIN
    return max(least, min(len(kept) // share, most), _ROOTS * math.isqrt(len(kept)) if coarse else 0)


def _save_array(path: Path, values: FloatArray) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
