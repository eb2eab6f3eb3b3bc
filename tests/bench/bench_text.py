"""Privatisers of text: draws against exact channels, planted errors, time, and what comes back for which accuracy.

    python tests/bench/bench_text.py channel    400 words, 1,000,000 draws: chi-square, and accounted against claimed
    python tests/bench/bench_text.py planted    each planted error and each honest mechanism, 100 verifications
    python tests/bench/bench_text.py speed      10,000 texts of SNIPS through each mechanism
    python tests/bench/bench_text.py table      mechanism x epsilon on SNIPS: accuracy, what comes back, membership

The model of the table is a logistic regression on words, of members' released texts, asked with the texts as they were:
it overfits in seconds.
"""

import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "verify"))

import broken_words as broken
import numpy as np
from broken_adept import FixedNoise, NotLookedInto, WrongNorm
from scipy.stats import combine_pvalues, laplace
from snips import snips_examples
from word_tables import accounted, chi_square, cloud

from attacks.reconstruction.bayes import Bayes
from attacks.reconstruction.bigrams import Bigrams
from attacks.reconstruction.unchanged import Unchanged
from defenses.text.adept import Adept
from defenses.text.cmp import Multivariate
from defenses.text.gumbel import TruncatedGumbel
from defenses.text.mahalanobis import Mahalanobis
from defenses.text.santext import SanText
from defenses.text.tem import TruncatedExponential
from defenses.text.vickrey import Vickrey
from redteam.auditing.knowledge import knowledge
from redteam.auditing.rebuilding import ReleasedAudit
from redteam.core.randomness import Randomness
from redteam.data.words import words_of
from redteam.models.word_vectors import load_word_vectors
from redteam.plugins.registry import choose, discover_mechanisms
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.training.privatising.exchange import Exchange
from redteam.verify.words.run import verify_privatiser
from redteam.verify.words.subject import of_mechanism
from redteam.verify.words.vectors import verify_vectors

GRID = {"santext": (10, 15, 20, 30), "tem": (15, 20), "gumbel": (70, 100), "cmp": (50, 100, 200)}


def common_words(count):
    table = load_word_vectors("minilm")
    return table.take(np.array([i for i, word in enumerate(table.words) if len(word) >= 3][:count]))


def channel():
    table, draws = common_words(400), 1_000_000
    line = table.take(np.arange(400))
    line = type(table)("line", line.words, np.linspace(0, 60, 400)[:, None])
    # at larger epsilons nearly all draws are the word itself, and there is nothing to test
    kinds = [(SanText(5.0), table), (TruncatedExponential(5.0), table), (TruncatedGumbel(20.0), table)]
    kinds += [(Multivariate(2.0), line), (Mahalanobis(2.0), line)]
    kinds += [(Vickrey(2.0), line)]
    for mechanism, words in kinds:
        exact = mechanism.log_channel(np.arange(400), words)
        exact = vickrey_on_a_line(mechanism, words) if exact is None else exact
        asked = np.arange(400).repeat(draws // 400)
        drawn = mechanism.draw(asked, words, Randomness())
        counts = np.zeros((400, 400))
        np.add.at(counts, (asked, drawn), 1)
        rows = [chi_square(each, wanted, fewest=10) for each, wanted in zip(counts, np.exp(exact), strict=True)]
        p = combine_pvalues(np.maximum(rows, 1e-300)).pvalue  # by Fisher: each word has its own number of draws
        most, plain = accounted(exact, mechanism.distances(np.arange(400), words))
        claimed = mechanism.promise(words)
        print(
            f"{mechanism.name:<8} {words.name:<7} chi-square p {p:.3f}; accounted {most:.3f} of {claimed.epsilon:g} "
            f"claimed, plain {plain:.2f} of {claimed.plain:.2f}",
            flush=True,
        )


def vickrey_on_a_line(mechanism, table, cells=200_000):
    """The channel by cells of the line, each taken for its middle; the ends have what lies beyond."""
    points, sides = table.vectors[:, 0], np.linspace(-80, 140, cells + 1)
    middles = (sides[1:] + sides[:-1]) / 2
    near = np.searchsorted(points, middles).clip(2, 398) + np.array([[-2], [-1], [0], [1]])
    apart = np.abs(middles - points[near])
    order = np.argsort(apart, axis=0)[:2]
    (first, second), (d1, d2) = (np.take_along_axis(each, order, 0) for each in (near, apart))
    ahead = (1 - mechanism.second) * d2 / (mechanism.second * d1 + (1 - mechanism.second) * d2)
    made = np.empty((400, 400))
    for row, point in zip(made, points, strict=True):
        below, above = laplace.cdf(sides, point, 1 / mechanism.epsilon), laplace.sf(sides, point, 1 / mechanism.epsilon)
        mass = np.where(sides[1:] <= point, np.diff(below), -np.diff(above))  # the other one rounds far out
        row[:] = np.bincount(first, mass * ahead, 400) + np.bincount(second, mass * (1 - ahead), 400)
    return np.log(np.maximum(made, 1e-300))


def planted(runs=100, draws=2000):
    table = cloud(60, 8, seed=5)
    of, hidden = of_mechanism, broken.without_channel
    kinds = {
        "wrong bottom": lambda: of(broken.WrongBottom(), table),
        "squared": lambda: of(broken.Squared(), table),
        "squared, function": lambda: hidden(of(broken.Squared(), table)),
        "own sets": lambda: of(broken.OwnSets(), table),
        "own sets, function": lambda: hidden(of(broken.OwnSets(), table)),
        "far stays": lambda: of(broken.FarStays(), table),
        "far stays at .001": lambda: of(broken.FarStays(beta=0.001), table),
        "fixed seed": lambda: of(broken.FixedSeed(1.0), table),
        "cached": lambda: broken.cached(SanText(1.0), table),
        "passing": lambda: broken.passing(table, 1.0),
        "keeping": lambda: broken.keeping(SanText(1.0), table),
        "honest santext": lambda: of(SanText(1.0), table),
        "honest, function": lambda: hidden(of(SanText(1.0), table)),
        "honest tem": lambda: of(TruncatedExponential(2.0, 0.3), table),
        "honest gumbel": lambda: of(TruncatedGumbel(12.0), table),
        "honest cmp": lambda: of(Multivariate(1.0), table),
        "honest mahalanobis": lambda: of(Mahalanobis(1.0), table),
        "honest vickrey": lambda: of(Vickrey(1.0), table),
    }
    whole = {
        "adept, wrong norm": WrongNorm(1.0),
        "adept, wrong norm, no formula": NotLookedInto(1.0),
        "adept, fixed seed": FixedNoise(1.0),
        "honest adept": Adept(1.0),
        "honest adept, laplace": Adept(1.0, kind="laplace"),
    }
    for name, make in kinds.items():
        found = [verify_privatiser(make(), draws=draws, pairs=6, seed=seed).verdict for seed in range(runs)]
        print(f"{name:<30} violated {found.count('violated')} of {runs}", flush=True)
    for name, mechanism in whole.items():
        found = [verify_vectors(mechanism, seed=seed).verdict for seed in range(runs)]
        print(f"{name:<30} violated {found.count('violated')} of {runs}", flush=True)


def speed():
    texts, table = snips_examples(10_000).texts, load_word_vectors("minilm")
    for mechanism in discover_mechanisms():
        wall, cpu = time.perf_counter(), time.process_time()
        tally = Exchange(mechanism, table).texts(texts, Randomness())[1]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{mechanism.name:<12} {wall:.1f} s, {cpu:.1f} CPU s, {tally.unchanged / tally.words:.1%} unchanged",
            flush=True,
        )


