"""`redteam init`: write the policy, the workflow and the lines of .gitignore that an audit in a build needs."""

import json
import shlex
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from redteam.cli import options as o
from redteam.cli.present import say
from redteam.core import UsageError, read_text
from redteam.core.files import write_atomic

POLICY, WORKFLOW, IGNORED = Path("redteam.toml"), Path(".github/workflows/redteam.yml"), Path(".gitignore")
LINES = ("*.ledger.json", "ledger.json", "*.canaries.json", "*.audit/")
_LIMIT = 0.55
_WHERE = "Where is the data (a file with a split column; members' file and others'; a ledger; empty: beside the model)"
_MaxAuc = Annotated[float | None, o.Opt("--max-auc", help="Limit: how well members may be told; 0.5 is chance.")]
_Force = Annotated[bool, o.Opt("--force", help="Overwrite a policy and a workflow that are there.")]


@dataclass(frozen=True)
class Project:
    """What is to be audited, on which data, and the limit."""

    target: str
    data: tuple[str, ...]
    limit: float

    @property
    def command(self) -> str:
        """The audit as a shell runs it."""
        return shlex.join(
            ["redteam", "audit", *self.data, "-f", "json", "-o", "redteam-report.json", "--", self.target]
        )


def init(
    *,
    target: o.Target = None,
    members: o.Members = None,
    nonmembers: o.Nonmembers = None,
    data: o.Data = None,
    ledger: o.LedgerFile = None,
    max_auc: _MaxAuc = None,
    force: _Force = False,
) -> None:
    """Write a policy and a workflow for an audit, asked or told."""
    given = {"--members": members, "--nonmembers": nonmembers, "--data": data, "--ledger": ledger}
    named = {option: str(path) for option, path in given.items() if path is not None}
    answers = _answers(target, named, max_auc)
    texts = {POLICY: policy_text(answers.limit), WORKFLOW: workflow_text(answers.command)}
    _check(answers, force=force)
    ignored = _ignored()
    WORKFLOW.parent.mkdir(parents=True, exist_ok=True)
    for path, text in {**texts, IGNORED: ignored}.items():
        write_atomic(path, text)
    say(f"wrote {POLICY} and {WORKFLOW}, and {IGNORED} keeps ledgers out; next: {answers.command}")


def _answers(target: str | None, named: dict[str, str], limit: float | None) -> Project:
    """Take what was given and ask for the rest; UsageError where there is nobody to ask."""
    asked = target is None
    if target is None:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to ask: say redteam init TARGET, with --data FILE or what else it needs")
        target = _ask("What is the target (a model, a folder, module:function or a URL)")
    if asked and not named:
        named = _sources(_ask(_WHERE, default="", show_default=False))
    if asked and limit is None:
        limit = float(_ask("What is the limit on the AUC", default=_LIMIT, type=float))
    given = tuple(word for option, path in named.items() for word in (option, path))
    return Project(target, given, _LIMIT if limit is None else limit)


def _ask(question: str, **how: Any) -> str:
    """Ask on the terminal; UsageError where no answer is given."""
    try:
        return str(typer.prompt(question, err=True, **how))
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise UsageError("no answer was given, and nothing was written") from None


def _sources(said: str) -> dict[str, str]:
    """Return the options that an answer stands for: two files are members and others, one is a ledger or the data."""
    try:
        files = shlex.split(said)
    except ValueError as error:
        raise UsageError(f"{said!r}: {error}; name one or two files") from None
    if len(files) > 2:
        raise UsageError(f"{said!r}: name one file or two")
    if len(files) == 2:
        return dict(zip(("--members", "--nonmembers"), files, strict=True))
    return {"--ledger" if file.endswith("ledger.json") else "--data": file for file in files}


def _check(answers: Project, *, force: bool) -> None:
    """Refuse before anything is written: what no audit takes, what a workflow would expand, files that are there."""
    from redteam.policy.reading import parse_policy

    try:
        parse_policy({"max_auc": answers.limit}, source=str(POLICY))
    except ValueError as error:
        raise UsageError(f"--max-auc {answers.limit}: {error}") from None
    for word in (answers.target, *answers.data):
        if not word.strip() or not word.isprintable() or "${{" in word:
            raise UsageError(f"{word!r}: cannot stand in a workflow")
    options = set(answers.data[::2])
    pair = {"--members", "--nonmembers"}
    if len(options & pair) == 1 or len(options - pair) + bool(options & pair) > 1:
        raise UsageError("give --members with --nonmembers, --data, or --ledger: each says which examples to audit")
    there = [str(path) for path in (POLICY, WORKFLOW) if path.exists() or path.is_symlink()]
    if there and not force:
        raise UsageError(f"{' and '.join(there)}: there already; --force overwrites")


def policy_text(limit: float) -> str:
    """Return a policy with one limit that was asked for, and what usually goes with it."""
    return f"""\
# What a model must keep, written on {date.today()} by redteam init. An unknown key is an error.
max_auc = {limit!r}                             # the attacker picks the member of a pair; 0.5 is chance
max_tpr = {{ fpr = 0.01, limit = 0.05 }}     # members found while accusing 1 non-member in 100
strict = false                             # true: a limit that was not settled fails the build too
"""


def workflow_text(command: str) -> str:
    """Return a workflow of GitHub that runs the audit and shows what it found."""
    return f"""\
# Written by redteam init: audits the model of every pull request; exit 1 is a leak, 2 inconclusive.
name: redteam
on: pull_request
permissions: {{ contents: read }}
jobs:
  audit:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{ python-version: "3.11" }}
      - name: Install
        run: pip install ./redteam  # a checkout of the project; its action.yml does more than this
      # Who was trained on is private: bring the ledger and the data here as a secret, never by a commit.
      - name: Audit
        run: {json.dumps(command, ensure_ascii=False)}
      - name: Summary
        if: always() && hashFiles('redteam-report.json') != ''
        run: redteam gate redteam-report.json --exit-zero --quiet -f markdown >> "$GITHUB_STEP_SUMMARY"
"""


def _ignored() -> str:
    """Return .gitignore with the lines that are not in it yet; UsageError where it is no text."""
    try:
        before = read_text(IGNORED) if IGNORED.exists() else ""
    except UnicodeDecodeError as error:
        raise UsageError(f"{IGNORED}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    lacking = [line for line in LINES if line not in before.split("\n")]
    if not lacking:
        return before
    gap = "" if before.endswith("\n") or not before else "\n"
    return before + gap + "# who was trained on is private\n" + "\n".join(lacking) + "\n"
