"""RD307: noise that fits its clipping, texts through an autoencoder, and the published error that verify finds."""

import csv
import json

import numpy as np
import pytest
from broken_adept import FixedNoise, NotLookedInto, WrongNorm
from forks import fast
from materials import error_line

from defenses.text.adept import Adept, gaussian_scale, laplace
from redteam.core import TargetError
from redteam.core.randomness import Randomness
from redteam.models.autoencoder import learn
from redteam.statistics.epsilon.gaussian import gdp_epsilon
from redteam.verify.words.render import as_json, as_text
from redteam.verify.words.vectors import verify_vectors

HONEST = [Adept(1.0), Adept(1.0, kind="laplace"), Adept(3.0, kind="laplace", size=200), Adept(0.5, delta=1e-3)]


@pytest.mark.parametrize("size", [32, 128])
def test_the_published_error_is_a_factor_of_the_root_of_the_size(size):
    result = verify_vectors(WrongNorm(1.0, size=size), draws=200)
    assert (result.verdict, result.exit_code) == ("violated", 1)
    assert result.accounted == pytest.approx(np.sqrt(size))
    assert f"{np.sqrt(size):.3g} times the 1 that it claims" in result.reason


def test_draws_show_it_where_no_formula_is_known():
    for seed in range(5):
        result = verify_vectors(NotLookedInto(1.0), draws=3000, seed=seed)
        assert result.verdict == "violated"
        assert "draws show epsilon" in result.reason
        assert result.best.words[0] != "one coordinate"  # where both norms are the same


def test_a_fixed_seed_is_found():
    assert "two runs from scratch give the same noise" in verify_vectors(FixedNoise(1.0), draws=200).reason


@pytest.mark.parametrize("mechanism", HONEST, ids=lambda each: f"{each.kind}-{each.epsilon:g}")
def test_an_honest_one_is_consistent(mechanism):
    for seed in range(3):
        result = verify_vectors(mechanism, draws=2000, seed=seed)
        assert (result.verdict, result.exit_code) == ("consistent", 0), result.reason
        assert result.accounted <= mechanism.epsilon * (1 + 1e-6)
    assert "whole text" in as_text(result)
    assert "is not seen here" in " ".join(as_text(result).split())


def test_bounds_hold_as_often_as_they_say():
    """Of two vectors that are as far apart as can be, at alpha 0.1 at most about one bound in ten is above epsilon."""
    mechanism = Adept(2.0, kind="laplace", size=2)
    above = [verify_vectors(mechanism, draws=300, alpha=0.5, seed=i).best.low > 2.0 for i in range(60)]
    assert sum(above) <= 30 + 2 * np.sqrt(15)


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ({"accounted": lambda *_: np.nan}, "accounts for epsilon nan"),
        ({"noise": lambda self, count, _: np.full((count, self.size), np.nan)}, "finite numbers"),
        ({"clipped": lambda self, vectors: vectors[:1]}, "finite numbers"),
    ],
)
def test_what_is_no_mechanism_is_refused(lies, said):
    with pytest.raises(TargetError, match=said):
        verify_vectors(type("Lies", (Adept,), lies)(1.0), draws=100)


def test_an_infinite_epsilon_is_written():
    result = verify_vectors(type("Endless", (Adept,), {"accounted": lambda *_: np.inf})(1.0), draws=100)
    assert (result.verdict, result.infinite, json.loads(as_json(result))["accounted"]) == ("violated", True, None)


def test_what_many_draws_cannot_show_is_inconclusive():
    result = verify_vectors(NotLookedInto(40.0, size=4), draws=200)
    assert (result.verdict, result.exit_code) == ("inconclusive", 2)


def test_the_scales_are_exact():
    scale = gaussian_scale(1.0, 1e-5)
    assert gdp_epsilon(2 / scale, delta=1e-5) == pytest.approx(1.0, rel=1e-6)
    assert scale < 2 * np.sqrt(2 * np.log(1.25e5))  # the classical one is larger
    drawn = laplace(3.0, Randomness(1).uniform(40_000))
    assert np.abs(drawn).mean() == pytest.approx(3.0, rel=0.02)


def test_an_autoencoder_gives_texts_back():
    texts = [f"{a} the {b}" for a in ("play", "stop", "book", "rate") for b in ("song", "table", "film")] * 10
    made = learn(texts, 8, 2, epochs=80)
    vectors = Adept().clipped(made.encode(texts[:12]))
    assert vectors.shape == (12, 8)
    back = made.decode(vectors, "unk")
    assert sum(a == b for a, b in zip(texts, back, strict=False)) >= 10
    assert made.encode([]).shape == (0, 8)
    known = {"unk", *(word for text in texts for word in text.split())}
    assert set(made.decode(np.ones((1, 8)), "unk")[0].split()) <= known


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("adept"), np.random.default_rng(0)
    for name in ("raw.csv", "public.csv"):
        rows = [(" ".join(rng.choice(["play", "stop", "song", "film", "the"], 4)), "ab"[i % 2]) for i in range(120)]
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return folder


def run(folder, *arguments):
    usual = ("privatise", "raw.csv", "-o", "out.csv", "--mechanism", "adept", "--epsilon", "8", "--set", "size=8")
    return fast(*usual, *arguments, cwd=folder)


def test_four_lines_and_the_file(folder):
    result = run(folder, "--public", "public.csv")
    assert result.returncode == 0, result.stderr
    word, texts, plain, unhidden = result.stdout.splitlines()
    assert "none; what is guaranteed is of a whole text, Pr[M(t) in S] <= exp(8)" in word
    assert "VOID" not in result.stdout
    assert "of any other: epsilon 8 in all" in texts
    assert "at most 8" in plain
    assert "labels and all other columns" in unhidden
    kept = json.loads((folder / "out.privatised.json").read_text())
    assert (kept["mechanism"], kept["unit"], kept["delta"], kept["public"]) == ("RD307", "text", 1e-5, True)
    trained = fast("train", "out.csv", "-o", "model.pt", "--set", "epochs=1", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert "RD307 privatised at epsilon 8 a text" in trained.stderr
    (folder / "policy.toml").write_text("max_unchanged = 0.9\nallow_untrained = true\n")
    usual = ("audit", "model.pt", "--released", "out.csv", "--policy", "policy.toml", "-f", "json")
    found = json.loads(fast(*usual, cwd=folder).stdout)
    assert {each["attack"] for each in found["evidence"] if each["signal"] == "texts"} == {"RT401"}
    assert {each["attack"] for each in found["failures"]} >= {"RT402", "RT403"}


def test_one_that_learned_from_the_texts_themselves_guarantees_nothing(folder):
    result = run(folder)
    assert "VOID: the autoencoder was learned from these very texts" in result.stdout
    assert "there is no guarantee" in result.stderr
    rows = (folder / "raw.csv").read_text()
    (folder / "copy.csv").write_text(rows + rows.splitlines()[1].upper() + "\n")  # no longer the same file
    assert "VOID" in run(folder, "--public", "copy.csv").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--public", "none.csv"), "none.csv"),
        (("--public", "few.csv"), "2 texts are too few to learn an autoencoder; give 100 or more"),
        (("--embeddings", "v.txt"), "--embeddings and --unknown are for words"),
        (("--set", "kind=cauchy"), "one of gaussian, laplace"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, said):
    (folder / "few.csv").write_text("text\nplay the song\nstop the film\n")
    assert said in error_line(run(folder, *arguments))


def test_the_command_verifies_it(folder):
    result = fast("verify", "--text", "adept", "--epsilon", "2", "--draws", "500", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "of a whole text, at delta 1e-05" in result.stdout
