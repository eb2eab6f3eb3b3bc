"""RT504 prediction sensitivity: how far an answer would move towards what tells the group (Krishna et al. 2022).

A model of the protected status learns the group from the embedded words of half of the texts. On the other half its
gradient v and those of the answers J, token by token, make P = w^T |J| v, w = 1/K for K classes, v = |gradient| (ACL
2022, arXiv 2203.08670, after Maughan and Near 2022): the part in one token says which words carry it. D is the
directional form, |<gradient of the log odds of a class, u>| with u = v with its sign over its length, and C its cosine.

None of them is ever judged. Their scale is that of the two models: towards something that cannot matter P was measured
hundreds of times larger than towards gender, and another seed of the status model moves it more than a planted bias
does. A small value proves nothing either, since gradients vanish where answers saturate; what counts is RT501. What
compares is D of two models that were trained from one encoder, on the same texts and the same three status models
(`--compare-with MODEL2`): the ratio has an interval, paired over the texts.

It needs the weights and two groups: of a swap list or of the rows. Status models that are right on less than 0.7 of
the texts that they were not trained on point nowhere, and are refused. Of more than ten classes the predicted one alone
is looked at.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAnswer, FairnessAttack, FairnessProbe, Level, Number
from redteam.plugins.settings import Setting
from redteam.report.values import FairnessNumber
from redteam.statistics.fairness import ratio_of_means
from redteam.targets.target import Access, Target

if TYPE_CHECKING:
    import torch

_SEEDS, _LEAST, _FEWEST, _WORDS = 3, 0.7, 20, 5


@dataclass(frozen=True)
class _Texts:
    """What is asked: texts, which of them are of the first of two groups, and which belong together, as swaps do."""

    of: str
    texts: tuple[str, ...]
    first: BoolArray
    units: IntArray

    def halves(self, seed: int, most: int) -> tuple[IntArray, IntArray]:
        """Return the texts to learn from and those to measure, no two of a unit on both sides."""
        order = np.random.default_rng([seed, 0x504]).permutation(np.unique(self.units))
        learn = np.isin(self.units, order[: len(order) // 2])
        return np.flatnonzero(learn), np.flatnonzero(~learn)[:most]


@dataclass(frozen=True)
class PredictionSensitivity(FairnessAttack):
    """Describe how answers move along what tells the group."""

    id = "RT504"
    name = "prediction sensitivity"
    needs = Access.WEIGHTS
    only_named = True
    describes = compares = True

    most: int = Setting("Measure so many texts at the most.", "texts", least=_FEWEST).default(400)

    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return nothing: it is never judged."""
        return ()

    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return P, D and C, the words that carry P, and the ratio to another model's D."""
        numbers, notes = list[FairnessNumber](), list[str]()
        for asked in _asked(probe):
            found = self._of(target, asked, probe, level, context)
            numbers += found.numbers
            notes += found.notes
        return FairnessAnswer((), tuple(numbers), tuple(notes))

    def _of(
        self, target: Target, asked: _Texts, probe: FairnessProbe, level: Level, context: AttackContext
    ) -> FairnessAnswer:
        from attacks.fairness._gradients import gradients, looks_at_all, same_space, table_of, tokens_of
        from attacks.fairness._status_model import train_status_model

        learn, held = asked.halves(context.seed, self.most)
        tokens, table = tokens_of(target, asked.texts), table_of(target)
        if probe.other is not None:
            if tokens_of(probe.other, asked.texts) != tokens:
                raise DataError(
                    f"--compare-with {probe.other.name}: its tokenizer is another than that of {target.name}"
                )
            same_space(target, probe.other, tokens)
        embedded = [table[row] for row in tokens]
        models = [
            train_status_model([embedded[i] for i in learn], asked.first[learn], seed=context.seed + k)
            for k in range(_SEEDS)
        ]
        shown = [embedded[i] for i in held]
        right = [each.accuracy(shown, asked.first[held]) for each in models]
        if min(right) < _LEAST:
            raise DataError(
                f"RT504: {asked.of}: a model of the group is right on {min(right):.0%} of {len(held)} texts that it was"
                f" not trained on, and {_LEAST:.0%} are the least: their words do not tell the group"
            )
        rows = [tokens[i] for i in held]
        steep, odds = (gradients(target, rows, of_odds=each) for each in (False, True))
        measured = [_measured(each, shown, steep, odds) for each in models]
        numbers = [*self._means(asked.of, measured, right, len(held)), *self._words(asked, held, target, measured)]
        if probe.other is not None:
            theirs = [_directional(each, shown, gradients(probe.other, rows, of_odds=True)) for each in models]
            numbers.append(self._ratio(asked, held, probe.other.name, measured, theirs, level))
        alone = () if looks_at_all(target) else ("RT504: of so many classes the predicted one alone is looked at",)
        return FairnessAnswer((), tuple(numbers), (f"RT504: {asked.of}: {_CAUTION}", *alone))

    def _means(self, of: str, measured: "Sequence[_Measured]", right: list[float], n: int) -> Iterator[FairnessNumber]:
        for measure, values in (
            ("prediction sensitivity P", [float(each.p.mean()) for each in measured]),
            ("directional D", [float(each.d.mean()) for each in measured]),
            ("cosine C", [float(each.c.mean()) for each in measured]),
            ("accuracy of the status models", right),
        ):
            yield FairnessNumber(self.id, of, f"{measure}, mean of {_SEEDS}", float(np.mean(values)), n)
            yield FairnessNumber(self.id, of, f"{measure}, least of {_SEEDS}", min(values), n)
            yield FairnessNumber(self.id, of, f"{measure}, most of {_SEEDS}", max(values), n)

    def _words(
        self, asked: _Texts, held: IntArray, target: Target, measured: "Sequence[_Measured]"
    ) -> Iterator[FairnessNumber]:
        """Yield the tokens that carry most of P, of those that stand in several texts."""
        from attacks.fairness._gradients import tokens_of

        shares = defaultdict[int, list[float]](list)
        for place, row in enumerate(tokens_of(target, [asked.texts[i] for i in held])):
            for t, token in enumerate(row):
                shares[token].append(float(np.mean([each.shares[place][t] for each in measured])))
        common = {token: values for token, values in shares.items() if len(values) >= 3}
        for token in sorted(common, key=lambda each: -float(np.mean(common[each])))[:_WORDS]:
            word = str(target.tokenizer.id_to_token(token))  # type: ignore[attr-defined]
            value = float(np.mean(common[token]))
            yield FairnessNumber(
                self.id, asked.of, f"share of P in {word!r} where it stands", value, len(common[token])
            )

    def _ratio(
        self,
        asked: _Texts,
        held: IntArray,
        name: str,
        ours: "Sequence[_Measured]",
        theirs: list[FloatArray],
        level: Level,
    ) -> FairnessNumber:
        _, own = np.unique(asked.units[held], return_inverse=True)
        above, below = (
            np.bincount(own, weights=np.mean(each, axis=0)) / np.bincount(own)
            for each in ([one.d for one in ours], theirs)
        )
        interval = ratio_of_means(above, below, alpha=level("ratio", asked.of))
        return FairnessNumber(
            self.id, asked.of, f"D as a multiple of that of {name}", interval.value, len(above), interval
        )


