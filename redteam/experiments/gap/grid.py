"""The grid of the gap experiment: which trainers, at which epsilon, with which seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redteam.core import UsageError
from redteam.experiments.setup import Trainer
from redteam.plugins.defense import Defense
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.registry import choose, discover_mechanisms
from redteam.training.recipes import configured

# A trainer of the grid is a defence with settings: the micro-batch mechanism is one way of edpsgd to clip. Its noise
# follows the nominal epsilon, so that the table shows what a reader of that is not told.
_WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("plain", {}),
    "dpsgd": ("dpsgd", {}),
    "edpsgd": ("edpsgd", {"clipping": "example"}),
    "microbatch": ("edpsgd", {"clipping": "microbatch", "calibrate_to": "nominal"}),
}


@dataclass(frozen=True)
class GapCell:
    """One training: trainer, epsilon asked for (None: infinity, clipping without noise) and seed.

    Where words are exchanged before, `privatised`, it is a mechanism in place of a trainer, at its metric epsilon.
    """

    trainer: str
    epsilon: float | None
    seed: int
    privatised: bool = False

    @property
    def folder(self) -> str:
        """The name of the folder that the cell lives in."""
        return f"{self.trainer}-{epsilon_words(self.epsilon)}-seed{self.seed}"

    @property
    def row(self) -> str:
        """The row of the table that the cell belongs to, as messages name it."""
        return row_words(self.trainer, self.epsilon)

    @property
    def words(self) -> str:
        """The cell as messages name it."""
        return f"{self.row}, seed {self.seed}"


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
            raise UsageError(f"--trainer {name!r}: known are {', '.join((*_WAYS, *extra))}")
        title = name.lower() if name.lower() in _WAYS else defense.name
        given = {**asked, **{k: v for k, v in private.items() if v is not None and "epsilon" in defense.parameters()}}
        given = {name: value for name, value in given.items() if value is not None}
        chosen[title] = Trainer(title, configured(defense, given | settings))
    if not chosen:
        raise UsageError(f"--trainer: an empty list; name one of {', '.join(_WAYS)}")
    return tuple(chosen.values())


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


def parse_privatised(text: str) -> tuple[WordMechanism, ...]:
    """Read "santext=10,cmp=50" into mechanisms at their metric epsilons; UsageError for what is none."""
    found = discover_mechanisms()
    made: dict[tuple[str, float], WordMechanism] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = word.partition("=")
        try:
            epsilon = float(number)
        except ValueError:
            raise UsageError(f"--privatise {word}: write MECHANISM=EPSILON, such as santext=20") from None
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise UsageError(f"--privatise {word}: give a finite epsilon above 0")
        (mechanism,) = choose(found, [name])
        made[mechanism.name, epsilon] = replace(mechanism, epsilon=epsilon)  # type: ignore[type-var]
    return tuple(made.values())


def gap_grid(
    trainers: Sequence[Trainer],
    epsilons: Sequence[float | None],
    seeds: int,
    privatised: Sequence[WordMechanism] = (),
) -> tuple[GapCell, ...]:
    """Return every cell: all seeds of a trainer without an epsilon once, at infinity, and of each mechanism."""
    rows = [
        (trainer.name, epsilon, False) for trainer in trainers for epsilon in (epsilons if trainer.private else (None,))
    ]
    rows += [(mechanism.name, mechanism.epsilon, True) for mechanism in privatised]
    return tuple(GapCell(name, epsilon, seed, words) for seed in range(seeds) for name, epsilon, words in rows)


def epsilon_words(epsilon: float | None) -> str:
    """Return an epsilon as tables print it."""
    return "inf" if epsilon is None else f"{epsilon:.12g}"


def row_words(trainer: str, epsilon: float | None) -> str:
    """Return a row of the table as messages name it."""
    return f"{trainer} at epsilon {epsilon_words(epsilon)}"
