"""Differentially private training in a user's own loop: `PrivateTrainer`.

    >>> from torch.nn.functional import cross_entropy
    >>> x, y, model = torch.randn(200, 8), torch.arange(200) % 2, nn.Linear(8, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> private = PrivateTrainer(model, optimizer, clip=1.0, noise_multiplier=1.0, sample_rate=0.1, population=200)
    >>> for rows in private.batches(steps=20):
    ...     outcome = private.step(lambda part: cross_entropy(model(x[part]), y[part], reduction="none"), rows)
    >>> round(private.spent(delta=1e-5), 2)
    3.59

Each step takes every row independently at random (Poisson), clips each row's gradient to norm `clip`, adds normal noise
of standard deviation `noise_multiplier * clip` to the sum and divides by `sample_rate * population`: a public constant,
never the realised size of a batch. What is released is the weights. The losses that `step` returns, `dropped`, and the
error for a non-finite example are for whoever trains: they are outside of the guarantee.
"""

import secrets
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from defenses.edpsgd import checks, history
from defenses.edpsgd.checks import LARGEST_WEIGHTS, check_mechanism, weights_norm
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import IntArray, Sampler, Sampling
from defenses.edpsgd.steps import ExampleSteps, Losses, Outcome
from redteam.core import RedteamError, UsageError

if TYPE_CHECKING:
    from defenses.accounting import Release

_GOOD_EVERY = 50  # steps between two copies of the weights to fall back on


