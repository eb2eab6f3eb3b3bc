"""Where a command may write: into a folder that is there, and over nothing that it reads."""

from pathlib import Path

from redteam.core.errors import UsageError


def check_output(output: Path | None, *inputs: Path | None) -> None:
    """Raise UsageError where writing is bound to fail or would replace an input: before the work, not after it."""
    if output is None:
        return
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist")
    if output.is_dir():
        raise UsageError(f"--output {output}: is a folder; name a file")
    refuse_overwriting(output, *inputs)


def refuse_overwriting(output: Path | None, *inputs: Path | None) -> None:
    """Raise UsageError where the output would replace one of the files that are read, or one in a folder of them."""
    if output is None or not output.is_file():
        return
    for path in inputs:
        if path is not None and path.exists() and (output.samefile(path) or path.resolve() in output.resolve().parents):
            raise UsageError(f"--output {output} would overwrite an input: give another file")
