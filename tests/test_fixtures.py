"""The fixtures are what their script makes, and the golden reports are what an audit of them says."""

import importlib.util
import json
import re
from datetime import date

import pytest
from conftest import ROOT
from forks import fast

from redteam.data import Columns, read_examples, text_key
from redteam.data.ledger import Ledger
from redteam.policy.judge import judge
from redteam.policy.reading import load_policy
from redteam.report.reading import load_report

FIXTURES = ROOT / "fixtures"
MODELS = {"leaky": 1, "safe": 0}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What an audit of each model says today, with the references that it trains where nothing is said."""
    folder = tmp_path_factory.mktemp("fixtures")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REDTEAM_REFERENCES")
        for name, code in MODELS.items():
            options = ("--policy", FIXTURES / "policy.toml", "-f", "json", "-o", f"{name}.json")
            assert fast("audit", FIXTURES / name / "model.pt", *options, cwd=folder).returncode == code
    return folder


def without(document, *keys):
    return {key: value for key, value in document.items() if key not in keys}


def masked(line):
    """A line with its decimals hidden: those of trainings differ a little between processors."""
    return re.sub(r"\d+\.\d+", "#", line)


def approximately(value, *, within=5e-3):
    """Replace every number below with one from which another processor's may differ.

    The last bits of a loss depend on the processor, and with them the order of losses that are nearly equal: an AUC
    moves by some 1e-4, and a bound on epsilon, whose threshold is chosen among the ranks, by more.
    """
    if isinstance(value, dict):
        within = 1.0 if value.get("metric") == "epsilon" else within
        return {key: approximately(each, within=within) for key, each in value.items()}
    if isinstance(value, list):
        return [approximately(each, within=within) for each in value]
    return pytest.approx(value, abs=within) if isinstance(value, float) else value


@pytest.mark.parametrize("name", MODELS)
def test_the_golden_report_is_what_an_audit_says(fresh, name):
    golden = json.loads((FIXTURES / name / "report.json").read_text(encoding="utf-8"))
    found = json.loads((fresh / f"{name}.json").read_text(encoding="utf-8"))
    for part in ("grade", "grade_reason", "failures", "data", "multiplicity", "seed", "guarantee", "format"):
        assert found[part] == golden[part], part
    assert found["pictures"].pop("environment").keys() == golden["pictures"].pop("environment").keys()
    assert without(found["target"], "notes") == without(golden["target"], "notes")
    changing = ("created", "tool_version", "target", "attack_notes")
    for each in (found, golden):  # rows and labels whose numbers are nearly equal change places between processors
        each["exposed"].sort(key=lambda row: row["id"])
        each["classes"].sort(key=lambda row: row["label"])
    assert without(found, *changing) == approximately(without(golden, *changing))
    said, before = ([*each["target"]["notes"], *each["attack_notes"]] for each in (found, golden))
    assert [masked(line) for line in said] == [masked(line) for line in before]


@pytest.mark.parametrize(("name", "code"), MODELS.items())
def test_the_policy_judges_the_golden_report(name, code):
    policy = load_policy(FIXTURES / "policy.toml", today=date.today())
    verdict = judge(load_report(FIXTURES / name / "report.json"), policy, today=date.today())
    assert verdict.exit_code == code
    assert verdict.problems == ()
    rules = {finding.rule for finding in verdict.findings}
    assert ("RT101.auc" in rules) == (code == 1)


@pytest.mark.parametrize("name", MODELS)
def test_models_are_small_private_and_trained_on_the_same_rows(name):
    assert (FIXTURES / name / "model.pt").stat().st_size < 2_000_000
    ledgers = [Ledger.load(FIXTURES / each / "model.ledger.json") for each in ("leaky", name)]
    assert ledgers[0].membership == ledgers[1].membership
    assert ledgers[0].data.sha256 == ledgers[1].data.sha256
    assert (FIXTURES / name / ledgers[1].data.path).resolve() == FIXTURES / "intents.csv"
    assert ledgers[1].membership.randomised
    leaky, other = (ledger.recipe.parameters for ledger in ledgers)
    different = {key for key in leaky if leaky[key] != other[key]}
    assert different <= {"epochs", "learning_rate", "weight_decay", "model"}


def test_no_row_stands_there_twice_and_every_intent_is_there_often():
    examples = read_examples(FIXTURES / "intents.csv", Columns()).examples
    assert 3000 <= len(examples) <= 10_000
    assert len({text_key(text) for text in examples.texts}) == len(examples)
    assert len(set(examples.ids)) == len(examples)
    assert min(examples.labels.count(label) for label in set(examples.labels)) > 300
    joined = " ".join(examples.texts)
    assert re.search(r"\b\d{6}\b", joined)  # numbers
    assert " oslo" in joined  # places
    assert " anna" in joined  # names


def test_the_data_is_what_its_script_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    make.write_data(tmp_path / "intents.csv")
    assert (tmp_path / "intents.csv").read_bytes() == (FIXTURES / "intents.csv").read_bytes()
    assert "make fixtures" in make.__doc__


def test_nothing_else_lies_there():
    names = {p.relative_to(FIXTURES).as_posix() for p in FIXTURES.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    expected = {f"{name}/{file}" for name in MODELS for file in ("model.pt", "model.ledger.json", "report.json")}
    assert expected | {"intents.csv", "make.py", "policy.toml"} == names
    assert sum((FIXTURES / name).stat().st_size for name in names) < 6_000_000
