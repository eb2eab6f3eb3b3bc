"""Rows that are mixed before, in or behind the model are refused by every private trainer; honest models never are."""

import random
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from defenses.dpsgd import OpacusSteps
from defenses.edpsgd.clipper import ExampleClipper, UnsupportedLayer
from defenses.edpsgd.microbatch import MicrobatchRule, MicrobatchSteps
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.separation import Separation, unclipped
from defenses.edpsgd.trainer import ExampleSteps
from redteam.errors import UsageError

ROWS, SIZE, WORDS, CLASSES = 14, 6, 40, 3


def numbers(rows=ROWS):
    made = torch.Generator().manual_seed(0)
    return torch.randn(rows, SIZE, generator=made), torch.randint(CLASSES, (rows,), generator=made)


def texts():
    made = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 9, (ROWS,), generator=made)
    return [torch.randint(1, WORDS, (n,), generator=made) for n in lengths.tolist()], lengths


def padded(rows):
    return nn.utils.rnn.pad_sequence([texts()[0][i] for i in rows.tolist()], batch_first=True)


X, Y = numbers()


def cross_entropy(outputs, rows):
    return functional.cross_entropy(outputs, Y[rows], reduction="none")


class Reader(nn.Module):
    """Embeds padded texts, lets `body` at them, and gives each text its classes."""

    def __init__(self, body=None, dropout=0.0):
        super().__init__()
        self.words, self.body, self.dropout = nn.Embedding(WORDS, SIZE), body, nn.Dropout(dropout)
        self.last = nn.Linear(SIZE, CLASSES)

    def forward(self, ids):
        h = self.dropout(self.words(ids))
        h = h if self.body is None else self.body(h)
        mask = (ids > 0).unsqueeze(2)
        return self.last(self.dropout((h * mask).sum(1) / mask.sum(1)))


class Part(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, x):
        return self.of(x)


class Gate(nn.Module):
    """What the batch has in common comes in by a gate that is zero at first."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(SIZE, SIZE)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, h):
        return h + self.gate(h.detach().mean((0, 1), keepdim=True).expand_as(h))


class Crowded(nn.Module):
    """Experts with room for a few rows each: who comes first is served."""

    def __init__(self):
        super().__init__()
        self.expert = nn.Linear(SIZE, SIZE)

    def forward(self, h):
        strong = h.detach().mean((1, 2))
        chosen = (strong >= strong.sort(descending=True).values[max(0, len(h) // 3)]).view(-1, 1, 1)
        return h + self.expert(h) * chosen


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(SIZE, 4), nn.Linear(SIZE, 4).requires_grad_(False)

    def forward(self, a, b):
        return 3 * self.query(a) @ self.key(b).T


class Remembering(nn.Module):
    """Subtracts a mean that the batches before have left in a buffer."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(SIZE, CLASSES)
        self.register_buffer("mean", torch.zeros(SIZE))

    def forward(self, x):
        out = self.last(x - self.mean)
        self.mean.lerp_(x.detach().mean(0), 0.1)
        return out


