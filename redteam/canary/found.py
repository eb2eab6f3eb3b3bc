"""What attacks found of each canary, joined with the ledger: the guesses that count, ranks and exposures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redteam.data.planting import Canary, Planting, sharing
from redteam.plugins.extraction import Answer, Ranked


@dataclass(frozen=True)
class Found:
    """What one attack found of one canary, planted and held out; None where the attack does not answer that.

    `right` counts symbols of the guess. `exposure` is in bits of at most `most`; `at_least` so much is proven, of
    `provable` at most. `ahead` is the held-out secret's loss minus the planted secret's. `guess` and `secret` only when
    asked for. So many secrets as `shared` have this sentence and label, its own among them: no query tells them apart.
    """

    attack: str
    canary: str
    repetitions: int
    places: int
    right: int | None
    right_of_heldout: int | None
    exposure: float | None
    exposure_of_heldout: float | None
    at_least: float | None
    provable: float | None
    most: float | None
    method: str | None
    ahead: float | None
    guess: str | None = None
    secret: str | None = None
    shared: int = 1

    @property
    def tries(self) -> int:
        """How many guesses count: one for each secret that shares the query, where all candidates are ranked.

        An attacker who knows that three are there names the first three. A search gives one guess for all of them.
        """
        return self.shared if self.method == "exact" else 1

    @property
    def whole(self) -> bool:
        """Whether the whole planted secret is among the guesses that count."""
        return self.right == self.places or self._among_first(self.exposure)

    @property
    def whole_of_heldout(self) -> bool:
        """Whether the whole held-out secret is."""
        return self.right_of_heldout == self.places or self._among_first(self.exposure_of_heldout)

    def guesses(self, bits: float | None) -> float:
        """Return how many candidates are to be tried, best first, until one of such exposure comes."""
        return float(2.0 ** ((self.most or 0.0) - (bits or 0.0)))

    def _among_first(self, bits: float | None) -> bool:
        return self.tries > 1 and bits is not None and round(self.guesses(bits)) <= self.tries


def join_answers(
    attack: str, planting: Planting, answers: Mapping[str, Answer], *, show_text: bool = False
) -> tuple[Found, ...]:
    """Return what was found of each canary that was asked about, from the answers by query.

    `answers` are those of one attack by the id of their query; `show_text` puts guesses and secrets in words besides.
    """
    asked, shared = [canary for canary in planting.canaries if canary.id in answers], sharing(planting)
    return tuple(_found(attack, canary, answers[canary.id], shared[canary.id], show_text) for canary in asked)


def whole_secrets(found: Sequence[Found]) -> tuple[int, int]:
    """Return how many whole secrets are among the guesses that count, and how many whole held-out secrets."""
    return sum(f.whole for f in found), sum(f.whole_of_heldout for f in found)


def _found(attack: str, canary: Canary, answer: Answer, shared: int, show_text: bool) -> Found:
    ranked: dict[tuple[str, ...], Ranked] = {each.secret: each for each in answer.ranked}
    planted, heldout = ranked.get(canary.secret), ranked.get(canary.heldout)
    bits = planted.exposure if planted else None
    bits_of_heldout = heldout.exposure if heldout else None
    return Found(
        attack=attack,
        canary=canary.id,
        repetitions=canary.repetitions,
        places=len(canary.secret),
        right=_right(answer.guess, canary.secret),
        right_of_heldout=_right(answer.guess, canary.heldout),
        exposure=bits.bits if bits else None,
        exposure_of_heldout=bits_of_heldout.bits if bits_of_heldout else None,
        at_least=bits.at_least if bits else None,
        provable=bits.provable if bits else None,
        most=bits.most if bits else None,
        method=bits.method if bits else None,
        ahead=heldout.loss - planted.loss if planted and heldout else None,
        guess=" ".join(answer.guess) if show_text and answer.guess else None,
        secret=" ".join(canary.secret) if show_text else None,
        shared=shared,
    )


def _right(guess: tuple[str, ...] | None, secret: tuple[str, ...]) -> int | None:
    return None if guess is None else sum(a == b for a, b in zip(guess, secret, strict=True))
