"""`redteam verify`: is a private trainer as private as it says?"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from redteam.cli import options as o
from redteam.cli.present import check_output, say
from redteam.cli.progress import progress
from redteam.cli.verify_text import Delivery, TextVerificationOptions, verify_text
from redteam.core import UsageError
from redteam.plugins.settings import Setting

if TYPE_CHECKING:
    from redteam.verify.run import VerificationPlan
    from redteam.verify.subject import Subject

_MANY, _FEW = 100_000, 4_000  # few where a pass a micro-batch makes it slow; RD101 and others say so themselves


@dataclass(frozen=True)
class _Asked:
    """What `--set` says of the training that is verified, whoever does it."""

    id: ClassVar[str] = "verify"
    epsilon: float = Setting("What to train for; small ones are tested best.", above=0).default(2.0)
    delta: float = Setting("The delta of all epsilons.", above=0, below=1).default(1e-5)
    clip: float = Setting("The clipping norm.", above=0).default(1.0)
    epochs: int = Setting("Expected passes over the canaries.", "passes", least=1).default(50)
    batch_size: int | None = Setting("Expected canaries in a step; none: a fifth.", least=1).default(None)


def verify(
    *,
    defense: Annotated[
        str | None,
        typer.Argument(help="An id or a name, or module:function, which runs the module.", metavar="DEFENSE"),
    ] = None,
    words: TextVerificationOptions,
    set: o.Set = None,
    canaries: Annotated[
        int | None,
        o.Opt("--canaries", min=1, help=f"{o.CANARIES} [default: 100,000; 4,000 and fewer for slow trainers]."),
    ] = None,
    alpha: Annotated[float, o.Opt("--alpha", help=o.ALPHA)] = 0.01,
    seed: o.Seed = 0,
    delivery: Delivery,
) -> None:
    """Attack a private trainer or privatiser: exit 1 is violated.

    It is trained on canaries made for it, and held against the epsilon that it accounts for. Set how with
    --set epsilon=2, delta=1e-5, clip=1, epochs=50 and batch_size (a fifth of the canaries), the numbers that are usual;
    any other setting of DEFENSE can be set too.

    A function is called as function(problem, settings): it trains problem.model by problem.losses(rows), .grad and
    problem.optimizer.step(), and returns an object with .mechanism and .guarantee (see redteam/verify/subject.py).

    With --text it is a function from a text to a text, or a WordMechanism, whose channel is then looked at too.
    """
    if (defense is None) == (words.text is None):
        raise UsageError("name one thing to verify: a trainer, or --text with a privatiser of text")
    if words.text is not None and canaries is not None:
        raise UsageError(f"--canaries {canaries}: is for trainers; --text takes --draws")
    if defense is None:
        raise typer.Exit(verify_text(words, set or [], alpha, seed, delivery))
    if words != TextVerificationOptions():
        raise UsageError("--epsilon, --embeddings, --unknown, --words and --draws go with --text; a trainer has --set")
    from redteam.integrations.logged import verification_logged
    from redteam.verify.page import render_page
    from redteam.verify.run import verify as run
    from redteam.verify.text import as_json, as_text

    check_output(delivery.output)
    plan, subject = _plan(defense, set or [], canaries)
    with progress("training") as show:
        result = run(subject, plan, seed=seed, alpha=alpha, progress=show)
    render = {"text": as_text, "json": as_json, "html": render_page}
    raise typer.Exit(delivery.hand_over(result, render, lambda: verification_logged(result)))


def _plan(named: str, given: list[str], canaries: int | None) -> "tuple[VerificationPlan, Subject]":
    """Return how to run the trainer, and the trainer with what is set of it besides."""
    from redteam.plugins.registry import choose, discover_defenses
    from redteam.plugins.settings import given_to, settings_of
    from redteam.verify.run import VerificationPlan
    from redteam.verify.subject import DefenseSubject, load_function

    found = None if ":" in named else choose(discover_defenses(), [named])[0]
    asked, *others = given_to((_Asked(),) if found is None else (_Asked(), found), given)
    plan = replace(_Asked(), **asked)
    own = {name: value for change in others for name, value in change.items() if name not in asked}
    for name in own:
        if name in settings_of(plan):
            raise UsageError(f"--set: {name} is part of what is verified; write --set {name}=VALUE, without an id")
    subject = load_function(named) if found is None else DefenseSubject(found, own)
    usual = _FEW if own.get("clipping") == "microbatch" else _MANY if found is None else found.canaries
    count = canaries if canaries is not None else usual
    short = VerificationPlan.short if usual == _MANY else min(count + 3, VerificationPlan.short)
    rate = 0.2 if plan.batch_size is None else plan.batch_size / count
    if not rate <= 1:
        raise UsageError(f"--set batch_size={plan.batch_size}: more than the {count:,} canaries; give more of them")
    if found is None:
        say(f"{named}: this runs the module's code")
    return VerificationPlan(count, plan.epsilon, plan.delta, plan.clip, rate, plan.epochs, short), subject
