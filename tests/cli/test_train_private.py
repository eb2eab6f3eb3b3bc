"""Private training from the command line: what it prints, and one clear line for each way to get it wrong."""

import json
import re

import pytest
from conftest import sentences
from forks import fast
from materials import fails, write

QUICK = "--set epochs=2 --set batch_size=40 --set noise_multiplier=1"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with data to train on."""
    folder = tmp_path_factory.mktemp("private")
    write(folder / "data.csv", sentences(200, seed=1))
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--set epsilon=0", "must be a number above 0, or none"),
        ("--set epsilon=-1", "must be a number above 0"),
        ("--set epsilon=nan", "--set epsilon=nan: must be a number above 0"),
        ("--set epsilon=8 --set noise_multiplier=0.01", "spends epsilon"),
        ("--set noise_multiplier=nan", "--set noise_multiplier=nan: must be a number at least 0"),
        ("--set noise_multiplier=-1", "must be a number at least 0"),
        ("--set delta=0", "must be a number above 0 and below 1"),
        ("--set delta=1", "must be a number above 0 and below 1"),
        ("--set delta=nan", "--set delta=nan"),
        ("--set clip=0", "must be a number above 0"),
        ("--set clip=nan", "--set clip=nan"),
        ("--set clip=-1", "must be a number above 0"),
        ("--set batch_size=100000", "batch size 100,000 is larger than the data"),
        ("--set clipping=layer", "clipping=layer: must be one of example, microbatch"),
        ("--set sampling=cyclic", "sampling=cyclic: must be one of poisson, shuffled"),
        (
            "--set sampling=shuffled --set accounting=poisson",
            "1.95 by Poisson's accounting and at least 10.99 in truth",
        ),
        ("--set clipping=microbatch --set noise_decay=fast", "noise_decay=fast: must be one of none, linear"),
        ("--set microbatch=0", "microbatch=0: must be a whole number at least 1"),
        ("--set runs=0", "runs=0: must be a whole number at least 1"),
        ("--set physical_batch=0", "physical_batch=0: must be a whole number at least 1"),
    ],
)
def test_bad_settings(bench, options, words):
    assert words in fails(bench, "train", "data.csv", "--defense", "edpsgd", *options.split())
    assert not list(bench.glob("model.pt.checkpoint*"))


@pytest.mark.parametrize(
    ("defense", "options", "words"),
    [
        ("plain", "--set epsilon=8", "has a setting 'epsilon'"),
        ("plain", "--noise-from-seed", "--noise-from-seed: RD100 (plain) adds no noise"),
        ("plain", "--set secure_noise=true", "has a setting 'secure_noise'"),
        ("dpsgd", "--set clipping=microbatch", "has a setting 'clipping'"),
        ("dpsgd", "--model bilstm", "Opacus has no rule for LSTM"),
    ],
)
def test_settings_of_another_defence(bench, defense, options, words):
    assert words in fails(bench, "train", "data.csv", "--defense", defense, *options.split())


def test_weights_gone_keep_the_last_good_ones_and_say_what_was_spent(bench):
    arguments = f"train data.csv -o wild.pt --defense edpsgd {QUICK} --set learning_rate=10".split()
    said = fails(bench, *arguments, "--set", "weight_decay=1e30")
    assert "the weights are no usable numbers after step 1 of" in said
    assert re.search(r"privacy spent so far by this run: epsilon [\d.]+ at delta 1e-05", said)
    assert "wild.pt.checkpoint" in said
    assert (bench / "wild.pt.checkpoint").is_file()
    assert not (bench / "wild.pt").exists()
    resumed = fails(bench, *arguments, "--set", "weight_decay=0.1")
    assert "unfinished training with other data or settings" in resumed
    other = fails(bench, *arguments, "--set", "weight_decay=1e30", "--set", "clip=2")
    assert "unfinished training with other data or settings" in other


@pytest.mark.parametrize("defense", ["edpsgd", "dpsgd", "edpsgd --set clipping=microbatch --set microbatch=4"])
def test_what_it_says(bench, defense):
    arguments = f"train data.csv -o private.pt --defense {defense} {QUICK} --set delta=0.1".split()
    done = fast(*arguments, cwd=bench)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"accounted epsilon [\d.]+ at delta 0.1 for each example, neighbours add or remove one", done.stderr
    )
    assert ("its nominal epsilon is" in done.stderr) == ("microbatch" in defense)
    assert "delta 0.1 is not below 1 /" in done.stderr
    assert "runs not declared" in done.stderr
    assert (
        "the vocabulary of tiny is learned from the members' texts, which the guarantee does not cover" in done.stderr
    )
    ledger = json.loads((bench / "private.ledger.json").read_text())
    assert ledger["recipe"]["parameters"]["noise"] == "secret"
    assert ledger["guarantee"]["accounted"]["delta"] == 0.1
    assert ledger["guarantee"]["accounted"]["epsilon"] >= ledger["guarantee"]["nominal"]["epsilon"]
    assert not list(bench.glob("private.pt.checkpoint*"))
