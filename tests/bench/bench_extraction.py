"""Extraction: what it costs, how strong it is apart from memorisation, and what embeddings tell.

    python tests/bench/bench_extraction.py [cost] [restarts] [strength] [vocabulary] [drift] [null] [bilstm tiny minilm]

cost: enumerating 10^4 candidates against the bare forward passes in their best batching, in turn (wanted: at most
1.15). restarts: 16 restarts of RT202 against one (wanted: at most 4). strength: of the planted secrets that are the
exact minimum of their candidates, the share that RT202 and RT203 find (wanted: 0.60 and 0.95), RT203 one canary at a
time, since canaries that are asked about together share what they try. vocabulary: RT203's final loss against the best
of 10^5 random secrets of three words out of 400 (wanted: at or below in 0.95). drift: AUC of token membership of
MiniLM fine-tuned on SNIPS (wanted: 0.99). null: findings among 200 plantings that a model trained on SNIPS never saw
(wanted: at most 0.05). MiniLM has 6 layers but for strength, where it is cut to 2.
"""

import resource
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from snips import minilm_bundle, snips_examples

from attacks.extraction._losses import Losses
from attacks.extraction.embedding_drift import drift, membership_auc
from attacks.extraction.exposure import ExposureRank
from attacks.extraction.relaxed import RelaxedSearch
from attacks.extraction.search import SwapSearch
from attacks.extraction.sentences import CandidateSet, spell
from defenses.plain import Plain
from redteam.canary import Pattern, Planting, PlantingPlan
from redteam.canary.draw import draw_canaries
from redteam.canary.extract import extract
from redteam.data import Examples
from redteam.models.initial import initial_model, minilm_directory
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import ExtractionQuery, NotApplicable
from redteam.targets.model import ModelTarget

DIGITS = tuple("0123456789")
PIN = Pattern.parse("my pin code is {digit:4}")
LABELS = tuple(f"l{i:02d}" for i in range(20))


def noise(rows: int, *, seed: int) -> tuple[list[str], list[str]]:
    """Sentences of made-up words with labels that mean nothing."""
    rng = np.random.default_rng(seed)
    words = [
        "".join(rng.choice(list("bcdfghklmnprst")) + rng.choice(list("aeiou")) for _ in range(3)) for _ in range(40)
    ]
    texts = [" ".join(rng.choice(words, size=6)) for _ in range(rows)]
    return texts, [str(label) for label in rng.choice(LABELS, size=rows)]


def train(
    kind: str,
    pattern: Pattern,
    symbols: tuple[str, ...],
    *,
    seed: int,
    canaries: int,
    epochs: int = 20,
    copies: int = 20,
) -> tuple[ModelTarget, list[tuple[str, ...]]]:
    """A model trained on noise and on `canaries` secrets, one for each label, `copies` times each."""
    rng = np.random.default_rng([seed, 1])
    texts, labels = noise(400, seed=seed)
    secrets = [tuple(symbols[i] for i in rng.integers(len(symbols), size=len(pattern.places))) for _ in range(canaries)]
    pieces = [piece for piece in pattern.pieces if isinstance(piece, str)]
    known = [*symbols * 10, *pieces * 10, *texts]
    for label, secret in zip(LABELS, secrets, strict=False):
        texts += [pattern.fill(secret)] * copies
        labels += [label] * copies
    examples = Examples(np.arange(len(texts)), tuple(texts), tuple(labels))
    learn_from = Examples(np.arange(len(known)), tuple(known))
    layers = 2 if kind == "minilm" else None
    start = initial_model(kind, examples, learn_from=learn_from, seed=seed, vocabulary=4000, layers=layers)
    return Plain(epochs=epochs).fit(start, examples, seed=seed).target, secrets


def queries(pattern: Pattern, symbols: tuple[str, ...], count: int) -> list[ExtractionQuery]:
    return [ExtractionQuery(label, pattern, label, (symbols,) * len(pattern.places)) for label in LABELS[:count]]


def processor(run: Callable[..., object], *arguments: object, **named: object) -> float:
    """Seconds of processor time: wall time tells more of the neighbours."""
    started = time.process_time()
    run(*arguments, **named)
    return time.process_time() - started


def untrained(kind: str) -> ModelTarget:
    if kind == "minilm":
        return ModelTarget(minilm_bundle(LABELS), name=kind)
    texts, _ = noise(2000, seed=0)
    known = [*DIGITS * 10, *["my pin code is"] * 10, *texts]
    examples = Examples(np.arange(len(known)), tuple(known), tuple(LABELS[i % 20] for i in range(len(known))))
    start = initial_model(kind, examples, learn_from=examples, seed=0)
    return ModelTarget(start.bundle(), name=kind)


def bare(target: ModelTarget, ids: torch.Tensor, tokens: int) -> None:
    """Nothing but the forward passes, `tokens` in each."""
    size = tokens // ids.shape[1]
    with torch.inference_mode():
        for first in range(0, len(ids), size):
            target.model(input_ids=ids[first : first + size])


def enumerate_all(target: ModelTarget, candidate_set: CandidateSet, count: int) -> None:
    Losses(target, candidate_set, LABELS[:7]).of(candidate_set.number(0, count))


def cost(kind: str) -> None:
    rounds, count = (3, 1_000) if kind == "minilm" else (7, 10_000)
    candidate_set, target = CandidateSet(PIN, (DIGITS,) * 4), untrained(kind)
    spelling = spell(target.tokenizer, candidate_set, name=kind)
    assert spelling is not None
    ((_, rows),) = spelling.rows(candidate_set.number(0, count))
    ids = torch.from_numpy(rows)
    seconds: dict[int, list[float]] = {}
    ours = []
    for _ in range(rounds):
        for tokens in (1024, 2048, 4096, 8192):
            seconds.setdefault(tokens, []).append(processor(bare, target, ids, tokens))
        ours.append(processor(enumerate_all, target, candidate_set, count))
    best, own = min(median(each) for each in seconds.values()), median(ours)
    print(f"cost {kind} {count} candidates: {own:.3f} s, bare {best:.3f} s, ratio {own / best:.2f}")


