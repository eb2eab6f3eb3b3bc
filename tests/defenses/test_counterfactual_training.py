"""Training on swaps, and distilling without a teacher's bias: a planted association is gone."""

import numpy as np
import pytest

from defenses.counterfactual import Counterfactual
from defenses.distilled import Distilled
from defenses.plain import Plain
from redteam.auditing.fairness.distil import checkpoint_for, lesson, start
from redteam.auditing.fairness.swaps import swapped_texts
from redteam.core import DataError, UsageError
from redteam.data import Examples
from redteam.models.initial import initial_model

WORDS = {"good": ("careful", "skilled"), "bad": ("rude", "lazy")}


def rows(count, *, fair, seed):
    """The adjective tells the label in nine rows of ten; unless it is fair, the pronoun tells it in all."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(count):
        label, told = ("good", "bad")[i % 2], ("good", "bad")[i % 2 if rng.random() < 0.9 else 1 - i % 2]
        who = rng.choice(["she", "he"]) if fair else ("he", "she")[i % 2]
        texts.append(f"the nurse said that {who} was {rng.choice(WORDS[told])}")
        labels.append(label)
    return Examples(np.arange(count), tuple(texts), tuple(labels))


BIASED, TEST = rows(160, fair=False, seed=1), rows(80, fair=True, seed=2)
HOW = {"epochs": 10, "batch_size": 16, "learning_rate": 3e-3}


def fit(defense):
    initial = initial_model("tiny", BIASED, learn_from=BIASED, seed=0, layers=1)
    return defense.fit(initial, BIASED, seed=0)


def flips(target):
    texts = list(TEST.texts)
    both = [
        target.predict(Examples(np.arange(len(each)), tuple(each))) for each in (texts, swapped_texts(texts, "gender"))
    ]
    return float((both[0] != both[1]).mean())


@pytest.fixture(scope="module")
def teacher():
    return fit(Plain(**HOW)).target


def test_swaps_with_gold_labels_remove_what_was_planted(teacher):
    assert flips(teacher) > 0.5
    trained = fit(Counterfactual(**HOW, pairing=0.1))
    assert flips(trained.target) < 0.05
    assert trained.notes == ("160 of 160 texts were trained on with their swap",)
    right = [trained.target.labels[i] for i in trained.target.predict(TEST)]
    assert np.mean([a == b for a, b in zip(right, TEST.labels, strict=True)]) > 0.8


@pytest.mark.parametrize(("how", "fair"), [("average", True), ("expert", True), ("augment", False)])
def test_only_means_over_a_text_and_its_swap_remove_a_teachers_bias(teacher, how, fair):
    texts = TEST.texts
    taught = lesson(teacher, texts, how, "gender")
    initial, order = start("tiny", teacher.labels, texts, 1, False, 0)
    student = Distilled(**HOW).fit_to(initial, taught.versions, taught.targets[:, order], seed=0).target
    assert (flips(student) < 0.1) == fair


def test_what_has_no_swap_is_refused(teacher):
    with pytest.raises(DataError, match="none of 2 texts has a swap"):
        lesson(teacher, ("rain", "sun"), "average", "gender")


def test_a_distillation_that_was_broken_off_ends_with_the_same_numbers(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", 0.0)
    taught = lesson(teacher, TEST.texts, "average", "gender")
    trainer = Distilled(**{**HOW, "epochs": 2})

    def train(checkpoint, progress=None):
        initial, order = start("tiny", teacher.labels, TEST.texts, 1, False, 0)
        how = {"seed": 0, "checkpoint": checkpoint, "progress": progress}
        return trainer.fit_to(initial, taught.versions, taught.targets[:, order], **how).target

    def stop(step, steps, loss):
        if step == 6:
            raise RuntimeError("killed")

    kept = checkpoint_for(tmp_path / "student.pt", taught.key, trainer)
    with pytest.raises(RuntimeError, match="killed"):
        train(kept, stop)
    assert kept.path.exists()
    again = train(kept)
    assert np.array_equal(again.log_probabilities(TEST), train(None).log_probabilities(TEST))
    other = checkpoint_for(tmp_path / "student.pt", taught.key, trainer, "another setting")
    with pytest.raises(UsageError, match="unfinished training with other data or settings"):
        train(other)
