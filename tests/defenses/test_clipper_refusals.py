"""What the clipper refuses, by name and in one line, and that it leaves the model as it was."""

import copy

import pytest
import torch
from loop import relative
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from defenses.edpsgd.clipper import ExampleClipper, UnsupportedLayer
from redteam.core import UsageError

BATCH, LENGTH, SIZE, WORDS = 4, 5, 6, 11


def tokens():
    return torch.randint(1, WORDS, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Embeds tokens, lets `body` at them, and gives each text a number."""

    def __init__(self, body=None):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.body, self.last = nn.Embedding(WORDS, SIZE), body or nn.Identity(), nn.Linear(SIZE, 1)

    def forward(self, ids):
        return self.last(self.body(self.words(ids)).mean(1)).squeeze(1)


def one_step(model, of):
    with ExampleClipper(model, clip=1.0) as clipper:
        try:
            clipper.add(of(model))
        except UsageError:
            assert not clipper.buffer.any()
            raise


def refused(said, *, model, of=None, error=UnsupportedLayer):
    """The model is refused when it is taken over or at its first step, by name, with the buffer untouched."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(error, match=r"^[^\n]*$") as caught:
        one_step(model, of or (lambda model: model(tokens()).square()))
    assert said in str(caught.value), caught.value
    assert len(str(caught.value)) < 300
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(SIZE))

    def forward(self, x):
        return x + self.shift


class Turned(nn.Linear):
    """Uses its weight outside of the forward that it inherits."""

    def forward(self, x):
        return super().forward(x) + x @ self.weight


class Gated(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return super().forward(x) * self.gate


def functional_use(x, layer):
    return functional.linear(x, layer.weight)


class Outside(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self, of=functional_use):
        super().__init__()
        self.layer, self.of = nn.Linear(SIZE, SIZE), of

    def forward(self, x):
        return self.of(self.layer(x), self.layer)


LAYERS = {
    "own parameter": (Own, "body (Own): no exact rule for its trainable shift"),
    "instance norm": (lambda: nn.InstanceNorm1d(LENGTH, affine=True), "body (InstanceNorm1d): no exact rule"),
    "convolution": (lambda: nn.Conv2d(1, 1, 1), "body (Conv2d): no exact rule"),
    "subclass": (lambda: Turned(SIZE, SIZE), "body.weight: used outside its own layer's forward"),
    "subclass with a parameter": (
        lambda: Gated(SIZE, SIZE),
        "body (Gated): no exact rule for its trainable weight, bias",
    ),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(SIZE, SIZE)), "body"),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(SIZE, SIZE)), "body"),
    "batch norm": (lambda: nn.BatchNorm1d(LENGTH), "body: BatchNorm1d mixes the examples of a batch"),
    "frozen batch norm": (
        lambda: nn.BatchNorm1d(LENGTH).requires_grad_(False),
        "body: BatchNorm1d mixes the examples of a batch",
    ),
    "batch norm without statistics": (
        lambda: nn.BatchNorm1d(LENGTH, track_running_stats=False).requires_grad_(False).eval(),
        "body: BatchNorm1d mixes the examples of a batch",
    ),
    "weight used outside": (Outside, "body.layer.weight: used outside its own layer's forward"),
    "bias used outside": (lambda: Outside(lambda x, m: x + m.bias), "body.layer.bias: used outside its own layer"),
    "forward called past the layer": (
        lambda: Outside(lambda x, m: nn.Linear.forward(m, x)),
        "body.layer.weight: used outside its own layer's forward",
    ),
    "weight in the loss": (
        lambda: Outside(lambda x, m: x + m.weight.square().sum()),
        "body.layer.weight: used outside",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    body, said = LAYERS[name]
    refused(said, model=Net(body()))


def test_batch_norm_that_is_frozen_and_evaluated_does_no_harm():
    model = Net(nn.BatchNorm1d(LENGTH).requires_grad_(False).eval())
    with ExampleClipper(model, clip=1.0) as clipper:
        clipper.add(model(tokens()))
        model.train()
        with pytest.raises(UnsupportedLayer, match="BatchNorm1d mixes"):
            model(tokens())


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_options_of_embeddings(option):
    model = Net()
    model.words = nn.Embedding(WORDS, SIZE, **option)
    refused(f"words (Embedding): Embedding with {next(iter(option))}", model=model)


class Mixing(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, x):
        return self.of(x)


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x - x.mean(0),
        lambda x: functional.batch_norm(x, None, None, training=True),
        lambda x: x + x.flip(0),
        lambda x: x + x.roll(2, 0),
        lambda x: x[torch.tensor([1, 0, 2, 3])],
    ],
)
def test_examples_that_are_mixed(of):
    refused("examples are mixed", model=Net(Mixing(of)))


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.last = nn.Embedding(WORDS, SIZE), nn.Linear(SIZE, 1)

    def forward(self, ids):
        return self.last(self.words(ids.T)).mean(0).squeeze(1)


@pytest.mark.parametrize("length", [LENGTH, BATCH])
def test_time_before_batch(length):
    """Also where there are as many tokens as examples, which no shape tells."""
    ids = tokens()[:, :length]
    said = (
        f"the first dimension of its input is {length}" if length != BATCH else "the first dimension is not the batch"
    )
    refused(said, model=TimeFirst(), of=lambda model: model(ids))


@pytest.mark.parametrize("length", [LENGTH, BATCH])
def test_positions_without_a_batch_dimension(length):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.last = nn.Embedding(9, SIZE), nn.Linear(SIZE, 1)

        def forward(self, x):
            return self.last(x + self.places(torch.arange(x.shape[1]))).mean(1).squeeze(1)

    x = torch.randn(BATCH, length, SIZE)
    refused("places (Embedding)", model=Positions(), of=lambda model: model(x))


