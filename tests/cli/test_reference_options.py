"""Reference models from the command line: asked for, shown, kept, given; and what is wrong, in one line with exit 2."""

import textwrap

import numpy as np
import pytest
from conftest import run_redteam, sentences

ROWS = sentences(80, seed=11)
POLICY = "max_auc = 0.99\nallow_untrained = true\n"
TRAINER = """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    def train(examples, seed):
        model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(examples.texts, examples.labels)
        return model.predict_proba
"""
TARGET = """
    from pathlib import Path
    from redteam.data import Columns, read_examples
    import trainer_of_mine

    labels = ["a", "b", "c"]
    predict = trainer_of_mine.train(read_examples(Path("members.csv"), Columns()).examples, 0)

    def answer(texts):
        return predict(texts)
"""
AUDIT = ("audit", "target_of_mine:answer", "--members", "members.csv", "--nonmembers", "others.csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("references")
    (path / "trainer_of_mine.py").write_text(textwrap.dedent(TRAINER))
    (path / "target_of_mine.py").write_text(textwrap.dedent(TARGET))
    (path / "policy.toml").write_text(POLICY)
    for name, some in (("members.csv", range(40)), ("others.csv", range(40, 80)), ("half.csv", range(20, 60))):
        rows = ROWS.take(some)
        lines = [f"{text},{label}\n" for text, label in zip(rows.texts, rows.labels, strict=True)]
        (path / name).write_text("text,label\n" + "".join(lines))
    return path


def audit(folder, *options):
    return run_redteam(*AUDIT, "--policy", "policy.toml", *options, cwd=folder)


def unwrapped(text):
    return " ".join(text.split())


def test_references_of_ones_own_trainer_are_shown_trained_and_compared(folder):
    asked = ("--reference-trainer", "trainer_of_mine:train", "--references", "4")
    before = audit(folder, *asked, "--dry-run")
    assert before.returncode == 0, before.stderr
    assert "references 4 models by trainer_of_mine:train, in complementary halves of 80 audited rows" in before.stdout
    assert "kept       none yet" in before.stdout
    done = audit(folder, *asked, "-v")
    assert "4 reference models trained by trainer_of_mine:train on halves of 80 audited rows" in unwrapped(done.stdout)
    assert "fidelity of the references: slope" in unwrapped(done.stdout)
    after = audit(folder, *asked, "--dry-run")
    assert "kept       4 of 4 models" in after.stdout
    assert "forecast   AUC 0." in after.stdout
    assert not any(text in done.stderr for text in ROWS.texts)


def test_scores_of_references_are_read(folder):
    half = np.random.default_rng(0).permutation(80) < 40
    included = np.column_stack([half, ~half])
    np.savez(folder / "odds.npz", log_odds=included * 2.0, included=included, texts=np.array(ROWS.texts))
    done = audit(folder, "--reference-scores", "odds.npz", "-v")
    assert "2 reference models of odds.npz" in unwrapped(done.stdout)


def test_models_are_opened_beside_the_target(folder):
    given = ("--reference-model", "target_of_mine:answer", "--reference-members")
    done = audit(folder, *given, "half.csv", "-v")
    assert "1 reference model given: target_of_mine:answer" in unwrapped(done.stdout)
    known = audit(folder, *given, "members.csv")
    assert (known.returncode, known.stdout) == (2, "")
    assert "reference model 1 was trained on 100% of the members and 0% of the non-members" in unwrapped(known.stderr)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--references", "2"], "no ledger says how the target was trained: say --reference-trainer MODULE:FUNCTION"),
        (
            ["--references", "2", "--reference-scores", "x.npz"],
            "--reference-scores and --references exclude each other",
        ),
        (["--references", "2", "--time-budget", "1m"], "--references and --time-budget exclude each other"),
        (["--keep", "weights"], "--keep goes with --references, --time-budget or --reference-trainer"),
        (["--reference-trainer", "trainer_of_mine:train", "--keep", "all"], "--keep all: must be scores or weights"),
        (
            ["--reference-trainer", "trainer_of_mine:train", "--time-budget", "soon"],
            "--time-budget 'soon': wanted a time",
        ),
        (["--reference-trainer", "trainer_of_mine:absent"], "has no 'absent'"),
        (
            ["--reference-trainer", "trainer_of_mine:train", "--engine", "slurm"],
            "--engine slurm: must be one of processes, ray",
        ),
        (["--reference-members", "members.csv"], "--reference-members goes with --reference-model"),
        (["--reference-scores", "absent.npz"], "absent.npz: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(folder, options, said):
    done = audit(folder, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
