"""`redteam init`: asked or told, it writes a policy and a workflow whose commands run, and overwrites nothing."""

import os
import pty
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from forks import fast
from materials import error_line, furnish

from redteam.cli.init import IGNORED, LINES, POLICY, WORKFLOW

SIDES = ("--members", "members.csv", "--nonmembers", "others.csv")


def steps(folder):
    """The commands of the workflow that is written, by the name of the step."""
    found = yaml.safe_load((folder / WORKFLOW).read_text(encoding="utf-8"))
    return {step["name"]: step["run"] for step in found["jobs"]["audit"]["steps"] if "run" in step}


@pytest.mark.parametrize(("name", "code"), [("leaky", 1), ("even", 0)])
def test_what_it_writes_runs(tmp_path, name, code):
    furnish(tmp_path)
    (tmp_path / POLICY).unlink()
    assert fast("init", f"answers:{name}", *SIDES, "--max-auc", 0.65, cwd=tmp_path).returncode == 0
    program, *arguments = shlex.split(steps(tmp_path)["Audit"])
    assert program == "redteam"
    done = fast(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "0.65" in (tmp_path / POLICY).read_text()
    summary, _, file = steps(tmp_path)["Summary"].partition(" >> ")
    shown = fast(*shlex.split(summary)[1:], cwd=tmp_path)
    assert (file, shown.returncode) == ('"$GITHUB_STEP_SUMMARY"', 0)
    assert f"answers:{name}" in shown.stdout
    ignored = (tmp_path / IGNORED).read_text().splitlines()
    assert set(LINES) <= set(ignored)


def test_nothing_is_overwritten_without_being_told(tmp_path):
    (tmp_path / POLICY).write_text("max_auc = 0.6\n")
    refused = fast("init", "model.pt", cwd=tmp_path)
    assert refused.returncode == 2
    assert "redteam.toml: there already; --force overwrites" in error_line(refused)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["redteam.toml"]
    (tmp_path / IGNORED).write_text("build/\n*.ledger.json")
    assert fast("init", "model.pt", "--force", cwd=tmp_path).returncode == 0
    assert fast("init", "model.pt", "--force", cwd=tmp_path).returncode == 0
    ignored = (tmp_path / IGNORED).read_text().splitlines()
    assert ignored[:2] == ["build/", "*.ledger.json"]
    assert all(ignored.count(line) == 1 for line in LINES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody is there to ask"),
        (["model.pt", "--members", "a.csv"], "give --members with --nonmembers"),
        (["model.pt", "--data", "a.csv", "--ledger", "b.json"], "each says which examples"),
        (["model.pt", "--max-auc", "1.5"], "--max-auc 1.5"),
        (["model.pt", "--max-auc", "nan"], "--max-auc nan"),
        (["${{ secrets.X }}"], "cannot stand in a workflow"),
        (["a\nb"], "cannot stand in a workflow"),
    ],
)
def test_bad_answers_are_one_line_and_nothing_is_written(tmp_path, arguments, said):
    done = fast("init", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in error_line(done)
    assert not (tmp_path / POLICY).exists()


@pytest.mark.parametrize(
    ("data", "option"),
    [("rows.csv", "--data rows.csv"), ("a.csv b.csv", "--members a.csv --nonmembers b.csv"), ("", ""),
     ("kept/model.ledger.json", "--ledger kept/model.ledger.json")],
)  # fmt: skip
def test_three_questions_are_asked_on_a_terminal(tmp_path, data, option):
    ours, theirs = pty.openpty()
    os.write(ours, f"my model.pt\n{data}\n0.6\n".encode())
    command = [sys.executable, "-m", "redteam", "init"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, stdin=theirs, env=environment, capture_output=True, text=True)
    os.close(ours), os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("?") + done.stderr.count("]:") >= 1
    assert steps(tmp_path)["Audit"] == " ".join(
        f"redteam audit {option} -f json -o redteam-report.json -- 'my model.pt'".split()
    )
    assert "max_auc = 0.6 " in (tmp_path / POLICY).read_text()


def test_names_in_any_script_reach_the_workflow(tmp_path):
    assert fast("init", "modèle-🙂.pt", "--data", "zeilen ß.csv", cwd=tmp_path).returncode == 0
    assert steps(tmp_path)["Audit"].endswith("--data 'zeilen ß.csv' -f json -o redteam-report.json -- 'modèle-🙂.pt'")


def test_no_answer_writes_nothing(tmp_path):
    ours, theirs = pty.openpty()
    os.write(ours, b"model.pt\n\x04")  # the end of what is typed
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "redteam", "init"]
    done = subprocess.run(command, cwd=tmp_path, stdin=theirs, env=environment, capture_output=True, text=True)
    os.close(ours), os.close(theirs)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("redteam: no answer was given, and nothing was written")
    assert not list(tmp_path.iterdir())


def test_what_is_no_text_is_left_as_it_is(tmp_path):
    (tmp_path / IGNORED).write_bytes(b"\xff\xfe\x00")
    assert ".gitignore: not UTF-8" in error_line(fast("init", "model.pt", cwd=tmp_path))
    assert not (tmp_path / POLICY).exists()


def test_a_target_cannot_become_an_option_or_a_command(tmp_path):
    assert fast("init", "--", "-x; touch pwned", cwd=tmp_path).returncode == 0
    assert shlex.split(steps(tmp_path)["Audit"])[-2:] == ["--", "-x; touch pwned"]
