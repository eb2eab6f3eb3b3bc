import json
import re
import shutil
import sys
from xml.etree import ElementTree

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import sentences
from forks import fast
from materials import (
    FIXTURES,
    LEAKY,
    MEMBERS,
    OTHERS,
    POLICY,
    SAFE,
    SIDES,
    error_line,
    furnish,
    leftovers,
    numbers,
    send,
    serve,
    write,
)

from redteam.data import join

AUC = ("--policy", "auc.toml")  # for what must pass: no limit on a TPR is kept without reference models
SUMMARIES = {0: "PASS: ", 1: "LEAK: ", 2: "INCONCLUSIVE: "}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = furnish(tmp_path_factory.mktemp("bench"))
    (folder / "auc.toml").write_text("max_auc = 0.55\n")
    return folder


@pytest.fixture(scope="module")
def report(bench):
    """The leaky fixture's report as JSON."""
    result = fast("audit", LEAKY, *POLICY, "-f", "json", cwd=bench)
    assert result.returncode == 1
    (bench / "leaky.json").write_text(result.stdout, encoding="utf-8")
    return result.stdout


def audit(bench, *arguments, code, **options):
    """Audit, check the exit code and that the last line of stderr sums it up; return the result."""
    result = fast("audit", *arguments, cwd=bench, **options)
    assert result.returncode == code, result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith("redteam audit: ")]  # how long, by -v
    assert said[-1].startswith(SUMMARIES[code])
    assert "Traceback" not in result.stderr
    assert leftovers(bench) == []
    return result


def as_json(result):
    return json.loads(result.stdout)


# Fixtures, formats, files


def test_the_leaky_model_fails_with_an_interval_above_its_limit_and_the_safe_one_passes(bench):
    leak = audit(bench, LEAKY, *POLICY, code=1)
    assert leak.stderr.count("\n") == 1
    low, limit = re.search(r"AUC +[\d.]+ +\[([\d.]+), [\d.]+\] +([\d.]+) +LEAK", leak.stdout).groups()
    assert float(low) > float(limit)
    assert "evidence of grade A" in " ".join(leak.stdout.split())
    assert audit(bench, SAFE, *AUC, code=0).stdout.startswith(" PASS ")


def test_every_format_parses(bench, report):
    assert as_json(audit(bench, LEAKY, *POLICY, "-f", "sarif", code=1))["version"] == "2.1.0"
    suite = ElementTree.fromstring(audit(bench, LEAKY, *POLICY, "-f", "junit", code=1).stdout)
    assert suite.findall(".//failure")
    assert "**leak**" in audit(bench, LEAKY, *POLICY, "-f", "markdown", code=1).stdout
    assert json.loads(report)["format"] == "redteam.report/2"


def test_gate_reads_the_report_and_says_the_same(bench, report):
    result = fast("gate", "leaky.json", *POLICY, cwd=bench)
    assert result.returncode == 1
    assert result.stdout.startswith(" LEAK ")


def test_same_seed_same_numbers_into_a_file_that_stood_there(bench, report):
    (bench / "again.json").write_text("before")
    result = audit(bench, LEAKY, *POLICY, "-f", "json", "-o", "again.json", code=1)
    assert result.stdout == ""
    assert numbers((bench / "again.json").read_text()) == numbers(report)
    other = audit(bench, LEAKY, *POLICY, "-f", "json", "--seed", "7", code=1)
    assert as_json(other)["seed"] == 7


def test_no_training_text_leaves_unless_it_is_asked_for(bench, report):
    texts = {line.split(",")[1] for line in (FIXTURES / "intents.csv").read_text().splitlines()[1:]}
    assert not any(text in report for text in texts if len(text) > 10)
    shown = as_json(audit(bench, LEAKY, *POLICY, "-f", "json", "--show-text", code=1))
    assert {row["text"] for row in shown["exposed"]} <= texts


def test_a_base_compares_the_texts_and_is_named(bench):
    assert fast("unpack", LEAKY, "-o", "public", cwd=bench).returncode == 0
    asked = (*SIDES, "-a", "RT103", "-f", "json")
    ours, given = (as_json(audit(bench, "answers:leaky", *asked, *base, code=1)) for base in ((), ("--base", "public")))
    assert "RT103: texts compared by public" in given["attack_notes"]
    assert "RT103: texts compared by public" not in ours["attack_notes"]


# What decides


def test_exit_zero_a_lenient_policy_and_a_baseline_let_a_leak_pass(bench, report):
    zero = fast("audit", LEAKY, *POLICY, "--exit-zero", cwd=bench)
    assert (zero.returncode, zero.stderr[:4]) == (0, "LEAK")
    (bench / "lenient.toml").write_text("max_auc = 0.9")
    audit(bench, LEAKY, "--policy", "lenient.toml", code=0)
    excused = audit(bench, LEAKY, *AUC, "--baseline", "leaky.json", "-v", code=0)
    assert "a leak that is known is still a leak" in excused.stdout


