"""How often an audit calls a target a leak that was trained on nothing of what is audited: the judge's own verdicts.

The target is logistic regression on TF-IDF, trained on texts of its own, and so are eight references, each on half of
the audited rows. Who was a member is drawn anew for each audit, at random, which nobody has seen: whatever is found is
false. Limits lie where nothing leaks, an AUC of 0.5 and a TPR of 1 % at an FPR of 1 %, so that each verdict of a leak
counts; those of the usual policy lie further out. Prints the share of leaks of the whole audit, and of each attack that
runs alone, over 200 draws on pools of 400 rows. A broken-off run goes on with `--keep FILE`.

Wanted: none significantly above alpha, by a binomial test at 1 %.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples, Split
from redteam.plugins.attack import Attack
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.registry import discover_attacks
from redteam.policy import Limit, Policy
from redteam.policy.judge import judge
from redteam.report.values import AuditReport
from redteam.targets.target import Access, own_label_log_odds
from redteam.testing.examples import WORDS

ALPHA, LABELS, MODELS = 0.05, ("a", "b", "c", "d"), 8
NOTHING = Policy((Limit("auc", 0.5), Limit("tpr", 0.01, fpr=0.01)), allow_untrained=True)


def texts_of(count: int, *, seed: int) -> Examples:
    """Return sentences whose words go with their label, some more clearly than others."""
    rng = np.random.default_rng(seed)
    own, words = rng.integers(0, len(LABELS), count), np.array(WORDS)
    texts = []
    for number, label in enumerate(own):
        own_words = rng.choice(words[4 * label : 4 * label + 4], rng.integers(0, 4))
        texts.append(" ".join([*own_words, *rng.choice(words, 4), f"{seed}n{number}"]))
    return Examples(np.arange(count), tuple(texts), tuple(LABELS[label] for label in own))


class Fitted:
    """Logistic regression on words, as a target."""

    kind, digest = "bench", None

    def __init__(self, rows: Examples, access: Access = Access.PROBABILITIES) -> None:
        self.name, self.labels, self.access = "tfidf", LABELS, access
        self.model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=30.0)).fit(rows.texts, rows.labels)

    def log_probabilities(self, examples: Examples) -> FloatArray:
        found: FloatArray = self.model.predict_log_proba(examples.texts)
        return found

    def predict(self, examples: Examples) -> IntArray:
        found: IntArray = self.log_probabilities(examples).argmax(axis=1)
        return found

    def losses(self, examples: Examples) -> FloatArray:
        own = np.array([LABELS.index(label) for label in examples.labels or ()])
        return -self.log_probabilities(examples)[np.arange(len(own)), own]


class References:
    """What eight models say of a pool, trained once on halves of it; rows are found by their text."""

    def __init__(self, pool: Examples, *, seed: int) -> None:
        rng, rows, odds = np.random.default_rng([seed, 1]), np.arange(len(pool)), []
        own = np.array([LABELS.index(label) for label in pool.labels or ()])
        self.included = np.zeros((MODELS, len(pool)), dtype=bool)
        for model in range(0, MODELS, 2):
            self.included[model, rng.permutation(len(pool))[: len(pool) // 2]] = True
            self.included[model + 1] = ~self.included[model]
        for inside in self.included:
            answers = Fitted(pool.take(rows[inside].tolist())).log_probabilities(pool)
            odds.append(own_label_log_odds(answers, own))
        self.odds, self.place = np.array(odds), {text: i for i, text in enumerate(pool.texts or ())}

    def scores(self, pool: Examples) -> ReferenceScores:
        order = [self.place[text] for text in pool.texts or ()]
        partner = tuple(model ^ 1 for model in range(MODELS))
        return ReferenceScores(self.odds[:, order], self.included[:, order], partner)


def leaks(report: AuditReport) -> bool:
    return judge(report, NOTHING, today=date.today()).exit_code == 1


def attackers(known: Sequence[Attack]) -> dict[str, tuple[Attack, ...] | None]:
    """Return who attacks: all that an audit runs, and each that can run here by itself."""
    alone = {each.id: (each,) for each in known if each.id in ("RT101", "RT102", "RT103", "RT104", "RT105", "RT106")}
    return {"whole audit": None, **alone}


def draws_of(number: int, draws: Sequence[int]) -> Iterator[dict[str, bool]]:
    """Yield of each draw on a pool who called the target a leak."""
    pool, apart = texts_of(400, seed=number), texts_of(300, seed=1000 + number)
    target, references = Fitted(texts_of(300, seed=2000 + number)), References(pool, seed=number)
    labels_only = Fitted(texts_of(300, seed=2000 + number), Access.LABELS)
    rng = np.random.default_rng([number, 2])
    drawn = [rng.permutation(len(pool)) < len(pool) // 2 for _ in range(max(draws, default=-1) + 1)]
    for draw in draws:
        sides = (pool.take(np.flatnonzero(side).tolist()) for side in (drawn[draw], ~drawn[draw]))
        split = Split.of(*sides, apart)
        settings = AuditSettings(alpha=ALPHA, seed=draw, limits=NOTHING.limits)
        how: dict[str, Any] = {"controls": (), "settings": settings, "references": references}
        yield {
            name: leaks(audit(labels_only if name == "RT105" else target, replace(split), attacks, **how))
            for name, attacks in attackers(discover_attacks()).items()
        }


def count_leaks(pools: range, draws: int, kept: Path | None, tell: Callable[[str], None]) -> dict[str, int]:
    """Count over all draws, those in the file `kept` among them; a line is told, and kept, of each."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept is not None and kept.is_file() else []
    done = {(one["pool"], one["draw"]): one["leaks"] for one in map(json.loads, lines)}
    for pool in pools:
        missing = [draw for draw in range(draws) if (pool, draw) not in done]
        for draw, found in zip(missing, draws_of(pool, missing) if missing else (), strict=True):
            done[pool, draw] = found
            line = json.dumps({"pool": pool, "draw": draw, "leaks": found})
            tell(line)
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    asked = [done[pool, draw] for pool in pools for draw in range(draws)]
    return {name: sum(one[name] for one in asked) for name in attackers(discover_attacks())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=20)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="Number of the first pool.")
    parser.add_argument("--keep", type=Path, help="File of a line for each draw, with which a broken-off run goes on.")
    chosen = parser.parse_args()
    pools = range(chosen.first, chosen.first + chosen.pools)
    found = count_leaks(pools, chosen.draws, chosen.keep, lambda line: print(line, flush=True))
    wrong, draws = [], chosen.pools * chosen.draws
    for name, count in found.items():
        p = binomtest(count, draws, ALPHA, alternative="greater").pvalue
        print(f"{name:<12} {count:>3} of {draws} called a leak ({count / draws:.1%}; wanted: {ALPHA:.0%}), p {p:.2f}")
        wrong += [name] if p < 0.01 else []
    print("as wanted" if not wrong else f"too many: {', '.join(wrong)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
