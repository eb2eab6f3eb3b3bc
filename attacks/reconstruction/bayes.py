"""RT402 Bayes: the word that is most likely, given the one that went out and how often people use each.

For a released word y it is the w of greatest prior(w) Pr[M(w) = y]. No attacker who looks at each word alone is right
more often (Tong et al., NAACL 2025, 2410.17052). The prior are the word counts of texts like these that are not
attacked, with one added to each; the channel is exact where its formula is known, else counted from 200 draws of each
word.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion.
"""

from collections.abc import Sequence

from redteam.plugins.reconstruction import PublicKnowledge, ReconstructionAttack, Words
from redteam.report.values import Taxonomy


class Bayes(ReconstructionAttack):
    """Guess each word by itself."""

    id = "RT402"
    name = "Bayes-optimal word"
    taxonomy = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",))

    def recover(self, released: Sequence[Words], known: PublicKnowledge) -> list[list[str]]:
        """Return the word of greatest posterior for each word; one that has no vector is taken as it is."""
        best = (known.channel + known.prior[:, None]).argmax(axis=0)
        return [
            [
                known.words[best[place]] if place >= 0 else word
                for word, place in zip(text, known.places(text), strict=True)
            ]
            for text in released
        ]
