"""What one example can add is bounded, whatever its gradient is: huge, tiny, cancelling, not finite."""

import pytest
import torch
from loop import loop, relative
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from defenses.edpsgd import kernel, rounding
from defenses.edpsgd.clipper import ExampleClipper

BATCH, LENGTH, SIZE = 5, 7, 6
CLIP = 0.5
BLUR = 2.0**-23  # what norms may be larger by, relative to what cancelled


@pytest.fixture(params=["kernel", "torch"])
def compiled(request):
    if request.param == "kernel" and not kernel.available():
        pytest.skip("the compiled kernel is not available here")
    return request.param == "kernel"


class Net(nn.Module):
    """Every layer with a rule, some of it used twice, on token ids and numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.norm = nn.Embedding(11, SIZE, padding_idx=0), nn.LayerNorm(SIZE)
        self.first, self.second, self.conv = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE), Conv1D(SIZE, SIZE)
        self.small, self.out = nn.Linear(SIZE, 1), nn.Linear(SIZE, 11)
        self.out.weight = self.words.weight
        self.lstm = nn.LSTM(SIZE, 4, batch_first=True)
        self.last = nn.Linear(4, 1)

    def forward(self, x, ids):
        y = self.norm(self.second(torch.tanh(self.first(x) + self.words(ids))))
        y = self.conv(y) + self.small(y)
        y = self.second(torch.tanh(y))
        return (self.out(y).square().mean((1, 2)) + self.last(self.lstm(y)[0][:, -1]).squeeze(1)) / 10


def inputs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, LENGTH, SIZE, generator=generator)
    return x, torch.randint(0, 11, (BATCH, LENGTH), generator=generator)


def norm_of(buffer):
    return float(buffer.double().norm())


@pytest.mark.parametrize("power", range(-30, 31, 3))
def test_one_example_adds_at_most_the_clip(power, compiled):
    """All the others' losses are zero, so that the buffer is what one example added."""
    x, ids = inputs()
    scale = torch.zeros(BATCH)
    scale[2] = 10.0**power
    model = Net()
    with ExampleClipper(model, clip=CLIP, kernel=compiled) as clipper:
        clipped = clipper.add(model(x, ids) * scale)
        assert norm_of(clipper.buffer) <= CLIP
        if abs(power) <= 15:
            assert clipped.dropped == 0
        if 1 < power <= 15:
            assert norm_of(clipper.buffer) > CLIP * (1 - 2e-5)
        assert clipped.dropped == int((~clipped.norms.isfinite()).sum())


@pytest.mark.parametrize("power", [-25, -12, 0, 12, 17, 25])
def test_huge_inputs_beside_tiny_gradients(power, compiled):
    """A product of the two must not lose what one of them alone would underflow."""
    x, _ = inputs()
    for other in (-30, -20, -10, 0):
        model = nn.Linear(SIZE, SIZE, bias=False)
        with ExampleClipper(model, clip=CLIP, kernel=compiled) as clipper:
            y = model(x * 10.0**power)
            clipper.add(y.sin().sum((1, 2)) * 10.0**other * torch.tensor([1.0, 0, 0, 0, 0]))
            assert norm_of(clipper.buffer) <= CLIP


class Cancelling(nn.Module):
    """An input that hardly changes along the text, and output gradients that sum to almost nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(32, 32)

    def forward(self, x, weights):
        return (self.layer(x) * weights).sum((1, 2))


def cancelling(tiny):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 1, 32, generator=generator) + tiny * torch.randn(BATCH, 16, 32, generator=generator)
    weights = torch.randn(BATCH, 16, 32, generator=generator)
    return x, weights - weights.mean(1, keepdim=True)


def blur_of(x, weights):
    """By how much a norm may be taken for larger where gradients cancel; the bias counts as a 1 in each row of x."""
    return BLUR * float((x.square().sum() + len(x)).sqrt() * weights.norm())


@pytest.mark.parametrize("tiny", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_gradients_that_cancel(tiny, compiled, monkeypatch):
    x, weights = cancelling(tiny)
    exact = Cancelling().double()
    norms, _ = loop(exact, lambda m, r: m(x[r].double(), weights[r].double()), BATCH, clip=1.0)
    clip = max(1e-4, float(norms.min()) / 4)
    model = Cancelling()
    with ExampleClipper(model, clip=clip, kernel=compiled) as clipper:
        for i in range(BATCH):
            clipper.buffer.zero_()
            found = clipper.add(model(x[i : i + 1], weights[i : i + 1])).norms
            assert norm_of(clipper.buffer) <= clip
            blur = blur_of(x[i], weights[i])
            assert norms[i] * (1 - 1e-4) <= found <= norms[i] * (1 + 1e-4) + blur
        if tiny == 1e-4:  # without the second look the norms would be wrong, or this tests nothing
            monkeypatch.setattr(rounding, "_DOUBTFUL", float("inf"))
            monkeypatch.setattr(rounding, "_BLURRED", float("inf"))
            assert relative(clipper.add(model(x, weights)).norms, norms) > 1e-2


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3])
def test_bias_gradients_that_cancel(size, compiled):
    """The input is almost nothing, so that what the bias sees is all there is, and it cancels."""
    x, weights = cancelling(1.0)
    x, weights = x * size, weights + 1e-6
    norms, _ = loop(Cancelling().double(), lambda m, r: m(x[r].double(), weights[r].double()), BATCH, clip=1.0)
    model, clip = Cancelling(), max(1e-4, float(norms.min()) / 4)
    with ExampleClipper(model, clip=clip, kernel=compiled) as clipper:
        for i in range(BATCH):
            clipper.buffer.zero_()
            found = clipper.add(model(x[i : i + 1], weights[i : i + 1])).norms
            assert norm_of(clipper.buffer) <= clip
            blur = blur_of(x[i], weights[i])
            assert norms[i] * (1 - 1e-4) <= found <= norms[i] * (1 + 1e-4) + blur


class Repeats(Cancelling):
    def forward(self, x, weights):
        return ((self.layer(x) - self.layer(x.flip(1) * (1 + 1e-4))) * weights).sum((1, 2))


def test_uses_of_one_weight_that_cancel(compiled):
    x, weights = cancelling(1e-3)
    norms, _ = loop(Repeats().double(), lambda m, r: m(x[r].double(), weights[r].double()), BATCH, clip=1.0)
    model = Repeats()
    with ExampleClipper(model, clip=float(norms.min()) / 4, kernel=compiled) as clipper:
        for i in range(BATCH):
            clipper.buffer.zero_()
            found = clipper.add(model(x[i : i + 1], weights[i : i + 1])).norms
            assert norms[i] * (1 - 1e-4) <= found <= norms[i] * (1 + 1e-4) + 2 * blur_of(x[i], weights[i])
            assert norm_of(clipper.buffer) <= float(norms.min()) / 4


def test_a_token_whose_gradients_cancel(compiled):
    """The same token throughout, so that its row's gradient is a sum of terms that cancel."""
    torch.manual_seed(0)
    _, weights = cancelling(0.0)
    weights[0] += 1e-5
    model = nn.Embedding(3, 32)
    ids = torch.ones(BATCH, 16, dtype=torch.long)
    exact = weights.double().sum(1).norm(dim=1)
    with ExampleClipper(model, clip=1.0, kernel=compiled) as clipper:
        found = clipper.add((model(ids) * weights).sum((1, 2))).norms
        blur = BLUR * float(weights[0].norm(dim=1).sum())
        assert exact[0] * (1 - 1e-4) <= found[0] <= exact[0] * (1 + 1e-4) + blur


