"""Attacks on released texts: what comes back is what can, and no more than is known comes back of pure noise."""

import itertools

import numpy as np
import pytest
from word_tables import line

from attacks.reconstruction.bayes import Bayes
from attacks.reconstruction.bigrams import Bigrams, posterior
from attacks.reconstruction.unchanged import Unchanged
from defenses.text.cmp import Multivariate
from defenses.text.santext import SanText
from redteam.auditing.knowledge import knowledge
from redteam.auditing.rebuilding import ReleasedAudit
from redteam.core.randomness import Randomness
from redteam.report import Limit
from redteam.report.metrics import metric
from redteam.report.values import Failure
from redteam.testing import check_metric
from redteam.training.privatising.exchange import Exchange

TABLE = line(0.0, 1.0, 3.0)
WORDS = np.array(TABLE.words)


def audited(mechanism, *, texts=300, seed=1):
    """Texts in which each word is followed by the next one, four times in five."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 2], (2 * texts, 6), p=[0.8, 0.2]).cumsum(axis=1)
    raw = [tuple(WORDS[row % 3]) for row in steps]
    released = [
        tuple(t.split()) for t in Exchange(mechanism, TABLE).texts([" ".join(t) for t in raw], Randomness(seed))[0]
    ]
    known = knowledge(Exchange(mechanism, TABLE), [" ".join(t) for t in raw[texts:]], TABLE.words)
    return ReleasedAudit(tuple(released[:texts]), tuple(raw[:texts]), known, (Unchanged(), Bayes(), Bigrams()))


def found(audit):
    return {(each.attack, each.metric): each.interval for each in audit.run(lambda name: 0.05)}


def test_nothing_exchanged_comes_back_whole():
    shares = found(audited(SanText(500.0)))
    assert len(shares) == 6
    assert all(interval.value == 1 and interval.high == 1 for interval in shares.values())


def test_of_pure_noise_no_more_comes_back_than_was_known():
    audit = audited(SanText(1e-9))
    shares = found(audit)
    assert shares["RT401", "unchanged"].low < 1 / 3 < shares["RT401", "unchanged"].high
    assert shares["RT402", "words_recovered"].value < 0.4
    assert shares["RT403", "texts_recovered"].value < 0.4


def remarks(audit):
    said = []
    list(audit.run(lambda name: 0.05, said.append))
    return said


def test_texts_that_have_nothing_to_do_with_the_release_show_nothing():
    """The released texts are those of other people: what is guessed right is what is guessed without them."""
    audit = audited(SanText(8.0), texts=400)
    others = ReleasedAudit(audit.released[200:], audit.raw[:200], audit.known, audit.attacks)
    said = remarks(others)
    assert [line[:5] for line in said] == ["RT401", "RT402", "RT403"]
    assert all("within chance" in line for line in said), said
    assert all("at least +" in line for line in remarks(audit))


def test_what_is_known_without_the_release_counts_places_too():
    """Texts begin with one of two words: who knows that is right more often than with the commonest word."""
    said = remarks(audited(SanText(1e-9)))
    shares = [float(line.split("texts: ")[1].split("%")[0]) for line in said]
    assert shares[2] > max(shares[:2])


def test_the_context_says_more_than_a_word_alone():
    shares = found(audited(SanText(1.0)))
    assert shares["RT403", "words_recovered"].low > shares["RT402", "words_recovered"].high


def test_a_counted_channel_is_near_the_exact_one():
    mechanism = Multivariate(2.0)
    exact = mechanism.log_channel(np.arange(3), TABLE)
    unknown = type("Counted", (Multivariate,), {"log_channel": lambda *_: None})(2.0)
    counted = knowledge(Exchange(unknown, TABLE), ["w0 w1 w2"], TABLE.words)
    rows = [TABLE.index[word] for word in counted.words]
    assert np.abs(np.exp(counted.channel) - np.exp(exact[rows])).max() < 0.15


def test_bayes_is_right_as_often_as_is_possible():
    """Words at 0, 1, 3, SanText at epsilon 1: with the prior (.5, .3, .2) the best guess is right on .5647."""
    known = knowledge(
        Exchange(SanText(1.0), TABLE), ["w0"] * 49 + ["w1"] * 29 + ["w2"] * 19, TABLE.words
    )  # one is added to each
    channel, prior = np.exp(known.channel), np.exp(known.prior)
    guesses = [Bayes().recover([(word,)], known)[0][0] for word in TABLE.words]
    right = sum(
        prior[known.words.index(w)] * channel[known.words.index(w), known.seen[y]]
        for y, w in zip(TABLE.words, guesses, strict=True)
    )
    assert right == pytest.approx(0.5647305177, abs=1e-6)


def test_the_posterior_is_that_of_all_texts_there_are():
    known = knowledge(Exchange(SanText(1.2), TABLE), ["w0 w1 w2 w0", "w1 w1 w0"], TABLE.words)
    everything = np.arange(3)[:, None].repeat(len(known.seen), axis=1)
    for places in ([0, 1, 2, 0], [2, 2, 1], [1]):
        weights = np.zeros((len(places), 3))
        for words in itertools.product(range(3), repeat=len(places)):
            steps = [known.follows[-1, words[0]], *(known.follows[a, b] for a, b in itertools.pairwise(words))]
            weight = np.exp(sum(steps) + sum(known.channel[w, y] for w, y in zip(words, places, strict=True)))
            for i, word in enumerate(words):
                weights[i, word] += weight
        assert posterior(known, np.array(places), everything) == weights.argmax(axis=1).tolist()


def test_unknown_words_are_taken_as_they_are():
    known = knowledge(Exchange(SanText(1.0), TABLE), ["w0 w1"], TABLE.words)
    for attack in (Unchanged(), Bayes(), Bigrams()):
        guessed = attack.recover([("unk", "w0", "zvooq", "w1", "w2")], known)[0]
        assert (guessed[0], guessed[2], len(guessed)) == ("unk", "zvooq", 5)


def test_behind_a_mask_is_the_commonest_word_without_a_vector():
    """Every other text names one of four people: two of five masks hide the first of them."""
    names = ["anna"] * 4 + ["ben"] * 3 + ["cleo"] * 2 + ["dora"]
    texts = [f"w0 {name}" for name in names] + ["w1 7", "w1 12", "w1 12"]
    for attack in (Bayes(), Bigrams()):
        masked = knowledge(Exchange(SanText(9.0), TABLE), texts, ("unk", "w0", "w1"))
        assert attack.recover([("w0", "unk")], masked)[0] == ["w0", "anna"]
        of_class = knowledge(Exchange(SanText(9.0), TABLE, "class"), texts, ("w0", "w1", "0417", "9020"))
        assert attack.recover([("w1", "9020"), ("0417",)], of_class) == [["w1", "12"], ["12"]]
        kept = knowledge(Exchange(SanText(9.0), TABLE, "keep"), texts, ("unk", "w0", "ben"))
        assert attack.recover([("w0", "ben")], kept)[0] == ["w0", "ben"]
    assert Bigrams().recover([("w1", "unk")], masked)[0] == ["w1", "12"]  # by what stands before it


def test_a_word_drawn_for_one_without_a_vector_is_seen_through():
    """Three texts in four say a name; of them a third comes out as each word, more than w2 itself does."""
    texts = ["anna"] * 300 + ["w0"] * 60 + ["w1"] * 30 + ["w2"]
    known = knowledge(Exchange(SanText(50.0), TABLE, "class"), texts, TABLE.words)
    assert Bayes().recover([("w2", "w0")], known)[0] == ["anna", "anna"]


def test_an_attack_that_crashes_is_a_failure():
    class Broken(Unchanged):
        def recover(self, released, known):
            raise ValueError("no")

    audit = audited(SanText(1.0), texts=3)
    (failure,) = ReleasedAudit(audit.released, audit.raw, audit.known, (Broken(),)).run(lambda name: 0.05)
    assert failure == Failure("RT401", "failed", "ValueError: no")


def test_what_a_policy_limits_is_judged():
    audit = audited(SanText(1.0), texts=3)
    judged, described = audit.planned([Limit("words_recovered", 0.5)])
    assert judged == ("RT402.words_recovered:texts", "RT403.words_recovered:texts")
    assert len(described) == 4
    assert audit.planned(None)[1] == ()


@pytest.mark.parametrize("name", ["unchanged", "words_recovered", "texts_recovered"])
def test_the_contract_of_its_metrics(name):
    check_metric(metric(name))
