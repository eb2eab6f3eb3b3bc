"""Norms of the gradient of each row's loss: the same as row by row by autograd, in every architecture."""

import numpy as np
import pytest
import torch
from tiny_models import LABELS, TEXTS, bundle

from redteam.core import TargetError
from redteam.data import Examples
from redteam.models.heads import output_names
from redteam.models.tokens import token_ids
from redteam.targets.gradients import LAYERS, gradient_norms
from redteam.targets.model import ModelTarget
from redteam.testing.attacks import state_of
from redteam.testing.examples import small_model

ROWS = Examples(np.arange(len(TEXTS)), TEXTS, tuple(LABELS[i % 3] for i in range(len(TEXTS))))


def alone(target, text, label):
    """The naive twin: one text, the loss in float64, all gradients by autograd; what has no tokens is NaN."""
    (ids,), seen = token_ids(target.tokenizer, [text], name=target.name), []
    if not ids:
        return [np.nan] * 3
    named, names = dict(target.model.named_parameters()), output_names(target.model.config, target.name)
    table, last = target.model.get_input_embeddings(), target.model.get_submodule(names[0].rpartition(".")[0])
    hooks = [
        table.register_forward_hook(lambda module, read, given: seen.append(given)),
        last.register_forward_pre_hook(lambda module, read: seen.append(read[0])),
    ]
    logits = target.model(input_ids=torch.tensor([ids])).logits.double()
    for hook in hooks:
        hook.remove()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([target.labels.index(label)]))
    *weights, embedded, read = torch.autograd.grad(loss, [*(named[name] for name in names), *seen])
    return [np.log(sum(float(p.double().square().sum()) for p in each)) / 2 for each in (weights, [read], [embedded])]


def one_by_one(target, rows):
    """The same for all rows, [3, n]."""
    return np.array([alone(target, *row) for row in zip(rows.texts, rows.labels, strict=True)]).T


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "xlnet"])
def test_it_is_what_autograd_gives_for_each_row_alone(kind):
    target = ModelTarget(bundle(kind, max_length=36), name=kind)
    before = state_of(target)
    made, expected = gradient_norms(target, ROWS), one_by_one(target, ROWS)
    assert made.shape == (len(LAYERS), len(ROWS))
    there = ~np.isnan(expected)
    assert there.mean() > 0.8
    np.testing.assert_allclose(made[there], expected[there], atol=1e-4)
    assert state_of(target) == before


def test_of_an_lstm_too_and_progress_is_shown():
    target, said = small_model(), []
    rows = Examples(ROWS.rows, ROWS.texts, tuple(target.labels[i % len(target.labels)] for i in range(len(ROWS))))
    made = gradient_norms(target, rows, progress=lambda done, total: said.append((done, total)))
    expected = one_by_one(target, rows)
    there = ~np.isnan(expected)
    np.testing.assert_allclose(made[there], expected[there], atol=1e-4)
    assert said[-1] == (len(ROWS), len(ROWS))


def test_rows_that_the_model_is_certain_of_are_still_told_apart():
    """Where float32 has the loss and its gradient at 0, logs go on: they fall with the log of 1 - p."""
    whole = bundle("bert")
    sure = {name: value * 400 if name.startswith("classifier") else value for name, value in whole.state.items()}
    target = ModelTarget(type(whole)(whole.config, sure, *list(vars(whole).values())[2:]), name="sure")
    own = tuple(target.labels[i] for i in target.predict(ROWS))
    made = gradient_norms(target, Examples(ROWS.rows, ROWS.texts, own))
    assert np.isfinite(made).all()
    assert made.min() < -50
    assert len(np.unique(made[0])) > len(ROWS) // 2


def test_what_has_no_texts_or_another_label_is_refused():
    target = ModelTarget(bundle(), name="bert")
    with pytest.raises(TargetError, match="carry no texts"):
        gradient_norms(target, Examples(np.arange(1), None, ("up",)))
    with pytest.raises(TargetError, match="labels unknown to the model"):
        gradient_norms(target, Examples(np.arange(1), ("a",), ("sideways",)))