class Norming(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(SIZE, SIZE).requires_grad_(False), nn.Linear(SIZE, CLASSES)

    def forward(self, x):
        with torch.no_grad():
            self.first.bias.copy_(x.mean(0))
        return self.last(self.first(x))


def linear():
    return nn.Linear(SIZE, CLASSES)


def remembered(model):
    kept = {"loss": torch.zeros(())}

    def losses(rows):
        values = cross_entropy(model(X[rows]), rows)
        kept["loss"], before = 0.9 * kept["loss"] + 0.1 * values.detach().mean(), kept["loss"]
        return (values - before) ** 2

    return losses


def on_numbers(change, weigh=lambda values: values):
    return lambda model: lambda rows: weigh(cross_entropy(model(change(X[rows])), rows))


def on_texts(model):
    return lambda rows: cross_entropy(model(padded(rows)), rows)


def negatives(model):
    def losses(rows):
        return functional.cross_entropy(model(X[rows], X[rows].flip(1)), torch.arange(len(rows)), reduction="none")

    return losses


def focal(values):
    return values * (values.detach() / values.detach().mean())


BEFORE, BEHIND = "what is done before the model", "what the losses do with the model's output"
MIXED = {
    "mixup": (linear, on_numbers(lambda x: 0.5 * x + 0.5 * x.roll(1, 0)), BEFORE),
    "mixup of pairs": (linear, on_numbers(lambda x: 0.9 * x + 0.1 * x.flip(0)), BEFORE),
    "cut and paste": (linear, on_numbers(lambda x: torch.cat([x[:, :3], x.roll(1, 0)[:, 3:]], 1)), BEFORE),
    "standardised": (linear, on_numbers(lambda x: (x - x.mean(0)) / x.std(0)), BEFORE),
    "slightly centred": (linear, on_numbers(lambda x: x - 0.02 * x.mean(0)), BEFORE),
    "batch size": (linear, on_numbers(lambda x: x, lambda values: values / len(values)), BEHIND),
    "weights of the batch": (linear, on_numbers(lambda x: x, focal), BEHIND),
    "less the batch's mean": (linear, on_numbers(lambda x: x, lambda v: v - 0.5 * v.detach().mean()), BEHIND),
    "in-batch negatives": (TwoTowers, negatives, "the model (TwoTowers)"),
    "detached centring": (lambda: Reader(Part(lambda h: h - h.mean((0, 1)).detach())), on_texts, "body (Part)"),
    "a gate at zero": (lambda: Reader(Gate()), on_texts, "body (Gate), before body.gate (Linear)"),
    "capacity": (lambda: Reader(Crowded()), on_texts, "body (Crowded)"),
    "with dropout": (lambda: Reader(Part(lambda h: h - h.mean((0, 1)).detach()), 0.3), on_texts, "body (Part)"),
    "a buffer": (Remembering, on_numbers(lambda x: x), "mean: a buffer that the forward fills"),
    "a frozen weight": (Norming, on_numbers(lambda x: x), "first.bias: changed in place"),
    "a memory": (linear, remembered, "are others when they are asked for again"),
}


class LengthOrdered(nn.Module):
    """Wants texts in the order of their lengths, as packed sequences do by default."""

    def __init__(self):
        super().__init__()
        self.words, self.lstm, self.last = nn.Embedding(WORDS, SIZE), nn.LSTM(SIZE, SIZE), nn.Linear(SIZE, CLASSES)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.words(ids), lengths, batch_first=True)
        return self.last(self.lstm(packed)[1][0][-1])


def ordered(model):
    _, lengths = texts()
    rank = lengths.argsort(descending=True, stable=True)

    def losses(rows):
        rows = rank[rows]
        return cross_entropy(model(padded(rows), lengths[rows]), rows)

    return losses


def each_its_own_words(model):
    """Drops words, as many numbers drawn as a text has."""

    def losses(rows):
        kept = [ids.where(torch.rand(len(ids)) < 0.7, 1) for ids in (texts()[0][i] for i in rows.tolist())]
        return cross_entropy(model(nn.utils.rnn.pad_sequence(kept, batch_first=True)), rows)

    return losses