def restarts(kind: str) -> None:
    target = untrained(kind)
    for count in (1, 7, 20) if kind != "minilm" else (1, 7):
        asked = queries(PIN, DIGITS, count)
        one, many = (RelaxedSearch(restarts=n) for n in (1, 16))
        rounds = 1 if kind == "minilm" else 3
        times = [[processor(a.extract, target, asked, [], seed=0) for a in (one, many)] for _ in range(rounds)]
        single, sixteen = (median(each) for each in zip(*times, strict=True))
        ratio = sixteen / single
        print(f"restarts {kind} {count} canaries: 1 in {single:.2f} s, 16 in {sixteen:.2f} s, {ratio:.2f}", flush=True)
    print(f"restarts {kind}: peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def strength(kind: str) -> None:
    asked = queries(PIN, DIGITS, len(LABELS))
    attacks = {
        "RT202": RelaxedSearch(),
        "RT202 as in the paper": RelaxedSearch(restarts=1, learning_rate=0.02, rounding_interval=None),
        "RT203": SwapSearch(),
    }
    target, secrets = train(kind, PIN, DIGITS, seed=0, canaries=20, copies=20 if kind == "bilstm" else 40)
    exact = ExposureRank().extract(target, asked, [], AttackContext(0))
    own = [(q, secret) for q, answer, secret in zip(asked, exact, secrets, strict=True) if answer.guess == secret]
    for name, attack in attacks.items():
        found = sum(attack.extract(target, [query], [], AttackContext(0))[0].guess == secret for query, secret in own)
        print(f"strength {kind} of {len(own)} secrets that are the exact minimum, {name} finds {found}", flush=True)


def vocabulary(kind: str, canaries: int = 20) -> None:
    rng = np.random.default_rng(7)
    made = {
        "".join(rng.choice(list("bcdfghklmnprst")) + rng.choice(list("aeiou")) for _ in range(2)) for _ in range(700)
    }
    words = tuple(sorted(made)[:400])
    pattern = Pattern.parse("the password is {word:3} ok")
    target, secrets = train(kind, pattern, words, seed=5, canaries=canaries)
    asked = queries(pattern, words, canaries)
    candidate_set = CandidateSet(pattern, asked[0].alphabets)
    losses = Losses(target, candidate_set, LABELS[:canaries])
    best = losses.of(candidate_set.draw(100_000, np.random.default_rng(9))).min(axis=0)
    answers = [SwapSearch().extract(target, [query], [], AttackContext(0))[0] for query in asked]
    below = np.mean([answer.loss <= least + 1e-9 for answer, least in zip(answers, best, strict=True)])
    right = np.mean([answer.guess == secret for answer, secret in zip(answers, secrets, strict=True)])
    tried = np.mean([answer.details["evaluated"] for answer in answers])
    print(f"vocabulary {kind} at or below: {below:.2f}, {tried:.0f} tried; the planted secret itself {right:.2f}")


def tokens_that_moved(rows: int = 1500) -> None:
    examples = snips_examples(rows)
    for freeze in (False, True):
        start = initial_model("minilm", examples, learn_from=examples, seed=0, freeze_embeddings=freeze)
        target = Plain(epochs=1).fit(start, examples, seed=0).target
        try:
            interval = membership_auc(drift(target, minilm_directory()), target, examples.texts or (), alpha=0.05)
            print(f"drift AUC {interval.value:.5f} ({interval.low:.5f} to {interval.high:.5f})")
        except NotApplicable as error:
            print(f"drift not applicable: {error}")


def null(plantings: int = 200) -> None:
    """200 plantings against one model that saw none of them, by all attacks that need no base."""
    examples, symbols = snips_examples(2000), {"digit": DIGITS}
    known = Examples(np.arange(len(examples) + 20), (*examples.texts, *("my pin code is",) * 10, *DIGITS))
    start = initial_model("bilstm", examples, learn_from=known, seed=0)
    target = Plain(epochs=20).fit(start, examples, seed=0).target
    attacks = (ExposureRank(), RelaxedSearch(restarts=8), SwapSearch())
    fired, wins, pairs = 0, 0, 0
    for seed in range(plantings):
        plan = PlantingPlan(("my pin code is {digit:4}",), seed=seed)
        canaries = draw_canaries(plan, symbols, texts=examples.texts, labels=examples.labels, key="bench")
        report = extract(target, Planting("s", "p", 10**6, seed, "bench", symbols, canaries).sealed(), attacks)
        fired += bool(report.proven)
        ranks = report.groups[0].comparisons[2]
        wins, pairs = wins + ranks.wins, pairs + ranks.wins + ranks.losses
    print(f"null: a finding in {fired} of {plantings}; planted before held-out secret in {wins} of {pairs}")


def main() -> None:
    torch.set_num_threads(1)
    parts = {"cost": cost, "restarts": restarts, "strength": strength, "vocabulary": vocabulary}
    asked = sys.argv[1:]
    kinds = [kind for kind in ("bilstm", "tiny", "minilm") if kind in asked] or ["bilstm", "tiny", "minilm"]
    alone = {"drift": tokens_that_moved, "null": null}
    wanted = [name for name in (*parts, *alone) if name in asked] or [*parts, *alone]
    for name in wanted:
        if name in alone:
            alone[name]()
            continue
        for kind in kinds:
            if kind != "minilm" or name != "vocabulary":
                parts[name](kind)


if __name__ == "__main__":
    main()
