"""`redteam verify`: is a private trainer as private as it says?"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli import options as o
from redteam.cli.outputs import check_output
from redteam.cli.present import deliver, exit_code, say, terminal
from redteam.cli.progress import progress
from redteam.core.errors import UsageError

if TYPE_CHECKING:
    from redteam.verify.subject import Subject

_MANY, _FEW = 100_000, 4_000  # few where time grows with the square: RD101's per-example tables, one pass a micro-batch


class Format(StrEnum):
    """The formats of a verification."""

    text = "text"
    json = "json"


def verify(
    defense: Annotated[
        str, typer.Argument(help="An id or a name, or module:function, which runs the module.", metavar="DEFENSE")
    ],
    epsilon: Annotated[float, o.Opt("--epsilon", help="What to train for; small ones are tested best.")] = 2.0,
    delta: Annotated[float, o.Opt("--delta", help="The delta of all epsilons.")] = 1e-5,
    clip: Annotated[float, o.Opt("--clip", help="The clipping norm.")] = 1.0,
    epochs: Annotated[int, o.Opt("--epochs", min=1, help="Expected passes over the canaries.")] = 50,
    batch_size: Annotated[
        int | None, o.Opt("--batch-size", min=1, help="Expected canaries in a step [default: a fifth].")
    ] = None,
    canaries: Annotated[
        int | None,
        o.Opt(
            "--canaries", min=1, help="Canaries, up to a million or so [default: 100,000; RD101, microbatch: 4,000]."
        ),
    ] = None,
    clipping: Annotated[str | None, o.Opt("--clipping", help="RD102: example or microbatch.")] = None,
    sampling: Annotated[str | None, o.Opt("--sampling", help="RD102: poisson or shuffled.")] = None,
    alpha: Annotated[float, o.Opt("--alpha", help="Chance of calling an honest trainer a liar.")] = 0.01,
    seed: o.Seed = 0,
    format: Annotated[Format, o.Opt("--format", "-f", help="How to print the result.")] = Format.text,
    output: o.ReportFile = None,
) -> None:
    """Attack a private trainer: exit 0 consistent, 1 violated.

    It is trained on canaries made for it, and held against the epsilon that it says it earned.

    A function is called as function(problem, settings): it trains problem.model by problem.losses(rows), .grad and
    problem.optimizer.step(), and returns an object with .mechanism and .guarantee (see redteam/verify/subject.py).
    """
    from redteam.verify.run import Plan
    from redteam.verify.run import verify as run
    from redteam.verify.text import as_json, as_text

    check_output(output)
    subject = _subject(defense, {"clipping": clipping, "sampling": sampling})
    slow = subject.name.startswith("RD101") or clipping == "microbatch"
    count = canaries if canaries is not None else _FEW if slow else _MANY
    rate = 0.2 if batch_size is None else batch_size / count
    if not rate <= 1:
        raise UsageError(f"--batch-size {batch_size}: larger than the {count:,} canaries; give more of them")
    plan = Plan(canaries=count, epsilon=epsilon, delta=delta, clip=clip, rate=rate, epochs=epochs)
    with progress("training") as show:
        result = run(subject, plan, seed=seed, alpha=alpha, progress=show)
    look = terminal(output)
    color, width = bool(look["color"]), int(look["width"])
    text = as_json(result) if format is Format.json else as_text(result, color=color, width=width)
    delivered = deliver(text, output)
    say(f"{result.verdict}: {result.subject}: {result.reason}")
    raise typer.Exit(exit_code(result.exit_code, exit_zero=False, delivered=delivered))


def _subject(named: str, chosen: dict[str, Any]) -> "Subject":
    from redteam.plugins.registry import choose, discover_defenses
    from redteam.verify.subject import DefenseSubject, load_function

    given = {name: value for name, value in chosen.items() if value is not None}
    if ":" not in named:
        (found,) = choose(discover_defenses(), [named])
        return DefenseSubject(found, given)
    if given:
        raise UsageError(f"--{next(iter(given))}: is a setting of our own trainers; {named} has to set it itself")
    say(f"{named}: this runs the module's code")
    return load_function(named)
