"""What membership attacks find with K reference models, on CLINC150 and SNIPS, and what that costs.

Kinds of target: logistic regression on TF-IDF, a small network on frozen MiniLM, and what `redteam train` makes with
its usual settings of `bilstm` and of MiniLM, two layers or all six, trained as a whole. Each model is trained on a
balanced half of 2,000 rows, in complementary pairs; several targets in turn, neither they nor their complements among
their own references. Prints AUC and TPR at 1 % and 0.1 % (means over targets, with their standard errors), and
processor seconds: to train and score the K references, and for the attack itself; the encoder's pass over the texts
is paid once. With `--keep DIR` each model's answers are kept, so that a benchmark that was broken off goes on.

Wanted: with no reference RT103 is above the loss; from four references on the stack is at least as high as every score
of the literature at the same K.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from snips import snips_examples

from attacks.membership._rows import PublicRows, own_log_odds, public_rows
from attacks.membership.references import PLAIN
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.data import Examples
from redteam.models.encoder import public_encoder
from redteam.plugins.context import AttackContext
from redteam.plugins.registry import discover_defenses
from redteam.references.recipe import LedgerRecipe, settle_randomness
from redteam.statistics.membership.expectation import neighbour_score
from redteam.statistics.membership.fidelity import fidelity_slope
from redteam.statistics.membership.stacking import ReferenceTable, local_score, stacked_score
from redteam.statistics.roc import auc
from redteam.training.train import ModelChoice

CLINC = Path(__file__).parents[3] / "shared" / "data" / "clinc150" / "data_full.json"
ROWS, INTENTS, TARGETS = 2000, 60, 6
COUNTS = (0, 1, 2, 4, 8, 16)
TRAINED = {
    "bilstm": ModelChoice("bilstm"),
    "minilm2": ModelChoice("minilm", layers=2),
    "minilm6": ModelChoice("minilm"),
}


@dataclass(frozen=True)
class Models:
    """Log-odds of every model on every row, who was trained on what, and seconds to train and score one."""

    log_odds: FloatArray
    included: BoolArray
    seconds: float


def clinc_examples(rows: int) -> Examples:
    """Return `rows` random texts of the first intents; end the benchmark, saying so, where the data is absent."""
    if not CLINC.is_file():
        print(f"skipped: needs CLINC150 at {CLINC}")
        sys.exit(0)
    read = json.loads(CLINC.read_text(encoding="utf-8"))["train"]
    known = set(list(dict.fromkeys(label for _, label in read))[:INTENTS])
    some = [(text, label) for text, label in read if label in known]
    chosen = np.random.default_rng(0).permutation(len(some))[:rows]
    texts, labels = zip(*(some[i] for i in chosen), strict=True)
    return Examples(np.arange(len(texts)), texts, labels)


def tfidf_head(rows: Examples, own: IntArray, inside: BoolArray, seed: int) -> FloatArray:
    """Train a logistic regression on words and pairs of words, as nearly every first intent classifier is."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = np.array(rows.texts, dtype=object)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts[inside])
    model = LogisticRegression(C=30.0, max_iter=200).fit(words.transform(texts[inside]), own[inside])
    log_p = np.full((len(own), own.max() + 1), -50.0)
    log_p[:, model.classes_] = model.predict_log_proba(words.transform(texts))
    return log_p


class FrozenHead:
    """Train two layers on MiniLM's vectors, which are computed once."""

    def __init__(self, vectors: FloatArray) -> None:
        self.vectors = torch.tensor(vectors * 20, dtype=torch.float32)

    def __call__(self, rows: Examples, own: IntArray, inside: BoolArray, seed: int) -> FloatArray:
        torch.manual_seed(seed)
        x, y = self.vectors[torch.tensor(inside)], torch.tensor(own[inside])
        sizes = self.vectors.shape[1], 128, int(own.max()) + 1
        net = torch.nn.Sequential(
            torch.nn.Linear(sizes[0], sizes[1]), torch.nn.ReLU(), torch.nn.Linear(sizes[1], sizes[2])
        )
        optimiser = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(25):
            for batch in torch.randperm(len(x)).split(32):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                optimiser.step()
        with torch.inference_mode():
            log_p: FloatArray = torch.log_softmax(net(self.vectors).double(), 1).numpy()
        return log_p


