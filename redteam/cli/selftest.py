"""`redteam selftest`: is the tool itself right on this machine?"""

import typer

from redteam.cli.progress import progress


def selftest() -> None:
    """Audit a model that certainly leaks, one that certainly does not, and data that must be refused."""
    from redteam.selftest import run_selftest

    with progress("training a model that must leak") as show:
        results = run_selftest(progress=show)
    for result in results:
        typer.echo(f"{'ok  ' if result.right else 'WRONG'}  {result.what}: {result.found}")
    if not all(result.right for result in results):
        typer.echo("the tool is wrong on this machine: do not trust its verdicts here", err=True)
        raise typer.Exit(2)
    typer.echo("the tool is right about all of them", err=True)