class PrivateTrainer:
    """Train any supported `torch.nn.Module` with differential privacy in a loop of one's own.

    The trainable parameters are those with `requires_grad` at this moment, and `optimizer` must hold no others. `seed`
    None draws a secret one from the operating system, which `state_dict` keeps: with a known seed the noise can be
    subtracted. `physical_batch` rows are held at once (texts of 32 tokens, where `batches` is told lengths). While the
    trainer is open, gradients come from `step` alone; `close`, or leaving it as a context, gives the model back.

    Raises UsageError for settings that make no sense, UnsupportedLayer for a layer without an exact rule (BatchNorm).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        noise_multiplier: float,
        sample_rate: float,
        population: int,
        sampling: Sampling = "poisson",
        drop_last: bool = False,
        seed: int | None = None,
        secure: bool = False,
        physical_batch: int = 64,
    ) -> None:
        """Check the settings and prepare the model."""
        check_mechanism(clip=clip, noise_multiplier=noise_multiplier, physical_batch=physical_batch)
        self.clip, self.noise_multiplier = float(clip), float(noise_multiplier)
        self.sample_rate, self.population = float(sample_rate), population
        self.sampling, self.drop_last, self.secure, self.physical_batch = sampling, drop_last, secure, physical_batch
        self.steps_done = self.dropped = 0
        self._optimizer, self._seed = optimizer, secrets.randbits(256) if seed is None else seed
        self._source = NoiseSource(self._seed, secure=secure)
        self._sampler = self._sampler_over(population)
        self._model, self._kept = model, dict[str, Any]()
        self._lengths: IntArray | None = None
        self._size: int | None = None  # how many rows the last batches were taken from
        self._given: Tensor | None = None
        self._data: str | bytes = ""
        self._steps = ExampleSteps(
            model,
            optimizer,
            self._source,
            clip=self.clip,
            noise_multiplier=self.noise_multiplier,
            divisor=self.sample_rate * population,
            physical_batch=physical_batch,
        )
        self._good: tuple[int, list[Tensor]] = (0, [])

    def batches(
        self, *, steps: int, size: int | None = None, lengths: Sequence[int] | None = None, data: str | bytes = ""
    ) -> Iterator[Tensor]:
        """Yield the rows of each step, int64 [b], until `steps` are done in all; b varies and may be 0.

        `size` is how many rows there really are [default: as many as lengths, else the population]. With `lengths`, in
        tokens by row, `step` puts like with like: it saves padding and costs no privacy. `data` names the data,
        by a digest of them: with a seed of your own, trainings on other data then do not even share the first batch.
        Raises UsageError where `size` changes amid a shuffled pass: some rows would be in two of its batches.
        """
        self._lengths = None if lengths is None else np.asarray(lengths, dtype=np.int64)
        size = size if size is not None else self.population if self._lengths is None else len(self._lengths)
        if self._lengths is not None and len(self._lengths) != size:
            raise UsageError(f"{len(self._lengths):,} lengths for {size:,} rows: give one for each row")
        if self.sampling == "shuffled" and self.steps_done % self._sampler.steps_per_pass and size != self._size:
            raise UsageError(
                f"{size:,} rows in a shuffled pass that began with {self._size:,}: end the pass with those"
            )
        self._size, self._sampler, self._data = size, self._sampler_over(size), data
        while self.steps_done < steps:
            self._begin()  # not before: weights and a saved state may still be loaded
            before = self.steps_done
            self._given = torch.from_numpy(self._sampler.rows(before))
            yield self._given
            if self.steps_done == before:
                raise UsageError(f"the batch of step {before + 1} was not given to step(): its draw is spent")

    def step(self, losses: Losses, rows: Tensor) -> Outcome:
        """Do one private step; `losses(part)` gives the loss of each of the rows `part`, float [len(part)].

        `rows` is what `batches` yielded last, UsageError where it is not. Raises RedteamError where the weights are no
        numbers any more; the model then has the last good ones again.
        """
        if rows is not self._given:
            raise UsageError("step() takes the rows that batches() yielded last: others are not accounted")
        self._given = None
        self._keep_good()
        self.steps_done += 1  # before anything is released: what is counted may be too much, never too little
        outcome = self._steps.step(self.steps_done - 1, losses, rows.numpy(), self._lengths)
        self.dropped += outcome.dropped
        if not weights_norm(self._steps.clipper.parameters) <= LARGEST_WEIGHTS:
            self._restore_good()
        return outcome

    def spent(self, *, delta: float) -> float:
        """Return epsilon at `delta` of the steps done so far, this model's only; infinity without noise."""
        from defenses.accounting import spent

        return spent([self.release(self.steps_done)], delta=delta)

    def release(self, steps: int) -> "Release":
        """Return what so many steps are accounted as."""
        from defenses.accounting import Phase, Release

        poisson = self.sampling == "poisson"
        rate = self.sample_rate if poisson else 1 / self._sampler.steps_per_pass
        return Release((Phase(self.noise_multiplier, steps),), self.sampling, rate)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs beside model and optimiser; it holds the seed, so keep it private."""
        return {
            "settings": self._settings(),
            "steps": self.steps_done,
            "size": self._size,
            "dropped": self.dropped,
            "seed": f"{self._seed:x}",
        } | self._history()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, with its seed; UsageError names the setting that is another one.

        With the same weights (load them before the next batch) and data, the same numbers come as if nothing had broken
        off. Where weights, rows or a clipped sum differ, noise and sampling are fresh from there on. Such a branch is a
        training of its own: `spent` counts one alone, and two of them spend more than either.
        """
        if self.steps_done:
            raise UsageError(f"{self.steps_done:,} steps are done already: load the state before the first one")
        checks.check_state(state)
        for name, now in self._settings().items():
            before = state["settings"].get(name)
            if before != now:
                raise UsageError(f"{name} is {now}, but the training began with {before}: go on with that one")
        self.steps_done, self.dropped = int(state["steps"]), int(state["dropped"])
        self._size, self._kept = (
            state["size"],
            {name: state[name] for name in ("history", "weights", "training") if name in state},
        )
        self._seed = int(state["seed"], 16)
        self._source = self._steps.source = NoiseSource(self._seed, secure=self.secure)
        self._sampler = self._sampler_over(self._sampler.size)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser whose steps are private."""
        return self._optimizer

    def close(self) -> None:
        """Undo what was done to the model; its weights stay as trained."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise UsageError("a PrivateTrainer cannot be copied or pickled: keep its state_dict(), and load it in another")

    def _begin(self) -> None:
        """Begin the history with the weights that are there now, or take up the one that was loaded."""
        if not self._source.history:
            told, first = self._identity(), str(self.physical_batch).encode
            history.begin(self._source, self._model, self._kept, training=told, optimizer=self._optimizer, first=first)

    def _history(self) -> dict[str, Any]:
        """Return the history so far; before the next batch, what was loaded of one."""
        if not self._source.history:
            return dict(self._kept)
        return history.keep(self._source, self._model, training=self._identity(), optimizer=self._optimizer)

    def _identity(self) -> str:
        public = (self._size, self._lengths, self._data)
        return history.identity(self._optimizer, sorted(self._settings().items()), self._steps.settings, *public)

    def _settings(self) -> dict[str, Any]:
        names = ("clip", "noise_multiplier", "sample_rate", "population", "sampling", "drop_last", "secure")
        return {name: getattr(self, name) for name in names} | {"generator": self._generator_name()}

    def _generator_name(self) -> str:
        return self._source.generator_on(self._steps.clipper.buffer.device)

    def _sampler_over(self, size: int) -> Sampler:
        return Sampler(
            self._source,
            size=size,
            population=self.population,
            sample_rate=self.sample_rate,
            sampling=self.sampling,
            drop_last=self.drop_last,
        )

    def _keep_good(self) -> None:
        if not self._good[1] or self.steps_done - self._good[0] >= _GOOD_EVERY:
            self._good = self.steps_done, [p.detach().clone() for p in self._steps.clipper.parameters]

    def _restore_good(self) -> None:
        step, weights = self._good
        with torch.no_grad():
            for parameter, good in zip(self._steps.clipper.parameters, weights, strict=True):
                parameter.copy_(good)
        raise RedteamError(
            f"the weights are no usable numbers after step {self.steps_done}: those after step {step} are back; "
            f"privacy spent so far: epsilon {self.spent(delta=1e-5):.3g} at delta 1e-05; try a smaller learning rate"
        )
