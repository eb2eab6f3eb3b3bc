"""What the tests share: small examples, targets that answer from a rule, and the command line as a subprocess."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import kept_rows
import pytest

from redteam.data import Examples
from redteam.testing.examples import WORDS, RuleTarget, sentences

__all__ = ["WORDS", "RuleTarget", "sentences"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("REDTEAM_ENCODER", "hashed")  # MiniLM would read every text of every audit there is
os.environ.setdefault("REDTEAM_REFERENCES", "0")  # nor train eight models for every audit of one with a ledger
ROOT = Path(__file__).parents[1]

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ledger in (ROOT / "fixtures").glob("*/*.ledger.json"):
    _ledger.chmod(0o600)  # git makes them readable to everybody, of which an audit warns
SNIPS = ROOT.parent / "shared" / "data" / "snips" / "snips.tsv"


def learnable(count, *, seed):
    """Such sentences with a word before them that says the label: a model learns that in no time."""
    rows = sentences(count, seed=seed)
    texts = tuple(f"{label * 3} {text}" for text, label in zip(rows.texts, rows.labels, strict=True))
    return Examples(rows.rows, texts, rows.labels)


def run_redteam(*arguments, cwd=None, env=None, **options):
    """Run the command line in a process of its own: exit codes are only real there."""
    command = [sys.executable, "-m", "redteam", *map(str, arguments)]
    environment = {**os.environ, "NO_COLOR": "1", "XDG_CACHE_HOME": str(cwd or ROOT / ".pytest_cache"), **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, **options
    )


def needs(package):
    """Skip where a package is absent that only some users have, unless this is the job that must have it."""
    absent = importlib.util.find_spec(package) is None and "REDTEAM_INTEGRATIONS" not in os.environ
    return pytest.mark.skipif(absent, reason=f"{package} is not installed; make test-integrations installs it")


@pytest.fixture(scope="session", autouse=True)
def _compared_once(tmp_path_factory):
    kept_rows.keep(tmp_path_factory.mktemp("kept-rows"))


@pytest.fixture
def as_a_reader(monkeypatch):
    """Audits take the encoder that a reader of the pages has, and train references where they would."""
    monkeypatch.delenv("REDTEAM_ENCODER")
    monkeypatch.delenv("REDTEAM_REFERENCES")


@pytest.fixture
def redteam(tmp_path):
    """The command line, run in an empty folder."""

    def run(*arguments, **options):
        return run_redteam(*arguments, **{"cwd": tmp_path, **options})

    return run
