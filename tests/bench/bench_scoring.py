"""Scoring 10,000 SNIPS texts with MiniLM-L6: ours, the best bare loop, and transformers' own pipeline, in turn.

Prints the ratio of medians ours / bare loop (wanted: at most 1.15) and pipeline / ours (wanted: at least 1.3), and
the largest difference between our probabilities and the pipeline's (wanted: at most 1e-5).
"""

import sys
import time
from statistics import median

import numpy as np
import torch
from snips import ROWS, minilm_bundle, snips_examples
from transformers import PreTrainedTokenizerFast, pipeline

from redteam.data import Examples
from redteam.models.opening import open_model
from redteam.models.tokens import open_tokenizer
from redteam.targets.model import ModelTarget

ROUNDS = 3


def bare_loop(model: torch.nn.Module, tokenizer: object, texts: list[str]) -> np.ndarray:
    """Score with texts sorted by length, batches without padding where lengths allow, and nothing else."""
    ids = [e.ids for e in tokenizer.encode_batch_fast(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = np.empty((len(ids), model.config.num_labels))
    i = 0
    with torch.inference_mode():
        while i < len(order):
            length = len(ids[order[i]])
            j = i
            while j < len(order) and len(ids[order[j]]) == length and (j - i) * length < 2048:
                j += 1
            batch = torch.tensor([ids[k] for k in order[i:j]])
            out[order[i:j]] = torch.softmax(model(input_ids=batch).logits, dim=-1).numpy()
            i = j
    return out


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    examples: Examples = snips_examples(rows)
    texts = list(examples.texts or ())
    bundle = minilm_bundle(tuple(sorted(set(examples.labels or ()))))
    target = ModelTarget(bundle, name="minilm")
    model, tokenizer = open_model(bundle, name="bare"), open_tokenizer(bundle, name="bare")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=open_tokenizer(bundle, name="pipe"), pad_token="[PAD]")
    pipe = pipeline("text-classification", model=model, tokenizer=wrapped, top_k=None, device=-1)
    runs = {
        "ours": lambda: np.exp(target.log_probabilities(examples)),
        "bare": lambda: bare_loop(model, tokenizer, texts),
        "pipeline": lambda: pipe(texts, batch_size=32),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    answers = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            answers[name] = run()
            seconds[name].append(time.perf_counter() - started)
    place = {label: i for i, label in enumerate(bundle.labels)}
    theirs = np.zeros_like(answers["ours"])
    for i, row in enumerate(answers["pipeline"]):
        for one in row:
            theirs[i, place.get(one["label"], -1)] = one["score"]
    middle = {name: median(values) for name, values in seconds.items()}
    print(f"{rows} texts, median of {ROUNDS}: " + ", ".join(f"{k} {v:.2f} s" for k, v in middle.items()))
    print(f"ours / bare loop   {middle['ours'] / middle['bare']:.3f}  (wanted: at most 1.15)")
    print(f"pipeline / ours    {middle['pipeline'] / middle['ours']:.3f}  (wanted: at least 1.3, aim 1.5)")
    print(f"largest difference of a probability: {np.abs(theirs - answers['ours']).max():.1e}  (wanted: at most 1e-5)")


if __name__ == "__main__":
    main()
