"""RT303 sentences: whole texts of a client with their labels and counts, read out of one update.

The adversary is a server, or whoever sees what a client sends: it knows the weights before and after, and neither batch
size nor labels nor lengths. The steps, in double precision:

1. The tokens, as RT301 finds them, and where word embeddings are trained the positions of RT302.
2. The gradient of the first layer's queries, keys and values is a sum over cells of error times input. Inputs are known
   but for a factor and a position, so that least squares give the error of each token. It needs fewer tokens and
   positions together than the model is wide.
3. By the softmax, the error of a head's query is a combination of the keys of its own sentence whose weights sum to
   zero, and the error of a key one of the queries of its own sentence. So a token that occurs once names the cells of
   its sentence, and their order, by 2 x heads small vectors: a beam of orthogonal least squares finds them.
4. The candidate is run under every label. Its own errors are those that were solved for, or it is no sentence of the
   batch: that proves it, and gives its label and how often it stands there.
5. It is subtracted. Tokens that stood in several sentences then stand in one, and the search goes on.

A sentence that step 4 proved is *verified*; the others are the likeliest guess, often right but for a word. With
dropout nothing can be proven, since the masks are unknown, yet order survives: look at both. Longer texts than a head
is wide (mostly 32 or 64 tokens) are not found; several local steps, momentum, Adam, LoRA and noise hinder or stop it.

Cost: about 2 seconds for 8 sentences where embeddings are trained, 15 where they are frozen, minutes for 64.

MITRE ATLAS (v5.6.1) AML.T0024.001, invert AI model. NIST AI 100-2 (2025) NISTAML.032, data reconstruction. OWASP
Machine Learning Security Top 10 (2023) ML03, model inversion. No id of ATLAS names updates: this is the nearest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from attacks.updates._assembly import Assembly, SeenOfUpdate
from attacks.updates._reading import UpdateReading, read
from attacks.updates._replay import Replay
from attacks.updates.tokens import INVERSION, LONGEST
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.settings import Setting
from redteam.plugins.update import ClientUpdate, Recovered, RecoveredSentence, UpdateAttack, at_round, together
from redteam.targets.target import WhiteBox, labels_of

Line = tuple[int, ...]
_EXPLAINED = 0.6  # of the first layer's change: Adam leaves less, dropout and several steps more
_SWEEPS = 2  # through rounds: what a later one proves may open an earlier one
_LABELS = 32  # candidates that are run under each sentence at the most


@dataclass(frozen=True)
class Sentences(UpdateAttack):
    """Read whole texts, each proven or a guess."""

    id = "RT303"
    name = "sentences"
    gives = ("sentences",)
    taxonomy = INVERSION

    longest: int = LONGEST.default(64)
    beam: int = Setting("How many partial sentences are kept at once.", "sentences", least=1).default(4)

    def recover(self, model: WhiteBox, update: ClientUpdate, context: AttackContext) -> Recovered:
        """Return sentences, verified ones first, with the tokens and positions they were put together from."""
        return self._read(model, update, context, ())

    def recover_rounds(self, model: WhiteBox, updates: Sequence[ClientUpdate], context: AttackContext) -> Recovered:
        """Return what rounds say together: a sentence that one of them proves is looked for first in all others."""
        answers, reasons = dict[int, Recovered](), dict[int, NotApplicable]()
        known, seen = dict[Line, None](), dict[int, int]()
        for _ in range(_SWEEPS):
            for at, update in enumerate(updates):
                if seen.get(at) == len(known) or at in reasons or answers.get(at, Recovered()).complete:
                    continue
                seen[at] = len(known)
                with at_round(model, update):
                    try:
                        answers[at] = self._read(model, update, context, known)
                    except NotApplicable as error:
                        reasons[at] = error
                        continue
                new = [each.tokens for each in answers[at].sentences if each.verified]
                known |= dict.fromkeys(new)
        return together(list(answers.values()), list(reasons.values()))

    def _read(self, model: WhiteBox, update: ClientUpdate, context: AttackContext, known: Iterable[Line]) -> Recovered:
        found = read(model, update, longest=self.longest)
        if not found.tokens:
            return Recovered(notes=found.notes)
        gradient = found.layer.attention_gradient(update)
        replay = Replay(model, found.layer, _labels(model, update))
        seen = SeenOfUpdate(gradient, found.rows, found.tokens, found.length, found.errors)
        assembly = Assembly(found.layer, replay, seen, beam=self.beam, progress=context.progress)
        sentences = assembly.run(known)
        if not any(each.verified for each in sentences):
            _refuse(found, assembly.explained)
        sentences, notes = _unless_alike(found, sentences), (*found.notes, *_notes(found))
        return Recovered(frozenset(found.tokens), {}, sentences, notes, complete=assembly.complete)


def _unless_alike(found: UpdateReading, sentences: tuple[RecoveredSentence, ...]) -> tuple[RecoveredSentence, ...]:
    """Return the sentences, those unproven in which another token has the same frozen embedding: either may stand."""
    if found.rows is not None:  # a row of its own names the token
        return sentences
    words = found.layer.words[list(found.tokens)]
    _, group, sizes = torch.unique(words, dim=0, return_inverse=True, return_counts=True)
    alike = {token for token, more in zip(found.tokens, (sizes[group] > 1).tolist(), strict=True) if more}
    return tuple(replace(each, verified=each.verified and alike.isdisjoint(each.tokens)) for each in sentences)


def _refuse(found: UpdateReading, explained: float | None) -> None:
    """Raise NotApplicable where that nothing was found says nothing about what is there."""
    if explained is None and len(found.tokens) + found.length > found.layer.width:
        size = f"{len(found.tokens)} tokens and {found.length} positions are more than {found.layer.width}"
        raise NotApplicable(f"{size}, the width of the model: nothing is determined")
    if explained is None and len(found.tokens) > 2:
        raise NotApplicable("some of its tokens or positions have one embedding: nothing is determined")
    if explained is not None and explained < _EXPLAINED and not found.noise:
        raise NotApplicable(
            f"its tokens explain {explained:.0%} of the change of the first layer, not all of it: this is no step of "
            "SGD without momentum"
        )


def _labels(model: WhiteBox, update: ClientUpdate) -> list[int]:
    """Return the labels that texts may have: all, or of many those whose bias grew most, as its own label makes it."""
    count = len(labels_of(model)) or int(model.model.config.num_labels)
    if count <= _LABELS:
        return list(range(count))
    biases = [value for value in update.change.values() if value.shape == (count,)]
    grown = biases[-1] if biases else torch.zeros(count)
    return sorted(grown.argsort(descending=True)[:_LABELS].tolist())


def _notes(found: UpdateReading) -> tuple[str, ...]:
    head = found.layer.width // found.layer.heads
    return (f"a text has {found.length} tokens; those of {head} and more are not found",) * (found.length >= head)
