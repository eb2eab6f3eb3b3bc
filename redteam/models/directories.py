"""A model directory read part by part: its config, its weights, and where its tokenizer and texts are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from redteam.core import BundleError
from redteam.models.adapters import is_adapter, merged
from redteam.models.configs import make_config, quiet, read_config
from redteam.models.harmless import refusal, said
from redteam.models.heads import build, check_architecture, check_kind, lacks, output_names, skeleton, with_labels
from redteam.models.labels import check_labels, label_names
from redteam.models.weights import LoadedWeights, load_weights


@dataclass(frozen=True)
class OpenedDirectory:
    """A classifier out of a directory, the names of its labels, where its tokenizer lies, and what was done."""

    model: PreTrainedModel
    labels: tuple[str, ...]
    tokenizer: Path
    notes: tuple[str, ...]


def open_directory(path: Path, base: Path | None) -> OpenedDirectory:
    """Open a whole model, or an adapter on top of `base`; raise BundleError where it is no text classifier.

    A classifier with one logit becomes one of two labels whose logits are 0 and that one: the same probabilities.
    """
    if is_adapter(path):
        model, notes, folder = merged(path, base)
        labels = label_names(model.config, str(path))
    else:
        if base is not None:
            raise BundleError(
                f"{path}: holds a whole model and no adapter (adapter_config.json): --adapter-base is for one"
            )
        model, labels, notes = _whole(path)
        folder = path
    if model.config.num_labels == 1:
        model, labels, note = _two_labels(model, labels, path)
        notes += (note,)
    return OpenedDirectory(model, labels, folder, notes)


def _whole(path: Path) -> tuple[PreTrainedModel, tuple[str, ...], tuple[str, ...]]:
    raw = read_config(path)
    config = make_config(raw, str(path))
    labels = label_names(config, str(path))
    check_labels(raw, str(path))
    check_kind(config.problem_type, str(path))
    kind = type(skeleton(config, str(path)))
    check_architecture(config, kind, str(path))
    weights = load_weights(path, config, kind)
    if weights.missing and _has_one_row(weights, config, path):
        weights = load_weights(path, with_labels(config, labels[1:]), kind)
    if weights.missing:
        raise BundleError(f"{path}: {lacks(weights, len(labels))}")
    wrong = refusal(weights.unplaced, weights.model)
    if wrong:
        raise BundleError(f"{path}: {wrong}")
    dropped = (f"{path}: {said(weights.unplaced)}",) if weights.unplaced else ()
    return weights.model, labels, (*weights.notes, *dropped)


def _has_one_row(weights: LoadedWeights, config: Any, path: Path) -> bool:
    """True where two labels are named and the classifier has one row: its logit is that of the second."""
    rows = {found[:1] for found, _ in weights.unfit.values()}
    return config.num_labels == 2 and rows == {(1,)} and weights.unfit.keys() == set(output_names(config, str(path)))


def _two_labels(
    model: PreTrainedModel, labels: tuple[str, ...], path: Path
) -> tuple[PreTrainedModel, tuple[str, ...], str]:
    """Return the classifier of two labels with logits 0 and z, whose softmax is the sigmoid of the one logit z."""
    names = labels
    if len(labels) == 1:
        names = ("LABEL_0", "LABEL_1") if labels[0] == "LABEL_0" else (f"not {labels[0]}", labels[0])
    state = dict(model.state_dict())
    for key in output_names(model.config, str(path)):
        state[key] = torch.cat([torch.zeros_like(state[key]), state[key]])
    config = with_labels(model.config, names)
    config.problem_type = "single_label_classification"
    with quiet(), no_init_weights():
        pair = build(config, dtype=model.dtype)
    pair.load_state_dict(state, strict=True)
    told = f"the model has one logit, read as the log-odds of {names[1]!r} against {names[0]!r}"
    return pair.eval(), names, f"{path}: {told}"
