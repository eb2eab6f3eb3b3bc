"""How well texts are tagged: the share of words with their tag, and F1 over whole spans, as conlleval counts them."""

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int, str]
Tags = Sequence[str]


@dataclass(frozen=True)
class TagScores:
    """Accuracy over words; precision, recall and F1 over spans, 0 where there is none; and how many were counted."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    words: int
    spans: int


def spans_of(tags: Tags) -> set[Span]:
    """Return the spans of a text: first word, the word after the last, kind.

    I-x after O or another kind begins a span, as conlleval has it: what a model answers need not be well formed.

    >>> sorted(spans_of(["B-per", "I-per", "O", "I-loc", "B-loc"]))
    [(0, 2, 'per'), (3, 4, 'loc'), (4, 5, 'loc')]
    """
    found: set[Span] = set()
    start, kind = 0, ""
    for at, tag in enumerate([*tags, "O"]):
        own = tag[2:] if tag != "O" else ""
        if kind and (own != kind or tag.startswith("B")):
            found.add((start, at, kind))
            kind = ""
        if own and not kind:
            start, kind = at, own
    return found


def tag_scores(truth: Sequence[Tags], answers: Sequence[Tags]) -> TagScores:
    """Return how well `answers` match `truth`, over all texts together; ValueError where a text has another length."""
    words = right = known = answered = both = 0
    for wanted, given in zip(truth, answers, strict=True):
        words += len(wanted)
        right += sum(a == b for a, b in zip(wanted, given, strict=True))
        there, said = spans_of(wanted), spans_of(given)
        known, answered, both = known + len(there), answered + len(said), both + len(there & said)
    precision, recall = both / answered if answered else 0.0, both / known if known else 0.0
    f1 = 2 * both / (known + answered) if known + answered else 0.0
    return TagScores(right / words if words else 0.0, precision, recall, f1, words, known)
