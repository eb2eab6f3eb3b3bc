"""A frozen encoder: the last layer alone is trained, of many models at once as of each by itself."""

import numpy as np
import pytest
import torch
from conftest import learnable

from redteam.core import UsageError
from redteam.data.ledger import TrainingRecipe
from redteam.models.initial import initial_model
from redteam.models.last_layer import inputs_of, last_layer
from redteam.models.opening import write_directory
from redteam.plugins.registry import discover_defenses
from redteam.references.recipe import LedgerRecipe
from redteam.references.trained import TrainedReferences
from redteam.references.training import ReferenceJob, train_reference

ROWS = learnable(101, seed=1)  # an odd number: halves of 50 and 51 rows, of other numbers of steps
SETTINGS = {"epochs": 6, "batch_size": 10, "learning_rate": 0.05, "weight_decay": 0.01}
MODEL = {"layers": None, "freeze_embeddings": False, "dropout": None, "freeze_encoder": True}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A directory with a small encoder that was never trained."""
    path = tmp_path_factory.mktemp("encoder") / "model"
    write_directory(initial_model("tiny", ROWS, learn_from=ROWS, seed=0).bundle(), path, name="encoder")
    return path


def recipe(encoder, **changes):
    settings = {"model": MODEL | {"spec": "encoder"}, **SETTINGS, **changes}
    return LedgerRecipe.of(TrainingRecipe("RD100", settings, 3), discover_defenses(), rows=50, base=encoder)


def test_nothing_but_the_last_layer_is_trained(encoder):
    made = recipe(encoder)
    before = made.initial(ROWS).model.state_dict()
    after = made.fit(ROWS, seed=0, checkpoint=None, progress=None).bundle.state
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_all_together_are_as_each_by_itself_to_a_ten_thousandth(encoder, tmp_path):
    made = recipe(encoder)
    references = TrainedReferences(made, 3, tmp_path)
    found = references.scores(ROWS)
    mixed = references.scores(ROWS.take(np.arange(101)[::-1]))
    assert np.array_equal(found.log_odds[:, ::-1], mixed.log_odds)
    plan = references.plan(ROWS)
    jobs = [references.job(plan, model) for model in range(3)]
    alone = plan.back(np.array([train_reference(job).log_odds for job in jobs]))
    assert {len(job.rows.take(job.included.nonzero()[0])) for job in jobs if isinstance(job, ReferenceJob)} == {50, 51}
    assert np.abs(alone[0] - alone[1]).max() > 0.05  # they differ, so that likeness says something
    assert np.abs(found.log_odds - alone).max() < 1e-4


def test_the_encoder_runs_once_a_text_however_many_models(encoder, monkeypatch, tmp_path):
    """What makes it many times cheaper: the number of texts that go through the encoder, which no clock decides."""
    seen = []
    real = torch.nn.Embedding.forward

    def count(self, ids):
        seen.append(len(ids))
        return real(self, ids)

    monkeypatch.setattr(torch.nn.Embedding, "forward", count)
    TrainedReferences(recipe(encoder), 8, tmp_path).scores(ROWS)
    assert sum(seen) < 4 * len(ROWS)  # three tables, and a first harmless text


def test_what_the_last_layer_reads_has_no_dropout(encoder):
    initial = recipe(encoder).initial(ROWS)
    tokens = [[2, 5, 6, 3], [2, 7, 3]]
    layer = last_layer(initial.model.train())
    first, second = (inputs_of(initial.model, layer, tokens) for _ in range(2))
    assert torch.equal(first, second)
    assert initial.model.training


def test_a_model_that_is_trained_whole_cannot_be_trained_together(encoder):
    whole = initial_model(str(encoder), ROWS, learn_from=ROWS, seed=0)
    (plain,) = [each for each in discover_defenses() if each.id == "RD100"]
    with pytest.raises(UsageError, match="more than the last layer of the model is trained"):
        plain.fit_together(whole, ROWS, np.ones((1, 101), bool), seeds=[0])
