"""What the tests share: small examples, targets that answer from a rule, and the command line as a subprocess."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from redteam.data import Examples
from redteam.targets.target import Access

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).parents[1]
for _ledger in (ROOT / "fixtures").glob("*/*.ledger.json"):
    _ledger.chmod(0o600)  # git makes them readable to everybody, of which an audit warns
SNIPS = ROOT.parent / "shared" / "data" / "snips" / "snips.tsv"

WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "inlet",
    "jolly",
    "karma",
    "lemon",
    "mango",
    "noble",
    "ocean",
    "pearl",
]


def sentences(count, *, seed, words=6, labels=("a", "b", "c")):
    """Random sentences with random labels: no text tells anything about any other."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(10**9, size=count, replace=False) + 10**9  # no text twice, and as long on either side
    texts = tuple(f"{' '.join(rng.choice(WORDS, size=words))} {number}" for number in numbers)
    return Examples(np.arange(count), texts, tuple(rng.choice(labels, size=count)))


def learnable(count, *, seed):
    """Such sentences with a word before them that says the label: a model learns that in no time."""
    rows = sentences(count, seed=seed)
    texts = tuple(f"{label * 3} {text}" for text, label in zip(rows.texts, rows.labels, strict=True))
    return Examples(rows.rows, texts, rows.labels)


class RuleTarget:
    """A target that knows some texts by heart: probability `known` for their own label, noise for all others."""

    kind, digest, access = "rule", None, Access.PROBABILITIES

    def __init__(self, memorised=None, *, labels=("a", "b", "c"), name="rule", share=1.0, seed=0):
        self.name, self.labels, self.seed = name, labels, seed
        self.asked = []
        rng = np.random.default_rng(seed)
        known = [] if memorised is None else zip(memorised.texts, memorised.labels, strict=True)
        self.memory = {text: labels.index(label) for text, label in known if rng.random() < share}

    def log_probabilities(self, examples):
        self.asked += examples.texts
        rows = []
        for text in examples.texts:
            rng = np.random.default_rng([self.seed, *text.encode()])
            p = rng.dirichlet(np.ones(len(self.labels)))
            if text in self.memory:
                p = 0.02 * p
                p[self.memory[text]] += 0.98
            rows.append(p)
        return np.log(np.array(rows))

    def predict(self, examples):
        return self.log_probabilities(examples).argmax(axis=1)

    def losses(self, examples):
        own = [self.labels.index(label) for label in examples.labels]
        return -self.log_probabilities(examples)[np.arange(len(own)), own]


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


@pytest.fixture
def redteam(tmp_path):
    """The command line, run in an empty folder."""

    def run(*arguments, **options):
        return run_redteam(*arguments, **{"cwd": tmp_path, **options})

    return run
