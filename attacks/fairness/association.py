"""RT505 embedding association: does the model's encoder set words of work nearer to one group than to the other?

Of each of our own tests (work and home, science and arts, able and unable; groups by pronouns and kin, or first names)
it gives the effect size of WEAT (Caliskan et al. 2017) on the input embeddings, and of SEAT (May et al. 2019) on the
encoder's last states of the words in twelve neutral sentences and, where a word stands in DATA, in those texts. p is of
exchanging the words between the two targets, exact where there are few enough ways, and the interval is of drawing
words, and their contexts, again. A dozen words prove little: most intervals reach over 0.

CEAT (Guo and Caliskan 2021) pools effects over random contexts. Its p shrinks with the number of draws, which are no
independent studies, so that with enough of them everything is significant; it is printed with that said and nothing is
made of it.

This is a description of the encoder and never judged: what an encoder associates was found to say little of what a
classifier on top does (Cao et al. 2022, arXiv 2203.13928). RT501 asks the classifier itself. It needs the weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redteam.auditing.fairness.associations import CONTEXTS, TESTS
from redteam.auditing.fairness.swaps import tokens as words_of
from redteam.core.arrays import FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAnswer, FairnessAttack, FairnessProbe, Level, Number
from redteam.plugins.settings import Setting
from redteam.report.values import FairnessNumber
from redteam.statistics.association import Association, associate, contextual
from redteam.targets.target import Access, Target

_MOST_CONTEXTS, _FEWEST, _DRAWS, _BATCH = 12, 4, 1000, 64
Vectors = Mapping[str, FloatArray]  # of each word, those of its contexts, [contexts, d], of length 1
_CEAT = f"CEAT's own, of {_DRAWS:,} draws: it shrinks with their number and proves nothing"


@dataclass(frozen=True)
class EmbeddingAssociation(FairnessAttack):
    """Describe what an encoder associates with groups."""

    id = "RT505"
    name = "embedding association"
    needs = Access.WEIGHTS
    only_named = True
    describes = intrinsic = True

    ceat: bool = Setting("Print CEAT's pooled effect and its own p besides.").default(False)

    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return nothing: it is never judged."""
        return ()

    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return the effects by each kind of vector, with p and interval."""
        encoder = _Encoder(target)
        wanted = {word for _, *lists in TESTS for words in lists for word in words}
        kinds = {
            "input embeddings": encoder.static(wanted),
            "our sentences": encoder.inside({word: [each.format(word) for each in CONTEXTS] for word in wanted}),
        }
        rows = probe.rows.texts or () if probe.rows is not None else ()
        if corpus := _contexts(wanted, (*rows, *(text for pairs in probe.pairs for text in pairs.texts))):
            kinds["the texts of DATA"] = encoder.inside(corpus)
        numbers, few = list[FairnessNumber](), list[str]()
        for kind, vectors in kinds.items():
            for name, *lists in TESTS:
                held = [[vectors[word] for word in words if word in vectors] for words in lists]
                if min(map(len, held)) < _FEWEST:
                    few.append(f"{name} in {kind}")
                    continue
                numbers += self._numbers(name, kind, held, level, context.seed)
        left = (f"RT505: fewer than {_FEWEST} words of a list: {'; '.join(few)}",) if few else ()
        said = "RT505: of the encoder, never judged: it says little of what the classifier does (see RT501)"
        return FairnessAnswer((), tuple(numbers), (said, *left))

    def _numbers(
        self, name: str, kind: str, held: Sequence[Sequence[FloatArray]], level: Level, seed: int
    ) -> Iterator[FairnessNumber]:
        x, y, a, b = held
        found: Association = associate(x, y, a, b, alpha=level("effect", name), seed=seed)
        count = sum(map(len, held))
        yield FairnessNumber(self.id, name, f"effect, {kind}", found.effect.value, count, found.effect)
        how = "all" if found.exact else "drawn"
        yield FairnessNumber(self.id, name, f"p of exchanging words ({how}), {kind}", found.p, len(x) + len(y))
        if self.ceat and any(len(each) > 1 for words in held for each in words):
            pooled, p = contextual(x, y, a, b, draws=_DRAWS, seed=seed)
            yield FairnessNumber(self.id, name, f"CEAT's pooled effect, {kind}", pooled, count)
            yield FairnessNumber(self.id, name, f"p, {_CEAT}, {kind}", p, _DRAWS)


def _contexts(wanted: set[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """Return for each word the first texts that hold it."""
    found: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        for word in {each.word for each in words_of(text)} & wanted:
            if len(found.setdefault(word, [])) < _MOST_CONTEXTS:
                found[word].append(text)
    return found


class _Encoder:
    """The encoder of a target, and its vectors of words."""

    def __init__(self, target: Target) -> None:
        opened: Any = target
        self.model, self.tokenizer = opened.model.eval(), opened.tokenizer

    def static(self, wanted: set[str]) -> Vectors:
        """Return the input embedding of each word, the mean over its pieces."""
        table = self.model.get_input_embeddings().weight.detach().double().cpu().numpy()
        pieces = {word: self.tokenizer.encode(word, add_special_tokens=False).ids for word in sorted(wanted)}
        means = {word: table[ids].mean(axis=0, keepdims=True) for word, ids in pieces.items() if self._known(ids)}
        return {word: _unit(each) for word, each in means.items()}

    def inside(self, contexts: Mapping[str, Sequence[str]]) -> Vectors:
        """Return the last states of each word in its contexts, the mean over its pieces; none where it was cut off."""
        asked = [(word, text) for word in sorted(contexts) for text in contexts[word]]
        found: dict[str, list[FloatArray]] = {}
        for start in range(0, len(asked), _BATCH):
            part = asked[start : start + _BATCH]
            encoded = [self.tokenizer.encode(text) for _, text in part]
            states = self._states([each.ids for each in encoded])
            for (word, text), one, own in zip(part, encoded, states, strict=True):
                place = next(each for each in words_of(text) if each.word == word)
                inside = [i for i, (a, b) in enumerate(one.offsets) if a >= place.start and b <= place.end and b > a]
                if inside and self._known([one.ids[i] for i in inside]):
                    found.setdefault(word, []).append(own[inside].mean(axis=0))
        return {word: _unit(np.stack(each)) for word, each in found.items()}

    def _known(self, ids: Sequence[int]) -> bool:
        """Tell whether a word has pieces, and none of them stands for all unknown ones."""
        unknown = {self.tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>")} - {None}
        return bool(ids) and not set(ids) & unknown

    def _states(self, ids: Sequence[Sequence[int]]) -> Iterator[FloatArray]:
        import torch

        from redteam.targets.model import pad_batch

        batch = {
            name: each.to(self.model.device) for name, each in pad_batch([list(row) for row in ids], pad=0).items()
        }
        with torch.inference_mode():
            if hasattr(self.model, "last_states"):  # our own BiLSTM, which is no encoder with a head on top
                last = self.model.last_states(batch["input_ids"], batch["attention_mask"])
            else:
                last = self.model.base_model(**batch).last_hidden_state
        states = last.double().cpu().numpy()
        return (states[i, : len(row)] for i, row in enumerate(ids))


def _unit(vectors: FloatArray) -> FloatArray:
    found: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found
