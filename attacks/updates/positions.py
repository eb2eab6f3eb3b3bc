"""RT302 positions: where each token stands that occurs once, names and numbers above all, read off one update.

A LayerNorm does not see the scale of its input, so that the gradient at its input is orthogonal to that input. A token
that occurs once has the gradient of its one cell as its row of the embedding table; so of all positions p only the true
one makes that row orthogonal to the sum of the embeddings of the token, of p and of the token type, less its mean. The
rows of tokens that stand at several positions are orthogonal to none. Everything is in double precision.

It needs trained word embeddings, a LayerNorm behind them as BERT has, and one step of SGD without momentum. Batch size,
dropout and clipping of examples or of the whole update make no difference. Several local steps leave a part; Adam's
updates have another direction and leave nothing.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion. No id of ATLAS names updates: this is the nearest.
"""

from dataclasses import dataclass

from attacks.updates._positions import place_of
from attacks.updates._reading import read
from attacks.updates.tokens import INVERSION, LONGEST
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate, Recovered, UpdateAttack
from redteam.targets.target import WhiteBox


@dataclass(frozen=True)
class Positions(UpdateAttack):
    """Put tokens that occur once in their places."""

    id = "RT302"
    name = "positions"
    gives = ("places",)
    taxonomy = INVERSION

    longest: int = LONGEST.default(64)

    def recover(self, model: WhiteBox, update: ClientUpdate, context: AttackContext) -> Recovered:
        """Return the tokens of the update, and the positions of those that name one."""
        found = read(model, update, longest=self.longest)
        if found.rows is None:
            raise NotApplicable("word embeddings were frozen: their rows would name the positions")
        places = {}
        for word in found.tokens:
            error = found.errors.get(word, 0.0)
            place = place_of(found.layer, word, found.rows[word], found.length, error=error)
            if place is not None and word not in (found.layer.cls, found.layer.sep):
                places[word] = place
        return Recovered(frozenset(found.tokens), places, notes=found.notes)
