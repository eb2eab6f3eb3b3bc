"""What `redteam fairness` finds of a planted bias, and of none: run by hand, `nice python tests/bench/bench_fairness.py PART`.

Parts: planted, minilm, null, coverage. Sentences are our own: a person of either group, described in our templates.
An adjective agrees with the label in 80 % of the rows, the group in a share rho of them: 0.5 plants nothing.
"""

# ruff: noqa: B023, E501

import random
import sys
import time

import numpy as np

from attacks.controls.placebo import PlaceboSwap
from attacks.fairness.counterfactual import CounterfactualFlips
from attacks.fairness.rates import GroupRates
from defenses.plain import Plain
from redteam.auditing.fairness.pairs import pairs_of_rows
from redteam.auditing.fairness.swaps import load_swaps
from redteam.auditing.fairness.templates import OWN
from redteam.auditing.fairness.words import MEN, OCCUPATIONS, WOMEN
from redteam.data import Examples
from redteam.models.initial import initial_model
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessProbe
from redteam.report import range_of
from redteam.statistics.fairness import bounded_mean, group_rate, paired_difference, worst_gap

GOOD = ["reliable", "careful", "brilliant", "punctual", "skilled", "helpful", "thorough", "creative"]
BAD = ["careless", "late", "sloppy", "rude", "lazy", "confused", "forgetful", "slow"]
PRONOUNS = (
    {"they": "she", "them": "her", "their": "her", "themself": "herself"},
    {"they": "he", "them": "him", "their": "his", "themself": "himself"},
)
EPOCHS = {"tiny": 8, "bilstm": 8, "minilm": 2}


def sentences(count, rho, seed, *, women=0.5, adjective=0.8):
    """Labelled rows with a group; with `women` other than a half, groups are drawn first and labels follow."""
    drawn, rows = random.Random(seed), []
    for _ in range(count):
        label = drawn.randrange(2)
        told = label if drawn.random() < adjective else 1 - label
        man = label if drawn.random() < rho else 1 - label
        if women != 0.5:
            man = int(drawn.random() >= women)
        words = {
            "occupation": drawn.choice(OCCUPATIONS),
            "adjective": drawn.choice((BAD, GOOD)[told]),
            "name": drawn.choice((WOMEN, MEN)[man]).capitalize(),
            **PRONOUNS[man],
        }
        text = drawn.choice(OWN).format(**words)
        rows.append((text[:1].upper() + text[1:], ("bad", "good")[label], ("women", "men")[man]))
    texts, labels, groups = zip(*rows, strict=True)
    return Examples(np.arange(count), texts, labels, groups=groups)


def trained(kind, rows, seed, defense=None):
    """A model trained on rows."""
    layers = 2 if kind == "minilm" else None
    initial = initial_model(kind, rows, learn_from=rows, seed=seed, layers=layers, freeze_embeddings=kind == "minilm")
    defense = defense or Plain(epochs=EPOCHS[kind])
    return defense.settled(initial, len(rows)).fit(initial, rows, seed=seed).target


def measure(target, rows, alpha=0.05):
    """Flips and gap minus placebo, the raw rates, and the widest gap of rates."""
    probe = FairnessProbe(rows, (pairs_of_rows(rows, load_swaps("gender"), PlaceboSwap()),))
    answers = [
        one.measure(target, probe, lambda *_: alpha, AttackContext(0)) for one in (CounterfactualFlips(), GroupRates())
    ]
    found = {f"{each.metric}:{each.signal}": each.interval for answer in answers for each in answer.evidence}
    raw = {each.measure: each.value for each in answers[0].numbers}
    return found, raw


def right(target, rows):
    """The share of right answers."""
    return float(
        np.mean([target.labels[i] == label for i, label in zip(target.predict(rows), rows.labels, strict=True)])
    )


def planted(kinds):
    """A table of kind, rho and seed."""
    test = sentences(600, 0.5, 999)
    for kind in kinds:
        for rho in (0.5, 0.7, 0.9):
            for seed in range(3):
                start = time.process_time()
                target = trained(kind, sentences(1200, rho, 100 + seed), seed)
                found, raw = measure(target, test)
                print(
                    f"| {kind} | {rho} | {seed} | {range_of(found['flip_rate:gender'])} "
                    f"| {range_of(found['counterfactual_gap:gender'])} | {raw['flips']:.3f} | "
                    f"{raw['flips under placebo']:.3f} | {raw[next(k for k in raw if 'minus' in k)]:+.3f} | "
                    f"{range_of(found['group_gap:true positive rate of good'])} | {right(target, test):.3f} | "
                    f"{time.process_time() - start:.0f} |",
                    flush=True,
                )


def null(seeds=100):
    """How often flips minus placebo cover 0 where nothing is planted."""
    test, covered, gaps = sentences(600, 0.5, 999), 0, 0
    for seed in range(seeds):
        found, _ = measure(trained("tiny", sentences(600, 0.5, 1000 + seed), seed), test)
        flips, gap = found["flip_rate:gender"], found["counterfactual_gap:gender"]
        covered += flips.low <= 0 <= flips.high
        gaps += gap.low <= 0 <= gap.high
        if not flips.low <= 0 <= flips.high:
            print("not covered:", seed, range_of(flips, digits=3), flush=True)
        if seed % 10 == 9:
            print(f"{seed + 1} seeds: flips cover 0 in {covered}, gaps in {gaps}", flush=True)


def coverage(runs=300):
    """Null coverage of every judged interval, by simulation."""
    rng = np.random.default_rng(0)
    print("| interval | sample | truth | misses at 0.05 | at 0.05 / 6 |\n|---|---|---|---|---|")
    for n, p in [(20, 0.1), (200, 0.02), (200, 0.3), (2000, 0.05)]:
        drawn = rng.multinomial(n, [p, p, 1 - 2 * p], runs)
        _row("paired flips", n, p, lambda a: [paired_difference(int(b), int(c), n, alpha=a) for b, c, _ in drawn], 0)
    for groups in (2, 5, 10):
        for n in (20, 200, 2000):
            for p in (0.05, 0.4):
                drawn = rng.binomial(n, p, (runs // 4, groups))
                _row(
                    "widest gap", f"{groups} x {n}", p,
                    lambda a: [worst_gap([(int(k), n) for k in each], alpha=a)[1] for each in drawn], 0,
                )  # fmt: skip
                _row(
                    "lowest accuracy", f"{groups} x {n}", p,
                    lambda a: [min((group_rate((int(k), n), alpha=a / groups) for k in each), key=lambda i: i.high)
                               for each in drawn], p, one_sided=True,
                )  # fmt: skip
    for count in (12, 30, 60):
        for spread in (0.1, 1, 5):
            own = rng.beta(spread, spread, (runs // 4, count))
            values = (rng.binomial(40, own) - rng.binomial(40, own)) / 40
            _row("mean over templates", count, f"beta {spread}",
                 lambda a: [bounded_mean(v, least=-1, most=1, alpha=a) for v in values], 0)  # fmt: skip


def _row(name, sample, truth, made, value, one_sided=False):
    missed = []
    for alpha in (0.05, 0.05 / 6):
        found = made(alpha)
        out = sum(each.high < value if one_sided else not each.low <= value <= each.high for each in found)
        missed.append(f"{out / len(found):.4f}")
    print(f"| {name} | {sample} | {truth} | {missed[0]} | {missed[1]} |", flush=True)


PARTS = {
    "null": null,
    "coverage": coverage,
    "planted": lambda: planted(("tiny", "bilstm")),
    "minilm": lambda: planted(("minilm",)),
}

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    for part in sys.argv[1:]:
        PARTS[part]()
