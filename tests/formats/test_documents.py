"""Documents that follow a model say what was measured, and never more than that."""

import re
from dataclasses import replace

import pytest
import yaml
from sample_reports import HOSTILE, SAMPLES

from redteam.formats import clean
from redteam.formats.documents import EDPB, ISO, NIST, OWN, SOURCES, annex, card
from redteam.report.metrics import metric


def made(document, name):
    sample = SAMPLES[name]
    return document(sample.report, sample.judged(), policy=sample.policy)


def answers(text):
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    return {(row[0].strip("| "), row[1]): row[2].strip("*") for row in rows}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_metadata_of_a_card_is_yaml_with_numbers(name):
    _, head, body = made(card, name).split("---\n", 2)
    (model,) = yaml.safe_load(head)["model-index"]
    assert model["name"] == clean(SAMPLES[name].report.target.name)
    (result,) = model["results"]
    assert all(isinstance(each["value"], float | int) for each in result["metrics"])
    assert "<script>" not in body


def test_a_card_names_each_number_by_what_it_is_of():
    """What is no membership inference is not called so."""
    for name in ("leaky", "canaries"):
        (model,) = yaml.safe_load(made(card, name).split("---\n")[1])["model-index"]
        for each in model["results"][0]["metrics"]:
            assert metric(each["type"]).description in each["name"]
            assert ("members" in each["name"]) == (each["type"] in ("auc", "tpr"))


def test_a_name_beyond_the_basic_plane_is_yaml_too():
    """As pairs of escapes, which JSON has for it, YAML takes it for two halves that nobody can write down again."""
    sample = SAMPLES["leaky"]
    report = replace(sample.report, target=replace(sample.report.target, name="modèle-🙂.pt"))
    (model,) = yaml.safe_load(card(report, sample.judged(), policy=sample.policy).split("---\n")[1])["model-index"]
    assert model["name"] == "modèle-🙂.pt"


def test_a_card_says_a_leak_and_what_was_not_seen():
    text = made(card, "leaky")
    assert "LEAK: 3 leaks proven" in text
    assert "no proof of privacy" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_an_annex_answers_in_three_words_only(name):
    text = made(annex, name)
    found = answers(text)
    assert len(found) == 6
    assert set(found.values()) <= {"supports", "does not support", "not tested"}
    assert "certifies nothing" in text
    assert {source for source, _ in found} == {EDPB, NIST, ISO, OWN}
    assert all(each in text for each in SOURCES)
    assert "<script>" not in text
    assert not re.search(r"\b(compliant|certified|anonymous)\b", text)


def test_only_a_limit_that_is_kept_supports_a_statement():
    by_name = {name: list(answers(made(annex, name)).values()) for name in SAMPLES}
    assert by_name["leaky"][:2] == ["does not support", "not tested"]
    assert by_name["grade_c"][0] == "not tested"
    assert by_name["unresolvable"][0] == "does not support"
    assert by_name["canaries"][1] == "does not support"
    assert by_name["private"][3] == "does not support"  # the guarantee is refuted
    assert by_name["safe"][0] == "supports"


def test_a_guarantee_that_nothing_was_held_against_is_not_tested():
    sample = SAMPLES["private"]
    rest = tuple(each for each in sample.report.evidence if each.metric != "epsilon")
    sample = replace(sample, report=replace(sample.report, evidence=rest))
    text = annex(sample.report, sample.judged(), policy=sample.policy)
    assert list(answers(text).values())[3] == "not tested"


def test_hostile_names_stay_in_their_cells():
    assert clean(HOSTILE) not in made(annex, "hostile")
    assert {line.count(" | ") for line in made(annex, "hostile").splitlines() if line.startswith("| EDPB")} == {3}
