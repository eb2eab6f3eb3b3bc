"""Doubles for canary drills: an attack that tries every candidate, one that is broken, and a model made of noise."""

import hashlib

import numpy as np

from redteam.plugins.extraction import Answer, ExtractionAttack, Ranked
from redteam.statistics.exposure import exact_exposure
from redteam.targets.target import Access, label_indices


class Enumeration(ExtractionAttack):
    """The naive exposure attack: the loss of every candidate, the least is the guess."""

    id, name, needs = "RT299", "enumeration", Access.PROBABILITIES

    def extract(self, target, queries, candidates, context):
        return tuple(self._answer(target, query, candidates) for query in queries)

    def _answer(self, target, query, candidates):
        everything = list(query.candidates())
        losses = target.losses(query.examples(everything))
        own = [candidate.secret for candidate in candidates if candidate.query == query.id]
        ranked = []
        for secret in own:
            loss = float(losses[everything.index(secret)])
            ranked.append(Ranked(secret, loss, exact_exposure(loss, losses)))
        best = int(losses.argmin())
        return Answer(query.id, everything[best], float(losses[best]), True, tuple(ranked))


class NoiseModel:
    """Random losses, one for each text and label; of the sentences in `known` the loss is less by `depth` nats."""

    kind, digest, access = "noise", None, Access.PROBABILITIES

    def __init__(self, labels, *, seed=0, known=(), depth=0.0, name="noise"):
        self.labels, self.seed, self.name, self.depth = tuple(sorted(labels)), seed, name, depth
        self.known = set(known)

    def log_probabilities(self, examples):
        logits = np.array([self._noise(text) for text in examples.texts])
        for row, text in enumerate(examples.texts):
            for column, label in enumerate(self.labels):
                logits[row, column] += self.depth * ((text, label) in self.known)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def predict(self, examples):
        return self.log_probabilities(examples).argmax(axis=1)

    def losses(self, examples):
        own = label_indices(self.labels, examples, name=self.name)
        return -self.log_probabilities(examples)[np.arange(len(own)), own]

    def _noise(self, text):
        digest = hashlib.shake_128(f"{self.seed} {text}".encode()).digest(4 * len(self.labels))
        return np.frombuffer(digest, dtype=np.uint32) / 2**31
