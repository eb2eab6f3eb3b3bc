"""Layers beside the common ones, each exact against a loop over single examples."""

import copy

import pytest
import torch
from loop import clipped_sum, gradients, relative
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from defenses.edpsgd.clipper import ExampleClipper, UnsupportedLayer
from redteam.core import UsageError

BATCH, LENGTH, SIZE, WORDS, LABELS = 6, 9, 8, 20, 3
LABEL = torch.arange(BATCH) % LABELS


def tokens():
    """Token ids with repeated tokens inside an example and padding (0) at the ends."""
    ids = torch.randint(1, WORDS, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))
    ids[:, 1:3] = ids[:, :1]
    for i in range(BATCH):
        ids[i, LENGTH - i % (LENGTH - 2) :] = 0
    return ids


def losses(model, rows):
    return functional.cross_entropy(model(tokens()[rows]), LABEL[rows], reduction="none")


def assert_exact(model, losses_of=losses):
    """The clipped sum and the norms are those of the loop, at a clip that cuts about half of the examples."""
    each = gradients(model, losses_of, BATCH)
    before = [losses_of(model, rows).detach() for rows in (slice(0, 4), slice(4, BATCH))]
    clip = float(torch.stack([gradient.norm() for gradient in each]).median())
    norms, total = clipped_sum(each, clip=clip, scale=0.25)
    kinds = [type(module) for module in model.modules()]
    with ExampleClipper(model, clip=clip) as clipper:
        values = [losses_of(model, rows) for rows in (slice(0, 4), slice(4, BATCH))]
        assert relative(torch.cat(values).detach(), torch.cat(before)) < 1e-5
        found = [clipper.add(part, scale=0.25) for part in values]
        assert sum(f.dropped for f in found) == 0
        ours = torch.cat([f.norms for f in found])
        assert float(((ours - norms).abs() / norms).max()) < 2e-6
        assert relative(clipper.buffer, total) < 1e-5
        with torch.no_grad():
            assert relative(losses_of(model, slice(0, 4)), before[0]) < 1e-5
    assert [type(module) for module in model.modules()] == kinds
    assert not any({"forward", "_redteam_patch"} & set(module.__dict__) for module in model.modules())


class Texts(nn.Module):
    """Embeds tokens, lets `body` turn [B, T, d] into anything of that shape, and classifies the mean."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, SIZE)
        self.body = body()
        self.classifier = nn.Linear(SIZE, LABELS)

    def forward(self, ids):
        return self.classifier(self.body(self.words(ids)).mean(1))


class Around(nn.Module):
    """A layer with something done before and after it."""

    def __init__(self, layer, run):
        super().__init__()
        self.layer, self.run = layer, run

    def forward(self, x):
        return self.run(self.layer, x)


def channels(make, *, tail=lambda y: y):
    """A layer that wants channels first."""
    return lambda: Around(make(), lambda layer, x: tail(layer(x.transpose(1, 2)).transpose(1, 2)))


def scaled(make):
    """A normalisation whose weights are not all one."""

    def made():
        layer = make()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, 1.0, 0.5)
        return layer

    return made


class Shifted(nn.Module):
    """Gemma's RMSNorm: a weight of zero is a factor of one."""

    def __init__(self):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.randn(SIZE) / 2), 1e-6

    def forward(self, x):
        normalised = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (normalised * (1.0 + self.weight.float())).type_as(x)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x).sin()


class Offset(nn.Embedding):
    def forward(self, x):
        return super().forward(torch.arange(x.shape[1]).expand(len(x), -1) + 2).tanh()


