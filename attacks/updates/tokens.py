"""RT301 tokens: which tokens a client's texts hold, read off one update.

The adversary is a server, or whoever sees what a client sends: it knows the weights before and after, and nothing else.

Where word embeddings are trained, a row of the table has a gradient only if its token occurs: the rows that changed are
the tokens of the client's texts, in every model, at every batch size, with dropout, after several local steps, with SGD
or Adam. Under AdamW all rows shrink by one factor, which is taken off first; under noise, those are named that stand
out of it.

Where they are frozen, the gradient of the first layer's queries, keys and values still spans the inputs of its cells: a
token is there if its direction lies in the span of the gradient's rows, all positions and the LayerNorm's bias (as in
DAGER, Petrov et al. 2024, arXiv 2405.15586, with queries, keys and values stacked and positions left free). The
residual is computed as a vector, in double precision. It needs fewer tokens than the model is wide, and one step of
plain SGD.

Cost: milliseconds where embeddings are trained, a second where they are frozen.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion. No id of ATLAS names updates: this is the nearest.
"""

from dataclasses import dataclass

from attacks.updates._reading import NOISE, read, tokens_of_rows
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.settings import Setting
from redteam.plugins.update import ClientUpdate, Recovered, UpdateAttack
from redteam.report.values import Taxonomy
from redteam.targets.target import WhiteBox

LONGEST = Setting("The longest text that is looked for, both special tokens counted.", "tokens", least=3)
INVERSION = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",))


@dataclass(frozen=True)
class Tokens(UpdateAttack):
    """Name the tokens of a client's texts."""

    id = "RT301"
    name = "tokens"
    gives = ("tokens",)
    taxonomy = INVERSION

    longest: int = LONGEST.default(64)

    def recover(self, model: WhiteBox, update: ClientUpdate, context: AttackContext) -> Recovered:
        """Return the tokens that show in the update."""
        try:
            found = read(model, update, longest=self.longest)
        except NotApplicable as error:
            try:
                tokens, noise = tokens_of_rows(model, update)
            except NotApplicable:
                raise error from None
            return Recovered(frozenset(tokens), notes=(NOISE,) if noise else ())
        return Recovered(frozenset(found.tokens), notes=found.notes)
