"""`redteam pack` and `redteam unpack`: a Hugging Face directory to one file without code, and back."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from redteam.cli.options import AdapterBase, ModelFile, OpeningOptions
from redteam.cli.present import check_output, say
from redteam.core import UsageError


def pack(
    *,
    directory: Annotated[Path, typer.Argument(help="A Hugging Face text-classification directory.")],
    output: ModelFile = Path("model.pt"),
    adapter_base: AdapterBase = None,
    opening: OpeningOptions,
) -> None:
    """Pack a Hugging Face directory into a model.pt without code.

    A LoRA adapter is merged onto its base.
    """
    from redteam.models.bundle import save_bundle
    from redteam.models.opening import read_directory
    from redteam.models.trial import try_first

    most = opening.limits()
    check_output(output, directory, adapter_base)
    if directory.is_dir():
        read = partial(read_directory, directory, base_model=adapter_base)
        for note in try_first(read, directory, most, adapter_base):
            say(note)
    bundle = read_directory(directory, base_model=adapter_base)
    save_bundle(bundle, output)
    for note in bundle.notes:
        say(note)
    say(f"packed {directory} into {output}: {len(bundle.labels)} labels, digest {bundle.digest()[:16]}")


def unpack(
    model: Annotated[Path, typer.Argument(help="A model.pt bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write.")] = Path("model"),
) -> None:
    """Unpack model.pt into a Hugging Face directory, same weights."""
    from redteam.models.bundle import load_bundle
    from redteam.models.opening import write_directory

    bundle = load_bundle(model)
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: exists and is not an empty directory; name another with -o")
    write_directory(bundle, output, name=str(model))
    say(f"unpacked {model} into {output}: {len(bundle.labels)} labels, digest {bundle.digest()[:16]}")