def test_fewer_attacks_and_more_false_positive_rates(bench):
    result = as_json(audit(bench, LEAKY, *POLICY, "-a", "loss threshold", "--fpr", "0.1", "-f", "json", code=1))
    assert {(e["attack"], e["metric"], e["fpr"]) for e in result["evidence"]} == {
        ("RT101", "auc", None),
        ("RT101", "tpr", 0.01),  # the policy's own is measured too
        ("RT101", "tpr", 0.1),
        ("RT101", "epsilon", None),
    }
    assert [share["id"] for share in result["multiplicity"]["shares"]] == ["RT101.auc:loss", "RT101.tpr@0.01:loss"]
    stricter = as_json(audit(bench, LEAKY, *POLICY, "-a", "RT101", "--alpha", "0.001", "-f", "json", code=1))
    assert stricter["multiplicity"]["alpha"] == 0.001
    note = "limits are settled by RT101, a weaker attack than RT102 and RT103, which was not asked"
    assert note in stricter["attack_notes"]


def test_a_plan_says_what_would_run_and_runs_nothing(bench):
    result = fast("audit", LEAKY, *POLICY, "--dry-run", cwd=bench)
    assert (result.returncode, result.stderr) == (0, "")
    for words in ("2,522 members", "RT101 ", "smallest FPR 0.00", "max_auc", "time       about "):
        assert words in result.stdout
    result = fast("audit", "answers:recorded", *SIDES, "--dry-run", "-a", "RT102", cwd=bench)
    assert result.returncode == 0
    assert "RT101" not in result.stdout
    assert "requests" in result.stdout
    asked = (bench / "asked.txt").read_text().splitlines()
    assert not set(asked) & {*MEMBERS.texts, *OTHERS.texts}


# Where examples and answers come from


def test_members_and_nonmembers_in_files_of_their_own(bench):
    write(bench / "others_and_one.csv", OTHERS.take([*range(len(OTHERS)), 0]))
    sides = ("--members", "members.csv", "--nonmembers", "others_and_one.csv")
    result = audit(bench, "answers:leaky", *sides, "-f", "json", code=1)
    assert as_json(result)["data"] == {
        "members": len(MEMBERS),
        "nonmembers": len(OTHERS),
        "reference": 0,
        "moved_out": 0,
        "duplicates": 1,
        "canaries": 0,
        "skipped_members": 0,
        "skipped_nonmembers": 0,
    }
    assert as_json(result)["grade"] == "B"
    assert result.stderr.count("guessed columns: text = 'text', label = 'label', id = 'id'") == 2
    audit(bench, "answers:even", *SIDES, *AUC, code=0)


def test_one_file_with_a_split_column(bench):
    both = join(MEMBERS.take(range(500)), OTHERS.take(range(500)))
    write(bench / "both.csv", both, side=["train"] * 500 + ["test"] * 500)
    names = ("--text-column", "text", "--label-column", "label", "--id-column", "id", "--split-column", "side")
    result = audit(bench, "answers:leaky", "--data", "both.csv", *names, "-f", "json", code=1)
    assert result.stderr.count("\n") == 1  # nothing was guessed
    assert as_json(result)["data"]["members"] == 500


def test_two_sides_that_differ_are_refused_before_the_model_is_asked(bench):
    write(bench / "longer.csv", sentences(700, seed=5, words=9))
    (bench / "asked.txt").unlink(missing_ok=True)
    sides = ("--members", "members.csv", "--nonmembers", "longer.csv")
    result = audit(bench, "answers:recorded", *sides, "--exit-zero", code=2)
    assert "evidence of grade C" in result.stderr
    assert len((bench / "asked.txt").read_text().splitlines()) == 1  # the probe


def test_saved_scores(bench):
    random = np.random.default_rng(0)
    side = [i % 2 for i in range(2000)]
    columns = {"member": side, "score": [random.normal() + 2 * m for m in side]}
    pyarrow.parquet.write_table(pyarrow.table(columns), bench / "scores.parquet")
    audit(bench, "--scores", "scores.parquet", code=1)
    lines = [f"{m},{random.normal():.6f}" for m in side]
    (bench / "scores.csv").write_text("member,score\n" + "\n".join(lines) + "\n")
    result = audit(bench, "--scores", "scores.csv", *AUC, "-v", code=0)
    assert "taken on trust" in result.stdout
    assert "RT102 does not apply: needs probabilities, the target gives losses" in result.stdout


