"""A model with a token-classification head: a word has the tag of its first piece, and the loss of a text is its words'
mean.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForTokenClassification, PreTrainedModel

from defenses.federated.tagging.texts import TaggedTexts
from redteam.core import RedteamError, UsageError, first_line
from redteam.data import Examples
from redteam.models.bundle import Bundle
from redteam.models.configs import make_config, quiet
from redteam.models.initial import InitialModel, initial_model
from redteam.models.tokens import cut_at
from redteam.plugins.defense import Problem
from redteam.targets.model import pad_batch

_NOBODY = -100  # pieces without a tag of their own
_AT_ONCE = 64  # texts


def initial_tagger(spec: str, texts: TaggedTexts, *, seed: int, layers: int | None = None) -> InitialModel:
    """Build a tagger: the encoder of `tiny`, `minilm` or a Hugging Face directory, and a new head for these tags.

    Its labels are the tags. Where the model has no vocabulary of its own, one is learned from the texts. Raises
    UsageError for fewer than two tags, and for a model that has no such head.
    """
    tags = texts.known_tags
    if len(tags) < 2:
        raise UsageError(f"the texts have {len(tags)} distinct tags: a tagger needs at least 2")
    names = Examples(np.arange(len(tags)), tags, tags)
    below = initial_model(spec, names, learn_from=texts.examples(), seed=seed, layers=layers)
    torch.manual_seed(seed)
    config = below.model.config
    try:
        with quiet():
            model: PreTrainedModel = AutoModelForTokenClassification.from_config(config)
    except Exception as error:
        raise UsageError(f"--model {spec}: has no head for tags ({first_line(error)}); take tiny or minilm") from None
    missing, _ = model.base_model.load_state_dict(below.model.base_model.state_dict(), strict=False)
    if missing:
        raise UsageError(f"--model {spec}: its encoder under a head for tags lacks {missing[0]}; take tiny or minilm")
    return InitialModel(model, below.tokenizer, tags, below.max_length, below.learning_rate, below.pretrained)


def open_tagger(bundle: Bundle, *, name: str) -> PreTrainedModel:
    """Return the tagger of a bundle that `InitialModel.bundle` made, in eval mode."""
    with quiet():
        model: PreTrainedModel = AutoModelForTokenClassification.from_config(make_config(bundle.config, name))
    model.load_state_dict(dict(bundle.state), strict=True)
    return model.eval()


def tag_problem(
    initial: InitialModel, texts: TaggedTexts, optimizer: torch.optim.Optimizer, *, population: int | None
) -> Problem:
    """Return the mean cross-entropy of each text's words as a problem; words beyond the longest input have no part."""
    place = {tag: i for i, tag in enumerate(initial.labels)}
    ids, firsts = _pieces(initial, texts)
    targets = []
    for tokens, own, tags in zip(ids, firsts, texts.tags, strict=True):
        target = [_NOBODY] * len(tokens)
        for word, at in own.items():
            target[at] = place[tags[word]]
        targets.append(target)
    model, pad = initial.model, initial.model.config.pad_token_id or 0

    def losses(rows: torch.Tensor) -> torch.Tensor:
        chosen = rows.tolist()
        logits = model(**pad_batch([ids[i] for i in chosen], pad=pad)).logits
        width = logits.shape[1]
        wanted = torch.tensor([targets[i] + [_NOBODY] * (width - len(targets[i])) for i in chosen])
        each = functional.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=_NOBODY, reduction="none")
        found: torch.Tensor = each.sum(1) / (wanted != _NOBODY).sum(1).clamp(min=1)
        return found

    lengths = tuple(len(tokens) for tokens in ids)
    data = hashlib.sha256(repr((ids, targets)).encode()).hexdigest()
    return Problem(model, optimizer, losses, len(texts), population or len(texts), lengths, data)


def predict_tags(initial: InitialModel, texts: TaggedTexts) -> list[list[str]]:
    """Return a tag for every word; O for what the model does not see, beyond its longest input."""
    ids, firsts = _pieces(initial, texts)
    model, pad = initial.model.eval(), initial.model.config.pad_token_id or 0
    answers = [["O"] * len(words) for words in texts.tokens]
    with torch.inference_mode():
        for start in range(0, len(ids), _AT_ONCE):
            best = model(**pad_batch(ids[start : start + _AT_ONCE], pad=pad)).logits.argmax(2).tolist()
            for offset, row in enumerate(best):
                for word, at in firsts[start + offset].items():
                    answers[start + offset][word] = initial.labels[row[at]]
    return answers


def save_tagger(initial: InitialModel, folder: Path) -> None:
    """Write a Hugging Face directory that any tool of that world opens."""
    initial.model.save_pretrained(folder)
    initial.tokenizer.save(str(folder / "tokenizer.json"))


def _pieces(initial: InitialModel, texts: TaggedTexts) -> tuple[list[list[int]], list[dict[int, int]]]:
    """Return the token ids of each text, and where each word's first piece stands."""
    cut_at(initial.tokenizer, initial.max_length)
    try:
        encoded = initial.tokenizer.encode_batch([list(words) for words in texts.tokens], is_pretokenized=True)
    except Exception as error:
        raise RedteamError(f"the tokenizer cannot take the texts ({first_line(error)})") from None
    firsts: list[dict[int, int]] = []
    for each in encoded:
        own: dict[int, int] = {}
        for at, word in enumerate(each.word_ids):
            if word is not None:
                own.setdefault(word, at)
        firsts.append(own)
    return [each.ids for each in encoded], firsts
