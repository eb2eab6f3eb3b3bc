"""Reference models trained here: what they say, what is kept of them, and what goes wrong in one line."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import learnable, sentences

from redteam.core import RedteamError, TargetError, UsageError
from redteam.data.ledger import TrainingRecipe
from redteam.plugins.registry import discover_defenses
from redteam.references.budget import TimeBudget
from redteam.references.own_trainer import OwnTrainer
from redteam.references.recipe import LedgerRecipe
from redteam.references.trained import TrainedReferences
from redteam.references.workers import check_engine

POOL = sentences(60, seed=7)
TINY = {"spec": "tiny", "layers": 1, "freeze_embeddings": False, "dropout": 0.0}
SETTINGS = {"model": TINY, "epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "weight_decay": 0.0}
BAYES = """
    import os, pathlib, signal

    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    def train(examples, seed):
        with open("trained.txt", "a") as file:
            print(len(examples), file=file)
        model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(examples.texts, examples.labels)
        return model.predict_proba

    def raises(examples, seed):
        raise ValueError(f"cannot train on {examples.texts[0]}")

    def shapeless(examples, seed):
        return lambda texts: [[0.5, 0.5]] * len(texts)

    def nothing(examples, seed):
        return None

    def dies(examples, seed):
        if not pathlib.Path("died").exists():
            pathlib.Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train(examples, seed)

    def killed_at_the_third(examples, seed):
        if pathlib.Path("trained.txt").read_text().count("\\n") == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return train(examples, seed)

    def third(examples, seed):
        if len(pathlib.Path("trained.txt").read_text().splitlines()) >= 2:
            raise ValueError("the third")
        return train(examples, seed)
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A training with scikit-learn, in a module of its own name so that no other test imports it."""
    name = f"own_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(BAYES))
    monkeypatch.chdir(tmp_path)
    return lambda function="train": OwnTrainer.load(f"{name}:{function}")


def recipe(**changes):
    return LedgerRecipe.of(TrainingRecipe("RD100", SETTINGS | changes, 3), discover_defenses(), rows=30)


def trained(tmp_path):
    return len((tmp_path / "trained.txt").read_text().splitlines())


def test_models_know_their_own_half_better_than_the_other(trainer, tmp_path):
    found = TrainedReferences(trainer(), 4, tmp_path / "kept").scores(POOL)
    inside, outside = found.log_odds[found.included], found.log_odds[~found.included]
    assert inside.mean() > outside.mean() + 1
    assert found.correct[found.included].mean() > found.correct[~found.included].mean()
    assert found.partner == (1, 0, 3, 2)
    assert "4 reference models trained by own_" in found.made_by


def test_nothing_is_trained_twice_and_the_order_of_the_rows_does_not_matter(trainer, tmp_path):
    said = []
    made = {"folder": tmp_path / "kept", "tell": said.append}
    first = TrainedReferences(trainer(), 2, **made).scores(POOL)
    mixed = np.random.default_rng(1).permutation(len(POOL))
    again = TrainedReferences(trainer(), 4, **made).scores(POOL.take(mixed))
    assert trained(tmp_path) == 4
    assert np.array_equal(first.log_odds[:, mixed], again.log_odds[:2])
    assert np.array_equal(first.included[:, mixed], again.included[:2])
    assert said == [f"re-using 2 of 4 reference models, kept in {next((tmp_path / 'kept').iterdir())}"]


def test_what_is_kept_is_private_holds_no_text_and_little(trainer, tmp_path):
    TrainedReferences(trainer(), 2, tmp_path / "kept").scores(POOL)
    (folder,) = (tmp_path / "kept").iterdir()
    files = sorted(folder.iterdir())
    assert [file.suffix for file in files] == [".npz", ".npz"]
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        assert POOL.texts[0].encode() not in file.read_bytes()
        assert file.stat().st_size < 10_000


def test_damaged_and_foreign_files_are_said_and_not_used(trainer, tmp_path):
    said = []
    references = TrainedReferences(trainer(), 4, tmp_path / "kept", tell=said.append)
    before = references.scores(POOL)
    files = sorted(next((tmp_path / "kept").iterdir()).iterdir())
    files[0].write_bytes(files[0].read_bytes()[:200])
    files[1].write_bytes(files[2].read_bytes())
    files[3].chmod(0o666)
    after = references.scores(POOL)
    assert trained(tmp_path) == 7
    assert np.array_equal(before.log_odds, after.log_odds)
    assert [line.split(": ", 1)[1] for line in said[:3]] != []
    told = " ".join(said)
    assert f"{files[0]}: is damaged: not used" in told
    assert f"{files[1]}: is damaged (it is of another reference model)" in told
    assert f"{files[3]}: can be written by others" in told


def test_kept_models_of_another_recipe_are_said(tmp_path):
    said = []
    for rate in (1e-3, 2e-3):
        TrainedReferences(recipe(learning_rate=rate), 1, tmp_path, tell=said.append).scores(POOL)
    (line,) = said
    assert line.startswith("1 kept reference models of these rows are not used: learning_rate 0.001, now 0.002;")


def test_several_processes_give_the_same_numbers_as_one_also_where_one_of_them_is_killed(trainer, tmp_path):
    one = TrainedReferences(trainer(), 3, tmp_path / "one").scores(POOL)
    many = TrainedReferences(trainer("dies"), 3, tmp_path / "many", workers=2).scores(POOL)
    assert np.array_equal(one.log_odds, many.log_odds)
    assert (tmp_path / "died").exists()


def test_the_recipe_of_a_ledger_is_repeated_and_its_weights_are_kept_when_asked(tmp_path):
    rows = learnable(200, seed=1)
    references = TrainedReferences(recipe(epochs=12), 2, tmp_path, with_weights=True)
    found = references.scores(rows)
    assert found.correct.mean() > 0.9
    assert sorted(path.suffix for path in next(tmp_path.iterdir()).iterdir()) == [".npz", ".npz", ".pt", ".pt"]
    assert np.array_equal(references.kept(rows).log_odds, found.log_odds)


def test_work_is_counted_and_not_timed():
    half, more = recipe().work(POOL.take(range(30))), recipe(epochs=3).work(POOL.take(range(30)))
    assert more == 3 * half
    tokens = 30 * 20  # of some twenty tokens each, by 33,000 weights of one layer and the classifier
    assert tokens * 20_000 < half < 3 * tokens * 50_000


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", r"reference model 1 of 2: --reference-trainer own_\w+:raises: raised ValueError at own_\w+.py:\d+"),
        ("nothing", r"returned a NoneType; return a target, or a function of texts to probabilities"),
        ("shapeless", r"reference model 1 of 2: --reference-trainer own_\w+:shapeless"),
    ],
)
def test_a_trainer_that_fails_is_one_line_without_text(trainer, tmp_path, function, said):
    with pytest.raises(RedteamError, match=said) as caught:
        TrainedReferences(trainer(function), 2, tmp_path / "kept").scores(POOL)
    assert "\n" not in str(caught.value)
    assert not any(text in str(caught.value) for text in POOL.texts)


def test_finished_models_are_kept_where_a_later_one_fails(trainer, tmp_path):
    references = TrainedReferences(trainer("third"), 4, tmp_path / "kept")
    (tmp_path / "trained.txt").touch()
    with pytest.raises(RedteamError, match=r"reference model 3 of 4: .*; 2 finished ones are kept"):
        references.scores(POOL)
    assert len(references.kept(POOL)) == 2


def test_killed_at_the_third_model_it_goes_on_to_the_same_numbers(trainer, tmp_path):
    (tmp_path / "trained.txt").touch()
    made = trainer("killed_at_the_third")
    script = (
        "import pickle, sys; from redteam.references.trained import TrainedReferences as T; "
        "made, folder, pool = pickle.load(open('job', 'rb')); T(made, 4, folder).scores(pool)"
    )
    (tmp_path / "job").write_bytes(pickle.dumps((made, tmp_path / "kept", POOL)))
    died = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert trained(tmp_path) == 2
    (tmp_path / "trained.txt").write_text("done\n" * 10)
    found = TrainedReferences(made, 4, tmp_path / "kept").scores(POOL)
    assert trained(tmp_path) == 12
    assert np.array_equal(found.log_odds, TrainedReferences(trainer(), 4, tmp_path / "anew").scores(POOL).log_odds)


def test_a_full_disk_is_one_line(trainer, tmp_path, monkeypatch):
    def full(path, save, mode):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("redteam.references.cache.save_atomic", full)
    with pytest.raises(RedteamError, match=r"\.npz: cannot be written \(No space left on device\)"):
        TrainedReferences(trainer(), 2, tmp_path / "kept").scores(POOL)
    (tmp_path / "file").touch()
    with pytest.raises(RedteamError, match=r"cannot be written \(Not a directory\)"):
        TrainedReferences(trainer(), 2, tmp_path / "file").scores(POOL)


def test_a_trainer_that_is_not_there_is_one_line(trainer):
    with pytest.raises(TargetError, match="has no 'absent'"):
        trainer("absent")


def test_a_ledger_that_does_not_say_enough_is_refused():
    known = discover_defenses()
    with pytest.raises(UsageError, match="trained by RD999, which is not installed"):
        LedgerRecipe.of(TrainingRecipe("RD999", SETTINGS, 0), known, rows=1)
    with pytest.raises(RedteamError, match="does not say which model was trained"):
        LedgerRecipe.of(TrainingRecipe("RD100", {"epochs": 1}, 0), known, rows=1)
    with pytest.raises(UsageError, match="'some-encoder' by its name alone: say --base DIR"):
        LedgerRecipe.of(
            TrainingRecipe("RD100", SETTINGS | {"model": TINY | {"spec": "some-encoder"}}, 0), known, rows=1
        )


def test_a_budget_takes_the_strongest_plan_that_fits(trainer, tmp_path):
    said = []
    made = {"folder": tmp_path / "kept", "tell": said.append}
    found = TrainedReferences(trainer(), 4, budget=TimeBudget.of("10m"), **made).scores(POOL)
    assert len(found) == 4
    assert "4 fit into 10 min; --references 4 repeats this" in said[0]


def test_a_budget_too_small_for_one_model_breaks_off_and_says_so(tmp_path):
    said = []
    long = TrainedReferences(recipe(epochs=5_000), 2, tmp_path, budget=TimeBudget.of("1.5s"), tell=said.append)
    assert long.scores(POOL) is None
    assert said[0].startswith("one reference model would take about ")
    assert said[0].endswith("and there are 1.5 s: audited without reference models")


@pytest.mark.parametrize("said", ["", "soon", "-1m", "0", "10 weeks"])
def test_a_budget_is_a_time(said):
    with pytest.raises(UsageError, match="--time-budget"):
        TimeBudget.of(said)


def test_an_engine_that_is_not_there_is_one_line(monkeypatch):
    with pytest.raises(UsageError, match="must be one of processes, ray, dask"):
        check_engine("slurm")
    monkeypatch.setattr("redteam.references.workers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ray is not installed; run: pip install '\.\[ray\]'"):
        check_engine("ray")
    monkeypatch.setattr("redteam.references.workers.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match=r"no cluster answers at 127\.0\.0\.1:1 \(RAY_ADDRESS\)"):
        check_engine("ray")