class Blocks(nn.Module):
    """A transformer block of torch's own, and attention from one input to another."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(SIZE, 2, 12, dropout=0.0, batch_first=True)
        self.cross = nn.MultiheadAttention(SIZE, 4, batch_first=batch_first, dropout=0.0)
        self.first = batch_first

    def forward(self, x):
        y = self.block(x, src_key_padding_mask=torch.arange(LENGTH).expand(len(x), -1) > 6)
        queries, keys = (x, y) if self.first else (x.transpose(0, 1), y.transpose(0, 1))
        mixed, weights = self.cross(queries, keys, keys.cos(), attn_mask=torch.ones(LENGTH, LENGTH).tril() == 0)
        assert weights.shape == (len(x), LENGTH, LENGTH)
        return mixed if self.first else mixed.transpose(0, 1)


class OwnKeys(nn.Module):
    """Keys and values of sizes of their own."""

    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(SIZE, 2, kdim=4, vdim=5, batch_first=True, **options)

    def forward(self, x):
        return self.attention(x, x[..., :4], x[..., 3:], need_weights=False)[0]


BODIES = {
    "RMSNorm": scaled(lambda: nn.RMSNorm(SIZE)),
    "RMSNorm over two dimensions": scaled(lambda: nn.RMSNorm((LENGTH, SIZE), eps=1e-3)),
    "an RMSNorm of Gemma's kind": Shifted,
    "GroupNorm": channels(scaled(lambda: nn.GroupNorm(2, SIZE))),
    "GroupNorm of two dimensions": lambda: Around(
        nn.GroupNorm(3, LENGTH), lambda layer, x: layer(x.unflatten(2, (2, 4))).flatten(2)
    ),
    "Conv1d": channels(lambda: nn.Conv1d(SIZE, SIZE, 3, padding=1)),
    "Conv1d of one place": channels(lambda: nn.Conv1d(SIZE, SIZE, 1, bias=False)),
    "Conv1d with stride and dilation": channels(lambda: nn.Conv1d(SIZE, SIZE, 3, stride=2, dilation=2, padding=3)),
    "Conv1d, padded to the same length": channels(lambda: nn.Conv1d(SIZE, SIZE, 3, padding="same", dilation=2)),
    "Conv1d, padded by reflection": channels(lambda: nn.Conv1d(SIZE, SIZE, 3, padding=2, padding_mode="reflect")),
    "Conv1d in groups": channels(lambda: nn.Conv1d(SIZE, 2 * SIZE, 3, groups=2), tail=lambda y: y[..., ::2]),
    "depthwise Conv1d": channels(lambda: nn.Conv1d(SIZE, SIZE, 3, groups=SIZE, padding=1)),
    "Conv1d called twice": channels(
        lambda: Around(nn.Conv1d(SIZE, SIZE, 3, padding=1), lambda layer, x: layer(layer(x).tanh()))
    ),
    "a subclass that doubles": lambda: Doubled(SIZE, SIZE),
    "a subclass called twice": lambda: Around(Doubled(SIZE, SIZE), lambda layer, x: layer(layer(x))),
    "positions by a subclass": lambda: Around(Offset(LENGTH + 2, SIZE), lambda layer, x: x + layer(x)),
    "torch's transformer": Blocks,
    "attention with time first": lambda: Blocks(batch_first=False),
    "keys and values of other sizes": OwnKeys,
    "attention without biases": lambda: OwnKeys(bias=False),
}


@pytest.mark.parametrize("name", BODIES)
def test_layers(name):
    assert_exact(Texts(BODIES[name]))


@pytest.mark.parametrize("frozen", ["block.self_attn.in_proj_weight", "cross.out_proj.weight", "cross.in_proj_bias"])
def test_attention_of_which_a_part_is_frozen(frozen):
    model = Texts(Blocks)
    model.body.get_parameter(frozen).requires_grad_(False)
    assert_exact(model)
    model.body.requires_grad_(False)
    model.body.get_parameter(frozen).requires_grad_(True)
    assert_exact(model)


def test_attention_called_as_self_and_as_cross_attention():
    def run(layer, x):
        return layer(layer(x, x, x)[0], x.cos(), x)[0]

    assert_exact(Texts(lambda: Around(nn.MultiheadAttention(SIZE, 2, batch_first=True), run)))


class Bags(nn.Module):
    """Classifies bags of tokens, as 2-D ids or as one list with offsets."""

    def __init__(self, *, flat=False, weighted=False, **options):
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.weighted, self.last = flat, weighted, options.get("include_last_offset", False)
        self.bags = nn.EmbeddingBag(WORDS, SIZE, **options)
        self.classifier = nn.Linear(SIZE, LABELS)

    def forward(self, ids):
        given = {"per_sample_weights": torch.linspace(0.2, 2, ids.numel()).view_as(ids)} if self.weighted else {}
        if not self.flat:
            return self.classifier(self.bags(ids, **given))
        lengths = torch.tensor([(int(row[0]) * 3) % LENGTH for row in ids])  # some bag is empty
        rows = [row[:n] for row, n in zip(ids, lengths.tolist(), strict=True)]
        ends = lengths.cumsum(0)
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), ends if self.last else ends[:-1]])
        return self.classifier(self.bags(torch.cat(rows), offsets))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "sum"},
        {"padding_idx": 0},
        {"mode": "sum", "weighted": True},
        {"flat": True},
        {"flat": True, "mode": "sum", "include_last_offset": True},
        {"flat": True, "padding_idx": 4},
    ],
)
def test_embedding_bags(options):
    if options.get("weighted"):  # the factors of a bag depend on its place in the batch
        factors = torch.linspace(0.2, 2, BATCH * LENGTH).view(BATCH, LENGTH)

        def of(model, rows):
            logits = model.classifier(model.bags(tokens()[rows], per_sample_weights=factors[rows]))
            return functional.cross_entropy(logits, LABEL[rows], reduction="none")

        return assert_exact(Bags(**options), of)
    return assert_exact(Bags(**options))


class Recurrent(nn.Module):
    """An embedding, a GRU or RNN used in one of many ways, and a number for each example that its outputs feed."""

    def __init__(self, kind, *, packed=False, states=False, calls=1, **options):
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(WORDS, 5)
        self.layer = kind(5, 6, batch_first=True, **options)
        self.start = nn.Linear(5, 6).requires_grad_(states)
        self.packed, self.states, self.calls = packed, states, calls
        self.copies = self.layer.num_layers * (2 if self.layer.bidirectional else 1)

    def forward(self, ids):
        x, total = self.words(ids), 0.0
        hx = self.start(x[:, 0]).tanh().expand(self.copies, -1, -1) if self.states else None
        for call in range(self.calls):
            given = x if call == 0 else x.flip(2)
            if self.packed:
                given = pack_padded_sequence(given, (ids != 0).sum(1), batch_first=True, enforce_sorted=False)
            out, h = self.layer(given, hx)
            if self.packed:
                out = pad_packed_sequence(out, batch_first=True, total_length=LENGTH)[0]
            factors = torch.arange(out[0].numel()).view_as(out[0]).add(call).cos()
            total = total + (out.sin() * factors).sum((1, 2)) + (h**3).sum((0, 2))
        return total


WAYS = {
    "plain": {},
    "without bias": {"bias": False},
    "three layers both ways": {"num_layers": 3, "bidirectional": True},
    "states": {"states": True, "num_layers": 2},
    "packed both ways": {"packed": True, "bidirectional": True, "num_layers": 2},
    "called twice": {"calls": 2},
}


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
@pytest.mark.parametrize("way", WAYS)
def test_recurrent_layers(kind, way):
    assert_exact(Recurrent(kind, **WAYS[way]), lambda model, rows: model(tokens()[rows]))


def test_an_rnn_with_relu():
    assert_exact(Recurrent(nn.RNN, nonlinearity="relu"), lambda model, rows: model(tokens()[rows]))


def test_a_nan_is_dropped_alone():
    for body in ("RMSNorm", "GroupNorm", "Conv1d", "depthwise Conv1d", "torch's transformer"):
        model = Texts(BODIES[body])
        ids = tokens()
        ids[3], ids[[0, 1, 2, 4, 5]] = WORDS - 1, ids[[0, 1, 2, 4, 5]].clamp(max=WORDS - 2)
        with torch.no_grad():
            model.words.weight[WORDS - 1] = torch.nan
        rest = [0, 1, 2, 4, 5]
        with ExampleClipper(model, clip=1.0) as clipper:
            clipped = clipper.add(functional.cross_entropy(model(ids), LABEL, reduction="none"))
            assert clipped.dropped == 1, body
            total = clipper.buffer.clone()
            clipper.buffer.zero_()
            clipper.add(functional.cross_entropy(model(ids[rest]), LABEL[rest], reduction="none"))
            assert relative(total, clipper.buffer) < 1e-5, body


def test_a_copy_of_a_patched_subclass_is_refused():
    model = Texts(BODIES["a subclass that doubles"])
    with ExampleClipper(model, clip=1.0), pytest.raises(UsageError, match="copied"):
        copy.deepcopy(model.body)


class Half(nn.Module):
    """No RMSNorm, whatever its parameters are called."""

    def __init__(self):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(SIZE)), 1e-6

    def forward(self, x):
        return self.weight.square() * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


class PastSuper(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight.cos(), self.bias)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Half, r"body \(Half\): no exact rule"),
        (lambda: nn.InstanceNorm1d(LENGTH, affine=True), r"body \(InstanceNorm1d\): no exact rule"),
        (lambda: nn.PReLU(), r"body \(PReLU\): no exact rule"),
        (lambda: PastSuper(SIZE, SIZE), "used outside its own layer's forward"),
        (lambda: Around(nn.MultiheadAttention(SIZE, 2, add_bias_kv=True), None), "add_bias_kv"),
        (lambda: Around(nn.EmbeddingBag(9, SIZE, mode="max"), None), "max"),
        (lambda: Around(nn.GRUCell(SIZE, SIZE), None), r"layer \(GRUCell\): no exact rule"),
        (lambda: Around(nn.MultiheadAttention(SIZE, 2), lambda layer, x: layer(x, x, x)[0]), "first dimension"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(body, said):
    model = Texts(body)
    with pytest.raises(UnsupportedLayer, match=said), ExampleClipper(model, clip=1.0) as clipper:
        clipper.add(losses(model, slice(None)))