BROKEN = {"nan": float("nan"), "infinity": float("inf"), "negative infinity": float("-inf")}


@pytest.mark.parametrize("where", ["input", "loss"])
@pytest.mark.parametrize("value", BROKEN)
def test_an_example_that_is_not_finite_is_dropped(value, where, compiled):
    x, ids = inputs()
    model, scale = Net(), torch.ones(BATCH)
    if where == "input":
        x[1, 3, 2] = BROKEN[value]
    else:
        scale[1] = BROKEN[value]
    kept = [0, 2, 3, 4]
    norms, total = loop(model, lambda m, r: m(x[kept][r], ids[kept][r]), 4, clip=0.01)
    with ExampleClipper(model, clip=0.01, kernel=compiled) as clipper:
        clipped = clipper.add(model(x, ids) * scale)
        assert clipped.dropped == 1
        assert not clipped.norms[1].isfinite()
        assert relative(clipped.norms[kept], norms) < 1e-6
        assert relative(clipper.buffer, total) < 1e-5


@pytest.mark.parametrize(
    "layers",
    [
        lambda: nn.Sequential(nn.Linear(SIZE, 1, bias=False), nn.Linear(1, SIZE)),
        lambda: nn.Sequential(nn.LayerNorm(SIZE)),
        lambda: nn.Sequential(nn.Linear(SIZE, SIZE), nn.Tanh(), nn.LayerNorm(SIZE, bias=False)),
        lambda: nn.Sequential(nn.Linear(SIZE, SIZE), nn.Flatten(), nn.Linear(SIZE * LENGTH, 2)),
    ],
)
def test_no_layer_lets_what_is_not_finite_through(layers, compiled):
    x, _ = inputs()
    x[0, 0, 0] = float("nan")
    x[3] = float("inf")
    torch.manual_seed(0)
    model = layers()
    with ExampleClipper(model, clip=1.0, kernel=compiled) as clipper:
        assert clipper.add(model(x).flatten(1).square().sum(1)).dropped == 2
        assert bool(clipper.buffer.isfinite().all())
        assert 0 < norm_of(clipper.buffer) <= 3.0


def test_all_examples_may_be_dropped(compiled):
    x, ids = inputs()
    model = Net()
    with ExampleClipper(model, clip=1.0, kernel=compiled) as clipper:
        clipped = clipper.add(model(x * float("nan"), ids))
        assert clipped.dropped == BATCH
        assert norm_of(clipper.buffer) == 0.0


def test_a_gradient_of_zero_stays_zero(compiled):
    x, ids = inputs()
    model = Net()
    with ExampleClipper(model, clip=1.0, kernel=compiled) as clipper:
        clipped = clipper.add(model(x, ids) * torch.tensor([1.0, 0, 1, 0, 0]))
        assert (clipped.norms == 0).tolist() == [False, True, False, True, True]
        assert clipped.dropped == 0
        assert bool(clipper.buffer.isfinite().all())


def test_unclipped_gradients_are_ordinary_ones(compiled):
    x, ids = inputs()
    model = Net()
    ordinary = torch.autograd.grad(model(x, ids).sum(), list(model.parameters()))
    with ExampleClipper(model, clip=1e9, kernel=compiled) as clipper:
        clipper.add(model(x, ids))
        assert relative(clipper.buffer, torch.cat([g.flatten() for g in ordinary])) < 1e-6


def test_functional_cross_entropy_of_hopeless_logits(compiled):
    """Logits of 1e4: the softmax's gradients are zeros and ones, and the losses are large."""
    x, _ = inputs()
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * LENGTH, 3))
    with ExampleClipper(model, clip=1.0, kernel=compiled) as clipper:
        values = functional.cross_entropy(model(x) * 1e4, torch.zeros(BATCH, dtype=torch.long), reduction="none")
        assert clipper.add(values).dropped == 0
        assert norm_of(clipper.buffer) <= BATCH * 1.0
