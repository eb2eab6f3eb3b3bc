"""The grid of the experiment: which trainers, at which epsilon, with which seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redteam.core.errors import UsageError
from redteam.plugins.defense import Defense
from redteam.training.recipes import configured

EPSILONS = (math.inf, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5)
# A trainer of the grid is a defence with settings: the micro-batch mechanism is one way of RD102 to clip. Its noise
# follows the nominal claim, so that the table shows what a reader of that claim is not told.
_WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("RD100", {}),
    "dpsgd": ("RD101", {}),
    "edpsgd": ("RD102", {"clipping": "example"}),
    "microbatch": ("RD102", {"clipping": "microbatch", "calibrate_to": "nominal"}),
}
TRAINERS = tuple(_WAYS)


@dataclass(frozen=True)
class Cell:
    """One training: trainer, epsilon asked for (None: infinity, clipping without noise) and seed."""

    trainer: str
    epsilon: float | None
    seed: int

    @property
    def folder(self) -> str:
        """The name of the folder that the cell lives in."""
        return f"{self.trainer}-{'inf' if self.epsilon is None else format(self.epsilon, '.12g')}-seed{self.seed}"

    @property
    def words(self) -> str:
        """The cell as messages name it."""
        return f"{self.trainer} at epsilon {epsilon_words(self.epsilon)}, seed {self.seed}"


@dataclass(frozen=True)
class Trainer:
    """A defence under the name that the grid gives it; `defense` is configured but for its epsilon."""

    name: str
    defense: Defense

    @property
    def private(self) -> bool:
        """Whether it can be asked for an epsilon; those that cannot are trained once, at infinity."""
        return "epsilon" in self.defense.parameters()

    def at(self, epsilon: float | None) -> Defense:
        """Return the defence that is to earn `epsilon`; None: it clips and adds no noise."""
        if not self.private:
            return self.defense
        asked = {"epsilon": epsilon, "noise_multiplier": 0.0 if epsilon is None else None}
        return configured(self.defense, asked)


def choose_trainers(
    names: Sequence[str],
    found: Sequence[Defense],
    asked: Mapping[str, float | None],
    private: Mapping[str, float | None] = {},
) -> tuple[Trainer, ...]:
    """Return the trainers of that name, or of a defence's id or name, with the settings asked for.

    `private` settings are for trainers that can be asked for an epsilon, and stand above the others. None leaves a
    setting as the trainer has it. Raises UsageError for an empty list, an unknown name or setting.
    """
    by_name = {key.lower(): defense for defense in found for key in (defense.name, defense.id)}
    chosen: dict[str, Trainer] = {}
    for name in names:
        way, settings = _WAYS.get(name.lower(), (name, {}))
        defense = by_name.get(way.lower())
        if defense is None:
            extra = [d.name for d in found if d.name not in _WAYS]
            raise UsageError(f"--trainer {name!r}: known are {', '.join((*TRAINERS, *extra))}")
        title = name.lower() if name.lower() in _WAYS else defense.name
        chosen[title] = Trainer(title, configured(defense, _given(defense, asked, private) | settings))
    if not chosen:
        raise UsageError(f"--trainer: an empty list; name one of {', '.join(TRAINERS)}")
    return tuple(chosen.values())


def _given(defense: Defense, asked: Mapping[str, float | None], private: Mapping[str, float | None]) -> dict[str, Any]:
    above = private if "epsilon" in defense.parameters() else {}
    return {name: value for some in (asked, above) for name, value in some.items() if value is not None}


def parse_epsilons(text: str) -> tuple[float | None, ...]:
    """Read "inf,8,2" into (None, 8.0, 2.0), each once; UsageError for none at all and for what is no epsilon."""
    values: dict[float | None, None] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            value = float(word)
        except ValueError:
            raise UsageError(f"--epsilon {word!r}: is no number; give a list such as inf,8,2") from None
        if not value > 0:  # written so that NaN fails too
            raise UsageError(f"--epsilon {word}: must be above 0; inf is no noise")
        values[None if math.isinf(value) else value] = None
    if not values:
        raise UsageError("--epsilon: an empty list; give one such as inf,8,2")
    return tuple(values)


def grid(trainers: Sequence[Trainer], epsilons: Sequence[float | None], seeds: int) -> tuple[Cell, ...]:
    """Return every cell: all seeds of a trainer without an epsilon once, at infinity."""
    return tuple(
        Cell(trainer.name, epsilon, seed)
        for seed in range(seeds)
        for trainer in trainers
        for epsilon in (epsilons if trainer.private else (None,))
    )


def epsilon_words(epsilon: float | None) -> str:
    """Return an epsilon as tables print it."""
    return "inf" if epsilon is None else f"{epsilon:.12g}"
