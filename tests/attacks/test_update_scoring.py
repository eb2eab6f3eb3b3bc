"""What was recovered is counted beside what the same attack recovers from an update that never saw the texts."""

import pytest
from conftest import sentences

from redteam.auditing.updates.overlap import rouge
from redteam.auditing.updates.scoring import counts, texts
from redteam.auditing.updates.senders import senders
from redteam.auditing.updates.truth import Truth, joined
from redteam.core import DataError
from redteam.plugins.update import ClientUpdate, Recovered, RecoveredSentence, UpdateAttack
from redteam.testing.updates import random_encoder

ENDS = frozenset((2, 3))
OWN = Truth("a", ((2, 10, 11, 12, 3), (2, 10, 13, 3), (2, 10, 13, 3)), ENDS)
OTHER = Truth("b", ((2, 11, 20, 3),), ENDS)


class Every(UpdateAttack):
    id, name, gives = "RT399", "every", ("tokens", "places", "sentences")

    def recover(self, model, update, context):
        raise NotImplementedError


def counted(found, unseen=None, other=None):
    return {each.what: each for each in counts(Every(), OWN, found, unseen or Recovered(), other)}


def said(*lines, verified=True):
    return tuple(RecoveredSentence(line, verified=verified) for line in lines)


def test_everything_found_is_a_share_of_one():
    found = Recovered(frozenset((2, 3, 10, 11, 12, 13)), {11: 2, 12: 3}, said(*OWN.texts[:2]))
    seen = counted(found)
    assert {what: each.share for what, each in seen.items()} == dict.fromkeys(
        ("tokens", "places", "exact", "verified"), 1
    )
    assert (seen["exact"].of, seen["tokens"].of, seen["places"].of) == (3, 4, 2)
    assert not any(each.wrong for each in seen.values())


def test_an_attack_that_names_everything_is_worth_nothing():
    whole = Recovered(frozenset(range(100)))
    assert counted(whole, whole)["tokens"].share == 0
    assert counted(whole)["tokens"].wrong == 94


def test_what_the_controls_texts_hold_too_is_left_out():
    seen = counted(Recovered(frozenset((11,))), other=OTHER)
    assert (seen["tokens"].of, seen["tokens"].found) == (3, 0)


def test_guesses_are_no_proofs_and_wrong_ones_are_counted():
    seen = counted(Recovered(sentences=said(OWN.texts[0], (2, 5, 3), verified=False)))
    assert (seen["exact"].found, seen["exact"].claimed, seen["exact"].wrong) == (1, 2, 1)
    assert (seen["verified"].found, seen["verified"].claimed) == (0, 0)


def test_a_position_of_a_token_that_stands_elsewhere_too_is_wrong():
    assert counted(Recovered(places={10: 1, 13: 2, 11: 3}))["places"].wrong == 1  # all three 10s stand at 1


def test_overlap_is_that_of_the_best_matching():
    assert rouge([(1, 2, 3), (4, 5)], [(4, 5), (1, 2, 3)]) == (1, 1, 1)
    assert rouge([(1, 2, 3)], []) == (0, 0, 0)
    one, two, longest = rouge([(1, 2, 3, 4)], [(1, 3, 2, 4)])
    assert (one, two, longest) == (1, 0, 0.75)
    both = texts(OWN, Recovered(sentences=said(OWN.texts[0])), Recovered())
    assert both.own.one == pytest.approx((1 + 0 + 0) / 3)
    assert both.unseen == (0, 0, 0)


def test_texts_belong_to_the_client_that_the_update_is_named_after():
    target, rows = random_encoder(), sentences(4, seed=1)
    named = type(rows)(rows.rows, ("w1 w2", "w3", "w4 w5", "w1"), rows.labels, users=("a", "b", "a", "c"))
    both = {name: ClientUpdate(name, {}) for name in "ab"}
    (first, second), others = senders(target, both, named)
    assert [len(first.truth.texts), len(second.truth.texts)] == [2, 1]
    assert first.truth.special == {2, 3}
    assert [truth.client for truth in others] == ["c"]
    with pytest.raises(DataError, match=r"update 'd': no row of the data has that user \(there are a, b, c"):
        senders(target, {"d": ClientUpdate("d", {})}, named)
    with pytest.raises(DataError, match="give --user-column"):
        senders(target, both, sentences(4, seed=1))


def test_rounds_of_a_client_and_sums_that_share_one_are_one_sender():
    target, rows = random_encoder(), sentences(4, seed=1)
    named = type(rows)(rows.rows, ("w1 w2", "w3", "w4 w5", "w1"), rows.labels, users=("a", "b", "c", "d"))
    rounds = {f"{r}/{name}": ClientUpdate(name, {}) for r in "12" for name in "ab"}
    found, _ = senders(target, rounds, named)
    assert [(each.truth.client, len(each.updates)) for each in found] == [("a", 2), ("b", 2)]
    sums = {"1/sum": ("a", "b"), "2/sum": ("b", "c"), "3/sum": ("d",)}
    found, _ = senders(target, {key: ClientUpdate("sum", {}) for key in sums}, named, sums)
    assert [[part.client for part in each.truth.parts] for each in found] == [["a", "b", "c"], ["d"]]
    assert [update.clients for update in found[0].updates] == [2, 2]
    with pytest.raises(DataError, match="--sums does not say whose"):
        senders(target, {"other": ClientUpdate("other", {})}, named, sums)


def test_the_share_of_a_sum_is_the_mean_over_its_clients():
    other = Truth("b", ((2, 20, 21, 3),), ENDS)
    whole = joined((OWN, other))
    found = Recovered(frozenset((10, 11, 12, 13)), {11: 2, 20: 1}, said(*OWN.texts[:2]))
    seen = {each.what: each for each in counts(Every(), whole, found, Recovered(), None)}
    assert {what: each.share for what, each in seen.items()} == {
        "tokens": 0.5,
        "places": 0.5,
        "exact": 0.5,
        "verified": 0.5,
    }
    assert (seen["exact"].of, seen["exact"].found) == (4, 3)
