"""The data and the model that the benchmarks share: SNIPS from ../shared/data and MiniLM from its package."""

import sys
from pathlib import Path

import numpy as np
import torch

from redteam.data import Columns, Examples, read_examples
from redteam.models.bundle import Bundle
from redteam.models.configs import longest_input, portable_config
from redteam.models.initial import minilm_directory
from redteam.models.opening import load_encoder
from redteam.models.tokens import load_tokenizer

SNIPS = Path(__file__).parents[3] / "shared" / "data" / "snips" / "snips.tsv"
ROWS = 10_000


def snips_examples(rows: int) -> Examples:
    """Return `rows` random texts of SNIPS; end the benchmark, saying so, where the data is absent."""
    if not SNIPS.is_file():
        print("skipped: needs SNIPS at ../shared/data/snips/snips.tsv")
        sys.exit(0)
    examples = read_examples(SNIPS, Columns()).examples
    return examples.take(np.random.default_rng(0).permutation(len(examples))[:rows])


def minilm_bundle(labels: tuple[str, ...]) -> Bundle:
    """Return the whole MiniLM-L6 under a fresh classifier: untrained, which makes no difference to its speed."""
    torch.manual_seed(0)
    path = minilm_directory()
    model = load_encoder(path, labels, layers=None)
    state = model.state_dict()
    return Bundle(
        portable_config(model.config), state, load_tokenizer(path).to_str(), labels, longest_input(model, path)
    )
