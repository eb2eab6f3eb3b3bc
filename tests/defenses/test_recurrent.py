"""The LSTM rule against autograd with a batch of one: every variant, with and without the compiled kernel."""

import pytest
import torch
from loop import loop, relative
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from defenses.edpsgd import kernel
from defenses.edpsgd.clipper import ExampleClipper, UnsupportedLayer
from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification

BATCH, LENGTH, IN, HIDDEN = 7, 9, 5, 6


@pytest.fixture(params=["kernel", "torch"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setenv("REDTEAM_NO_KERNEL", "1")
    elif not kernel.available():
        pytest.skip("the compiled kernel is not available here")
    return request.param


class Net(nn.Module):
    """A linear layer, an LSTM used in one of many ways, and a number for each example that all its outputs feed."""

    def __init__(self, *, hidden=HIDDEN, packed=False, states=False, sorted_=False, calls=1, **options):
        super().__init__()
        torch.manual_seed(3)
        self.before = nn.Linear(IN, IN)
        self.lstm = nn.LSTM(IN, hidden, **options)
        self.packed, self.states, self.sorted, self.calls = packed, states, sorted_, calls
        ways = 2 if self.lstm.bidirectional else 1
        self.start = nn.Linear(IN, hidden)
        self.shape = (ways * self.lstm.num_layers, 1, 1)
        self.start.requires_grad_(states)

    def forward(self, x, lengths):
        y = self.before(x)
        hx = None
        if self.states:
            h = self.start(x[:, 0]).unsqueeze(0).repeat(self.shape)
            hx = (h.tanh(), h.sin())
        total = 0.0
        for call in range(self.calls):
            out, (h, c) = self.lstm(self._arranged(y, lengths), hx)
            if isinstance(out, PackedSequence):
                out = pad_packed_sequence(out, batch_first=True, total_length=LENGTH)[0]
            elif not self.lstm.batch_first:
                out = out.transpose(0, 1)
            weights = torch.arange(out[0].numel()).view_as(out[0]).add(call).cos()
            total = total + (out.sin() * weights).sum((1, 2)) + h.square().sum((0, 2)) + (c**3).sum((0, 2))
            y = y.flip(2)
        return total

    def _arranged(self, y, lengths):
        if self.packed:
            return pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=self.sorted)
        return y if self.lstm.batch_first else y.transpose(0, 1)


def data(*, sorted_=False):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(BATCH, LENGTH, IN, generator=generator)
    lengths = torch.tensor([3, 9, 1, 6, 9, 2, 5])
    return x, lengths.sort(descending=True).values if sorted_ else lengths


VARIANTS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "bidirectional": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "three layers both ways": {"num_layers": 3, "bidirectional": True, "batch_first": True},
    "states": {"states": True},
    "states, two layers both ways": {"states": True, "num_layers": 2, "bidirectional": True},
    "packed": {"packed": True},
    "packed both ways": {"packed": True, "bidirectional": True, "num_layers": 2},
    "packed both ways with states": {"packed": True, "bidirectional": True, "states": True, "batch_first": True},
    "packed in order": {"packed": True, "sorted_": True, "bidirectional": True, "states": True},
    "called twice": {"calls": 2, "bidirectional": True},
    "wide": {"hidden": 40, "bidirectional": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_norms_and_clipped_sum_are_the_loops(name):
    options = VARIANTS[name]
    model, (x, lengths) = Net(**options), data(sorted_=options.get("sorted_", False))
    norms, total = loop(model.double(), lambda m, rows: m(x[rows].double(), lengths[rows]), BATCH, clip=1.0)
    clip = float(norms.median())
    norms, total = loop(model, lambda m, rows: m(x[rows].double(), lengths[rows]), BATCH, clip=clip)
    model.float()
    with ExampleClipper(model, clip=clip) as clipper:
        clipped = clipper.add(model(x, lengths))
        assert relative(clipped.norms, norms) < 1e-6
        assert ((clipped.norms - norms).abs() <= 2e-6 * norms).all()
        assert relative(clipper.buffer, total) < 1e-5


@pytest.mark.parametrize("frozen", ["weight_ih", "weight_hh", "bias_hh", "before", "lstm"])
def test_frozen_parts(frozen):
    model, (x, lengths) = Net(bidirectional=True), data()
    for name, parameter in model.named_parameters():
        if frozen in name:
            parameter.requires_grad_(False)
    norms, total = loop(model.double(), lambda m, rows: m(x[rows].double(), lengths[rows]), BATCH, clip=1.0)
    model.float()
    with ExampleClipper(model, clip=1.0) as clipper:
        clipped = clipper.add(model(x, lengths))
        assert relative(clipped.norms, norms) < 1e-6
        assert relative(clipper.buffer, total) < 1e-5


def test_dropout_between_layers_is_that_of_torch():
    """With the same mask the same numbers; only at p = 0 and p = 1 can two implementations have the same mask."""
    x, lengths = data()
    for p in (0.0, 1.0):
        model = Net(num_layers=2, dropout=p, bidirectional=True)
        norms, total = loop(model.double(), lambda m, rows: m(x[rows].double(), lengths[rows]), BATCH, clip=1.0)
        model.float()
        with ExampleClipper(model, clip=1.0) as clipper:
            assert relative(clipper.add(model(x, lengths)).norms, norms) < 1e-6
            assert relative(clipper.buffer, total) < 1e-5
    model = Net(num_layers=2, dropout=0.5)
    with ExampleClipper(model, clip=1.0):
        torch.manual_seed(0)
        first = model(x, lengths)
        assert not torch.equal(first, model(x, lengths))
        torch.manual_seed(0)
        assert torch.equal(first, model(x, lengths))
        model.eval()
        assert torch.equal(model(x, lengths), model(x, lengths))


def test_the_bilstm_of_this_project():
    torch.manual_seed(0)
    model = BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=50, hidden_size=24, embedding_size=16, dropout=0.0, num_labels=3)
    )
    ids = torch.randint(1, 50, (BATCH, LENGTH))
    mask = (torch.arange(LENGTH) < torch.tensor([3, 9, 1, 6, 9, 2, 5]).unsqueeze(1)).long()
    ids, labels = ids * mask, torch.randint(0, 3, (BATCH,))

    def losses(m, rows):
        logits = m(input_ids=ids[rows], attention_mask=mask[rows]).logits
        return nn.functional.cross_entropy(logits, labels[rows], reduction="none")

    norms, _ = loop(model.double(), losses, BATCH, clip=1.0)
    clip = float(norms.median())
    norms, total = loop(model, losses, BATCH, clip=clip)
    model.float()
    with ExampleClipper(model, clip=clip) as clipper:
        clipped = clipper.add(losses(model, slice(None)))
        assert relative(clipped.norms, norms) < 1e-6
        assert relative(clipper.buffer, total) < 1e-5


