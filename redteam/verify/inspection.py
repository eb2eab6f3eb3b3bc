"""What the updates of one training show to whoever knows who was included: noise where nothing moves, and what moves.

The adversary must not know it, for its scores have to be valid; an inspection does, scores nothing, and is
there to ask whether each step is the mechanism that the trainer says it runs. It keeps sums, some steps' noise at the
blanks, and which rows were read; `noise.py`, `moves.py` and `sampling.py` make p-values of them.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from redteam.verify.calibration import Reader, Values
from redteam.verify.correlation import Neighbours
from redteam.verify.dirac_canaries import LAYERS, Design, Inclusion
from redteam.verify.grid import ValueGrid

Floats = npt.NDArray[np.float64]

OUT, UNREAD, READ, AGAIN = range(4)  # canaries that are out; in and not read; read; read more often than most
_NUMBERS = 0.5  # of the blanks have to be numbers for a step to show its noise
_FIRST, _THEN, _ROWS = 128, 16, 256  # steps whose noise is kept: all at first, then each 16th, so many at most
_BARE = 1e-7  # of the largest entry: float32 tells no less
BINS = np.concatenate([[-np.inf], np.linspace(-4.0, 4.0, 161), [np.inf]])
TAILS = (3.5, 4.5, 5.5, 7.0)  # standard deviations
_NEIGHBOURED = (4, 32, 12)  # steps looked at for neighbours: so many at first, then each 32nd, so many at most


@dataclass
class Inspection:
    """Watches a training whose canaries' inclusion is known.

    A step is still where its whole update is zero, and lost where hardly a blank is a number.
    """

    design: Design
    included: Inclusion
    reader: Reader
    spreads: list[Floats] = field(default_factory=list)  # of the blanks, [layers] a step; 0 where there is no noise
    still: list[bool] = field(default_factory=list)
    lost: list[bool] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    counts: list[Floats] = field(default_factory=list)  # [kinds, 4] a step
    sums: list[Floats] = field(default_factory=list)  # of entries in noises, [layers, kinds, 4] a step
    squares: list[Floats] = field(default_factory=list)  # [layers, 4] a step
    fourths: list[Floats] = field(default_factory=list)  # mean fourth powers at the blanks, [layers] a step
    kept: dict[int, Values] = field(default_factory=dict)  # noise at the blanks of some steps, [layers, blanks]

    def __post_init__(self) -> None:
        """Start all counts at zero."""
        self.kind_of = self.design.kind_of()
        self.histogram = np.zeros(len(BINS) - 1, dtype=np.int64)
        self.tails = np.zeros(len(TAILS), dtype=np.int64)
        self.times = np.zeros(self.design.canaries, dtype=np.int64)
        self.power = np.zeros((LAYERS, self.design.canaries))  # squares; noise alone where canaries are out
        self.noisy = np.zeros(LAYERS, dtype=np.int64)  # steps with noise
        self.farthest, self.looks = 0.0, 0  # of all entries that a step read, in noises, and how many there were
        self.neighbours, self.grid = Neighbours(), ValueGrid()
        self.spoiled = False  # whether an update held what is no number

    @property
    def steps(self) -> int:
        """How many updates there were."""
        return len(self.spreads)

    def observe(self, gradients: list[Values]) -> None:
        """Take in one update; entries that are no numbers are left out."""
        step, read = self.steps, self.reader.now
        mode = int(np.median(read[read > 0])) if int(read.max()) > 1 else 1
        state = np.where(self.included, UNREAD + (read > 0) + (read > mode), OUT)
        code = self.kind_of * 4 + state
        shape = (len(self.design.kinds), 4)
        self.batches.append(int((read > 0).sum()))
        self.times += read > 0
        self.counts.append(np.bincount(code, minlength=shape[0] * 4).reshape(shape).astype(np.float64))
        self.still.append(not any(bool(gradient.any()) for gradient in gradients))
        whole = all(bool(np.isfinite(gradient.sum(dtype=np.float64))) for gradient in gradients)
        numbers = [1.0 if whole else np.isfinite(gradient[self.design.canaries :]).mean() for gradient in gradients]
        self.lost.append(bool(min(numbers) < _NUMBERS))
        self.spoiled = self.spoiled or not whole
        gradients = gradients if whole else [np.where(np.isfinite(one), one, np.float32(0)) for one in gradients]
        layers = [self._whitened(gradient) for gradient in gradients]
        spreads = np.array([spread for _, _, spread in layers])
        self.spreads.append(spreads)
        sums, squares = np.zeros((LAYERS, *shape)), np.zeros((LAYERS, 4))
        for layer, (entries, blanks, spread) in enumerate(layers):
            sums[layer] = np.bincount(code, entries, minlength=shape[0] * 4).reshape(shape)
            power = entries * entries
            squares[layer] = np.bincount(state, power, minlength=4)
            self.farthest = max(self.farthest, float(np.max(power, where=state == READ, initial=0.0)) ** 0.5)
            if spread > 0:
                self._note(layer, power, blanks)
        self.looks += LAYERS * int((state == READ).sum())
        self.sums.append(sums)
        self.squares.append(squares)
        self.fourths.append(np.array([float((blanks**4).mean()) for _, blanks, _ in layers]))
        if (step < _FIRST or step % _THEN == 0) and len(self.kept) < _ROWS:
            self.kept[step] = np.array([blanks for _, blanks, _ in layers])
        first, each, most = _NEIGHBOURED
        silent = state <= UNREAD
        if bool((spreads > 0).all()):
            self.grid.observe(
                [gradient[self.design.canaries :] for gradient in gradients], self._moved(gradients, state)
            )
            if (step < first or step % each == 0) and self.neighbours.steps < most:
                self.neighbours.observe(silent, layers)

    def _moved(self, gradients: list[Values], state: npt.NDArray[np.int64]) -> list[Values]:
        own = state >= READ
        return [gradient[: self.design.canaries][own] for gradient in gradients]

    def _whitened(self, gradient: Values) -> tuple[Values, Values, float]:
        """Return the canaries' entries and the blanks in standard deviations of the blanks, and that deviation."""
        blanks = gradient[self.design.canaries :].astype(np.float64)
        entries = gradient[: self.design.canaries]
        spread, largest = float(blanks.std()), max(float(entries.max()), -float(entries.min()))
        if not spread > _BARE * largest:
            return np.zeros_like(entries), np.zeros(len(blanks), dtype=np.float32), 0.0
        middle = blanks.mean()
        whitened = (entries - np.float32(middle)) * np.float32(1 / spread)
        return whitened, ((blanks - middle) / spread).astype(np.float32), spread

    def _note(self, layer: int, power: Values, blanks: Values) -> None:
        """Count the noise at the blanks, and add up its squares at canaries."""
        places = np.clip(((blanks + 4.0) * 20.0).astype(np.int64) + 1, 0, len(self.histogram) - 1)
        places[blanks < -4.0] = 0
        self.histogram += np.bincount(places, minlength=len(self.histogram))
        far = np.abs(blanks)
        self.tails += np.array([int((far > tail).sum()) for tail in TAILS])
        self.power[layer] += power
        self.noisy[layer] += 1
