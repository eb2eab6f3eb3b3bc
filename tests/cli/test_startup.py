"""What must not be imported: judging a saved report and asking for help need no machine learning."""

import ast
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

GOLDEN = ROOT / "tests" / "formats" / "golden"
HEAVY = {"torch", "transformers", "tokenizers", "sklearn", "scipy", "pandas", "numpy", "pyarrow", "httpx"}
PROGRAM = """
import sys
from redteam.cli import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
LEAKY, SAFE = GOLDEN / "leaky.json", GOLDEN / "safe.json"


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["--wrong"], 2),
        *[([command, "--help"], 0) for command in ("audit", "train", "pack", "unpack", "gate", "compare", "selftest")],
        *[([command, "--help"], 0) for command in ("drill", "gap", "canary")],
        (["canary", "extract", "--help"], 0),
        *[(["gate", LEAKY, "-f", format], 1) for format in ("text", "json", "markdown", "sarif", "junit", "html")],
        (["gate", SAFE, "--baseline", LEAKY, "--exit-zero"], 0),
        (["compare", SAFE, LEAKY], 1),
        (["compare", SAFE, SAFE, "-f", "json"], 0),
        (["compare", SAFE, SAFE, "-f", "markdown"], 0),
        (["gate", "none.json"], 2),
    ],
)
def test_nothing_heavy_is_imported(tmp_path, arguments, code):
    (tmp_path / "redteam.toml").write_text("max_auc = 0.6\nmax_tpr = { fpr = 0.01, limit = 0.05 }\n")
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    loaded = set(result.stderr.splitlines())
    assert "redteam.cli" in loaded
    assert not loaded & HEAVY
    assert result.stdout or code == 2


@pytest.mark.parametrize("report", [LEAKY, ROOT / "fixtures" / "leaky" / "report.json"])
def test_judging_loads_few_of_our_modules(tmp_path, report):
    """At most sixteen, and one for each metric that the policy names or the report holds."""
    (tmp_path / "redteam.toml").write_text("max_auc = 0.6\nmax_tpr = { fpr = 0.01, limit = 0.05 }\n")
    result = run("gate", report, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    ours = {name for name in result.stderr.split() if name.split(".")[0] in ("redteam", "attacks", "defenses")}
    metrics = {name for name in ours if name.startswith("redteam.report.metrics.")}
    held = {each["metric"] for each in json.loads(report.read_text())["evidence"]}
    assert metrics == {f"redteam.report.metrics.{name}" for name in held | {"auc", "tpr"}}
    assert len(ours - metrics) <= 16, sorted(ours)


def test_the_command_the_module_and_no_arguments(tmp_path):
    command = ROOT / ".venv" / "bin" / "redteam"
    starts = [[sys.executable, "-m", "redteam"]] + ([[str(command)]] if command.exists() else [])
    for start in starts:
        version = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert version.stdout.startswith("redteam 0.")
        bare = subprocess.run(start, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (bare.returncode, bare.stderr.count("\n")) == (2, 1)
        assert bare.stdout.startswith("Usage: redteam")


@pytest.mark.parametrize("width", [80, 100])
def test_help_is_whole_and_keeps_to_the_width(tmp_path, width):
    for arguments in ((), ("audit",), ("train",), ("drill",), ("canary",), ("canary", "plant"), ("canary", "extract")):
        text = run(*arguments, "--help", cwd=tmp_path, COLUMNS=str(width)).stdout
        assert max(map(len, text.splitlines())) <= width
        assert not [line for line in text.splitlines()[1:] if line.endswith("...")]
    assert "[default: beside the model]" in run("audit", "--help", cwd=tmp_path).stdout


# Who may import whom


def imports(path):
    """Return every module that a file names in an import statement, at whatever depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_statistics_know_nothing_of_models_or_texts():
    allowed = ("redteam.core", "redteam.report.values", "redteam.statistics", "redteam.statistics")
    for path in (ROOT / "redteam" / "statistics").glob("*.py"):
        own = {name for name in imports(path) if name.startswith("redteam.")}
        assert all(name.startswith(allowed) for name in own), (path, own)


def test_nothing_but_the_registry_reaches_for_attacks_and_defences():
    for path in (ROOT / "redteam").rglob("*.py"):
        assert not {n for n in imports(path) if n.split(".")[0] in ("attacks", "defenses")}, path
    pure = [path for room in ("report", "policy", "formats") for path in (ROOT / "redteam" / room).glob("*.py")]
    for path in [*pure, ROOT / "redteam" / "statistics" / "__init__.py"]:
        assert not {n.split(".")[0] for n in imports(path)} & HEAVY, path
