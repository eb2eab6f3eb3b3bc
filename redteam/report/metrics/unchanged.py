"""Unchanged: which share of the words of a text was not exchanged at all, on average over released texts."""

from redteam.report.recovered import ReleasedMetric


class UnchangedWords(ReleasedMetric):
    """The mean over texts of the share of words that went out as they came."""

    name, symbol, order = "unchanged", "words unchanged", 80
    description = "released texts hold many of their words as they were"
    problem = "many words were not exchanged"
    found = "words of released texts are those that were written"
    back = "words of a released text are what its author wrote"
