"""What privatised texts cost and give back, beside eDP-SGD on the texts as they are: mechanism x epsilon.

    python tests/bench/bench_text_table.py snips|clinc [--rows 1500] [--references 4] [--picture file.png]

The model is a linear classifier on the words of a text, of members' (released) texts, asked with the texts as they
were; as many texts are held out. RD102 trains the same model on the same rows, so that both defences stand side by side
at any accuracy. Words recovered are over 400 members' texts, with the held-out ones as what the attacker knows.
Membership: the logit of the right label, less its mean over reference models, which are trained on complementary halves
of all rows by the same defence with randomness of their own. RD307 learns its autoencoder from 3,000 other texts.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from snips import SNIPS, snips_examples

from attacks.reconstruction.bayes import Bayes
from attacks.reconstruction.bigrams import Bigrams
from attacks.reconstruction.unchanged import Unchanged
from defenses.accounting import Phase, Release, calibrate
from defenses.edpsgd.trainer import PrivateTrainer
from defenses.text.adept import Adept
from redteam.auditing.knowledge import knowledge
from redteam.auditing.rebuilding import ReleasedAudit
from redteam.core.randomness import Randomness
from redteam.data.words import words_of
from redteam.models.autoencoder import learn
from redteam.models.word_vectors import load_word_vectors
from redteam.plugins.registry import choose, discover_mechanisms
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.training.privatising.exchange import Exchange

GRID = {"santext": (10, 15, 20), "tem": (15,), "gumbel": (70,), "cmp": (50, 100)}
PRIVATE, TEXTS_OF_ADEPT, DELTA = (8, 4, 2, 1), (100, 50, 20), 1e-5
ADEPT = 3000
WIDE, STEPS, RATE, LR = 4096, 150, 0.2, 0.5


def rows(name, count):
    if name == "snips":
        found = snips_examples(count)
        return found.texts, found.labels
    told = json.loads((SNIPS.parents[1] / "clinc150" / "data_full.json").read_text())["train"]
    order = np.random.default_rng(0).permutation(len(told))[:count]
    return tuple(told[i][0] for i in order), tuple(told[i][1] for i in order)


class Task:
    def __init__(self, texts, labels, members, references):
        from sklearn.feature_extraction.text import HashingVectorizer

        self.raw = [" ".join(words_of(text)) for text in texts]
        self.classes, self.labels = np.unique(labels, return_inverse=True)
        self.references, self.members, self.inside = references, members, np.arange(2 * members) < members
        how = {"token_pattern": r"\S+", "norm": None, "binary": True, "alternate_sign": False, "n_features": WIDE}
        self.hashed = HashingVectorizer(**how)
        self.asked = self.hashed.transform(self.raw[: 2 * members])

    def signal(self, logits):
        """The logit of the right label's probability, [rows]."""
        logits = logits - logits.max(axis=1, keepdims=True)
        own = self.labels[: 2 * self.members]
        others = np.exp(logits)
        others[np.arange(len(own)), own] = 0
        return logits[np.arange(len(own)), own] - np.log(others.sum(axis=1) + 1e-300)

    def judged(self, train):
        """Accuracy on held-out texts, and the AUC of membership with its interval; `train` makes logits of rows."""
        logits, signals = train(np.flatnonzero(self.inside)), []
        rng = np.random.default_rng(7)
        for _ in range(self.references // 2):
            order = rng.permutation(2 * self.members)
            signals += [self.signal(train(np.sort(half))) for half in np.split(order, 2)]
        own = self.labels[: 2 * self.members]
        right = (logits[self.members :].argmax(axis=1) == own[self.members :]).mean()
        scores = self.signal(logits) - np.mean(signals or [np.zeros(len(own))], axis=0)
        return float(right), area_interval(rank(scores, self.inside), alpha=0.05)

    def plain(self, rewrite):
        """Train on texts of rows as `rewrite` makes them of the rows' texts, anew each time."""
        from sklearn.linear_model import LogisticRegression

        def train(rows):
            texts = self.hashed.transform(rewrite(rows))
            fitted = LogisticRegression(C=30, max_iter=300).fit(texts, self.labels[rows])
            logits = np.full((2 * self.members, len(self.classes)), -50.0)
            found = fitted.decision_function(self.asked)
            logits[:, fitted.classes_] = found
            return logits

        return self.judged(train)

    def private(self, epsilon):
        def release(sigma):
            return Release((Phase(sigma, STEPS),), "poisson", RATE)

        noise = calibrate(epsilon=epsilon, delta=DELTA, release_of=release)

        def train(rows):
            x = torch.from_numpy(csr_matrix(self.asked[rows]).toarray()).float()
            y = torch.from_numpy(self.labels[rows])
            torch.manual_seed(0)
            model = torch.nn.Linear(WIDE, len(self.classes))
            torch.nn.init.zeros_(model.weight)
            optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
            how = {"sample_rate": RATE, "population": self.members, "physical_batch": 512}
            with PrivateTrainer(model, optimizer, clip=1.0, noise_multiplier=noise, **how) as trainer:
                for batch in trainer.batches(steps=STEPS):
                    trainer.step(
                        lambda p: torch.nn.functional.cross_entropy(model(x[p]), y[p], reduction="none"), batch
                    )
                assert trainer.spent(delta=DELTA) <= epsilon * 1.001
            with torch.no_grad():
                weight, bias = model.weight.double().numpy(), model.bias.double().numpy()
            return self.asked @ weight.T + bias

        return self.judged(train)


def shares_back(task, released, mechanism, vectors):
    pairs = [(tuple(a.split()), tuple(b.split())) for a, b in zip(released, task.raw, strict=False) if b][:400]
    seen = sorted({word for text, _ in pairs for word in text})
    known = knowledge(Exchange(mechanism, vectors), task.raw[task.members : 2 * task.members], seen)
    attacks = (Unchanged(), Bayes(), Bigrams())
    audit = ReleasedAudit(tuple(a for a, _ in pairs), tuple(b for _, b in pairs), known, attacks)
    return {each.attack: each.interval.value for each in audit.run(lambda _: 0.05) if each.metric[0] in "uw"}


def say(found, name, plain, back, judged):
    accuracy, auc = judged
    shown = ", ".join(f"{attack} {share:.3f}" for attack, share in back.items()) or "-"
    seen = f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
    print(f"{name}: plain {plain}; {shown}; accuracy {accuracy:.3f}, AUC {seen}", flush=True)
    found.append((name, max(back.values(), default=0.0), accuracy, auc.value))


def draw(found, path, title):
    from redteam.experiments.picture import require_matplotlib

    require_matplotlib()
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colors = {"raw": "black", "edpsgd": "tab:blue", "adept": "tab:green"}
    words = "words of a text that come back (best of RT401 to RT403)"
    for axes, place, label in ((both[0], 1, words), (both[1], 3, "membership AUC")):
        for each in found:
            axes.scatter(each[place], each[2], color=colors.get(each[0].split()[0], "tab:orange"), s=22)
            axes.annotate(each[0], (each[place], each[2]), xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.set(xlabel=label, ylabel="accuracy on held-out texts")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("data", choices=("snips", "clinc"))
    asked.add_argument("--rows", type=int, default=1500)
    asked.add_argument("--references", type=int, default=4)
    asked.add_argument("--picture", type=Path)
    options = asked.parse_args()
    members = options.rows
    texts, labels = rows(options.data, 2 * members + ADEPT)
    task = Task(texts[: 2 * members], labels[: 2 * members], members, options.references)
    vectors, found = load_word_vectors("minilm"), []
    say(found, "raw", "-", {"RT401": 1.0}, task.plain(lambda rows: [task.raw[row] for row in rows]))
    for epsilon in PRIVATE:
        say(found, f"edpsgd {epsilon}", f"{epsilon} an example", {}, task.private(float(epsilon)))
    for name, epsilons in GRID.items():
        for epsilon in epsilons:
            (kind,) = choose(discover_mechanisms(), [name])
            mechanism = type(kind)(float(epsilon))
            exchange, made = Exchange(mechanism, vectors), []

            def rewrite(rows, exchange=exchange, made=made):
                made.append(exchange.texts([task.raw[row] for row in rows], Randomness())[0])
                return made[-1]

            judged = task.plain(rewrite)
            plain = f"{mechanism.promise(vectors).plain:.0f} a word"
            back = shares_back(task, made[0], mechanism, vectors)  # of the model that is attacked
            say(found, f"{name} {epsilon}", plain, back, judged)
    if options.picture:
        draw(found, options.picture, f"{options.data}: {members:,} members, a linear model on words")
    autoencoder = learn(texts[2 * members :], 32, 2)
    for epsilon in TEXTS_OF_ADEPT:
        made = []

        def rewrite(rows, epsilon=epsilon, made=made):
            noisy = Adept(float(epsilon)).perturbed(autoencoder.encode([task.raw[row] for row in rows]), Randomness())
            made.append(autoencoder.decode(noisy, "unk"))
            return made[-1]

        judged, released = task.plain(rewrite), made[0]
        pairs = [(a.split(), b.split()) for a, b in zip(released, task.raw, strict=False)][:400]
        same = [np.mean([x == y for x, y in zip(b, [*a, *[""] * len(b)], strict=False)]) for a, b in pairs]
        say(found, f"adept {epsilon}", f"{epsilon} a text", {"RT401": float(np.mean(same))}, judged)
    if options.picture:
        draw(found, options.picture, f"{options.data}: {members:,} members, a linear model on words")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    main()
