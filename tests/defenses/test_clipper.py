"""The exact clipper against a loop over single examples: every layer with a rule, and every way of using one."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loop import clipped_sum, gradients, loop, relative
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from defenses.edpsgd import kernel
from defenses.edpsgd.clipper import ExampleClipper

BATCH, LENGTH, SIZE, WORDS, LABELS = 6, 9, 8, 20, 3


@pytest.fixture(params=["kernel", "torch"])
def compiled(request):
    if request.param == "kernel" and not kernel.available():
        pytest.skip("the compiled kernel is not available here")
    return request.param == "kernel"


def tokens(*, batch=BATCH, length=LENGTH, seed=1):
    """Token ids with repeated tokens inside an example and padding (0) at the ends."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, WORDS, (batch, length), generator=generator)
    ids[:, 1:3] = ids[:, :1]
    for i in range(batch):
        ids[i, length - i % max(1, length - 2) :] = 0
    return ids


LABEL = torch.arange(BATCH) % LABELS


def losses(model, rows):
    return functional.cross_entropy(model(tokens()[rows]), LABEL[rows], reduction="none")


def assert_exact(model, losses_of=losses, *, batch=BATCH, compiled=False, parts=2):
    """The clipped sum and the norms are those of the loop, at a clip that cuts about half of the examples."""
    each = gradients(model, losses_of, batch)
    clip = float(torch.stack([gradient.norm() for gradient in each]).median())
    norms, total = clipped_sum(each, clip=clip, scale=0.25)
    with ExampleClipper(model, clip=clip, kernel=compiled) as clipper:
        found = [clipper.add(losses_of(model, rows), scale=0.25) for rows in pieces(batch, parts)]
        assert sum(f.dropped for f in found) == 0
        ours = torch.cat([f.norms for f in found])
        assert float(((ours - norms).abs() / norms.clamp(min=1e-9 * float(norms.max()))).max()) < 1e-6
        assert relative(clipper.buffer, total) < 1e-5
        grads = torch.cat([p.grad.flatten() for p in clipper.parameters])
        assert torch.equal(grads, clipper.buffer)


def pieces(batch, parts):
    step = -(-batch // parts)
    return [slice(i, min(i + step, batch)) for i in range(0, batch, step)]


class Texts(nn.Module):
    """Embeds tokens, lets `body` turn [B, T, d] into anything of that shape, and classifies the mean."""

    def __init__(self, *layers, **embedding):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, SIZE, **embedding)
        self.body = nn.Sequential(*(layer() for layer in layers))
        self.classifier = nn.Linear(SIZE, LABELS)

    def forward(self, ids):
        return self.classifier(self.body(self.words(ids)).mean(1))


class Function(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, x):
        return self.of(x)


def function(of):
    return lambda: Function(of)


