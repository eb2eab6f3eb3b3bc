"""Verifying a privatiser of text: planted errors are found, honest ones are not accused, and bounds hold."""

import numpy as np
import pytest
from broken_words import (
    FarStays,
    FixedSeed,
    HalfTheNoise,
    OwnSets,
    Says,
    Squared,
    WrongBottom,
    cached,
    keeping,
    passing,
    without_channel,
    without_noise,
)
from word_tables import accounted, cloud, line

from defenses.text.cmp import Multivariate
from defenses.text.gumbel import TruncatedGumbel
from defenses.text.santext import SanText
from defenses.text.tem import TruncatedExponential
from redteam.core import TargetError, UsageError
from redteam.verify.words.bounds import bound_pair, choose_pairs, strongest_pairs
from redteam.verify.words.exact import account, channel_p_value
from redteam.verify.words.render import as_text
from redteam.verify.words.run import verify_privatiser
from redteam.verify.words.subject import of_mechanism

TABLE = cloud(40, 8, seed=5)
RARELY = 1e-4  # an honest one is accused this often, by chance that no seed holds; by default once in a hundred

PLANTED = {
    "wrong bottom": (lambda: of_mechanism(WrongBottom(), TABLE), "accounts for epsilon"),
    "squared": (lambda: of_mechanism(Squared(), TABLE), "accounts for epsilon"),
    "squared, not looked into": (lambda: without_channel(of_mechanism(Squared(), TABLE)), "draws show epsilon"),
    "own sets": (lambda: of_mechanism(OwnSets(), TABLE), "no epsilon holds"),
    "own sets, not looked into": (lambda: without_channel(of_mechanism(OwnSets(), TABLE)), "draws show epsilon"),
    "far stays": (lambda: of_mechanism(FarStays(), TABLE), "draws are not of the channel"),
    "far stays, rarely": (lambda: of_mechanism(FarStays(beta=0.001), TABLE), "draws are not of the channel"),
    "fixed seed": (lambda: of_mechanism(FixedSeed(1.0), TABLE), "the noise follows from a fixed seed"),
    "cached": (lambda: cached(SanText(1.0), TABLE), "outputs are kept"),
    "passing": (lambda: passing(TABLE, 1.0), "go out as they came"),
    "keeping": (lambda: keeping(SanText(1.0), TABLE), "words that have no vector go out as they came"),
    "half the noise": (lambda: of_mechanism(HalfTheNoise(2.0), TABLE), "line: its draws are not of the channel"),
    "plain epsilon too low": (lambda: of_mechanism(Says(1.0, plain=0.1), TABLE), "accounts for plain epsilon"),
    "without noise": (lambda: without_noise(TABLE, 1.0), "no randomness at all"),
}
HONEST = {
    "santext": lambda: of_mechanism(SanText(1.0), TABLE),
    "santext of no noise": lambda: of_mechanism(SanText(500.0), TABLE),
    "tem": lambda: of_mechanism(TruncatedExponential(3.0, 0.3), TABLE),
    "gumbel": lambda: of_mechanism(TruncatedGumbel(12.0), TABLE),
    "cmp": lambda: of_mechanism(Multivariate(2.0), TABLE),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(name):
    make, said = PLANTED[name]
    result = verify_privatiser(make(), draws=4000, pairs=6)
    assert (result.verdict, result.exit_code) == ("violated", 1)
    assert said in " ".join(result.findings)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_one_is_consistent(name):
    for seed in range(3):
        result = verify_privatiser(HONEST[name](), draws=500, pairs=6, seed=seed, alpha=RARELY)
        assert (result.verdict, result.exit_code) == ("consistent", 0), result.reason
        assert result.accounted is None or result.accounted <= result.claimed


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ({"channel": lambda logs: logs * np.nan}, "add up to nan, not 1"),
        ({"channel": lambda logs: logs + 1}, "add up to 2.7"),
        ({"channel": lambda logs: logs[:, 1:]}, "its channel of 40 words and 40 outputs is 40 x 39"),
        ({"apart": lambda distances: distances * np.nan}, "its distances between words are not"),
        ({"apart": lambda distances: distances + np.inf}, "its distances between words are not"),
        ({"plain": np.nan}, "promises epsilon 1 and plain nan"),
        ({"drawn": lambda words: words[1:]}, "it needs a whole number for each"),
        ({"drawn": lambda words: words * 1.0}, "it needs a whole number for each"),
        ({"drawn": lambda words: words - 40}, "draws what is no word of cloud"),
    ],
)
def test_what_is_no_mechanism_is_refused(lies, said):
    with pytest.raises(TargetError, match=said):
        verify_privatiser(of_mechanism(Says(1.0, **lies), TABLE), draws=100, pairs=6)


