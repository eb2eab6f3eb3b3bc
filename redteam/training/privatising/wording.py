"""What a privatisation guarantees and what it does not, in four lines that are always said together."""

from collections.abc import Iterator, Sequence

from redteam.data import text_key
from redteam.report import plural
from redteam.training.privatising.record import Privatisation

_UNKNOWN = {
    "mask": "all exchanged for one mark",
    "class": "a number for a random number, others for a random word",
    "keep": "LEFT AS THEY ARE, which makes whoever wrote them easier to find",
}


_VOID = "; VOID: the noise follows from a seed that can be known"
_LEARNED = "; VOID: the autoencoder was learned from these very texts and can repeat them; give public ones"


def four_lines(made: Privatisation) -> tuple[str, str, str, str]:
    """Return the metric epsilon of a word, what it comes to for a text, the plain epsilon, and what is not hidden."""
    if made.unit == "text":
        return _of_texts(made)
    tally, epsilon = made.tally, f"{made.epsilon:g}"
    mean = tally.words / max(1, tally.texts)
    usual, longest = _many(made.plain * mean), _many(made.plain * tally.longest)
    same, whole = _share(tally.unchanged, tally.words), _share(tally.texts_unchanged, tally.texts)
    unknown = f"{_share(tally.unknown, tally.words)} of words: {_UNKNOWN[made.unknown]}"
    void = "" if made.randomness == "operating system" else _VOID
    return (
        f"word-level metric epsilon {epsilon}: Pr[M(w) = y] <= exp({epsilon} d(w, w')) Pr[M(w') = y], d the "
        f"{made.distance} ({made.embeddings}){void}",
        f"texts of equal length only: it adds up over their words, {epsilon} times the sum of d(w_i, w'_i), at most "
        f"{usual} for a text of {mean:.1f} words (the mean) and {longest} for one of {tally.longest} (the longest)",
        f"plain epsilon of one word, whatever it is exchanged for: {_many(made.plain)}",
        "not hidden at all: the length of a text, the order of its words, labels and all other columns, and which of "
        f"its words are not in the vocabulary ({unknown}); {same} of words and {whole} of texts came out unchanged",
    )


def _of_texts(made: Privatisation) -> tuple[str, str, str, str]:
    tally, epsilon = made.tally, f"{made.epsilon:g}"
    void = ("" if made.randomness == "operating system" else _VOID) + ("" if made.public else _LEARNED)
    delta = f" + {made.delta:g}" if made.delta else ""
    same, whole = _share(tally.unchanged, tally.words), _share(tally.texts_unchanged, tally.texts)
    return (
        f"word-level metric epsilon: none; what is guaranteed is of a whole text, Pr[M(t) in S] <= exp({epsilon}) "
        f"Pr[M(t') in S]{delta} for any two texts t, t' ({made.embeddings}){void}",
        f"texts of equal length, and of any other: epsilon {epsilon} in all, however many words they have",
        f"plain epsilon of one word, whatever stands in its place: at most {_many(made.plain)}, that of its text",
        "not hidden at all: how many texts there are, labels and all other columns; "
        f"{_share(tally.unknown, tally.words)} of words are not known to the autoencoder, {same} of words and {whole} "
        "of texts came out unchanged",
    )


def caveats(made: Privatisation) -> Iterator[str]:
    """Yield what a model trained on the released texts has to be told with it."""
    of = f"metric epsilon {made.epsilon:g} of {made.embeddings} (plain {_many(made.plain)} a word)"
    of = f"epsilon {made.epsilon:g} a text" if made.unit == "text" else of
    if not made.public:
        yield "the autoencoder was learned from the texts that it rewrote, and can repeat them: nothing is guaranteed"
    yield (
        f"trained on texts that {made.mechanism} privatised at {of}, which is no guarantee for the model as that of "
        "DP-SGD is: audit it with the texts as they were"
    )
    if made.randomness == "seed":
        yield "the words were exchanged by a seed: whoever knows it can undo that, and nothing is guaranteed"
    if made.unknown == "keep":
        yield "words that are not in the vocabulary were left as they are: they tell whose text it is"


def doubts(made: Privatisation) -> Iterator[str]:
    """Yield why the released texts may be of little use."""
    if made.unit == "word" and made.tally.unknown > made.tally.words / 2:
        yield (
            f"most words have no vector in {made.embeddings} ({_share(made.tally.unknown, made.tally.words)}), and "
            "little is left to learn from: give --embeddings that know them"
        )


def repeated(texts: Sequence[str], made: Privatisation | None) -> str:
    """Say how few different texts rows have, of which one is drawn with all its repeats, and why; empty for none."""
    different = len({text_key(text) for text in texts})
    if not different < len(texts):
        return ""
    unknown = made is not None and made.tally.unknown > made.tally.words / 2
    advice = "; most of their words have no vector: privatise with other --embeddings, or --unknown class"
    return f": they hold {plural(different, 'text')}, drawn together with its repeats{advice if unknown else ''}"


def _many(epsilon: float) -> str:
    return f"{epsilon:,.0f}" if epsilon >= 100 else f"{epsilon:.3g}"


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1%}"
