"""Rows and columns: the one reader of every file, labelled texts, and how they divide into members and non-members."""

from redteam.data.examples import COMMON, Columns, Examples, fold, join, text_key, without
from redteam.data.reading import Reading, read_examples, read_split
from redteam.data.source import fingerprint
from redteam.data.split import Split

__all__ = [
    "COMMON",
    "Columns",
    "Examples",
    "Reading",
    "Split",
    "fingerprint",
    "fold",
    "join",
    "read_examples",
    "read_split",
    "text_key",
    "without",
]
