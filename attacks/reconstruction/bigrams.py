"""RT403 bigrams: the word that is most likely, given all words of the released text and which follow each other.

The words that were there are a hidden Markov chain, whose steps are counted in texts like these (each count with 5
times the word's own share added), and which the mechanism shows word by word. Forward and backward sums give the
posterior of each word given the whole text (Rabiner 1989). It needs no language model. Of the words that might be
behind one, the 120 likeliest are looked at. Where almost nothing is exchanged, the counts overrule words that are
right: RT401 is then better.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from redteam.core.arrays import IntArray
from redteam.plugins.reconstruction import PublicKnowledge, ReconstructionAttack, Words
from redteam.report.values import Taxonomy

_LOOKED_AT = 120


class Bigrams(ReconstructionAttack):
    """Guess each word by the whole text."""

    id = "RT403"
    name = "bigram posterior"
    taxonomy = Taxonomy(("AML.T0024.001",), ("NISTAML.032",), ("ML03:2023",))

    def recover(self, released: Sequence[Words], known: PublicKnowledge) -> list[list[str]]:
        """Return the word of greatest posterior for each word; one that has no vector is taken as it is."""
        likely = _likeliest(known)
        return [self._text(text, known, likely) for text in released]

    def _text(self, text: Words, known: PublicKnowledge, likely: IntArray) -> list[str]:
        guesses, places, start = list(text), known.places(text), 0
        while start < len(places):  # runs of words with vectors: each begins anew
            end = start
            while end < len(places) and places[end] >= 0:
                end += 1
            for offset, word in enumerate(posterior(known, places[start:end], likely)):
                guesses[start + offset] = known.words[word]
            start = end + 1
        return guesses


def posterior(known: PublicKnowledge, places: IntArray, likely: IntArray) -> list[int]:
    """Return the word of greatest posterior at each of `places`, columns of the channel, [run]."""
    if not len(places):
        return []
    among = [likely[:, place] for place in places]
    shown = [known.channel[words, place] for words, place in zip(among, places, strict=True)]
    forward = [known.follows[-1, among[0]] + shown[0]]
    for before, now, seen in zip(among, among[1:], shown[1:], strict=False):
        forward.append(logsumexp(forward[-1][:, None] + known.follows[np.ix_(before, now)], axis=0) + seen)
    backward = [np.zeros(len(among[-1]))]
    for i in range(len(among) - 2, -1, -1):
        onward = known.follows[np.ix_(among[i], among[i + 1])] + (shown[i + 1] + backward[0])[None]
        backward.insert(0, logsumexp(onward, axis=1))
    return [int(words[(a + b).argmax()]) for words, a, b in zip(among, forward, backward, strict=True)]


def _likeliest(known: PublicKnowledge) -> IntArray:
    """Return for each released word the words that are likeliest behind it by themselves, int [looked at, s]."""
    count = min(_LOOKED_AT, len(known.words))
    both = known.channel + known.prior[:, None].astype(np.float32)
    return np.asarray(np.argpartition(-both, count - 1, axis=0)[:count], np.int64)
