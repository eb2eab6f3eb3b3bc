"""Texts as words: the runs of letters and digits, in lower case and without accents; all else is dropped."""

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order.

    >>> words_of("Don't play Café, No. 7!")
    ['don', 't', 'play', 'cafe', 'no', '7']
    """
    if not text.isascii():
        parted = unicodedata.normalize("NFD", text)
        text = unicodedata.normalize("NFC", "".join(c for c in parted if unicodedata.category(c) != "Mn"))
    return _WORD.findall(text.lower())
