"""What whoever audits may choose."""

from dataclasses import dataclass
from pathlib import Path

from redteam.auditing.skipped import MAX_SKIPPED
from redteam.report import Limit

FPRS = (0.01,)


@dataclass(frozen=True)
class AuditSettings:
    """How an audit measures: total error, false-positive rates, seed, whether row texts may be shown.

    `limits` are those of the policy, the only ones that error is spent on; None: everything measured is judged.
    `max_skipped` is the share of either side that the target may refuse to answer; more end the audit. `base` is the
    directory of the public encoder by which attacks compare texts; None: MiniLM, or hashed n-grams without its package.
    `swaps` are lists of words by which texts name groups. In `vectors` the public encoder keeps what it made of texts,
    for other audits of the same ones. Without `breakdowns` the report does not say what leaks by label and group, which
    takes long where there are many and decides nothing.
    """

    alpha: float = 0.05
    fprs: tuple[float, ...] = FPRS
    seed: int = 0
    show_text: bool = False
    max_skipped: float = MAX_SKIPPED
    limits: tuple[Limit, ...] | None = None
    base: Path | None = None
    swaps: tuple[str, ...] = ()
    vectors: Path | None = None
    breakdowns: bool = True
