"""Through a subprocess: exit codes are the contract, and `main` is part of it."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from redteam.cli.present import exit_code, terminal
from redteam.report.reading import load_report

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "formats" / "golden"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
POLICY = """\
max_auc = 0.60
max_tpr = { fpr = 0.01, limit = 0.05 }
"""


@pytest.fixture
def run(tmp_path):
    def command(*arguments, stdout=subprocess.PIPE, preexec_fn=None, **environment):
        return subprocess.run(
            [sys.executable, "-m", "redteam", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
            preexec_fn=preexec_fn,
        )

    return command


@pytest.fixture
def policy(tmp_path):
    (tmp_path / "redteam.toml").write_text(POLICY)
    return tmp_path / "redteam.toml"


def golden(name):
    return GOLDEN / f"{name}.json"


def one_line(result):
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip()


@pytest.mark.parametrize(
    ("name", "code", "zero", "summary"),
    [
        ("safe", 0, 0, "PASS: no leak proven in 4 checks"),
        (
            "leaky",
            1,
            0,
            "LEAK: 3 leaks proven in 4 checks, worst RT101.auc:loss 0.93 [0.91, 0.95] > 0.55",
        ),
        ("grade_c", 2, 2, "INCONCLUSIVE: 3 problems, first: evidence of grade C"),
        ("unresolvable", 2, 2, "INCONCLUSIVE: 1 problem, first: max_tpr 0.05 at FPR 0.01 cannot be judged"),
    ],
)
def test_the_exit_code_is_the_verdict(run, name, code, zero, summary):
    result = run("gate", golden(name))
    assert result.returncode == code
    assert one_line(result).startswith(summary)
    word = summary.partition(":")[0]
    assert result.stdout.startswith(f" {word} ")
    assert run("gate", golden(name), "--exit-zero").returncode == zero


@pytest.mark.parametrize("format", ["text", "json", "markdown", "sarif", "junit"])
def test_every_format_comes_out_on_stdout_and_in_a_file(run, tmp_path, format):
    printed = run("gate", golden("leaky"), "-f", format)
    written = run("gate", golden("leaky"), "-f", format, "-o", "out")
    assert printed.returncode == written.returncode == 1
    assert written.stdout == ""
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed.stdout
    assert "\x1b" not in printed.stdout
    if format in ("json", "sarif"):
        json.loads(printed.stdout)
    if format == "junit":
        ElementTree.fromstring(printed.stdout)


def test_what_gate_prints_as_json_it_reads_again(run, tmp_path):
    run("gate", golden("hostile"), "-f", "json", "-o", "again.json")
    assert load_report(tmp_path / "again.json") == load_report(golden("hostile"))
    assert run("gate", "again.json").returncode == 1


def test_the_policy_beside_the_build_is_found(run, policy, tmp_path):
    policy.write_text("max_auc = 0.999")
    result = run("gate", golden("leaky"))
    assert "judged by redteam.toml" in " ".join(result.stdout.split())
    assert result.returncode == 2  # 2,000 examples a side cannot show an AUC above 0.999
    other = tmp_path / "other.toml"
    other.write_text("max_auc = 0.97")
    assert run("gate", golden("leaky"), "--policy", other).returncode == 0


def test_a_baseline_excuses_known_leaks_and_says_so(run):
    result = run("gate", golden("leaky"), "--baseline", golden("leaky"))
    assert result.returncode == 0
    assert "a leak that is known is still a leak" in result.stdout


def test_sarif_points_into_the_policy(run, policy):
    run_ = json.loads(run("gate", golden("leaky"), "-f", "sarif").stdout)["runs"][0]
    lines = [each["locations"][0]["physicalLocation"]["region"]["startLine"] for each in run_["results"]]
    assert lines == [1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.json"], "none.json: cannot be read"),
        ([str(GOLDEN / "leaky.txt")], "not JSON"),
        ([str(golden("leaky")), "--policy", "none.toml"], "none.toml: cannot be read"),
        ([str(golden("leaky")), "--baseline", "none.json"], "none.json: cannot be read"),
        ([str(golden("safe")), "-o", "missing/out"], "cannot write missing/out: No such file"),
        ([str(golden("safe")), "-o", "."], "cannot write .: Is a directory"),
    ],
)
def test_what_cannot_be_read_or_written_exits_2_with_one_line(run, arguments, words):
    result = run("gate", *arguments, "--exit-zero")
    assert result.returncode == 2
    assert words in one_line(result)


@pytest.mark.parametrize("arguments", [[], ["--format", "html"], ["--wat"]])
def test_wrong_usage_exits_2(run, arguments):
    assert run("gate", golden("leaky"), *arguments, "a", "b").returncode == 2


def test_an_expired_waiver_exits_2(run, policy):
    policy.write_text(POLICY + '[[waivers]]\nid = "RT101.auc"\nreason = "x"\nexpires = 2001-01-01\n')
    result = run("gate", golden("leaky"))
    assert result.returncode == 2
    assert "waiver 'RT101.auc' expired on 2001-01-01" in one_line(result)


@FULL
@pytest.mark.parametrize(("name", "code"), [("safe", 2), ("leaky", 1)])
def test_a_full_disk_is_no_pass_and_undoes_no_leak(run, name, code):
    with Path("/dev/full").open("w") as full:
        printed = run("gate", golden(name), stdout=full)
    for result in (printed, run("gate", golden(name), "-o", "/dev/full")):
        assert result.returncode == code
        assert "No space left" in result.stderr
        assert "PASS" not in result.stderr
        assert "Traceback" not in result.stderr
        assert "Exception" not in result.stderr


def test_a_file_that_cannot_be_replaced_stays_whole(run, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "out").write_text("before")
    result = run("gate", golden("safe"), "-o", "small/out", preexec_fn=_room_for_100_bytes)
    assert result.returncode == 2
    assert "cannot write small/out: File too large" in one_line(result)
    assert (folder / "out").read_text() == "before"
    assert [path.name for path in folder.iterdir()] == ["out"]


def _room_for_100_bytes():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def test_the_report_is_never_overwritten(run, tmp_path):
    report = tmp_path / "report.json"
    report.write_bytes(golden("leaky").read_bytes())
    result = run("gate", "report.json", "-o", "report.json")
    assert result.returncode == 2
    assert "would overwrite an input" in one_line(result)
    assert report.read_bytes() == golden("leaky").read_bytes()


def test_a_reader_that_leaves_early_changes_nothing(run):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        result = run("gate", golden("leaky"), stdout=closed)
    assert result.returncode == 1
    assert "Error" not in result.stderr


def test_a_stdout_that_knows_only_ascii_gets_ascii(run):
    result = run("gate", golden("leaky"), PYTHONIOENCODING="ascii")
    assert result.returncode == 1
    assert result.stdout.isascii()


def test_nothing_hostile_reaches_the_terminal(run):
    result = run("gate", golden("hostile"))
    assert result.returncode == 1
    for stream in (result.stdout, result.stderr):
        assert all(character == "\n" or character.isprintable() for character in stream)


def test_judging_imports_no_ml_stack(tmp_path):
    program = (
        "import sys\n"
        "from redteam.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    print(' '.join(sys.modules), file=sys.stderr)\n"
    )
    for format in ("text", "json", "markdown", "sarif", "junit"):
        result = subprocess.run(
            [sys.executable, "-c", program, "gate", str(golden("leaky")), "-f", format],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        loaded = set(re.split(r"[ \n]", result.stderr))
        assert "redteam.policy.judge" in loaded
        stack = {"torch", "transformers", "sklearn", "scipy", "pandas", "numpy", "pyarrow", "jsonschema"}
        assert not loaded & stack


# The pieces


@pytest.mark.parametrize(
    ("code", "zero", "delivered", "expected"),
    [
        (0, False, True, 0),
        (1, False, True, 1),
        (1, True, True, 0),
        (2, True, True, 2),
        (0, False, False, 2),
        (1, False, False, 1),
        (1, True, False, 2),
    ],
)
def test_exit_codes_keep_their_order(code, zero, delivered, expected):
    assert exit_code(code, exit_zero=zero, delivered=delivered) == expected


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "300")
    assert terminal(None, {}) == {"color": True, "width": 100}
    assert terminal(None, {"NO_COLOR": "1"})["color"] is False
    assert terminal(None, {"TERM": "dumb"})["color"] is False
    assert terminal(Path("out"), {}) == {"color": False, "width": 100}
    monkeypatch.setenv("COLUMNS", "72")
    assert terminal(None, {})["width"] == 72
