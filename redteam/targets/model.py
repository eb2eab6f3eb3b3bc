"""A classifier whose weights are at hand: a `model.pt` bundle or a Hugging Face directory."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from redteam.core import BundleError, TargetError, first_line
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.models.bundle import Bundle, load_bundle, state_digest
from redteam.models.devices import check_device
from redteam.models.opening import open_model, read_directory
from redteam.models.tokens import open_tokenizer, token_ids
from redteam.models.trial import Limits, try_first
from redteam.targets.kind import TargetKind
from redteam.targets.target import Access, check_log_probabilities, label_indices, own_label_losses

# Tokens in one forward pass: large enough to fill the matrix units, small enough to stay in the cache.
TOKENS_PER_BATCH = 2048


class ModelKind(TargetKind):
    """A `model.pt` file or a Hugging Face directory, for want of another kind any path that is there."""

    name, general = "model", True

    def names(self, source: str) -> bool:
        """Return whether there is such a path."""
        return Path(source).exists()

    def open(self, source: str, **options: Any) -> "ModelTarget":
        """Read it, and nothing that it could run."""
        return ModelTarget.load(Path(source), **options)


class ModelTarget:
    """A model with white-box access; answers are in float64 from the model's own logits.

    `model` and `tokenizer` are there for attacks that work on weights, which must leave them as they were.
    """

    access = Access.WEIGHTS

    def __init__(
        self,
        bundle: Bundle,
        *,
        name: str,
        kind: str = "bundle",
        device: str = "cpu",
        max_length: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Open the bundle on `device`; raise BundleError where its parts do not fit together.

        `max_length` cuts texts at so many tokens instead of the bundle's own limit, which makes it another target:
        its digest is another. `batch_size` is the most texts in one forward pass.
        """
        if max_length is not None and max_length != bundle.max_length:
            bundle, kind = replace(bundle, max_length=max_length), f"{kind}, texts cut at {max_length:,} tokens"
        self.name, self.kind, self.labels = name, kind, bundle.labels
        self.device = check_device(device)
        self.model: PreTrainedModel = open_model(bundle, name=name).to(self.device)
        self.tokenizer: Tokenizer = open_tokenizer(bundle, name=name)
        self.digest: str | None = bundle.digest()
        self.notes = bundle.notes
        self._most = batch_size
        self.alone = self._padding_matters()  # so texts go one at a time

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        device: str | None = None,
        base_model: Path | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> "ModelTarget":
        """Open a file or a directory, an adapter's on top of `base_model`; other options are the constructor's.

        `device` defaults to the accelerator if there is one. With `limits` a directory is opened in a process of its
        own first. Raises BundleError, UsageError for no such device.
        """
        options["device"] = check_device(device)
        if path.is_dir():
            again: dict[str, Any] = {**options, "base_model": base_model, "device": "cpu"}
            tried = () if limits is None else try_first(lambda: cls.load(path, **again), path, limits, base_model)
            bundle = read_directory(path, base_model=base_model)
            bundle = replace(bundle, notes=(*tried, *bundle.notes))
            return cls(bundle, name=path.name, kind="directory", **options)
        if base_model is not None:
            raise BundleError(f"{path}: a file with a whole model and no adapter: --adapter-base is for one")
        return cls(load_bundle(path), name=path.name, **options)

    def weights_digest(self) -> str:
        """Return the SHA-256 of the weights as they are now."""
        return state_digest(self.model.state_dict())

    def predict(self, examples: Examples) -> IntArray:
        """Return the index of each most probable label, shape [n]."""
        predicted: IntArray = self.log_probabilities(examples).argmax(axis=1)
        return predicted

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has: what its answer costs."""
        return [len(ids) for ids in token_ids(self.tokenizer, texts, name=self.name)]

    def losses(self, examples: Examples) -> FloatArray:
        """Return the cross-entropy of each example's own label in nats, shape [n]."""
        own = label_indices(self.labels, examples, name=self.name)
        return own_label_losses(self.log_probabilities(examples), own)

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, k], from batches of texts of like length."""
        if examples.texts is None:
            raise TargetError(f"{self.name}: the examples carry no texts to score")
        tokens = token_ids(self.tokenizer, examples.texts, name=self.name)
        values = np.empty((len(tokens), len(self.labels)))
        budget = 0 if self.alone else TOKENS_PER_BATCH
        for rows in batches_by_length([len(ids) for ids in tokens], budget=budget, most=self._most):
            values[rows] = self._score_apart([tokens[i] for i in rows])
        return check_log_probabilities(values, len(tokens), len(self.labels), name=self.name)

    def _score_apart(self, tokens: list[list[int]]) -> FloatArray:
        """Return what `_score` does; where the batch fails, of one text after the other.

        BART and T5 take no batch whose texts have another number of end tokens, as one with a literal `</s>` has.
        """
        try:
            return self._score(tokens)
        except TargetError:
            if len(tokens) < 2:
                raise
        return np.concatenate([self._score([each]) for each in tokens])

    def _score(self, tokens: list[list[int]]) -> FloatArray:
        """Return the log-probabilities of one batch of token ids, shape [batch, k]."""
        inputs = pad_batch(tokens, pad=self.pad_token, device=self.device)
        try:
            with torch.inference_mode():
                logits = self.model(**inputs).logits.double()
                values: FloatArray = torch.log_softmax(logits, dim=-1).cpu().numpy()
        except Exception as error:  # such as a token beyond the embedding table; each architecture has its own
            raise TargetError(f"{self.name}: the model fails on its own tokens ({first_line(error)})") from None
        return values

    def _padding_matters(self) -> bool:
        """True for models that answer otherwise, or not at all, beside a longer text; they take one at a time.

        XLNet pads on the left; GPT-2 without a padding token takes no batches.
        """
        short, long = token_ids(self.tokenizer, ["a", "a b c d e f g h"], name=self.name)
        alone = self._score([short])
        try:
            beside = self._score([short, long])[:1]
        except TargetError:
            return True
        return not np.allclose(alone, beside, rtol=1e-4, atol=1e-4, equal_nan=True)

    @property
    def pad_token(self) -> int:
        """The id that fills a batch up; 0 where the model has none, since the mask hides it."""
        return self.model.config.pad_token_id or 0


def batches_by_length(
    lengths: list[int], *, budget: int = TOKENS_PER_BATCH, most: int | None = None
) -> Iterator[list[int]]:
    """Yield positions of texts of like length, at most `budget` tokens a batch, padding counted, and `most` texts."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and ((len(batch) + 1) * max(lengths[position], 1) > budget or len(batch) == most):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def pad_batch(tokens: list[list[int]], *, pad: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Return `input_ids` and, only where something was padded, `attention_mask`, both [batch, length]."""
    lengths = [len(ids) for ids in tokens]
    longest = max(max(lengths), 1)  # a text without a single token still takes one, masked, place
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in tokens], dtype=torch.long)
    inputs = {"input_ids": ids.to(device)}
    if min(lengths) < longest:
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        inputs["attention_mask"] = mask.long().to(device)
    return inputs
