"""Words recovered: which share of the words of a text an attacker gets back, on average over released texts."""

from redteam.report.recovered import ReleasedMetric


class WordsRecovered(ReleasedMetric):
    """The mean over texts of the share of words that are guessed right."""

    name, symbol, order = "words_recovered", "words recovered", 81
    description = "words that were exchanged can be guessed back"
    problem = "words that were exchanged are guessed back"
    found = "an attacker guesses back the words of released texts"
    back = "words of a released text are guessed back"
