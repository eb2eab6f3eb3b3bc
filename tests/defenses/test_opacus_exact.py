"""What Opacus has no exact per-example gradient for is refused by name; what it has is that of a loop of one."""

import numpy as np
import pytest
import torch
from loop import clipped_sum, gradients, relative
from test_clipper_models import BATCH, losses, made
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from defenses.dpsgd import OpacusSteps
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.tape import UnsupportedLayer

pytest.importorskip("opacus")

EXACT = ["bert", "roberta", "distilbert", "albert", "gpt2", "llama", "qwen2", "electra"]
REFUSED = {
    "bart": r"model\.decoder\.embed_positions \(BartLearnedPositionalEmbedding\): its hooks fail on it",
    "gemma": r"model\.embed_tokens \(GemmaTextScaledWordEmbedding\): it is trained and has buffers; try RD102",
    "mpnet": r"mpnet\.encoder\.relative_attention_bias \(Embedding\): the first dimension of what it reads is not the "
    r"examples; RD102 \(--defense edpsgd\) has an exact rule",
    "t5": r"0\.SelfAttention\.relative_attention_bias \(Embedding\): the first dimension",
}


def steps_of(model, *, clip=0.5):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    how = {"clip": clip, "noise_multiplier": 0.0, "divisor": 1.0, "physical_batch": 4}
    return OpacusSteps(model, optimizer, NoiseSource(1), **how)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", EXACT)
def test_what_it_accepts_is_the_loop_of_one(name):
    model = made(name)
    each = gradients(model, losses, BATCH)
    clip = float(torch.stack([gradient.norm() for gradient in each]).median())
    _, total = clipped_sum(each, clip=clip)
    before = flat(model)
    steps = steps_of(model, clip=clip)
    steps.check_exact(lambda part: losses(model, part), np.arange(3))
    steps.step(0, lambda part: losses(model, part), np.arange(BATCH), None)
    steps.close()
    assert relative(before - flat(model), total) < 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_is_refused_before_anything_moves(name):
    model = made(name)
    before = flat(model)
    with pytest.raises(UnsupportedLayer, match=REFUSED[name]):
        steps_of(model).check_exact(lambda part: losses(model, part), np.arange(3))
    assert torch.equal(before, flat(model))


class Biased(nn.Module):
    """Attention with a table of relative positions, which is read once for all rows, as [T, T]."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(9, 1), nn.Linear(4, 3)

    def forward(self, x):
        places = torch.arange(x.shape[1])
        bias = self.table(places[:, None] - places + x.shape[1] - 1)[..., 0]
        return self.head((bias.softmax(1) @ x).tanh().sum(1))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_dimension_that_is_as_large_as_the_batch_by_chance(length):
    """With as many places as rows the shapes agree and nothing fails: each row would have a place's gradient."""
    model, x = Biased(), torch.randn(3, length, 4)
    steps = steps_of(model)
    with pytest.raises(UnsupportedLayer, match=r"table \(Embedding\): (one example's loss gives|the first dimension)"):
        steps.step(0, lambda part: functional.cross_entropy(model(x[part]), part, reduction="none"), np.arange(3), None)


class Outside(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(x @ self.inner.weight.t() + self.inner.bias)


class Partly(Outside):
    """The weight is used in its own call and beside it: only a part of its gradient is seen."""

    def forward(self, x):
        return self.head(self.inner(x) + x @ self.inner.weight.t())


class Checkpointed(Outside):
    def __init__(self, *, reentrant):
        super().__init__()
        self.first, self.reentrant = nn.Linear(5, 5), reentrant
        self.inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))

    def forward(self, x):
        return self.head(checkpoint(self.inner, self.first(x), use_reentrant=self.reentrant).tanh())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Outside, r"inner \(Linear\): its call is checkpointed, or its weight is used outside of it"),
        (Partly, r"inner \(Linear\): the gradients of the examples do not add up"),
        (lambda: Checkpointed(reentrant=False), r"inner\.\d \(Linear\): its call is checkpointed"),
        (lambda: Checkpointed(reentrant=True), "use_reentrant=True"),
        (lambda: nn.Sequential(nn.Linear(5, 3)).eval(), r"0 \(Linear\) alone, which is in eval mode: call train\(\)"),
    ],
)
def test_gradients_that_its_hooks_do_not_see(model, said):
    model, x = model(), torch.randn(6, 5)
    steps = steps_of(model)
    with pytest.raises(UnsupportedLayer, match=said):
        steps.step(
            0, lambda part: functional.cross_entropy(model(x[part]), part % 3, reduction="none"), np.arange(6), None
        )


def test_an_error_of_the_losses_stays_what_it_is():
    model = Outside()

    def broken(part):
        raise KeyError("no such row")

    with pytest.raises(KeyError, match="no such row"):
        steps_of(model).check_exact(broken, np.arange(3))


def test_nothing_is_left_behind():
    model, x = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)), torch.randn(6, 5)
    steps = steps_of(model)
    torch.manual_seed(3)
    state, before = torch.get_rng_state(), flat(model)
    steps.check_exact(lambda part: functional.cross_entropy(model(x[part]), part % 3, reduction="none"), np.arange(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(flat(model), before)
    assert all(p.grad is None and p.grad_sample is None for p in model.parameters())