def table(members=1500):
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    rows, vectors = snips_examples(2 * members), load_word_vectors("minilm")
    raw = [" ".join(words_of(text)) for text in rows.texts]
    labels, inside = np.array(rows.labels), np.arange(2 * members) < members
    hashed = HashingVectorizer(token_pattern=r"\S+", norm=None, binary=True, alternate_sign=False, n_features=2**17)
    asked = hashed.transform(raw)

    def model(texts):
        fitted = LogisticRegression(C=30, max_iter=300).fit(hashed.transform(texts), labels[:members])
        known = {label: i for i, label in enumerate(fitted.classes_)}
        scores = fitted.predict_log_proba(asked)[np.arange(2 * members), [known[each] for each in labels]]
        auc = area_interval(rank(scores, inside), alpha=0.05)
        right = (fitted.predict(asked[members:]) == labels[members:]).mean()
        return f"accuracy {right:.3f}, membership AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"

    print(f"as they are: {model(raw[:members])}", flush=True)
    for name, epsilons in GRID.items():
        for epsilon in epsilons:
            (found,) = choose(discover_mechanisms(), [name])
            mechanism = type(found)(float(epsilon))
            released = Exchange(mechanism, vectors).texts(raw[:members], Randomness())[0]
            pairs = [(tuple(a.split()), tuple(b.split())) for a, b in zip(released, raw, strict=False) if b][:400]
            seen = sorted({word for text, _ in pairs for word in text})
            known = knowledge(Exchange(mechanism, vectors), raw[members:], seen)
            attacks = (Unchanged(), Bayes(), Bigrams())
            audit = ReleasedAudit(tuple(a for a, _ in pairs), tuple(b for _, b in pairs), known, attacks)
            shares = {each.attack: each.interval.value for each in audit.run(lambda _: 0.05) if each.metric[0] in "uw"}
            plain = mechanism.promise(vectors).plain
            said = ", ".join(f"{attack} {share:.3f}" for attack, share in shares.items())
            print(f"{name} {epsilon}: plain {plain:.0f} a word; {said}; {model(released)}", flush=True)


if __name__ == "__main__":
    for part in sys.argv[1:] or ["channel", "planted", "speed", "table"]:
        print(f"-- {part}", flush=True)
        globals()[part]()
