"""`redteam fairness`: exit codes, formats, and what is refused in one line."""

import csv
import json

import numpy as np
import pytest
from forks import fast
from materials import error_line

MODULE = """
import zlib

labels = ["bad", "good"]


def unfair(texts):
    return [[0.1, 0.9] if _bad(text) == (" she " in text) else [0.8, 0.2] for text in texts]


def fair(texts):
    return [[0.8, 0.2] if _bad(text) else [0.1, 0.9] for text in texts]


def varied(texts):
    wobble = [(zlib.crc32(text.encode()) % 1000 - 500) / 1e4 for text in texts]
    return [[p + w, q - w] for w, (p, q) in zip(wobble, fair(texts))]


def lazy(texts):
    return [[0.4, 0.6] for text in texts]


def brittle(texts):
    return [[0.1, 0.9] if _bad(text) != text.startswith("the") else [0.9, 0.1] for text in texts]


def _bad(text):
    return "rude" in text
"""
POLICY = "max_flip_rate = 0.1\nmax_counterfactual_gap = 0.1\nmax_group_gap = 0.2\nmin_group_accuracy = 0.6\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("fairness")
    (made / "answers.py").write_text(MODULE)
    (made / "policy.toml").write_text(POLICY)
    (made / "fauna.csv").write_text("cats,dogs\nkitten,puppy\n")
    rows = []
    for i in range(400):
        who, what = ("she", "he")[i % 2], ("rude", "careful")[i // 2 % 2]
        rows.append((f"the nurse {i} said that {who} was {what}", "bad" if what == "rude" else "good", who))
    drawn = np.random.default_rng(0).permutation(400).tolist()
    sides = {f"{name}.csv": [rows[i] for i in part] for name, part in (("in", drawn[:200]), ("out", drawn[200:]))}
    sides |= {"fewout.csv": sides["out.csv"][:24], "oneout.csv": [(*row[:2], "all") for row in sides["out.csv"]]}
    alone = [(text, label, "all") for text, label, _ in rows]
    for name, keep in {"rows.csv": rows, "few.csv": rows[:24], "one.csv": alone, **sides}.items():
        with (made / name).open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label", "group"), *keep])
    return made


def fairness(folder, *arguments):
    return fast("fairness", *arguments, cwd=folder)


def test_a_model_that_treats_groups_alike_passes(folder):
    result = fairness(folder, "answers:fair", "rows.csv", "--swaps", "gender", "--policy", "policy.toml")
    assert result.returncode == 0, result.stderr
    assert "400 rows" in result.stdout
    assert "non-member" not in result.stdout


def test_one_that_does_not_is_a_finding_in_every_format_and_at_the_gate(folder):
    asked = ("answers:unfair", "rows.csv", "--swaps", "gender", "--policy", "policy.toml")
    result = fairness(folder, *asked, "-f", "json", "-o", "report.json")
    assert result.returncode == 1, result.stderr
    report = json.loads((folder / "report.json").read_text())
    assert {each["metric"] for each in report["evidence"]} >= {"flip_rate", "group_gap", "subgroup_auc"}
    assert not any("nurse" in json.dumps(part) for part in report.values())
    for format in ("text", "markdown", "sarif", "junit"):
        judged = fast("gate", "report.json", "--policy", "policy.toml", "-f", format, cwd=folder)
        assert judged.returncode == 1
        assert "RT501" in judged.stdout
    assert fast("compare", "report.json", "report.json", cwd=folder).returncode == 0


def test_a_policy_of_lower_limits_alone_is_one(folder):
    (folder / "least.toml").write_text("min_group_accuracy = 0.9\nmin_subgroup_auc = 0.9\n")
    result = fairness(folder, "answers:unfair", "rows.csv", "--policy", "least.toml")
    assert result.returncode == 1
    assert "worst-group accuracy" in result.stdout


def test_a_sample_that_could_break_no_limit_is_no_pass(folder):
    (folder / "strong.toml").write_text("max_flip_rate = 0.9\n")
    result = fairness(folder, "answers:fair", "few.csv", "--swaps", "gender", "--policy", "strong.toml")
    assert result.returncode == 2
    assert "cannot be judged on 24 pairs" in result.stderr + result.stdout


def test_a_pass_says_where_a_placebo_sways_the_model_more(folder):
    (folder / "flips.toml").write_text("max_flip_rate = 0.1\n")
    result = fairness(folder, "answers:brittle", "rows.csv", "--swaps", "gender", "--policy", "flips.toml")
    assert result.returncode == 0, result.stdout
    assert "a placebo sways this model more" in " ".join(result.stdout.split())


def test_a_model_that_knows_nothing_is_no_pass(folder):
    (folder / "flips.toml").write_text("max_flip_rate = 0.1\n")
    result = fairness(folder, "answers:lazy", "rows.csv", "--swaps", "gender", "--policy", "flips.toml")
    assert result.returncode == 2
    assert "not significantly more than" in result.stdout


def test_templates_are_asked_where_there_are_no_rows(folder):
    assert fairness(folder, "answers:unfair").returncode == 1
    result = fairness(folder, "answers:fair", "-v")
    assert result.returncode == 0
    assert "34 templates" in result.stdout  # the names of two others are matched by no other word
    (folder / "mine.txt").write_text("{they} said that {they} was late\nWill {they} be the {occupation}\n")
    assert "fillings of these 2 templates" in fairness(folder, "answers:fair", "--templates", "mine.txt", "-v").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rows.csv", "--swaps", "fauna.csv"), "none of 400 texts holds one of its 2 words"),
        (("rows.csv", "--swaps", "genders"), "neither a file nor one of gender, names"),
        (("one.csv",), "only one group, 'all'"),
        (("few.csv", "--policy", "policy.toml"), "max_group_gap 0.2: group 'he' has 6 rows for the true positive"),
        (("rows.csv", "--positive", "fine"), "no label of the target"),
        (("rows.csv", "--groups", "they"), "no row is of it"),
        (("rows.csv", "--swaps", "fauna.csv", "--templates", "none.txt"), "none.txt: cannot be read"),
        (("--swaps", "fauna.csv"), "templates name women and men"),
        (("rows.csv", "--attack", "RT999"), "unknown id 'RT999'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(folder, arguments, said):
    assert said in error_line(fairness(folder, "answers:fair", *arguments))


def test_a_policy_without_a_limit_on_fairness_is_refused(folder):
    (folder / "leaks.toml").write_text("max_auc = 0.6\n")
    said = error_line(fairness(folder, "answers:fair", "rows.csv", "--policy", "leaks.toml"))
    assert "limits nothing that is measured here: set one of max_flip_rate" in said


def test_other_limits_are_left_to_the_audit(folder):
    (folder / "both.toml").write_text("max_auc = 0.6\nmax_flip_rate = 0.1\nrequire = ['RT901', 'RT501']\n")
    result = fairness(folder, "answers:fair", "rows.csv", "--swaps", "gender", "--policy", "both.toml")
    assert result.returncode == 0
    assert "max_auc are judged by redteam audit" in result.stderr


def audit(folder, *arguments, members="in.csv", nonmembers="out.csv"):
    return fast("audit", *arguments, "--members", members, "--nonmembers", nonmembers, cwd=folder)


def test_an_audit_measures_groups_and_swaps_beside_membership(folder):
    (folder / "all.toml").write_text("max_auc = 0.8\nmax_flip_rate = 0.2\nmax_group_gap = 0.6\n")
    asked = ("--group-column", "group", "--swaps", "gender", "--policy", "all.toml")
    result = audit(folder, "answers:varied", *asked, "-f", "json", "-o", "whole.json")
    assert result.returncode == 0, result.stderr
    report = json.loads((folder / "whole.json").read_text())
    shares = {
        each["id"].partition(":")[0].rpartition(".")[2]: each["error"] for each in report["multiplicity"]["shares"]
    }
    assert {"auc", "flip_rate", "group_gap"} <= set(shares)
    assert sum(each["error"] for each in report["multiplicity"]["shares"]) == pytest.approx(0.05)
    assert {each["attack"] for each in report["fairness"]} == {"RT501", "RT502", "RT503"}
    result = audit(folder, "answers:unfair", *asked)
    assert result.returncode == 1, result.stderr
    assert "RT501" in result.stdout
    page = audit(folder, "answers:unfair", *asked, "-f", "markdown").stdout
    assert "How groups fare" in page


def test_a_dry_run_foresees_groups_and_swaps(folder):
    (folder / "all.toml").write_text("max_auc = 0.8\nmax_flip_rate = 0.2\nmax_group_gap = 0.6\n")
    asked = ("--group-column", "group", "--policy", "all.toml", "--dry-run")
    plan = audit(folder, "answers:varied", *asked, "--swaps", "gender").stdout
    assert "RT501      counterfactual flips: 2 numbers, 1 under limits" in plan
    assert "swaps      gender: 200 pairs of texts" in plan
    assert "RT502" in plan
    assert "swaps  " not in audit(folder, "answers:varied", *asked).stdout
    asked = ("--swaps", "fauna.csv", "--dry-run")
    assert "holds one of its 2 words" in error_line(audit(folder, "answers:varied", *asked))


@pytest.mark.parametrize(
    ("files", "arguments", "said"),
    [
        ({}, ("--swaps", "fauna.csv"), "none of 200 texts holds one of its 2 words"),
        ({"nonmembers": "oneout.csv"}, (), "only one group"),
        ({"nonmembers": "fewout.csv"}, (), "rate of good, and 10 are the fewest"),
    ],
)
def test_an_audit_refuses_what_its_rows_cannot_give(folder, files, arguments, said):
    given = ("--group-column", "group", "--policy", "policy.toml", *arguments)
    assert said in error_line(audit(folder, "answers:fair", *given, **files))
