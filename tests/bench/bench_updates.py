"""What attacks read out of clients' updates: SNIPS, a whole MiniLM and a BERT 512 wide with random weights.

    python tests/bench/bench_updates.py [CASE ...] [--model minilm|bert512] [--batch-size N] [--batches N] [--seed N]

One line of JSON a case: tokens, positions of once-only tokens, whole sentences, those verified and those wrong, ROUGE,
the same scored against a batch that the update never saw, and CPU seconds. Cases: trained, frozen, dropout, sent (a
float32 difference of weights, rate 0.1), steps4 (four local steps), adamw, lora, clipped (each example), noise=Z (of a
client: Z times the update's norm, on every number), sum=N (of N clients).
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from snips import minilm_bundle, snips_examples

from attacks.updates.positions import Positions
from attacks.updates.sentences import Sentences
from attacks.updates.tokens import Tokens
from redteam.auditing.updates.scoring import RecoveredCount, counts, texts
from redteam.auditing.updates.truth import Truth
from redteam.models.bundle import Bundle
from redteam.models.configs import portable_config
from redteam.models.initial import minilm_directory
from redteam.models.tokens import load_tokenizer
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate, Recovered
from redteam.targets.model import ModelTarget, pad_batch

RATE = 0.1


def model_of(name, labels):
    """The public model of the round."""
    if name == "minilm":
        return ModelTarget(minilm_bundle(labels), name=name)
    from transformers import AutoModelForSequenceClassification, BertConfig

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    sizes = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 2048}
    model = AutoModelForSequenceClassification.from_config(BertConfig(vocab_size=30522, **sizes, **names))
    tokenizer = load_tokenizer(minilm_directory()).to_str()
    return ModelTarget(Bundle(portable_config(model.config), model.state_dict(), tokenizer, labels, 128), name=name)


def gradients(model, ids, labels):
    """The gradient of the mean loss, by name."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = torch.nn.functional.cross_entropy(model(**pad_batch(ids, pad=0)).logits, torch.tensor(labels))
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def clipped(model, ids, labels):
    """The mean of gradients, each clipped to half of the median of their norms."""
    each = [gradients(model, [one], [label]) for one, label in zip(ids, labels, strict=True)]
    norms = [torch.sqrt(sum((v**2).sum() for v in one.values())) for one in each]
    most = torch.stack(norms).median() / 2
    return {
        name: sum(one[name] * min(1.0, float(most / norm)) for one, norm in zip(each, norms, strict=True)) / len(ids)
        for name in each[0]
    }


def sent(model, ids, labels, *, steps, adamw):
    """Weights after local training less those before, in float32."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 2e-5) if adamw else torch.optim.SGD(trained, RATE)
    for part in np.array_split(np.arange(len(ids)), steps):
        for name, gradient in gradients(model, [ids[i] for i in part], [labels[i] for i in part]).items():
            model.get_parameter(name).grad = gradient
        optimizer.step()
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


def lora(model, ids, labels):
    """One step on adapters of rank 8, which begin at 0: what is sent, merged into the weights."""
    merged = {}
    full = gradients(model, ids, labels)
    generator = torch.Generator().manual_seed(0)
    for name, gradient in full.items():
        if name.endswith((".query.weight", ".value.weight")):
            down = torch.randn(8, gradient.shape[1], generator=generator) / gradient.shape[1] ** 0.5
            merged[name] = -(RATE**2) * (gradient @ down.T) @ down
        elif name.startswith("classifier"):
            merged[name] = -RATE * gradient
    return merged


def update_of(target, case, ids, labels, seed):
    """What the client sends."""
    torch.manual_seed(seed)
    kind, _, value = case.partition("=")
    model = copy.deepcopy(target.model).train(kind == "dropout")
    if kind == "frozen":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".embeddings." not in name)
    if kind in ("sent", "steps4", "adamw"):
        change = sent(model, ids, labels, steps=4 if kind == "steps4" else 1, adamw=kind == "adamw")
    elif kind == "lora":
        change = lora(model, ids, labels)
    elif kind == "clipped":
        change = {name: -RATE * v for name, v in clipped(model, ids, labels).items()}
    else:
        change = {name: -RATE * v for name, v in gradients(model, ids, labels).items()}
    if kind == "noise":
        norm = torch.sqrt(sum((v**2).sum() for v in change.values()))
        change = {name: v + float(value) * norm * torch.randn(v.shape) for name, v in change.items()}
    return ClientUpdate("client", change)


def attacked(target, update):
    """What each attack recovers, the CPU seconds of all, and which do not apply, so that their 0 is no number."""
    begun, found, unfit = time.process_time(), {}, []
    for attack in (Tokens(), Positions(), Sentences()):
        try:
            found[attack] = attack.recover(target, update, AttackContext(0))
        except NotApplicable:
            found[attack] = Recovered()
            unfit.append(attack.id)
    return found, time.process_time() - begun, unfit


def summed(into, prefix, found, truth):
    """Add what was found of a batch."""
    for attack, recovered in found.items():
        for each in counts(attack, truth, recovered, Recovered(), None):
            assert isinstance(each, RecoveredCount)
            for name in ("of", "found", "claimed", "wrong"):
                key = f"{prefix}{each.what}_{name}"
                into[key] = into.get(key, 0) + getattr(each, name)
    overlap = texts(truth, list(found.values())[-1], Recovered()).own
    for name, value in zip(("rouge1", "rouge2", "rougeL"), overlap, strict=True):
        into.setdefault(f"{prefix}{name}", []).append(value)


def bench(target, case, data, *, batch_size, batches, seed):
    """Print one line about a case."""
    rng, into, seconds, unfit = np.random.default_rng(seed), {}, [], set()
    clients = int(case.partition("=")[2]) if case.startswith("sum=") else 1
    for batch in range(batches):
        rows = rng.choice(len(data), 2 * batch_size * clients, replace=False)
        ids = [target.tokenizer.encode(data.texts[i]).ids for i in rows]
        labels = [target.labels.index(data.labels[i]) for i in rows]
        half = len(ids) // 2
        update = update_of(target, case, ids[:half], labels[:half], seed + batch)
        found, spent, not_these = attacked(target, update)
        seconds.append(spent)
        unfit.update(not_these)
        for prefix, part in (("", ids[:half]), ("control_", ids[half:])):
            shared = set(map(tuple, ids[:half])) & set(map(tuple, ids[half:])) if prefix else set()
            own = tuple(tuple(one) for one in part if tuple(one) not in shared)
            summed(into, prefix, found, Truth("client", own, frozenset((ids[0][0], ids[0][-1]))))
    line = {"model": target.name, "case": case, "batch": batch_size, "batches": batches, "seed": seed}
    line |= {k: round(float(np.mean(v)), 3) if isinstance(v, list) else v for k, v in into.items()}
    line |= {"cpu_s": round(float(np.mean(seconds)), 1), "cpu_s_most": round(max(seconds), 1)}
    line |= {"do_not_apply": sorted(unfit)} if unfit else {}
    print(json.dumps(line), flush=True)


def main():
    """Run the cases that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["trained", "frozen"])
    parser.add_argument("--model", choices=("minilm", "bert512"), default="minilm")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = snips_examples(10_000)
    target = model_of(asked.model, tuple(sorted(set(data.labels))))
    for case in asked.cases:
        bench(target, case, data, batch_size=asked.batch_size, batches=asked.batches, seed=asked.seed)


if __name__ == "__main__":
    main()