def test_batch_and_time_in_one_dimension():
    model = Net(Mixing(lambda x: x))
    flat = nn.Linear(SIZE, SIZE)
    model.body = nn.Sequential(Mixing(lambda x: x.flatten(0, 1)), flat, Mixing(lambda x: x.view(BATCH, -1, SIZE)))
    refused(f"body.1 (Linear): the first dimension of its input is {BATCH * LENGTH}", model=model)


@pytest.mark.parametrize(
    "layer", [nn.Linear(SIZE, SIZE), nn.LayerNorm(SIZE), nn.Sequential(nn.Linear(SIZE, SIZE, bias=False))]
)
def test_an_input_changed_in_place(layer):
    def spoil(x):
        x = x * 1.0
        y = layer(x)
        x.mul_(2.0)
        return x + y

    model = Net(Mixing(spoil))
    model.body.layer = layer
    said = r"changed in place|modified by an inplace operation"
    with ExampleClipper(model, clip=1.0) as clipper, pytest.raises((UsageError, RuntimeError), match=said):
        clipper.add(model(tokens()))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda values: values.mean(), "losses of shape (); give one loss per example (reduction='none')"),
        (lambda values: values.mean(0, keepdim=True), "there are 1 losses; give one loss per example"),
        (lambda values: values.unsqueeze(1), "losses of shape (4, 1); give one loss per example"),
        (lambda values: values[:3], "there are 3 losses; give one loss per example"),
        (lambda values: values.detach(), "the losses depend on no trained layer"),
        (lambda values: values.detach().requires_grad_(), "the losses depend on no trained layer"),
    ],
)
def test_losses(of, said):
    refused(said, model=Net(), of=lambda model: of(model(tokens())), error=UsageError)


def test_settings():
    for clip in (0.0, -1.0, float("nan"), float("inf"), 1e-9):
        with pytest.raises(UsageError, match="give a norm from"):
            ExampleClipper(Net(), clip=clip)
    with pytest.raises(UsageError, match="no trainable parameters"):
        ExampleClipper(Net().requires_grad_(False), clip=1.0)
    with pytest.raises(UsageError, match="replaced by another tool"), ExampleClipper(model := Net(), clip=1.0):
        ExampleClipper(model, clip=1.0)


def test_no_kernel_is_no_harm_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("REDTEAM_NO_KERNEL", "1")
    ExampleClipper(Net(), clip=1.0).close()
    with pytest.raises(UsageError, match="kernel was asked for"):
        ExampleClipper(Net(), clip=1.0, kernel=True)


def test_an_ordinary_backward_or_a_copy_while_it_is_open():
    model = Net()
    with ExampleClipper(model, clip=1.0) as clipper:
        with pytest.raises(UsageError, match="give the losses to its add"):
            model(tokens()).sum().backward()
        with pytest.raises(UsageError, match="cannot be copied"):
            copy.deepcopy(model)
        clipper.add(model(tokens()))
    with pytest.raises(UsageError, match="closed"):
        clipper.add(model(tokens()))


def test_close_gives_the_model_back():
    model = Net(nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(inplace=True), nn.LayerNorm(SIZE)))
    model.last.bias.requires_grad_(False)
    before = copy.deepcopy(model)
    with ExampleClipper(model, clip=1.0) as clipper:
        clipper.add(model(tokens()))
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    for one, other in zip(model.modules(), before.modules(), strict=True):
        assert one.__dict__.keys() == other.__dict__.keys()
        assert not [*one._forward_hooks, *one._forward_pre_hooks, *one._backward_hooks]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    for each in (model, before):
        each(tokens()).sum().backward()
    pairs = zip(model.parameters(), before.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) if a.requires_grad else b.grad is None for a, b in pairs)
    clipper.close()


def test_forwards_without_a_backward_do_no_harm():
    model, expected = Net(nn.Linear(SIZE, SIZE)), None
    for spoil in (False, True):
        with ExampleClipper(model, clip=0.1) as clipper:
            kept = []
            if spoil:
                kept.append(model(tokens()))
                model(tokens().flip(1))
                with torch.no_grad():
                    assert not model(tokens()).requires_grad
            kept.append(values := model(tokens()))
            clipper.add(values)
            clipper.add(model(tokens()))
            expected = clipper.buffer.clone() if expected is None else expected
            assert relative(clipper.buffer, expected) < 1e-6
            del kept


@pytest.mark.parametrize("again", [1, 2])
def test_activation_checkpointing(again):
    model, found = Net(nn.Sequential(nn.Linear(SIZE, SIZE), nn.Tanh(), nn.LayerNorm(SIZE))), []
    body = model.body
    for save in (False, True):

        def run(x, save=save):
            for _ in range(again):
                x = checkpoint(body, x, use_reentrant=False) if save else body(x)
            return x

        model.body = Mixing(run)
        model.body.inner = body
        with ExampleClipper(model, clip=0.1) as clipper:
            clipper.add(model(tokens()))
            clipper.add(model(tokens()))
            found.append(clipper.buffer.clone())
    assert torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-8)
    assert float(found[0].norm()) > 0


def test_gradients_are_seen_again_after_zero_grad():
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    with ExampleClipper(model, clip=1.0) as clipper:
        clipper.add(model(tokens()))
        optimizer.step()
        optimizer.zero_grad()
        clipper.buffer.fill_(1.0)
        clipper.publish()
        assert all(bool((p.grad == 1.0).all()) for p in model.parameters())
