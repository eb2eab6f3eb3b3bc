"""The two things that plug into an audit: an attack sees the target but not who is a member, a control the reverse."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target


class Attack(ABC):
    """An adversary against a target: settings in the constructor, work in `score`.

    `id` is stable and never re-used, `needs` is the least access it works with, `taxonomy` what standards call it. From
    the access `outdone_from` on, others say all that it says, and it runs only when it is named, as one `only_named`
    does anywhere. `reads_texts`: it uses the context's encoder; `uses_references`: its scores of reference models;
    `reads_gradients`: the norms of their gradients too.
    `may_tie`: scores that are all equal are an answer. Of all that run, the one of greatest `strength` settles limits.
    `judged` are the signals held against them, all of `signals` where it is empty. `keeps_alone` are the metrics on
    which it keeps a limit by finding less without reference models too, where a metric asks for some.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access]
    taxonomy: ClassVar[Taxonomy | None] = None
    signals: ClassVar[tuple[str, ...]]
    outdone_from: ClassVar[Access | None] = None
    only_named: ClassVar[bool] = False
    reads_texts: ClassVar[bool] = False
    uses_references: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = False
    may_tie: ClassVar[bool] = False
    strength: ClassVar[int] = 0
    judged: ClassVar[tuple[str, ...]] = ()
    keeps_alone: ClassVar[tuple[str, ...]] = ()

    def applies(self, access: Access, context: AttackContext) -> str | None:
        """Return why the attack cannot run on a target of this access with what the context holds; None if it can.

        It is asked before the error is shared, so the answer may depend on nothing that the target answers.
        """
        return access.lacking(self.needs)

    def weakened(self) -> str | None:
        """Return which setting keeps it from finding what it could, so that finding less keeps no limit; else None."""
        return None

    @abstractmethod
    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return for each of `signals` one number per example, shape [n], higher meaning "was trained on".

        The pool holds members and non-members shuffled together; nothing says which is which.
        """


class Control(ABC):
    """A check of the evidence itself: it learns who is a member but never sees the target.

    Without a control that `reads_texts` a split is taken on trust. What one that `reads_labels` sees goes away where
    both sides are matched by label. Doing worse than chance refuses the evidence too, unless it `may_be_below_chance`.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    reads_texts: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    may_be_below_chance: ClassVar[bool] = False

    @abstractmethod
    def score(self, pool: Examples, is_member: BoolArray, *, seed: int) -> FloatArray:
        """Return one out-of-sample number per example, shape [n], higher meaning "was trained on"."""


def suited(attacks: Sequence[Attack], access: Access) -> tuple[Attack, ...]:
    """Return the attacks that are worth their share of the error where none is named."""
    return tuple(
        attack
        for attack in attacks
        if not attack.only_named and (attack.outdone_from is None or attack.outdone_from not in access)
    )
