"""What the standards call every attack, on its manual page and in reports, and that metrics say nothing else."""

import re
import sys

import pytest

from redteam.plugins.registry import (
    discover_attacks,
    discover_extractions,
    discover_reconstructions,
    discover_risks,
    discover_update_attacks,
    discover_update_membership,
)
from redteam.report.metrics import metric
from redteam.report.values import Taxonomy

MEMBERSHIP = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",), "5.6.1")
INVERSION = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",), "5.6.1")
TABLE = {
    "RT101": MEMBERSHIP,
    "RT102": MEMBERSHIP,
    "RT103": MEMBERSHIP,
    "RT104": Taxonomy(("AML.T0024.000", "AML.T0005"), ("NISTAML.033",), ("ML04:2023",), "5.6.1"),
    "RT105": MEMBERSHIP,
    "RT106": MEMBERSHIP,
    "RT107": Taxonomy(("AML.T0024.000", "AML.T0005"), ("NISTAML.033",), ("ML04:2023",), "5.6.1"),
    "RT108": MEMBERSHIP,
    "RT201": MEMBERSHIP,
    "RT202": INVERSION,
    "RT203": INVERSION,
    "RT204": Taxonomy(("AML.T0024.001", "AML.T0002.001"), ("NISTAML.032",), ("ML03:2023",), "5.6.1"),
    "RT301": INVERSION,
    "RT302": INVERSION,
    "RT303": INVERSION,
    "RT304": MEMBERSHIP,
    "RT401": INVERSION,
    "RT402": INVERSION,
    "RT403": INVERSION,
}
NAMES = {  # MITRE ATLAS v5.6.1, NIST AI 100-2 E2025, OWASP Machine Learning Security Top 10 of 2023
    "AML.T0024.000": "infer training data membership",
    "AML.T0024.001": "invert AI model",
    "AML.T0005": "create proxy AI model",
    "AML.T0002.001": "acquire public AI artifacts: models",
    "NISTAML.033": "membership inference",
    "NISTAML.032": "data reconstruction",
    "ML04:2023": "membership inference",
    "ML03:2023": "model inversion",
}
OF_MEMBERS, OF_CANARIES = ("auc", "tpr", "epsilon"), ("exposure", "extraction_rate")
OF_RELEASED = ("unchanged", "words_recovered", "texts_recovered")
ATTACKS = (
    *discover_attacks(),
    *discover_extractions(),
    *discover_risks(),
    *discover_update_attacks(),
    *discover_update_membership(),
    *discover_reconstructions(),
)


def test_the_table_is_that_of_all_attacks():
    assert {attack.id: attack.taxonomy for attack in ATTACKS} == TABLE


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_the_manual_page_says_the_same(attack):
    page = " ".join((sys.modules[type(attack).__module__].__doc__ or "").split())
    said = re.findall(r"AML\.T[\d.]*\d|NISTAML\.\d+|ML\d\d\b", page)
    ids = [*attack.taxonomy.atlas, *attack.taxonomy.nist_aml, *attack.taxonomy.owasp_ml]
    assert said == [each.partition(":")[0] for each in ids]
    assert all(f"{each.partition(':')[0]}, {NAMES[each]}" in page for each in ids)
    standards = ("MITRE ATLAS (v5.6.1)", "NIST AI 100-2 (2025)", "OWASP Machine Learning Security Top 10 (2023)")
    assert all(standard in page for standard in standards)


@pytest.mark.parametrize("name", [*OF_MEMBERS, *OF_CANARIES, *OF_RELEASED])
def test_the_tags_of_a_metric_hold_for_all_attacks_that_give_it(name):
    kind = "RT2" if name in OF_CANARIES else "RT4" if name in OF_RELEASED else "RT1"
    tags = [tag.split()[-1] for tag in metric(name).tags if "800-226" not in tag]
    assert tags
    for taxonomy in (each for identifier, each in TABLE.items() if identifier.startswith(kind)):
        ids = (*taxonomy.atlas, *taxonomy.nist_aml, *taxonomy.owasp_ml)
        assert all(any(each.startswith(tag) for each in ids) for tag in tags)