def test_a_function_that_shows_labels_only_is_audited_by_what_is_right(bench):
    result = audit(bench, "answers:names", *SIDES, "-v", code=1)
    assert "RT105.auc" in result.stdout
    for attack, needs in (("RT101", "losses"), ("RT102", "probabilities")):
        assert f"{attack} does not apply: needs {needs}, the target gives labels" in " ".join(result.stdout.split())


@pytest.mark.parametrize(("shows", "code"), [("leaky", 1), ("names", 1)])
def test_an_endpoint(bench, shows, code):
    sys.path.insert(0, str(bench))
    import answers

    def reply(handler, body):
        values = getattr(answers, shows)(json.loads(body)["texts"])
        document = {"labels": values} if shows == "names" else {"probabilities": values, "classes": answers.labels}
        send(handler, json.dumps(document).encode())

    with serve(reply) as url:
        result = audit(bench, url, *SIDES, "--batch-size", "350", "--request-budget", "6", "-v", code=code)
        assert f"{url} (endpoint, " in result.stdout
        if code == 2:
            assert "the target gives labels" in " ".join(result.stdout.split())
        plan = fast("audit", url, *SIDES, "--batch-size", "350", "--dry-run", cwd=bench)
        assert "4 requests of up to 350 texts" in plan.stdout or code == 2


@pytest.mark.parametrize("written", ["list", "file"])
def test_an_endpoint_of_another_form_whose_labels_are_given(bench, written):
    sys.path.insert(0, str(bench))
    import answers

    def reply(handler, body):
        send(handler, json.dumps({"predictions": answers.leaky(json.loads(body)["instances"])}).encode())

    (bench / "labels.txt").write_text("\n".join(answers.labels) + "\n")
    labels = ",".join(answers.labels) if written == "list" else "labels.txt"
    with serve(reply) as url:
        audit(bench, url, *SIDES, "--api", "instances", "--labels", labels, "--batch-size", "350", code=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("answers:leaky", "--labels", "one"), "--labels one: wanted two or more"),
        (("answers:leaky", "--labels", "a,b,a"), "wanted two or more different labels"),
        (("answers:leaky", "--header", "A=B"), "--header is for http(s) targets"),
        ((LEAKY, "--labels", "a,b"), "--labels is for endpoints and functions"),
    ],
)
def test_settings_of_endpoints_elsewhere(bench, arguments, says):
    result = fast("audit", *arguments, *SIDES, cwd=bench)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert says in result.stderr


def test_a_hugging_face_directory_with_the_ledger_of_its_bundle(bench, report):
    ledger = ("--ledger", LEAKY.with_name("model.ledger.json"))
    assert fast("unpack", LEAKY, "-o", "hf", cwd=bench).returncode == 0
    result = numbers(audit(bench, "hf", *ledger, *POLICY, "-f", "json", code=1).stdout)
    assert result.pop("target")["kind"] == "directory"
    assert result == {key: value for key, value in numbers(report).items() if key != "target"}


def test_a_model_that_was_moved_away_from_its_data(bench):
    (bench / "elsewhere").mkdir()
    for name in ("model.pt", "model.ledger.json"):
        shutil.copy(LEAKY.with_name(name), bench / "elsewhere" / name)
    assert "is not there; put it back or say --training-data FILE" in error_line(
        fast("audit", "elsewhere/model.pt", cwd=bench)
    )
    moved = ("--ledger", "elsewhere/model.ledger.json", "--training-data", FIXTURES / "intents.csv")
    audit(bench, "elsewhere/model.pt", *moved, *POLICY, code=1)


# Lists


def test_lists_and_manual_pages(bench):
    listed = fast("attacks", cwd=bench)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert {line for line in listed.stdout.splitlines() if line.startswith("RT")} >= {
        "RT101  loss threshold (needs losses)",
        "RT102  confidence (needs probabilities)",
        "RT901  blind baseline (control, never sees the target)",
    }
    assert max(map(len, listed.stdout.splitlines())) <= 100
    page = fast("attacks", "rt101", cwd=bench)
    assert page.stdout.startswith("RT101 loss threshold: ")
    assert "Yeom" in page.stdout
    assert fast("defenses", cwd=bench).stdout.startswith("RD100  plain\n")
    assert "AdamW" in fast("defenses", "plain", cwd=bench).stdout
    assert "unknown id 'RT999'; known: RT101" in error_line(fast("attacks", "RT999", cwd=bench))


def test_compare_says_what_became_worse(bench, report):
    safe = fast("audit", SAFE, *POLICY, "--references", "0", "-f", "json", "-o", "safe.json", cwd=bench)
    assert safe.returncode == 0
    assert "tpr" in json.loads((bench / "safe.json").read_text())["not_kept"]
    assert fast("compare", "safe.json", "leaky.json", cwd=bench).returncode == 1
    assert fast("compare", "leaky.json", "safe.json", cwd=bench).returncode == 0
