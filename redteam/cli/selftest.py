"""`redteam selftest`: is the tool itself right on this machine?"""

import logging

import typer

from redteam.cli.present import say, tell
from redteam.cli.progress import progress


def selftest() -> None:
    """Audit what must leak, what must pass and what must be refused."""
    from redteam.auditing.selftest import run_selftest

    with progress("training a model that must leak") as show:
        results = run_selftest(progress=show)
    tell("\n".join(f"{'ok  ' if each.right else 'WRONG'}  {each.what}: {each.found}" for each in results))
    if not all(each.right for each in results):
        say("the tool is wrong on this machine: do not trust its verdicts here", logging.ERROR)
        raise typer.Exit(2)
    say("the tool is right about all of them")