class Counting(nn.Module):
    """Counts its calls, and keeps a table for lengths it has seen."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(SIZE, CLASSES)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += 1
        return self.last(x)


class HalfPrecision(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Reader()

    def forward(self, ids):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(ids).float()


def with_noise(draw):
    return on_numbers(lambda x: x + draw(x))


def zero_head():
    model = linear()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model


HONEST = {
    "linear": (linear, on_numbers(lambda x: x)),
    "zeros": (zero_head, on_numbers(lambda x: x)),
    "texts": (Reader, on_texts),
    "dropout on texts": (lambda: Reader(dropout=0.4), on_texts),
    "words dropped": (Reader, each_its_own_words),
    "words dropped and dropout": (lambda: Reader(dropout=0.4), each_its_own_words),
    "noise of torch": (linear, with_noise(torch.randn_like)),
    "noise of numpy": (linear, with_noise(lambda x: torch.from_numpy(np.random.randn(*x.shape)).float())),
    "noise of python": (linear, with_noise(lambda x: torch.tensor([[random.random()] for _ in x]))),
    "label smoothing": (
        linear,
        lambda m: lambda r: functional.cross_entropy(m(X[r]), Y[r], reduction="none", label_smoothing=0.1),
    ),
    "row statistics": (linear, on_numbers(lambda x: x - x.mean(1, keepdim=True))),
    "statistics of the file": (linear, on_numbers(lambda x: (x - X.mean(0)) / X.std(0))),
    "a focal loss": (linear, on_numbers(lambda x: x, lambda v: v * v.detach())),
    "large losses": (linear, on_numbers(lambda x: 1e4 * x)),
    "tiny losses": (linear, on_numbers(lambda x: x, lambda v: 1e-6 * v)),
    "a row that is no number": (linear, on_numbers(lambda x: x.where(x < 1.9, torch.nan))),
    "a count": (Counting, on_numbers(lambda x: x)),
}
ONLY_CLIPPER = {"lstm": (LengthOrdered, ordered), "bfloat16": (HalfPrecision, on_texts)}


def example(model, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    common = {"clip": 1.0, "noise_multiplier": 0.5, "divisor": 10.0, "physical_batch": 64}
    return ExampleSteps(model, optimizer, NoiseSource(3), **(common | settings))


def opacus(model):
    pytest.importorskip("opacus")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OpacusSteps(
        model, optimizer, NoiseSource(3), clip=1.0, noise_multiplier=0.5, divisor=10.0, physical_batch=64
    )


def microbatch(model):
    optimizer, rule = torch.optim.SGD(model.parameters(), lr=0.1), MicrobatchRule(1.0, ROWS // 2)
    settings = {"noise_multiplier": 0.5, "batch": ROWS, "size": ROWS, "steps_per_epoch": 2, "physical_batch": 64}
    return MicrobatchSteps(model, optimizer, NoiseSource(3), rule, **settings)


TRAINERS = {"example": example, "microbatch": microbatch, "opacus": opacus}


def train(make, losses, trainer, steps=3):
    torch.manual_seed(0)
    model = make()
    made = TRAINERS[trainer](model)
    try:
        for step in range(steps):
            made.step(step, losses(model), np.arange(ROWS), None)
    finally:
        made.close()


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", MIXED)
def test_mixed_rows_are_refused_by_name(name, trainer):
    make, losses, where = MIXED[name]
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        train(make, losses, trainer)
    if not (trainer == "opacus" and name in ("a gate at zero", "capacity")):  # its own layers say it otherwise
        assert where in str(caught.value)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", HONEST)
def test_honest_rows_are_let_in(name, trainer):
    if name == "a row that is no number" and trainer == "opacus":
        pytest.skip("Opacus does not set such rows aside")
    train(*HONEST[name], trainer)


@pytest.mark.parametrize("name", ONLY_CLIPPER)
def test_honest_models_that_opacus_does_not_know(name):
    train(*ONLY_CLIPPER[name], "example")


class TestClipperAlone:
    """Without the losses it can call the model again, and nothing else."""

    def add(self, name, clip=1e9):
        make, losses, _ = MIXED[name]
        torch.manual_seed(0)
        model = make()
        with ExampleClipper(model, clip=clip) as clipper:
            try:
                clipper.add(losses(model)(torch.arange(ROWS)))
            except UsageError:
                assert not clipper.buffer.any()
                raise

    @pytest.mark.parametrize(
        "name", ["in-batch negatives", "detached centring", "a gate at zero", "capacity", "with dropout", "a buffer"]
    )
    def test_a_model_that_mixes_is_refused(self, name):
        with pytest.raises(UnsupportedLayer, match=re.escape(MIXED[name][2])):
            self.add(name)

    @pytest.mark.parametrize("name", ["mixup", "standardised", "weights of the batch"])
    def test_what_is_done_outside_of_the_model_needs_the_losses(self, name):
        make, losses, where = MIXED[name]
        model = make()
        with ExampleClipper(model, clip=1.0) as clipper:
            for _ in range(2):
                with pytest.raises(UnsupportedLayer, match=re.escape(where)):
                    clipper.check_separate(losses(model), torch.arange(ROWS))
            assert not clipper.buffer.any()

    @pytest.mark.parametrize("name", [*HONEST, *ONLY_CLIPPER])
    def test_honest_models_and_losses(self, name):
        make, losses = (HONEST | ONLY_CLIPPER)[name]
        for ask in (False, True):
            model = make()
            with ExampleClipper(model, clip=1.0) as clipper:
                for _ in range(3):
                    if ask:
                        clipper.check_separate(losses(model), torch.arange(ROWS))
                    clipper.add(losses(model)(torch.arange(ROWS)))


def states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", ["words dropped and dropout", "noise of numpy", "noise of python", "a count"])
def test_what_is_trained_does_not_depend_on_the_checks(name, trainer, monkeypatch):
    """Neither numbers nor random generators, buffers or modes: a check leaves no trace."""
    ends, asked = [], []
    for checked in (True, False):
        monkeypatch.setattr(Separation, "due", lambda self, *_, checked=checked: asked.append(checked) or checked)
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        make, losses = HONEST[name]
        model = make()
        made = TRAINERS[trainer](model)
        for step in range(3):
            made.step(step, losses(model), np.arange(ROWS), None)
        made.close()
        ends.append((states(), model.training, {k: v.tolist() for k, v in model.state_dict().items()}))
    assert asked == [True] * 3 + [False] * 3  # once a step
    assert ends[0] == ends[1]


def test_steps_to_check_are_the_first_ones_and_a_few_that_nobody_foresees():
    model = linear()
    separation, coins = Separation(model, unclipped(list(model.parameters()), 1.0)), np.random.default_rng(0)
    assert all(separation.due(step, coins) for step in range(500))  # as long as none was done
    for _ in range(2):
        separation.check(lambda rows: model(X[rows]).sum(1), torch.arange(ROWS), coins)
    counts = [sum(separation.due(step, coins) for step in range(2, 1000)) for _ in range(200)]
    assert 8 < np.mean(counts) < 11
    assert min(counts) >= 1


def test_mixing_that_begins_late_is_found():
    model, found = linear(), []
    made = example(model)
    for step in range(4000):
        change = (lambda x: x) if step < 20 else (lambda x: 0.5 * x + 0.5 * x.roll(1, 0))
        try:
            made.step(step, on_numbers(change)(model), np.arange(ROWS), None)
        except UnsupportedLayer:
            found.append(step)
            break
    assert found
    assert found[0] >= 20


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_to_mix_put_the_check_off(rows):
    model = linear()
    made = example(model)
    losses = on_numbers(lambda x: x + x.roll(1, 0))(model)
    made.step(0, losses, np.arange(rows), None)
    made.step(1, losses, np.arange(rows), None)
    with pytest.raises(UnsupportedLayer, match="examples are mixed"):
        made.step(2, losses, np.arange(5), None)


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_few_rows_are_enough(rows):
    made = example(model := linear())
    with pytest.raises(UnsupportedLayer, match="examples are mixed"):
        made.step(0, on_numbers(lambda x: x - x.mean(0))(model), np.arange(rows), None)


def test_frozen_tables_that_shrink_are_refused():
    model = Reader()
    model.words = nn.Embedding(WORDS, SIZE, max_norm=0.5).requires_grad_(False)
    with pytest.raises(UnsupportedLayer, match=r"words \(Embedding\): Embedding with max_norm"):
        ExampleClipper(model, clip=1.0)
