"""Every membership attack says on its manual page which technique of which standard it is, with the version."""

import sys

import pytest

from redteam.plugins.registry import discover_attacks

TAGS = ("MITRE ATLAS (v5.6.1) AML.T0024.000", "NIST AI 100-2 (2025) NISTAML.033", "(2023) ML04, membership inference")
ALSO = {"RT104": ("AML.T0005, create proxy AI model",)}


@pytest.mark.parametrize("attack", [a for a in discover_attacks() if a.id.startswith("RT1")], ids=lambda a: a.id)
def test_tags(attack):
    page = " ".join((sys.modules[type(attack).__module__].__doc__ or "").split())
    assert all(tag in page for tag in (*TAGS, *ALSO.get(attack.id, ())))
