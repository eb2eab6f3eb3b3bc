"""What stands on top of an encoder: which classifier a config describes, and which weights belong to it alone."""

import copy
import re
from typing import Any

import torch
import transformers
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.initialization import no_init_weights

from redteam.core import BundleError, first_line
from redteam.models.configs import quiet
from redteam.models.weights import LoadedWeights

# Where the classifier on top of an encoder lies: trained afresh for other labels.
HEADS = (
    "classifier",
    "score",
    "pre_classifier",
    "classification_head",
    "sequence_summary",
    "logits_proj",
)
# What pretraining often leaves out below the classifier, and training can start from scratch.
POOLERS = ("pooler", "head")
# What pretraining trains above an encoder, and a classifier has no use for.
_PRETRAINED_HEADS = (
    "cls",
    "lm_head",
    "lm_loss",
    "final_logits_bias",
    "predictions",
    "sop_classifier",
    "generator_predictions",
    "generator_lm_head",
    "discriminator_predictions",
    "mask_predictions",
    "lm_predictions",
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector",
    "qa_outputs",
)


def build(config: Any, **options: Any) -> PreTrainedModel:
    """Return a new classifier of the config's kind."""
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, **options)
    return model


def skeleton(config: Any, name: str) -> PreTrainedModel:
    """Return the config's classifier without taking memory for its weights; BundleError where there is none."""
    try:
        with quiet(), torch.device("meta"), no_init_weights():
            return build(config)
    except Exception as error:
        raise BundleError(f"{name}: no classifier can be built from the config ({first_line(error)})") from None


def check_kind(problem: str | None, name: str) -> None:
    """Raise BundleError, naming the key of the config, for a model that does not choose one of several labels."""
    if problem == "multi_label_classification":
        raise BundleError(
            f"{name}: the config says problem_type = {problem!r}, where each label is answered by itself: only "
            "classifiers that choose one of several labels can be audited. Missing are data with sets of labels, and "
            "controls and thresholds for such sets; a function, MODULE:FUNCTION, of one label against the rest will do"
        )
    if problem == "regression":
        raise BundleError(
            f"{name}: the config says problem_type = {problem!r}, where the answer is a number: only classifiers that "
            "choose one of several labels can be audited"
        )


def check_architecture(config: Any, kind: type[PreTrainedModel], name: str) -> None:
    """Refuse what was saved from a class of somebody's own: its weights fit, and it may compute something else.

    Other classes of transformers have other tensors, where they compute otherwise.
    """
    stated = config.architectures
    for each in stated if isinstance(stated, list | tuple) else ():
        if isinstance(each, str) and each != kind.__name__ and not hasattr(transformers, each):
            raise BundleError(
                f"{name}: was saved from a {each[:80]}, a class of its own, and would be opened as a {kind.__name__}, "
                "which may answer otherwise: audit it as a function, MODULE:FUNCTION"
            )


def with_labels(config: Any, labels: tuple[str, ...]) -> Any:
    """Return a copy of the config that names these labels."""
    other = copy.deepcopy(config)
    other.id2label = dict(enumerate(labels))
    other.label2id = {label: i for i, label in enumerate(labels)}
    return other


def output_names(config: Any, name: str) -> tuple[str, ...]:
    """Return the names of the tensors that have a row for each label: those that change with their number."""
    two, three = (
        {key: tuple(value.shape) for key, value in skeleton(with_labels(config, labels), name).state_dict().items()}
        for labels in (("a", "b"), ("a", "b", "c"))
    )
    found = tuple(sorted(key for key in two if two[key] != three.get(key)))
    if not found or any(two[key][0] != 2 or three[key] != (3, *two[key][1:]) for key in found):
        raise BundleError(f"{name}: its classifier does not answer with one row of weights a label")
    return found


def left_behind(key: str, weights: LoadedWeights, layers: int | None) -> bool:
    """True for what training leaves behind: heads for other tasks, and layers above those that are kept."""
    prefix = f"{weights.model.base_model_prefix}."
    whole = any(name.startswith(prefix) for name in weights.stored)  # else an encoder saved alone
    if whole and not key.startswith(prefix):
        return True
    if within(key, _PRETRAINED_HEADS) or within(key, HEADS) or within(key, POOLERS):
        return key.endswith((".weight", ".bias")) and "lora_" not in key
    number = re.search(r"\.(\d+)\.", key)
    return layers is not None and number is not None and int(number[1]) >= layers


def lacks(weights: LoadedWeights, labels: int) -> str:
    """Return what is wrong with weights that do not fill the config's classifier."""
    for key, (found, wanted) in sorted(weights.unfit.items()):
        if within(key, HEADS) and found and wanted[:1] == (labels,) and found[1:] == wanted[1:]:
            return (
                f"the classifier has {found[0]} row{'s' * (found[0] != 1)} ({key!r}), the config names {labels} "
                f"label{'s' * (labels != 1)}; write the names of "
                f"all {found[0]} into id2label and label2id, in the order that the model was trained with"
            )
    for key, (found, wanted) in sorted(weights.unfit.items()):
        return f"tensor {key!r} has shape {found}, the config says {wanted}: they are not of one model"
    return f"weights of {min(weights.missing)!r} are missing: not a fine-tuned text classifier"


def within(key: str, parts: tuple[str, ...]) -> bool:
    """True for `classifier.weight` and `bert.pooler.dense.weight`, false for `bert.encoder.layer.0...`."""
    first, second = [*key.split("."), ""][:2]
    return first in parts or second in parts