LAYERS = {
    "embedding alone": (),
    "linear": (lambda: nn.Linear(SIZE, SIZE), nn.Tanh),
    "linear without bias": (lambda: nn.Linear(SIZE, SIZE, bias=False), nn.Tanh),
    "wide linear": (lambda: nn.Linear(SIZE, 40), nn.GELU, lambda: nn.Linear(40, SIZE)),
    "conv1d": (lambda: Conv1D(SIZE, SIZE), nn.Tanh, lambda: Conv1D(20, SIZE), lambda: Conv1D(SIZE, 20)),
    "layer norm": (lambda: nn.LayerNorm(SIZE), nn.Tanh),
    "layer norm without bias": (lambda: nn.LayerNorm(SIZE, bias=False), nn.Tanh),
    "layer norm over two dimensions": (lambda: nn.LayerNorm((LENGTH, SIZE)), nn.Tanh),
    "adapter": (lambda: nn.Linear(SIZE, 1, bias=False), lambda: nn.Linear(1, SIZE)),
    "in-place activations": (lambda: nn.Linear(SIZE, SIZE), lambda: nn.ReLU(inplace=True)),
    "dropout that drops nothing": (nn.Identity, lambda: nn.Dropout(0.0), lambda: nn.Linear(SIZE, SIZE)),
    "one row an example": (function(lambda x: x[:, 0]), lambda: nn.Linear(SIZE, SIZE), function(lambda x: x[:, None])),
    "four dimensions": (
        function(lambda x: x.view(len(x), LENGTH, 2, SIZE // 2)),
        lambda: nn.Linear(SIZE // 2, SIZE // 2),
        nn.Tanh,
        lambda: nn.LayerNorm(SIZE // 2),
        function(lambda x: x.flatten(2)),
    ),
    "input that is not contiguous": (
        function(lambda x: x.transpose(1, 2)[:, :, :SIZE]),
        lambda: nn.Linear(SIZE, SIZE),
        lambda: nn.LayerNorm(SIZE),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, compiled):
    assert_exact(Texts(*LAYERS[name]), compiled=compiled)


@pytest.mark.parametrize("length", [1, 2, 70, 130])
def test_lengths(length, compiled):
    model = Texts(*LAYERS["wide linear"], lambda: nn.LayerNorm(SIZE))

    def of(model, rows):
        return functional.cross_entropy(model(tokens(length=length)[rows]), LABEL[rows], reduction="none")

    assert_exact(model, of, compiled=compiled)


def test_padding_gets_no_gradient(compiled):
    assert_exact(Texts(*LAYERS["linear"], padding_idx=0), compiled=compiled)
    model = Texts(padding_idx=0)
    with ExampleClipper(model, clip=1.0, kernel=compiled) as clipper:
        clipper.add(losses(model, slice(None)))
        assert float(model.words.weight.grad[0].abs().max()) == 0.0


def test_the_first_layer_may_be_linear(compiled):
    torch.manual_seed(0)
    x = torch.randn(BATCH, LENGTH, SIZE)
    model = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(SIZE * LENGTH, LABELS))
    assert_exact(model, lambda m, r: functional.cross_entropy(m(x[r]), LABEL[r], reduction="none"), compiled=compiled)


class Attention(nn.Module):
    """Three maps of one input, as Q, K and V."""

    def __init__(self, *, bias=(True, True, True)):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(SIZE, SIZE, bias=b) for b in bias)

    def forward(self, x):
        return functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))


@pytest.mark.parametrize("bias", [(True, True, True), (True, False, True), (False, False, False)])
def test_maps_that_share_an_input(bias, compiled):
    assert_exact(Texts(lambda: Attention(bias=bias)), compiled=compiled)


class Positions(nn.Module):
    """Words, (1, T) positions and types, as Hugging Face adds them up."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.types = nn.Embedding(WORDS, SIZE, padding_idx=0), nn.Embedding(2, SIZE)
        self.positions, self.norm = nn.Embedding(30, SIZE), nn.LayerNorm(SIZE)
        self.classifier = nn.Linear(SIZE, LABELS)

    def forward(self, ids):
        places = torch.arange(ids.shape[1])[None]
        x = self.words(ids) + self.types(torch.zeros_like(ids)) + self.positions(places)
        return self.classifier(torch.tanh(self.norm(x)).mean(1))


@pytest.mark.parametrize("frozen", [(), ("words",), ("positions",), ("words", "norm"), ("classifier", "types")])
def test_broadcast_positions_and_frozen_parts(frozen, compiled):
    model = Positions()
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    assert_exact(model, compiled=compiled)


def test_biases_alone(compiled):
    model = Texts(*LAYERS["wide linear"], *LAYERS["layer norm"], *LAYERS["conv1d"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    assert_exact(model, compiled=compiled)


def test_weights_alone(compiled):
    model = Texts(*LAYERS["wide linear"], *LAYERS["layer norm"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("weight"))
    assert_exact(model, compiled=compiled)


class Tied(nn.Module):
    """Output matrix tied to the embedding, a Linear and a LayerNorm used twice, a table used twice."""

    def __init__(self, *, padding=0, transposed=False):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, SIZE, padding_idx=padding)
        self.twice, self.norm = nn.Linear(SIZE, SIZE), nn.LayerNorm(SIZE)
        self.out = Conv1D(SIZE, WORDS) if transposed else nn.Linear(SIZE, WORDS)
        self.out.weight, self.transposed = self.words.weight, transposed
        self.classifier = nn.Linear(SIZE if transposed else WORDS, LABELS)

    def forward(self, ids):
        x = self.words(ids) + 0.5 * self.words(ids.flip(1))
        for _ in range(2):
            x = self.norm(torch.tanh(self.twice(x)) + x)
        x = functional.one_hot(ids, WORDS).float() + x.sum(2, keepdim=True) if self.transposed else x
        return self.classifier(self.out(x).mean(1))


@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("transposed", [False, True])
def test_tied_and_used_again(padding, transposed, compiled):
    assert_exact(Tied(padding=padding, transposed=transposed), compiled=compiled)


def test_one_weight_two_biases(compiled):
    model = Texts(lambda: nn.Linear(SIZE, SIZE), nn.Tanh, lambda: nn.Linear(SIZE, SIZE), nn.Tanh)
    model.body[2].weight = model.body[0].weight
    assert_exact(model, compiled=compiled)


def test_two_weights_one_bias(compiled):
    model = Texts(lambda: nn.Linear(SIZE, SIZE), nn.Tanh, lambda: nn.Linear(SIZE, SIZE), nn.Tanh)
    model.body[2].bias = model.body[0].bias
    assert_exact(model, compiled=compiled)


def test_a_long_input_to_a_layer_used_again(compiled):
    layer = nn.Linear(SIZE, SIZE)
    model = Texts(*(lambda: layer, nn.Tanh) * 3)

    def of(model, rows):
        return functional.cross_entropy(model(tokens(length=40)[rows]), LABEL[rows], reduction="none")

    assert_exact(model, of, compiled=compiled)


def test_a_model_that_is_called_twice(compiled):
    def of(model, rows):
        return (model(tokens()[rows]) - model(tokens(seed=2)[rows])).square().sum(1)

    assert_exact(Texts(*LAYERS["wide linear"]), of, compiled=compiled)


def test_parts_that_a_forward_leaves_out(compiled):
    model = Texts(*LAYERS["linear"])
    model.unused = nn.Linear(4, 4)
    model.body.append(Function(lambda x: x + 0.0 * model.unused(x[..., :4]).detach().sum()))
    assert_exact(model, compiled=compiled)


def test_branches_that_the_loss_leaves_out(compiled):
    """One of three maps that share an input never gets a gradient."""

    class Half(Attention):
        def forward(self, x):
            self.q(x)
            return self.v(x).tanh() + self.k(x).sin()

    assert_exact(Texts(Half), compiled=compiled)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_a_logical_batch_in_parts(parts, compiled):
    assert_exact(Texts(*LAYERS["wide linear"]), parts=parts, compiled=compiled)


def test_noise_in_the_buffer_stays(compiled):
    model = Texts(*LAYERS["linear"])
    _, total = loop(model, losses, BATCH, clip=0.5)
    with ExampleClipper(model, clip=0.5, kernel=compiled) as clipper:
        noise = torch.randn(clipper.buffer.shape, generator=torch.Generator().manual_seed(3))
        clipper.buffer.copy_(noise)
        clipper.add(losses(model, slice(None)))
        assert relative(clipper.buffer - noise, total) < 1e-5


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    length=st.integers(1, 40),
    batch=st.integers(1, 5),
    bias=st.booleans(),
    norm=st.booleans(),
    again=st.booleans(),
    use_kernel=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_architectures(sizes, length, batch, bias, norm, again, use_kernel, seed):
    layers = []
    for before, after in zip([SIZE, *sizes], [*sizes, SIZE], strict=True):
        layers += [lambda b=before, a=after: nn.Linear(b, a, bias=bias), nn.Tanh]
        # Of two or three numbers almost nothing is left by a LayerNorm, nor of many that one number scales: gradients
        # are rounding, in any float32.
        layers += [lambda a=after: nn.LayerNorm(a)] if norm and min(before, after) > 3 else []
    square = nn.Linear(SIZE, SIZE)
    model = Texts(*layers, *((lambda: square, nn.Tanh) * (2 if again else 1)), padding_idx=0 if bias else None)
    ids = tokens(batch=batch, length=length, seed=seed)

    def of(model, rows):
        return functional.cross_entropy(model(ids[rows]), LABEL[:batch][rows], reduction="none")

    assert_exact(model, of, batch=batch, compiled=use_kernel and kernel.available(), parts=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    model = Texts(*LAYERS["wide linear"], *LAYERS["layer norm"], *LAYERS["conv1d"]).to(dtype)
    exact = copy.deepcopy(model).double()
    norms, _ = loop(exact, losses, BATCH, clip=1e12)
    _, total = loop(exact, losses, BATCH, clip=float(norms.median()))
    with ExampleClipper(model, clip=float(norms.median())) as clipper:
        clipped = clipper.add(losses(model, slice(None)))
        assert clipped.norms.dtype == clipper.buffer.dtype == torch.float32
        limit = 2e-2 if dtype == torch.bfloat16 else 1e-6
        assert relative(clipped.norms, norms) < limit
        assert relative(clipper.buffer, total) < 2 * limit
        assert all(p.grad.dtype == dtype for p in clipper.parameters)
        grads = torch.cat([p.grad.flatten() for p in clipper.parameters])
        assert torch.equal(grads, clipper.buffer.to(dtype))


def test_autocast():
    model = Texts(*LAYERS["wide linear"], *LAYERS["layer norm"])
    norms, _ = loop(model, losses, BATCH, clip=1e12)
    _, total = loop(model, losses, BATCH, clip=float(norms.median()))
    with ExampleClipper(model, clip=float(norms.median())) as clipper:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values = losses(model, slice(None))
        clipped = clipper.add(values)
        assert clipped.norms.dtype == clipper.buffer.dtype == torch.float32
        assert relative(clipped.norms, norms) < 2e-2
        assert relative(clipper.buffer, total) < 4e-2