def as_trained(choice: ModelChoice) -> Callable[..., FloatArray]:
    """Return what trains such a model as `redteam train` would where nothing else is said."""
    plain = next(each for each in discover_defenses() if each.id == "RD100")
    recipe = LedgerRecipe(plain, choice, seed=0, rows=ROWS // 2)

    def fit(rows: Examples, own: IntArray, inside: BoolArray, seed: int) -> FloatArray:
        settle_randomness(seed)
        inner = rows.take(np.flatnonzero(inside))
        return recipe.fit(inner, seed=seed, checkpoint=None, progress=None).model.log_probabilities(rows)

    return fit


def kept(place: Path | None, make: Callable[[], FloatArray]) -> tuple[FloatArray, float]:
    """Return the log-odds of a model and the processor seconds that they took, from its file where there is one."""
    if place is not None and place.is_file():
        with np.load(place) as found:
            return found["log_odds"], float(found["seconds"])
    started = time.process_time()
    odds, seconds = make(), time.process_time() - started
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(place, log_odds=odds, seconds=seconds)
    return odds, seconds


def train(
    fit: Callable[..., FloatArray], rows: Examples, own: IntArray, models: int, folder: Path | None = None
) -> Models:
    rng, included = np.random.default_rng(1), np.zeros((models, len(own)), dtype=bool)
    for model in range(0, models, 2):
        included[model, rng.permutation(len(own))[: len(own) // 2]] = True
        included[model + 1] = ~included[model]
    made = [
        kept(
            folder and folder / f"{seed}.npz",
            lambda seed=seed, inside=inside: own_log_odds(fit(rows, own, inside, seed), own),
        )
        for seed, inside in enumerate(included)
    ]
    return Models(np.array([odds for odds, _ in made]), included, float(np.mean([seconds for _, seconds in made])))


def scores(target: FloatArray, table: ReferenceTable | None, rows: PublicRows) -> dict[str, FloatArray]:
    """Return every attack's scores with these references."""
    if table is None:
        return {"loss": target, "RT103": neighbour_score(target, rows.neighbours, rows.fit)}
    spread = {"lira", "lira_pooled", "lira_offline", "moderated_t"} if len(table) < 4 else set()
    made = {name: form(target, table) for name, form in PLAIN.items() if name not in spread}
    made["local"] = local_score(target, table, rows.neighbours, rows.fit)
    if len(table) >= 4:
        made["stacked"] = stacked_score(target, table, rows.neighbours)
    return made


def among(models: Models, target: int, count: int) -> ReferenceTable | None:
    """Return `count` references for a target that is none of them, in complementary pairs."""
    others = [k for k in range(len(models.log_odds)) if k // 2 != target // 2][:count]
    partner = tuple((k ^ 1) if (k ^ 1) < count else -1 for k in range(count))
    return ReferenceTable(models.log_odds[others], models.included[others], partner) if count else None


def tpr(values: FloatArray, member: BoolArray, fpr: float) -> float:
    return float((values[member] > np.quantile(values[~member], 1 - fpr)).mean())


def strength(area: float) -> float:
    """Return how far an AUC is from chance: without references nobody knows the direction."""
    return abs(area - 0.5)


def measure(name: str, models: Models, rows: PublicRows, counts: list[int], targets: int) -> list[str]:
    """Print a line for each attack and K; return what is not as it should be."""
    found: dict[tuple[int, str], list[list[float]]] = defaultdict(list)
    slopes = []
    for count in counts:
        for target in range(targets):
            table, member = among(models, target, count), models.included[target]
            for attack, values in scores(models.log_odds[target], table, rows).items():
                found[count, attack].append(
                    [auc(values, member), tpr(values, member, 0.01), tpr(values, member, 0.001)]
                )
            slopes += [fidelity_slope(models.log_odds[target], table)] if table and count > 1 else []
        started = time.process_time()
        scores(models.log_odds[0], among(models, 0, count), rows)
        seconds = f"{count * models.seconds:.1f} s of references, {time.process_time() - started:.2f} s of all attacks"
        for (k, attack), values in found.items():
            if k == count:
                mean, error = np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(len(values))
                rates = "  ".join(f"{mean[i]:6.1%} +- {error[i]:.1%}" for i in (1, 2))
                shown = f"AUC {mean[0]:.3f} +- {error[0]:.3f}  TPR {rates}"
                print(f"{name:<14} K={k:<3} {attack:<14} {shown}   {seconds}", flush=True)
    print(f"{name:<14} slope on references of the same recipe {np.mean(slopes):.3f} +- {np.std(slopes):.3f}")
    area = {key: float(np.mean([v[0] for v in values])) for key, values in found.items()}
    wrong = [f"{name}: RT103 is not above the loss"] if strength(area[0, "RT103"]) <= strength(area[0, "loss"]) else []
    for count in (k for k in counts if k >= 4):
        best = max(area[count, each] for each in PLAIN)
        wrong += [f"{name}: K={count}: stacked below the literature"] if area[count, "stacked"] < best - 0.005 else []
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", choices=["clinc150", "snips"], default=["clinc150", "snips"])
    parser.add_argument("--model", nargs="*", choices=["tfidf", "frozen", *TRAINED], default=["tfidf", "frozen"])
    parser.add_argument("--k", nargs="*", type=int, default=list(COUNTS))
    parser.add_argument("--targets", type=int, default=TARGETS)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    wrong: list[str] = []
    for data in chosen.data:
        pool = clinc_examples(ROWS) if data == "clinc150" else snips_examples(ROWS)
        own = np.unique(np.array(pool.labels), return_inverse=True)[1].astype(np.int64)
        started, context = time.process_time(), AttackContext(0, encoder=public_encoder())
        rows = public_rows(pool, context)
        print(f"{data}: encoder and kernel {time.process_time() - started:.1f} s, {own.max() + 1} labels")
        assert context.encoder is not None
        fits: dict[str, Callable[..., FloatArray]] = {name: as_trained(choice) for name, choice in TRAINED.items()}
        fits |= {"tfidf": tfidf_head, "frozen": FrozenHead(context.encoder.embed(pool.texts or ()))}
        for name in chosen.model:
            folder = chosen.keep and chosen.keep / data / name
            models = train(fits[name], pool, own, max(chosen.k) + 2 + max(chosen.k) % 2, folder)
            wrong += measure(f"{data} {name}", models, rows, chosen.k, chosen.targets)
    print("\n".join(wrong) or "as wanted")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
