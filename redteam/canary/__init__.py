"""Canaries: secrets put into the training data on purpose, to see whether they can be extracted.

Planting draws two secrets alike for each canary and puts one in at random. The other, the held-out canary, is
nowhere: what an attack finds of it is chance and prior preference, measured and not assumed.
"""

from redteam.canary.draw import PlantingPlan
from redteam.canary.files import Planted, plant
from redteam.canary.tokens import check_tokenizer, learn_from, vocabulary_texts
from redteam.data.pattern import Pattern, Slot
from redteam.data.planted import canaries_beside
from redteam.data.planting import Canary, Decoy, Planting, canaries_path, canary_rows, mark_planted

__all__ = [
    "Canary",
    "Decoy",
    "Pattern",
    "Planted",
    "Planting",
    "PlantingPlan",
    "Slot",
    "canaries_beside",
    "canaries_path",
    "canary_rows",
    "check_tokenizer",
    "learn_from",
    "mark_planted",
    "plant",
    "vocabulary_texts",
]
