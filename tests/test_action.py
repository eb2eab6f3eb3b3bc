"""The GitHub action and the pre-commit hooks, their scripts run as GitHub and pre-commit would run them."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step.get("name"): step for step in ACTION["runs"]["steps"]}
ANSWERS = """
labels = ["a", "b"]

def f(texts):
    '''Sure of what stands in in.csv, whose rows have even numbers, and right more often than not elsewhere.'''
    numbers = [int(''.join(c for c in text if c.isdigit()) or 0) for text in texts]
    sure = [0.99 if i % 2 == 0 else 0.55 + (i % 37) / 100 for i in numbers]
    return [[p, 1 - p] if i // 2 % 2 == 0 else [1 - p, p] for p, i in zip(sure, numbers)]
"""
LEAKY, SAFE = (ROOT / "tests" / "formats" / "golden" / f"{name}.json" for name in ("leaky", "safe"))


@pytest.fixture
def step(tmp_path):
    """Run the script of a step in `tmp_path` with these inputs; return the process, the outputs and the summary."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "redteam").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m redteam "$@"\n')
    (tools / "redteam").chmod(0o755)

    def run(name, **inputs):
        chosen = STEPS[name] if isinstance(name, str) else name
        files = {each: tmp_path / each for each in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        env = os.environ | dict.fromkeys(chosen["env"], "") | inputs | {k: str(v) for k, v in files.items()}
        env |= {"RUNNER_TEMP": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        script = chosen["run"]  # GitHub's own shell: bash -e -o pipefail
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=tmp_path, env=env, capture_output=True, text=True,
        )  # fmt: skip
        outputs = dict(line.partition("=")[::2] for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return done, outputs, files["GITHUB_STEP_SUMMARY"].read_text()

    return run


def test_a_leaky_report_fails_the_build_with_a_summary_and_findings(step, tmp_path):
    done, outputs, summary = step("Judge", REPORT=str(LEAKY))
    assert (done.returncode, outputs["exit-code"]) == (1, "1"), done.stderr
    assert "leak" in summary
    assert json.loads((tmp_path / "redteam.sarif").read_text())["runs"][0]["results"]


def test_a_safe_report_and_a_known_leak_pass(step):
    assert step("Judge", REPORT=str(SAFE))[0].returncode == 0
    assert step("Judge", REPORT=str(LEAKY), BASELINE=str(LEAKY))[0].returncode == 0


def test_a_model_is_audited_and_its_leak_fails_the_build(step, tmp_path):
    rows = [f"sentence {i} of many,{'ab'[i // 2 % 2]}" for i in range(600)]
    for name, part in (("in.csv", rows[::2]), ("out.csv", rows[1::2])):
        (tmp_path / name).write_text("text,label\n" + "\n".join(part) + "\n")
    (tmp_path / "limits.toml").write_text("max_auc = 0.6\n")
    (tmp_path / "answers.py").write_text(ANSWERS)
    sides = "--members in.csv --nonmembers out.csv --quiet"
    done, outputs, summary = step("Judge", MODEL="answers:f", ARGUMENTS=sides, POLICY="limits.toml")
    assert (done.returncode, outputs["exit-code"]) == (1, "1"), done.stderr
    assert "answers:f" in summary
    assert "sentence 1 of many" not in (tmp_path / "redteam.json").read_text()


@pytest.mark.parametrize("inputs", [{}, {"REPORT": "a.json", "MODEL": "b.pt"}, {"REPORT": "absent.json"}])
def test_what_cannot_be_judged_is_inconclusive(step, inputs):
    done, outputs, _ = step("Judge", **inputs)
    assert (done.returncode, outputs["exit-code"]) == (2, "2")


def test_an_input_is_never_run(step, tmp_path):
    done, _, _ = step("Judge", REPORT='$(touch pwned)"; touch pwned; "', POLICY="`touch pwned`")
    assert done.returncode == 2
    assert not (tmp_path / "pwned").exists()
    scripts = [each.get("run", "") for each in ACTION["runs"]["steps"]]
    assert not any("${{" in script for script in scripts)


def test_the_baseline_is_that_of_the_default_branch(step, tmp_path):
    def git(*arguments, cwd):
        named = ("-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *named, *arguments], cwd=cwd, check=True, capture_output=True)

    origin = tmp_path / "origin"
    origin.mkdir()
    git("init", cwd=origin)
    (origin / "base.json").write_bytes(LEAKY.read_bytes())
    git("add", ".", cwd=origin)
    git("commit", "-m", "one", cwd=origin)
    git("init", cwd=tmp_path)
    git("remote", "add", "origin", str(origin), cwd=tmp_path)
    done, outputs, _ = step("Fetch the baseline", BASELINE="base.json", BRANCH="main")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "baseline.json").read_text()) == json.loads(LEAKY.read_text())
    assert outputs == {"file": str(tmp_path / "baseline.json")}
    done, outputs, _ = step("Fetch the baseline", BASELINE="other.json", BRANCH="main")
    assert (done.returncode, outputs) == (0, {})
    assert step("Fetch the baseline")[1] == {}


def test_hooks_name_commands_that_there_are():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {hook["entry"] for hook in hooks} == {"redteam gate", "redteam audit"}
    for hook in hooks:
        program, command = hook["entry"].split()
        done = subprocess.run([sys.executable, "-m", program, command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0


@pytest.mark.parametrize(("inputs", "light"), [({"REPORT": "a.json"}, True), ({"MODEL": "b.pt"}, False)])
def test_the_gate_is_installed_without_what_an_audit_needs(step, tmp_path, inputs, light):
    (tmp_path / "tools" / "python").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/installed"\n')
    (tmp_path / "tools" / "python").chmod(0o755)
    done, _, _ = step("Install", HERE=str(ROOT), **inputs)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "installed").read_text()
    assert asked.startswith("-m pip install ")
    assert ("--no-deps -r " in asked and "requirements-gate.txt" in asked) == light
    assert ("constraints.txt" in asked) == (not light)


def test_findings_of_an_earlier_step_are_not_uploaded_for_this_one(step, tmp_path):
    (tmp_path / "redteam.sarif").write_text("{}")
    assert step("Judge", REPORT="absent.json")[0].returncode == 2
    assert not (tmp_path / "redteam.sarif").exists()


def test_the_job_of_gitlab_runs_and_leaves_what_its_report_names(step, tmp_path):
    """The template of the docs: what it installs and fetches stands ready, and its audit is one of a function."""
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    job = yaml.safe_load(page.partition("# .gitlab-ci.yml\n")[2].partition("```")[0])["privacy"]
    rows = [f"sentence {i} of many,{'ab'[i // 2 % 2]}" for i in range(600)]
    for name, part in (("in.csv", rows[::2]), ("out.csv", rows[1::2])):
        (tmp_path / name).write_text("text,label\n" + "\n".join(part) + "\n")
    (tmp_path / "redteam.toml").write_text("max_auc = 0.6\n")
    (tmp_path / "answers.py").write_text(ANSWERS)
    *before, audit = job["script"]
    assert [line.split()[0] for line in before] == ["pip", "./fetch-private.sh"]
    asked = audit.replace("model.pt --ledger private/model.ledger.json --training-data private/train.csv", "answers:f")
    assert asked != audit
    done, _, _ = step({"env": {}, "run": f"{asked} --members in.csv --nonmembers out.csv"})
    assert done.returncode == 1, done.stderr
    (left,) = job["artifacts"]["reports"].values()
    assert job["artifacts"]["when"] == "always"
    assert "<failure" in (tmp_path / left).read_text(encoding="utf-8")
