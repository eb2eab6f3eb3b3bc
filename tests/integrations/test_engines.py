"""Ray and Dask on this machine: the same numbers as processes to the bit, also where a worker is killed."""

import os
import textwrap

import numpy as np
import pytest
from conftest import needs, sentences

from redteam.references.own_trainer import OwnTrainer
from redteam.references.trained import TrainedReferences

pytestmark = pytest.mark.integration

POOL = sentences(60, seed=7)
TRAINER = """
    import os, pathlib, signal

    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    HERE = pathlib.Path(__file__).parent

    def train(examples, seed):
        model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(examples.texts, examples.labels)
        return model.predict_proba

    def dies(examples, seed):
        if not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train(examples, seed)

    def raises(examples, seed):
        raise ValueError("never said")
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    name = f"engine_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(TRAINER))
    monkeypatch.chdir(tmp_path)
    for variable in ("RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    return lambda function: OwnTrainer.load(f"{name}:{function}")


@pytest.mark.filterwarnings("ignore")  # of the engines' own
@pytest.mark.parametrize(
    "engine", [pytest.param("ray", marks=needs("ray")), pytest.param("dask", marks=needs("distributed"))]
)
def test_an_engine_gives_the_same_numbers_though_a_worker_is_killed(trainer, tmp_path, engine):
    here = TrainedReferences(trainer("train"), 4, tmp_path / "here").scores(POOL)
    away = {"folder": tmp_path / "away", "workers": 2, "engine": engine}
    there = TrainedReferences(trainer("dies"), 4, **away).scores(POOL)
    assert (tmp_path / "died").exists()
    assert np.array_equal(here.log_odds, there.log_odds)
    assert np.array_equal(here.correct, there.correct)
    with pytest.raises(Exception, match=r"reference model . of 4: --reference-trainer .*:raises: raised ValueError"):
        TrainedReferences(trainer("raises"), 4, **away).scores(POOL)
