"""What private training cannot be exact about is refused by name, never by an error of torch."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from defenses.dpsgd import OpacusSteps
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.tape import UnsupportedLayer
from defenses.edpsgd.trainer import PrivateTrainer
from redteam.core import UsageError

X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant):
        super().__init__()
        self.first, self.rest, self.reentrant = nn.Linear(6, 6), network(), reentrant

    def forward(self, x):
        return checkpoint(self.rest, self.first(x).relu(), use_reentrant=self.reentrant)


def ours(model, *, optimizer=torch.optim.SGD, call=None, midway=None):
    """Three steps of RD102; `midway` changes the model before the last."""
    call = call or model
    how = {"clip": 1.0, "noise_multiplier": 0.0, "sample_rate": 1.0, "population": 8, "seed": 1}
    with PrivateTrainer(model, optimizer(model.parameters(), lr=0.1), **how) as trainer:
        for step, rows in enumerate(trainer.batches(steps=3)):
            if step == 2 and midway is not None:
                midway(model)
            trainer.step(lambda part: cross_entropy(call(X[part]), Y[part], reduction="none"), rows)


def opacus(model, *, optimizer=torch.optim.SGD, call=None, midway=None):
    pytest.importorskip("opacus")
    call = call or model
    how = {"clip": 1.0, "noise_multiplier": 0.0, "divisor": 8.0, "physical_batch": 8}
    steps = OpacusSteps(model, optimizer(model.parameters(), lr=0.1), NoiseSource(1), **how)
    for step in range(3):
        if step == 2 and midway is not None:
            midway(model)
        losses = lambda part: cross_entropy(call(X[part]), Y[part], reduction="none")  # noqa: E731
        steps.step(step, losses, np.arange(8), None)


TRAINERS = pytest.mark.parametrize("train", [ours, opacus])
MIDWAY = {
    "freeze": (lambda m: m[0].requires_grad_(False), "0.weight was frozen while"),
    "replace": (lambda m: m.__setitem__(2, nn.Linear(6, 3)), "2.weight was replaced by another tensor while"),
    "another tensor": (
        lambda m: setattr(m[2], "weight", nn.Parameter(torch.randn(3, 6))),
        "2.weight was replaced by another tensor while",
    ),
    "take out": (lambda m: m.__setitem__(0, nn.Identity()), "0.weight was taken out while"),
    "add": (lambda m: m.append(nn.Linear(3, 3)), "3.weight was unfrozen or added while"),
}


@TRAINERS
def test_nothing_is_refused_that_can_be_trained(train):
    train(network())


@TRAINERS
@pytest.mark.parametrize("what", MIDWAY)
def test_a_model_that_is_changed_midway(train, what):
    change, said = MIDWAY[what]
    with pytest.raises(UsageError, match=said):
        train(network(), midway=change)


@TRAINERS
def test_a_layer_that_is_unfrozen_midway(train):
    model = network()
    model[0].requires_grad_(False)
    with pytest.raises(UsageError, match=r"0\.weight was unfrozen or added while"):
        train(model, midway=lambda m: m[0].requires_grad_(True))


@TRAINERS
def test_an_optimizer_that_asks_for_losses_itself(train):
    with pytest.raises(UsageError, match="LBFGS asks for the losses several times a step"):
        train(network(), optimizer=torch.optim.LBFGS)


@TRAINERS
def test_checkpoints_with_a_backward_of_their_own(train):
    with pytest.raises(UnsupportedLayer, match="use_reentrant=True"):
        train(Checkpointed(reentrant=True))


def test_other_checkpoints_are_trained():
    ours(Checkpointed(reentrant=False))


@TRAINERS
def test_torch_compile(train):
    with pytest.raises(UnsupportedLayer, match=r"the model: torch\.compile runs it"):
        train(torch.compile(network(), backend="eager"))
    inside = network()
    inside[0].compile(backend="eager")
    with pytest.raises(UnsupportedLayer, match=r"0: torch\.compile runs it"):
        train(inside)


def test_torch_compile_of_what_calls_the_model():
    model = network()
    with pytest.raises(UnsupportedLayer, match=r"torch\.compile runs what calls the model"):
        ours(model, call=torch.compile(model, backend="eager"))


def deberta():
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 32, "num_labels": 3}
    config = DebertaV2Config(**sizes, relative_attention=True, pos_att_type=["p2c", "c2p"])
    return DebertaV2ForSequenceClassification(config)


@TRAINERS
def test_relative_positions_that_go_through_the_layers_without_a_batch(train):
    model, ids = deberta(), torch.randint(5, 50, (8, 9), generator=torch.Generator().manual_seed(0))
    with pytest.raises(UnsupportedLayer, match=r"deberta\.encoder\.[\w.]+ \(\w+\): "):
        train(model, call=lambda x: model(input_ids=ids[(x[:, :1] == X[:, 0]).float().argmax(1)]).logits)


def test_an_error_of_the_losses_stays_what_it_is():
    model = network()
    with pytest.raises(KeyError, match="no such row"):
        ours(model, call=lambda x: {}["no such row"])