_CAUTION = (
    "described, never judged: these scales are of the target and of the status models; compare two models with "
    "--compare-with, and judge RT501"
)


@dataclass(frozen=True)
class _Measured:
    """Of each text: P, D and C, [n] each, and the share of P that lies in each of its tokens."""

    p: FloatArray
    d: FloatArray
    c: FloatArray
    shares: list[FloatArray]


def _measured(
    model: "object", shown: "list[torch.Tensor]", steep: "list[torch.Tensor]", odds: "list[torch.Tensor]"
) -> _Measured:
    p, c, shares = [], [], []
    for embedded, j, m in zip(shown, steep, odds, strict=True):
        v = model.gradient(embedded, of_odds=False).abs()  # type: ignore[attr-defined]
        parts = (j.abs().mean(dim=0) * v).sum(dim=1).double().numpy()
        total = float(parts.sum())
        p.append(total)
        shares.append(parts / total if total > 0 else np.full(len(parts), 1 / len(parts)))
        g = model.gradient(embedded, of_odds=True)  # type: ignore[attr-defined]
        lengths = m.flatten(1).norm(dim=1) * g.norm()
        c.append(float(((m * g).sum(dim=(1, 2)).abs() / lengths.clamp_min(1e-30)).mean()))
    return _Measured(np.array(p), _directional(model, shown, odds), np.array(c), shares)


def _directional(model: "object", shown: "list[torch.Tensor]", odds: "list[torch.Tensor]") -> FloatArray:
    found = []
    for embedded, m in zip(shown, odds, strict=True):
        g = model.gradient(embedded, of_odds=True)  # type: ignore[attr-defined]
        found.append(float((m * (g / g.norm().clamp_min(1e-30))).sum(dim=(1, 2)).abs().mean()))
    return np.array(found)


def _asked(probe: FairnessProbe) -> Iterator[_Texts]:
    """Yield the texts of each swap list, with their swaps as texts of the other group, else those of two groups."""
    for pairs in probe.pairs:
        named = np.flatnonzero(pairs.named)
        texts = tuple(text for i in named for text in (pairs.texts[i], pairs.swapped[i]))
        first = np.array([side for i in named for side in (pairs.named[i] > 0, pairs.named[i] < 0)], dtype=np.bool_)
        units = (named if pairs.units is None else pairs.units[named]).repeat(2)
        yield _enough(_Texts(pairs.name, texts, first, units))
    rows = probe.rows
    if not probe.pairs and rows is not None and rows.groups is not None:
        names = sorted(set(rows.groups))
        if len(names) != 2:
            raise DataError(f"RT504: {len(names)} groups, and a direction lies between two: name them by --groups")
        first = np.array([group == names[0] for group in rows.groups])
        yield _enough(_Texts("groups", rows.texts or (), first, np.arange(len(rows))))


def _enough(asked: _Texts) -> _Texts:
    if min(int(asked.first.sum()), int((~asked.first).sum())) < _FEWEST:
        raise DataError(f"RT504: {asked.of}: fewer than {_FEWEST} texts of a group; audit more of them")
    return asked
