"""RT401 unchanged: the words of a released text are read as they stand.

What an attacker has without any work: a mechanism that exchanges few words releases the rest. Every word counts, also
those that have no vector; one that is masked is not unchanged.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion.
"""

from collections.abc import Sequence

from redteam.plugins.reconstruction import PublicKnowledge, ReconstructionAttack, Words
from redteam.report.values import Taxonomy


class Unchanged(ReconstructionAttack):
    """Take every word for what it is."""

    id = "RT401"
    name = "unchanged words"
    taxonomy = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",))
    needs_channel = False
    metrics = ("unchanged", "texts_recovered")

    def recover(self, released: Sequence[Words], known: PublicKnowledge) -> list[list[str]]:
        """Return the texts as they are."""
        return [list(text) for text in released]
