"""Texts recovered: which share of released texts an attacker gets back whole."""

from redteam.report.recovered import ReleasedMetric


class TextsRecovered(ReleasedMetric):
    """The share of texts of which every word is guessed right."""

    name, symbol, order = "texts_recovered", "texts recovered", 82
    description = "whole texts can be guessed back"
    problem = "whole texts are guessed back"
    found = "an attacker guesses back whole texts"
    back = "released texts are guessed back word for word"
