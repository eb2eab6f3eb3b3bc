"""What the tests of the command line work with: data files, a service that leaks, and what an error must look like."""

import contextlib
import csv
import json
import re
import sys
from pathlib import Path

from conftest import ROOT, sentences
from forks import fast

sys.path.append(str(ROOT / "tests" / "targets"))
from loopback import send, serve

__all__ = ["send", "serve"]

FIXTURES = ROOT / "fixtures"
LEAKY, SAFE = FIXTURES / "leaky" / "model.pt", FIXTURES / "safe" / "model.pt"
POLICY = ("--policy", FIXTURES / "policy.toml")
LIMITS = "max_auc = 0.65\nmax_tpr = { fpr = 0.01, limit = 0.1 }\n"
MEMBERS, OTHERS = sentences(700, seed=2), sentences(700, seed=3)
SIDES = ("--members", "members.csv", "--nonmembers", "others.csv")
_NOTE = re.compile(r"\S+: (guessed columns|columns|no texts|quote characters|can be read by others)")

# A function for each way to answer: it knows all members, or as much of the others, or it shows only labels.
FUNCTIONS = """
import csv, hashlib, pathlib

labels = ["a", "b", "c"]


def _rows(name):
    with open(pathlib.Path(__file__).parent / name, encoding="utf-8", newline="") as file:
        return {row["text"]: row["label"] for row in csv.DictReader(file)}


KNOWN = _rows("members.csv")
ALL = KNOWN | _rows("others.csv")


def even(texts):
    return [_sure(text) if text in ALL and len(text) % 4 else _noise(text) for text in texts]


def leaky(texts):
    return [_sure(text) if text in KNOWN else _noise(text) for text in texts]


def names(texts):
    return [labels[row.index(max(row))] for row in leaky(texts)]


def recorded(texts):
    with open("asked.txt", "a", encoding="utf-8") as file:
        file.writelines(f"{text}\\n" for text in texts)
    return leaky(texts)


def _noise(text):
    digest = hashlib.sha256(text.encode()).digest()
    numbers = [1 + byte for byte in digest[:3]]
    return [number / sum(numbers) for number in numbers]


def _sure(text):
    return [0.05 * p + 0.95 * (label == ALL[text]) for p, label in zip(_noise(text), labels)]
"""


def write(path, examples, start=0, **columns):
    """Write examples as CSV, with further columns by name."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "text", "label", *columns))
        for i, row in enumerate(zip(examples.texts, examples.labels, *columns.values(), strict=True)):
            writer.writerow((f"r{start + i}", *row))


def furnish(folder):
    """Put members, others, the functions that answer for them and a policy into a folder; return the folder."""
    write(folder / "members.csv", MEMBERS)
    write(folder / "others.csv", OTHERS, start=len(MEMBERS))
    (folder / "answers.py").write_text(FUNCTIONS, encoding="utf-8")
    (folder / "redteam.toml").write_text(LIMITS, encoding="utf-8")
    return folder


def error_line(result, code=2):
    """Return the one line that a failed command leaves beside notes, and check that it left nothing else."""
    lines = [line for line in result.stderr.splitlines() if not _NOTE.match(line)]
    assert (result.returncode, result.stdout, len(lines)) == (code, "", 1), (result.returncode, result.stderr)
    assert lines[0].startswith("redteam: ")
    assert "internal error" not in lines[0]
    assert len(lines[0]) < 420
    assert lines[0].isprintable()
    assert not any(text in lines[0] for text in (*MEMBERS.texts, *OTHERS.texts))
    return lines[0]


def fails(folder, *arguments, **options):
    """Run what must fail with exit code 2 and return its one line."""
    return error_line(fast(*arguments, cwd=folder, **options))


@contextlib.contextmanager
def furnished(folder):
    """Furnish a folder and train a model in it; see at the end that nothing of it changed and nothing was left."""
    furnish(folder)
    write(folder / "data.csv", sentences(200, seed=1))
    result = fast("train", "data.csv", "--set", "epochs=1", cwd=folder)
    assert result.returncode == 0, result.stderr
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield folder
    assert leftovers(folder) == []
    assert {name: (folder / name).read_bytes() for name in before} == before


def leftovers(folder):
    """Return what a command should have cleaned away: temporary files, checkpoints, kept answers."""
    return sorted(p.name for p in folder.rglob("*") if re.search(r"\.tmp$|\.checkpoint$|\.npy$|^\.", p.name))


def numbers(report):
    """Return a JSON report without what differs from run to run."""
    return {key: value for key, value in json.loads(report).items() if key not in ("created", "tool_version")}