def test_outputs_and_input_gradients_are_torchs():
    """The clipper's forward on the same weights: outputs, and the gradient for what feeds the LSTM."""
    model, (x, lengths) = Net(num_layers=2, bidirectional=True, packed=True, states=True), data()
    x.requires_grad_()
    values = model(x, lengths)
    (expected,) = torch.autograd.grad(values.sum(), x)
    with ExampleClipper(model, clip=1.0) as clipper:
        ours = model(x, lengths)
        seen = []
        x.register_hook(seen.append)
        assert relative(ours.detach(), values.detach()) < 1e-6
        for parameter in clipper.parameters:
            parameter.grad.zero_()
        clipper._tape.receiver = lambda use, gradient: None
        (got,) = torch.autograd.grad(ours.sum(), x)
        assert relative(got, expected) < 1e-5


def test_an_example_with_a_nan_is_dropped_alone():
    model, (x, lengths) = Net(bidirectional=True, packed=True), data()
    x[3, 1, 2] = torch.nan
    rest = [i for i in range(BATCH) if i != 3]
    with ExampleClipper(model, clip=1.0) as clipper:
        clipped = clipper.add(model(x, lengths))
        assert clipped.dropped == 1
        assert not torch.isfinite(clipped.norms[3])
        total = clipper.buffer.clone()
        clipper.buffer.zero_()
        alone = clipper.add(model(x[rest], lengths[rest]))
        assert relative(clipped.norms[rest], alone.norms) < 1e-6
        assert relative(total, clipper.buffer) < 1e-5


def test_nothing_is_left_behind():
    model, (x, lengths) = Net(), data()
    before = model(x, lengths)
    with torch.no_grad():  # where torch may add up in another order
        ungraded = model(x, lengths)
    with ExampleClipper(model, clip=1.0), torch.no_grad():
        assert torch.equal(model(x, lengths), ungraded)
    assert "forward" not in model.lstm.__dict__
    assert all(p.requires_grad and p.grad is None for p in model.lstm.parameters())
    assert torch.equal(model(x, lengths), before)


def test_what_has_no_rule_is_refused_by_name():
    with pytest.raises(UnsupportedLayer, match=r"lstm \(LSTM\).*proj_size"):
        ExampleClipper(Net(proj_size=3), clip=1.0)
    for layer in (nn.GRUCell, nn.RNNCell, nn.LSTMCell):
        with pytest.raises(UnsupportedLayer, match=layer.__name__):
            ExampleClipper(nn.Sequential(layer(3, 4)), clip=1.0)
    lone = nn.Sequential(nn.LSTM(IN, HIDDEN))
    with ExampleClipper(lone, clip=1.0), pytest.raises(UnsupportedLayer, match="batch"):
        lone(torch.randn(LENGTH, IN))


def test_bf16_weights():
    model, (x, lengths) = Net(bidirectional=True), data()
    norms, total = loop(model.double(), lambda m, rows: m(x[rows].double(), lengths[rows]), BATCH, clip=1.0)
    model.bfloat16()
    with ExampleClipper(model, clip=1.0) as clipper:
        clipped = clipper.add(model(x.bfloat16(), lengths).float())
        assert relative(clipped.norms, norms) < 0.05
        assert relative(clipper.buffer, total) < 0.1
