"""A file is privatised, a model trained on it, and both are audited with the texts as they were."""

import csv
import json

import numpy as np
import pytest
from forks import fast
from materials import error_line

WORDS = [f"word{chr(97 + i)}{chr(97 + j)}" for i in range(6) for j in range(5)]


OWN_VECTORS = """
import redteam.models.word_vectors as of
usual = of.load_word_vectors
of.load_word_vectors = lambda named: usual("v.txt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("released"), np.random.default_rng(0)
    rows = [(" ".join(rng.choice(WORDS, 8)), "ab"[i % 2]) for i in range(400)]
    for name in ("raw.csv", "other.csv"):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows[: 400 if name == "raw.csv" else 300]])
    (folder / "v.txt").write_text("".join(f"{word} {i % 6} {i // 6}\n" for i, word in enumerate(WORDS)))
    usual = ("--mechanism", "santext", "--embeddings", "v.txt")
    for name, source, epsilon in (("private.csv", "raw.csv", "40"), ("second.csv", "other.csv", "0.1")):
        assert fast("privatise", source, "-o", name, *usual, "--epsilon", epsilon, cwd=folder).returncode == 0
    trained = fast("train", "private.csv", "-o", "model.pt", "--set", "epochs=1", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return folder


def test_the_ledger_says_how_the_data_was_privatised(folder):
    kept = json.loads((folder / "model.ledger.json").read_text())["privatised"]
    assert (kept["mechanism"], kept["epsilon"], kept["unknown"]) == ("RD301", 40.0, "mask")
    assert "--released FILE shows" in audit(folder).stderr


def test_in_one_go(folder):
    """The file is made once, and used again: each release costs its epsilon."""
    asked = ("train", "raw.csv", "-o", "once.pt", "--set", "epochs=1", "--privatise")
    first, again = (fast(*asked, "santext=30", cwd=folder, before=OWN_VECTORS) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    assert "word-level metric epsilon 30" in first.stderr
    assert "next: redteam audit once.pt --released once.private.csv" in first.stderr
    assert "used again" in again.stderr
    assert "was privatised otherwise" in error_line(fast(*asked, "santext=31", cwd=folder))
    assert "write MECHANISM=EPSILON" in error_line(fast(*asked, "santext", cwd=folder))


def audit(folder, *arguments, limits="max_auc = 0.9"):
    (folder / "policy.toml").write_text(f"{limits}\nallow_untrained = true\n")
    usual = ("audit", "model.pt", "--attack", "RT101", "--policy", "policy.toml")
    return fast(*usual, *arguments, cwd=folder)


def test_a_limit_on_what_comes_back_is_judged(folder):
    result = audit(folder, "--released", "private.csv", "-f", "json", limits="max_auc = 0.9\nmax_words_recovered = 0.5")
    assert result.returncode == 1, result.stderr
    document = json.loads(result.stdout)
    found = {each["attack"]: each["interval"] for each in document["evidence"] if each["metric"] == "words_recovered"}
    assert found["RT402"]["low"] > 0.5
    assert any("membership attacks ask with the texts of raw.csv" in line for line in result.stderr.splitlines())
    saved = folder / "report.json"
    saved.write_text(result.stdout)
    assert fast("gate", saved, "--policy", "policy.toml", cwd=folder).returncode == 1


@pytest.mark.parametrize(("limit", "attack"), [("max_unchanged", "RT401"), ("max_texts_recovered", "RT403")])
def test_words_that_pass_through_break_each_limit(folder, limit, attack):
    result = audit(folder, "--released", "private.csv", limits=f"max_auc = 0.9\n{limit} = 0.5")
    assert result.returncode == 1, result.stderr
    assert any(attack in line and "LEAK" in line for line in result.stdout.splitlines()[1:]), result.stdout


def test_without_a_limit_it_is_described(folder):
    result = audit(folder, "--released", "private.csv", "-v")
    assert "words recovered" in result.stdout
    assert "are guessed without seeing any of them" in " ".join(result.stdout.split())
    assert not any(word in result.stdout for word in WORDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--released", "second.csv"), "says that the model was trained on another file"),
        (("--released", "raw.csv"), "raw.privatised.json: cannot be read"),
        (("--released", "none.csv"), "none.privatised.json: cannot be read"),
    ],
)
def test_files_that_are_not_of_one_another(folder, arguments, said):
    assert said in error_line(audit(folder, *arguments))


def test_attacks_on_the_release_are_asked_for_like_others(folder):
    (folder / "policy.toml").write_text("max_words_recovered = 0.5\nallow_untrained = true\n")
    usual = ("audit", "model.pt", "--released", "private.csv", "--policy", "policy.toml")
    result = fast(*usual, "--attack", "RT402", "-f", "json", cwd=folder)
    assert result.returncode == 1, result.stderr
    assert {each["attack"] for each in json.loads(result.stdout)["evidence"]} == {"RT402"}
    planned = fast(*usual, "--dry-run", cwd=folder).stdout
    assert all(f"{attack}      " in planned for attack in ("RT401", "RT402", "RT403"))
    one = fast(*usual, "--dry-run", "--attack", "RT101", "--attack", "rt403", cwd=folder).stdout
    assert "RT403      bigram posterior: runs" in one
    assert "RT402" not in one
    refused = fast("audit", "model.pt", "--attack", "RT402", cwd=folder)
    assert "--attack RT402: tries released texts; give --released FILE" in error_line(refused)


def test_texts_without_a_known_word_train_nothing(folder):
    (folder / "odd.csv").write_text(
        "text,label\n" + "".join(f"zvooq{i} qwyx{i * 3},{'ab'[i % 2]}\n" for i in range(40))
    )
    usual = ("--mechanism", "santext", "--epsilon", "3", "--embeddings", "v.txt")
    made = fast("privatise", "odd.csv", "-o", "masked.csv", *usual, cwd=folder)
    assert "most words have no vector in v.txt (100.0%)" in made.stderr
    refused = error_line(fast("train", "masked.csv", "-o", "odd.pt", cwd=folder))
    assert "they hold 1 text, drawn together with its repeats; most of their words have no vector" in refused