def test_words_of_one_vector_accuse_nobody():
    """Their rows differ by rounding, and their distance is 0."""
    doubled = type(TABLE)("doubled", tuple(f"v{i}" for i in range(80)), np.tile(TABLE.vectors, (2, 1)) + 1e3)
    for mechanism in (SanText(1.0), TruncatedExponential(3.0, 0.3), Multivariate(1.0)):
        result = verify_privatiser(of_mechanism(mechanism, doubled), draws=200, pairs=6, alpha=RARELY)
        assert result.verdict != "violated"


def test_what_draws_cannot_show_is_inconclusive():
    result = verify_privatiser(without_channel(of_mechanism(SanText(50.0), TABLE)), draws=500, pairs=4)
    assert (result.verdict, result.exit_code) == ("inconclusive", 2)
    assert "give more --draws" in result.reason
    assert result.best.low <= result.attainable < 50


def test_one_that_knows_no_word_is_not_accused():
    """It puts the same mark for everything, and that says nothing of anybody."""
    subject = passing(TABLE, 1.0)
    masking = type(subject)(
        "masking", 1.0, TABLE, lambda texts: ["unk"] * len(texts), lambda texts: ["unk"] * len(texts)
    )
    assert verify_privatiser(masking, draws=200, pairs=4).verdict == "consistent"


def test_the_exact_epsilon_is_that_of_loops():
    mechanism, everything = SanText(1.3), np.arange(len(TABLE))
    slow = accounted(mechanism.log_channel(everything, TABLE), TABLE.distances(everything))
    found = account(mechanism, TABLE)
    assert (found.epsilon, found.plain) == pytest.approx(slow)
    assert account(Multivariate(1.0), TABLE) is None
    assert np.isinf(account(OwnSets(), TABLE).epsilon)


def test_bounds_hold_as_often_as_they_say():
    """Two words with known probabilities: at alpha 0.1 at most about one bound in ten is above ln(0.6 / 0.3)."""
    rng, above = np.random.default_rng(0), 0
    for _ in range(400):
        first, second = (rng.choice(["a", "b", "c"], 200, p=p).tolist() for p in ((0.6, 0.2, 0.2), (0.3, 0.35, 0.35)))
        bound = bound_pair(first, second, words=("x", "y"), distance=1.0, alpha=0.1)
        above += bound.low > np.log(2)
    assert above <= 52  # 400 x 0.1 and two standard deviations


def test_a_channel_is_accused_as_often_as_is_allowed():
    channel = SanText(0.8).log_channel(np.arange(12), cloud(12, 2, seed=3))
    rng, accused = np.random.default_rng(1), 0
    for _ in range(80):
        counts = np.array([rng.multinomial(400, np.exp(row) / np.exp(row).sum()) for row in channel], float)
        accused += channel_p_value(counts, channel) < 0.05
    assert accused <= 8


def test_pairs_are_near_and_share_no_word():
    apart = TABLE.distances(np.arange(len(TABLE)))
    pairs = choose_pairs(TABLE, apart, 8, np.random.default_rng(0))
    flat = [word for pair in pairs for word in pair]
    assert (len(pairs), len(set(flat))) == (8, 16)
    assert apart[pairs[0]] == apart[~np.eye(len(TABLE), dtype=bool)].min()


def test_the_pair_that_shows_most_is_found_and_the_nearest_kept():
    """Of four words one has an output that no other has; the pairs with it stand first."""
    rng = np.random.default_rng(2)
    outputs = [rng.choice(["a", "b"], 1000).tolist() for _ in range(4)]
    outputs[2] = ["c"] * 1000
    apart = np.abs(np.subtract.outer([0.0, 0.1, 2.0, 5.0], [0.0, 0.1, 2.0, 5.0]))
    pairs = strongest_pairs(outputs, apart, 3)
    assert all(2 in pair for pair in pairs[:3])
    assert set(pairs[-1]) == {0, 1}


def test_what_was_not_looked_at_is_said():
    result = verify_privatiser(without_channel(of_mechanism(SanText(1.0), TABLE)), draws=500, pairs=4)
    assert "draws of 8 words alone show no more than it claims" in result.reason
    assert "Of 40 words 8 were asked, one a text" in " ".join(as_text(result).split())


def test_words_that_are_all_alike_cannot_be_tried():
    with pytest.raises(UsageError, match="there is no pair to try"):
        verify_privatiser(of_mechanism(SanText(1.0), line(1.0, 1.0, 1.0)), draws=10)
