"""What a private training is going to do and to account for, and the settings that make no sense."""

import math
import re
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn

import defenses.edpsgd
from defenses.dpsgd import DPSGD
from defenses.edpsgd import EDPSGD
from defenses.edpsgd.private import LARGEST_DEFAULT_BATCH
from redteam.core import UsageError
from redteam.models.initial import InitialModel
from redteam.plugins.defense import PrivateTraining, Problem
from redteam.plugins.registry import discover_defenses


@pytest.mark.parametrize(
    ("labels", "rows", "settings"),
    [(77, 2502, ("classifier", 100, 2502, 0.1)), (7, 2500, ("all", 10, 416, 0.005))],
)
def test_what_is_trained_of_a_new_model_follows_from_the_rows_of_a_label(labels, rows, settings):
    model, tokenizer = nn.Linear(4, labels), Tokenizer(WordLevel({}))
    initial = InitialModel(model, tokenizer, tuple(f"l{i}" for i in range(labels)), 128, 1e-3)
    found = EDPSGD().settled(initial, rows)
    assert (found.weights, found.epochs, found.batch_size, found.learning_rate) == settings


class TestPlan:
    def plan(self, size=13_084, **settings):
        model = nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        return EDPSGD(**settings).plan(Problem(model, optimizer, lambda rows: rows, size, 13_084))

    def test_follows_public_numbers_alone(self):
        one, other = (self.plan(size, batch_size=256) for size in (13_084, 12_000))
        assert one == other
        assert one.mechanism.sample_rate == 256 / 13_084
        assert 7.95 < one.guarantee().accounted.epsilon <= 8.0

    def test_known_numbers(self):
        settings = {"epsilon": None, "noise_multiplier": 1.0, "batch_size": 256, "epochs": 20}
        assert self.plan(**settings).guarantee().accounted.epsilon == pytest.approx(3.85, abs=0.02)
        shuffled = self.plan(**settings, sampling="shuffled")
        assert shuffled.mechanism.steps == 20 * 52
        assert self.plan(**settings, sampling="shuffled", drop_last=True).mechanism.steps == 20 * 51
        epsilon, mu = (
            shuffled.guarantee().accounted.epsilon,
            math.sqrt(20),
        )  # 20 Gaussians; Balle and Wang 2018, theorem 8
        delta = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
        assert delta == pytest.approx(1e-5, rel=0.02)
        assert shuffled.guarantee().accounted.neighbouring == "replace one by a null example"

    def test_default_batch(self):
        assert self.plan().mechanism.sample_rate * 13_084 == pytest.approx(min(LARGEST_DEFAULT_BATCH, 13_084 // 6))

    def test_declared_runs_are_paid_for(self):
        settings = {"epsilon": None, "noise_multiplier": 2.0, "batch_size": 256, "epochs": 20}
        one, four = (self.plan(**settings, runs=runs).guarantee().accounted.epsilon for runs in (1, 4))
        longer = self.plan(**(settings | {"epochs": 80})).guarantee().accounted.epsilon
        assert four == pytest.approx(longer, rel=1e-3)
        assert four > 1.5 * one
        assert 3.9 < self.plan(epsilon=4.0, batch_size=256, runs=4).guarantee().accounted.epsilon <= 4.0

    def test_both_given_must_agree(self):
        self.plan(epsilon=8.0, noise_multiplier=5.0, batch_size=256)
        with pytest.raises(UsageError, match=r"noise_multiplier 0.5 spends epsilon [\d.]+, above the epsilon 8 asked"):
            self.plan(epsilon=8.0, noise_multiplier=0.5, batch_size=256)

    @pytest.mark.parametrize("settings", [{"epsilon": 8.0}, {"epsilon": None, "noise_multiplier": 4.0}])
    @pytest.mark.parametrize("sampling", ["poisson", "shuffled"])
    def test_a_delta_of_1e_14_has_a_guarantee(self, settings, sampling):
        found = self.plan(delta=1e-14, sampling=sampling, batch_size=2180, epochs=2, **settings).guarantee().accounted
        assert 0 < found.epsilon <= 8.0
        assert found.accountant.startswith("RDP" if sampling == "poisson" else "Gaussian without amplification")

    def test_noise_that_promises_nothing_is_refused_before_training(self):
        settings = {"epsilon": None, "noise_multiplier": 2.0, "clipping": "microbatch", "noise_decay": "exponential"}
        with pytest.raises(UsageError, match="gives no finite epsilon at delta 1e-05: take more noise"):
            self.plan(**settings, decay_rate=300.0, epochs=3, batch_size=6542)
        assert self.plan(epsilon=None, noise_multiplier=0.0).guarantee() is None

    def test_unreachable(self):
        with pytest.raises(UsageError, match=r"out of reach.*take fewer steps"):
            self.plan(clipping="microbatch", noise_decay="exponential", decay_rate=30.0, epochs=2, batch_size=6542)

    def test_batch_larger_than_the_data(self):
        with pytest.raises(UsageError, match="batch size 13,085 is larger than the data, 13,084 examples"):
            self.plan(batch_size=13_085)


class TestSettings:
    @pytest.mark.parametrize("kind", [EDPSGD, DPSGD])
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"delta": 0.0}, "delta 0: must lie above 0 and below 1"),
            ({"delta": 1.0}, "delta 1:"),
            ({"delta": math.nan}, "delta nan"),
            ({"clip": 0.0}, "clip 0"),
            ({"clip": math.nan}, "clip nan"),
            ({"clip": -1.0}, "clip -1"),
            ({"epsilon": 0.0}, "epsilon 0"),
            ({"epsilon": -1.0}, "epsilon -1"),
            ({"epsilon": math.nan}, "epsilon nan"),
            ({"epsilon": math.inf}, "epsilon inf"),
            ({"epsilon": None}, "neither epsilon nor noise_multiplier"),
            ({"noise_multiplier": math.nan}, "noise multiplier nan"),
            ({"epochs": 0}, "epochs 0"),
            ({"batch_size": 0}, "batch_size 0"),
            ({"physical_batch": 0}, "physical batch 0"),
            ({"runs": 0}, "runs 0"),
        ],
    )
    def test_bad_values(self, kind, change, words):
        with pytest.raises(UsageError, match=words):
            kind(**change)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"clipping": "layer"}, "clipping 'layer': must be one of example, microbatch"),
            ({"sampling": "fixed"}, "sampling 'fixed': must be one of poisson, shuffled"),
            ({"calibrate_to": "hope"}, "calibrate_to 'hope'"),
            ({"accounting": "rdp"}, "accounting 'rdp'"),
            ({"sampling": "shuffled", "accounting": "poisson"}, r"1\.95 by Poisson's accounting and at least 10\.99"),
            ({"accounting": "shuffled"}, "accounting shuffled does not hold for sampling poisson"),
        ],
    )
    def test_bad_choices(self, change, words):
        with pytest.raises(UsageError, match=words):
            EDPSGD(**change)

    def test_both_can_be_verified(self):
        assert {d.id for d in discover_defenses() if isinstance(d, PrivateTraining)} >= {"RD101", "RD102"}


def test_the_map_of_the_package_names_every_file():
    folder = Path(defenses.edpsgd.__file__).parent
    named = set(re.findall(r"\b\w+\.py\b", defenses.edpsgd.__doc__))
    assert named == {path.name for path in folder.glob("*.py")} - {"__init__.py"}
