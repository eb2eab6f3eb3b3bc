"""How many words of released texts come back: what is tried, and what it gives.

What is guessed is joined with the texts as they were after the last attack.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redteam.core import one_line
from redteam.core.arrays import FloatArray
from redteam.plugins.reconstruction import PublicKnowledge, ReconstructionAttack
from redteam.report import Limit
from redteam.report.values import Evidence, Failure, rule_of
from redteam.statistics.bounded import largest_mean_bound, mean_interval

_UNSEEN = "\0"  # stands for a released word that is not looked at
_GAIN_ALPHA = 0.05  # of what seeing the released words adds, which is described and not judged


@dataclass(frozen=True)
class ReleasedAudit:
    """Released texts of members with the texts as they were, what the attacker knows, the attacks, and unfit ones."""

    released: tuple[tuple[str, ...], ...]
    raw: tuple[tuple[str, ...], ...]
    known: PublicKnowledge
    attacks: tuple[ReconstructionAttack, ...]
    unfit: tuple[ReconstructionAttack, ...] = ()

    def planned(self, limits: "Sequence[Limit] | None") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the id of each number that `run` gives: those that the limits of a policy judge, and all others."""
        named = [(f"{rule_of(attack.id, name)}:texts", name) for attack in self.attacks for name in attack.metrics]
        limited = [limits is None or any(limit.metric == name for limit in limits) for _, name in named]
        judged, others = (
            tuple(each for (each, _), is_limited in zip(named, limited, strict=True) if is_limited == wanted)
            for wanted in (True, False)
        )
        return judged, others

    def run(
        self, level: Callable[[str], float], remark: Callable[[str], None] = lambda note: None
    ) -> Iterator[Evidence | Failure]:
        """Yield for each attack and metric how much came back, each at its level; a crash is a Failure.

        `remark` is told how much of that comes back without looking at any released word.
        """
        for attack in self.unfit:
            yield Failure(attack.id, "not_applicable", "whole texts were rewritten: no word stands for one word")
        for attack in self.attacks:
            try:
                right = self._right(attack.recover(self.released, self.known))
                without = self._right(self._unseen(attack))
            except (Exception, SystemExit) as error:
                yield Failure(attack.id, "failed", one_line(error))
                continue
            words, prior = (np.array([own.mean() for own in some]) for some in (right, without))
            whole = np.array([float(own.all()) for own in right])
            for name in attack.metrics:
                identifier = f"{rule_of(attack.id, name)}:texts"
                numbers = whole if name == "texts_recovered" else words
                interval = mean_interval(numbers, alpha=level(identifier))
                most = largest_mean_bound(len(numbers), alpha=level(identifier))
                yield Evidence(attack.id, "texts", name, interval, len(numbers), len(numbers), most)
            remark(_beside_prior(attack.id, words, prior))

    def _unseen(self, attack: ReconstructionAttack) -> list[list[str]]:
        """Return what an attack says that knows how people write and how long each text is, and sees no word of it."""
        channel = np.zeros((len(self.known.words), 1), np.float32)
        blind = replace(self.known, seen={_UNSEEN: 0}, channel=channel)
        lengths = sorted({len(text) for text in self.released})
        guessed = attack.recover([(_UNSEEN,) * length for length in lengths], blind)
        commonest = self.known.words[int(self.known.prior.argmax())]  # for one that reads words as they stand
        said = {len(text): [commonest if word == _UNSEEN else word for word in text] for text in guessed}
        return [said[len(text)] for text in self.released]

    def _right(self, guessed: Sequence[Sequence[str]]) -> list[FloatArray]:
        pairs = zip(guessed, self.raw, strict=True)
        return [np.array([float(a == b) for a, b in zip(ours, own, strict=True)]) for ours, own in pairs]


def _beside_prior(attack: str, words: FloatArray, prior: FloatArray) -> str:
    """Say what seeing the released words adds; gains are from -1 to 1, so half of that has the interval of shares."""
    gain = mean_interval((words - prior + 1) / 2, alpha=_GAIN_ALPHA)
    low, value = 2 * gain.low - 1, 2 * gain.value - 1
    shown = f"at least {low:+.1%}" if low > 0 else "within chance: nothing is shown to come from the release"
    return (
        f"{attack} on {len(words):,} released texts: {prior.mean():.1%} of their words are guessed without seeing any "
        f"of them, by the lengths and how people write; seeing them adds {value:+.1%} ({shown})"
    )
