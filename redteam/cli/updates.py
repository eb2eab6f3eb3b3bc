"""`redteam updates`: what do the updates of a federation's clients leak of their texts?"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli import options as o
from redteam.cli.present import JudgingOptions, ReportOptions, check_output, refuse_overwriting, say
from redteam.cli.progress import progress
from redteam.core import TargetError

if TYPE_CHECKING:
    from redteam.auditing.updates.run import UpdateAudit
    from redteam.auditing.updates.senders import Sender
    from redteam.auditing.updates.truth import Truth
    from redteam.plugins.update import UpdateAttack, UpdateMembership
    from redteam.targets.target import WhiteBox


def updates(
    model: Annotated[
        str,
        typer.Argument(
            help="The weights that the round began with: model.pt or a Hugging Face directory.", metavar="MODEL"
        ),
    ],
    update: Annotated[
        list[Path],
        typer.Argument(
            help="What clients sent: .safetensors, .npz, .pt named after the client; or folders, one a round.",
            metavar="UPDATE...",
        ),
    ],
    judging: JudgingOptions,
    reporting: ReportOptions,
    columns: o.RowOptions,
    texts: Annotated[
        Path, o.Opt("--texts", help="The clients' texts; --user-column names the client, of one update all are its.")
    ],
    after: Annotated[bool, o.Opt("--after", help="The files hold weights after training, not their change.")] = False,
    sums: Annotated[
        Path | None, o.Opt("--sums", help="CSV of update,client: whose updates each file is the sum of.")
    ] = None,
    attack: o.Attacks = None,
    set: o.Set = None,
    alpha: Annotated[float, o.Opt("--alpha", help=o.ALPHA)] = 0.01,
    seed: o.Seed = 0,
    write_texts: Annotated[
        Path | None, o.Opt("--write-texts", help="Private file for the texts that were recovered, as JSON lines.")
    ] = None,
) -> None:
    """Read clients' texts out of their updates, and judge it.

    A folder holds one round: its clients' updates, and `before`, the weights it began with. Each attack is also run on
    an update that never saw the client's texts. Limits are max_tokens_recovered and
    max_sentences_recovered, 0 where the policy sets none, and max_members_told, 0.5. The report holds no text.
    """
    for output in (reporting.output, write_texts):
        check_output(output, texts, Path(model), *update, *([sums] if sums else []))
    refuse_overwriting(write_texts, reporting.output)
    today = datetime.now(UTC).date()
    policy, baseline = judging.load(today)
    chosen = _chosen(attack or [], set or [])
    target = _open(model)
    sent = _sent(update, target, texts, columns, sums, after=after)
    found = _attack(target, *sent, chosen, alpha, seed)
    if write_texts is not None:
        _write(write_texts, found, sent[0], target)
    raise typer.Exit(reporting.present(found.report, policy, today, baseline=baseline))


def _attack(
    target: "WhiteBox",
    sent: "tuple[Sender, ...]",
    left: "tuple[Truth, ...]",
    chosen: "tuple[UpdateAttack | UpdateMembership, ...]",
    alpha: float,
    seed: int,
) -> "UpdateAudit":
    """Attack what was sent and show how far that is."""
    from redteam.auditing.updates.run import audit_updates
    from redteam.plugins.registry import discover_update_controls

    (control, *_) = discover_update_controls()
    with progress("attacking") as show:
        return audit_updates(target, sent, chosen, control, left=left, alpha=alpha, seed=seed, progress=show)


def _open(model: str) -> "WhiteBox":
    """Open the public model; TargetError for one whose weights are not at hand."""
    from redteam.targets.loading import load_target
    from redteam.targets.target import WhiteBox

    options = {"limits": o.USUAL_LIMITS.limits()} if Path(model).is_dir() else {}
    target = load_target(model, **options)
    if not isinstance(target, WhiteBox):
        raise TargetError(f"{model}: shows no weights; give the model.pt or directory that the round began with")
    return target


def _sent(
    paths: list[Path], target: "WhiteBox", texts: Path, columns: o.RowOptions, sums: Path | None, *, after: bool
) -> "tuple[tuple[Sender, ...], tuple[Truth, ...]]":
    """Read what was sent, then the texts behind it and those of all others."""
    from redteam.auditing.updates.files import load_updates
    from redteam.auditing.updates.senders import read_sums, senders
    from redteam.data import read_examples

    given, groups = load_updates(paths, target, after=after), None if sums is None else read_sums(sums)
    reading = read_examples(texts, columns.columns())
    for note in reading.notes:
        say(note)
    return senders(target, given, reading.examples, groups)


def _chosen(wanted: list[str], given: list[str]) -> "tuple[UpdateAttack | UpdateMembership, ...]":
    """Return the attacks that are asked for, with their settings."""
    from redteam.plugins.registry import choose, discover_update_attacks, discover_update_membership
    from redteam.plugins.settings import tune

    found: tuple[UpdateAttack | UpdateMembership, ...] = (*discover_update_attacks(), *discover_update_membership())
    return tune(choose(found, wanted) if wanted else found, given)


def _write(path: Path, found: "UpdateAudit", sent: "tuple[Sender, ...]", target: "WhiteBox") -> None:
    """Write what was recovered, for the owner's eyes only."""
    from redteam.core.files import write_atomic
    from redteam.targets.target import labels_of

    names, lines = labels_of(target), []
    for attack, answers in found.recovered.items():
        for each_sent, answer in zip(sent, answers, strict=True):
            for each in answer.sentences:
                lines.append(
                    {
                        "attack": attack,
                        "update": each_sent.truth.client,
                        "verified": each.verified,
                        "label": None if each.label is None else names[each.label],
                        "weight": each.weight,
                        "text": target.tokenizer.decode(list(each.tokens[1:-1])),
                    }
                )
    write_atomic(path, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), mode=0o600)
    say(f"wrote {len(lines):,} recovered texts to {path}, which is private")
