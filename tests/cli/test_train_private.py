"""Private training from the command line: what it prints, and one clear line for each way to get it wrong."""

import json
import re

import pytest
from conftest import sentences
from forks import fast
from materials import fails, write

QUICK = "--epochs 2 --batch-size 40 --noise-multiplier 1"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with data to train on."""
    folder = tmp_path_factory.mktemp("private")
    write(folder / "data.csv", sentences(200, seed=1))
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--epsilon 0", "epsilon 0: must be a positive number"),
        ("--epsilon -1", "epsilon -1"),
        ("--epsilon nan", "--epsilon nan: must be a finite number"),
        ("--epsilon 8 --noise-multiplier 0.01", "spends epsilon"),
        ("--noise-multiplier nan", "--noise-multiplier nan: must be a finite number"),
        ("--noise-multiplier -1", "noise multiplier -1"),
        ("--delta 0", "delta 0: must lie above 0 and below 1"),
        ("--delta 1", "delta 1: must lie above 0 and below 1"),
        ("--delta nan", "--delta nan"),
        ("--clip 0", "clip 0: must be a positive number"),
        ("--clip nan", "--clip nan"),
        ("--clip=-1", "clip -1"),
        ("--batch-size 100000", "batch size 100,000 is larger than the data"),
        ("--clipping layer", "clipping 'layer': must be one of example, microbatch"),
        ("--sampling cyclic", "sampling 'cyclic': must be one of poisson, shuffled"),
        ("--sampling shuffled --accounting poisson", "1.95 by Poisson's accounting and at least 10.99 in truth"),
        ("--clipping microbatch --noise-decay fast", "noise_decay 'fast'"),
        ("--microbatch 0", "0"),
        ("--runs 0", "0"),
        ("--physical-batch 0", "0"),
    ],
)
def test_bad_settings(bench, options, words):
    assert words in fails(bench, "train", "data.csv", "--defense", "edpsgd", *options.split())
    assert not list(bench.glob("model.pt.checkpoint*"))


@pytest.mark.parametrize(
    ("defense", "options", "words"),
    [
        ("plain", "--epsilon 8", "--epsilon: RD100 (plain) has no such setting"),
        ("plain", "--noise-from-seed", "--noise-from-seed: RD100 (plain) adds no noise"),
        ("plain", "--secure-noise", "--secure-noise: RD100 (plain) has no such setting"),
        ("dpsgd", "--clipping microbatch", "--clipping: RD101 (dpsgd) has no such setting"),
        ("dpsgd", "--model bilstm", "Opacus has no rule for LSTM"),
    ],
)
def test_settings_of_another_defence(bench, defense, options, words):
    assert words in fails(bench, "train", "data.csv", "--defense", defense, *options.split())


def test_weights_gone_keep_the_last_good_ones_and_say_what_was_spent(bench):
    arguments = f"train data.csv -o wild.pt --defense edpsgd {QUICK} --learning-rate 10".split()
    said = fails(bench, *arguments, "--weight-decay", "1e30")
    assert "the weights are no usable numbers after step 1 of" in said
    assert re.search(r"privacy spent so far by this run: epsilon [\d.]+ at delta 1e-05", said)
    assert "wild.pt.checkpoint" in said
    assert (bench / "wild.pt.checkpoint").is_file()
    assert not (bench / "wild.pt").exists()
    resumed = fails(bench, *arguments, "--weight-decay", "0.1")
    assert "unfinished training with other data or settings" in resumed
    other = fails(bench, *arguments, "--weight-decay", "1e30", "--noise-multiplier", "2")
    assert "unfinished training with other data or settings" in other


@pytest.mark.parametrize("defense", ["edpsgd", "dpsgd", "edpsgd --clipping microbatch --microbatch 4"])
def test_what_it_says(bench, defense):
    arguments = f"train data.csv -o private.pt --defense {defense} {QUICK} --delta 0.1".split()
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
