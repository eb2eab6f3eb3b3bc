"""Patterns, and what is drawn for them: a fair choice, secrets drawn alike, labels, positions."""

from collections import Counter

import numpy as np
import pytest
from canary_rows import DIGITS, PIN, draw
from scipy import stats

from redteam.canary import Pattern, Planting, PlantingPlan, Slot
from redteam.canary.draw import of_users
from redteam.core import DataError, UsageError
from redteam.data.planting import candidates_left


class TestPattern:
    def test_pieces_and_filling(self):
        pattern = Pattern.parse("call {digit:2} or {name} now")
        assert pattern.pieces == ("call ", Slot("digit", 2), " or ", Slot("name", 1), " now")
        assert pattern.places == ("digit", "digit", "name")
        assert pattern.fill(("4", "7", "ann")) == "call 4 7 or ann now"

    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("no slot", "has no slot"),
            ("", "has no slot"),
            ("pin {digit:0}", "at least 1"),
            ("pin {digit:x}", "is no slot"),
            ("pin {}", "is no slot"),
            ("pin {digit:4", "brace without its other half"),
            ("pin {{digit:4}}", "brace without its other half"),
            ("pin{digit:4}", "put a blank"),
            ("pin {digit:4}x", "put a blank"),
            ("pin {digit:2}{digit:2}", "put a blank between two slots"),
            ("two\nlines {digit}", "one line"),
        ],
    )
    def test_bad_templates(self, template, said):
        with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
            Pattern.parse(template)
        assert said in str(caught.value)

    def test_wrong_number_of_symbols(self):
        with pytest.raises(ValueError, match="3 symbols for the 4 places"):
            Pattern.parse(PIN).fill(("1", "2", "3"))


class TestDraw:
    def test_shape_and_shares(self):
        canaries = draw(canaries=12, repetitions=(1, 3, 5), decoys=2)
        assert Counter(c.repetitions for c in canaries) == {1: 4, 3: 4, 5: 4}
        assert all(len(c.rows) == c.repetitions for c in canaries)
        rows = [row for c in canaries for each in (c, *c.decoys) for row in each.rows]
        assert len(rows) == len(set(rows)) == 3 * (4 * 1 + 4 * 3 + 4 * 5)
        assert 0 <= min(rows) <= max(rows) < 60 + len(rows)
        secrets = [s for c in canaries for s in (*c.secrets, *(d.secret for d in c.decoys))]
        assert len(set(secrets)) == len(secrets) == 12 * 4
        assert all(d.label != c.label for c in canaries for d in c.decoys)

    def test_patterns_and_repetitions_are_crossed(self):
        plan = PlantingPlan((PIN, "dial {digit:3}"), 8, (1, 2))
        assert Counter((c.template, c.repetitions) for c in draw(plan)) == {
            (t, r): 2 for t in plan.patterns for r in (1, 2)
        }

    def test_seed_and_key_decide_everything(self):
        assert draw() == draw()
        for other in (draw(seed=1), draw(key="other")):
            assert {c.secrets for c in other}.isdisjoint({c.secrets for c in draw()})
            assert [c.planted for c in other] != [c.planted for c in draw()]

    def test_planting_is_fair_and_secrets_of_both_sides_are_alike(self):
        many = [c for seed in range(150) for c in draw(seed=seed)]
        heads = sum(c.planted for c in many)
        low, high = stats.binom.ppf([1e-6, 1 - 1e-6], len(many), 0.5)
        assert low <= heads <= high
        smaller = sum(c.secret < c.heldout for c in many)  # order of the two must not tell which went in
        assert low <= smaller <= high
        for side in ("secret", "heldout"):
            counts = Counter(symbol for c in many for symbol in getattr(c, side))
            expected = 4 * len(many) / 10
            chi2 = sum((counts[d] - expected) ** 2 / expected for d in DIGITS["digit"])
            assert chi2 < stats.chi2.ppf(1 - 1e-6, 9)

    def test_planting_of_neighbours_and_seeds_are_independent(self):
        included = np.array([[c.planted for c in draw(seed=seed, canaries=40)] for seed in range(200)])
        correlation = np.corrcoef(included.T)
        assert np.abs(correlation[~np.eye(40, dtype=bool)]).max() < 5.5 / np.sqrt(200)

    def test_positions_are_uniform(self):
        rows = np.array([row for seed in range(200) for c in draw(seed=seed, repetitions=(5,)) for row in c.rows])
        counts = np.histogram(rows, bins=16, range=(0, 160))[0]
        assert ((counts - 1250) ** 2 / 1250).sum() < stats.chi2.ppf(1 - 1e-6, 15)
        first = [draw(seed=seed, canaries=1, repetitions=(1,))[0].rows[0] for seed in range(800)]
        assert 0.4 < np.mean(np.array(first) < 30.5) < 0.6

    def test_all_secrets_of_a_small_pattern_can_be_used(self):
        secrets = [s for c in draw(PlantingPlan(("pin {digit:1}",), 5)) for s in c.secrets]
        assert sorted(secrets) == [(d,) for d in DIGITS["digit"]]

    def test_very_many_candidates(self):
        words = tuple(f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(600))
        canaries = draw(PlantingPlan(("say {word:20}",), 20), alphabets={"word": words})
        assert len({s for c in canaries for s in c.secrets}) == 40

    def test_labels(self):
        assert Counter(c.label for c in draw(canaries=60)) == {"a": 20, "b": 20, "c": 20}
        two = draw(PlantingPlan((PIN, "dial {digit:3}"), 6))
        assert len({(c.template, c.label) for c in two}) == 6
        assert [c.label for c in draw(seed=1)] != [c.label for c in draw(seed=2)]
        assert {c.label for c in draw(label="fresh")} == {"canary-1"}
        assert {c.label for c in draw(label="b")} == {"b"}
        assert len({c.label for c in draw(label="per-canary")}) == 20
        assert {c.label for c in draw(label="fresh", labels=["3", "11"])} == {"12"}
        assert {c.label for c in draw(label="fresh", labels=["canary-1", "x"])} == {"canary-2"}

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"label": "nope"}, "unknown; the data has 'a', 'b', 'c'"),
            ({"repetitions": (0,)}, "at least 1"),
            ({"repetitions": ()}, "at least 1"),
            ({"repetitions": (2, 2)}, "there twice"),
            ({"canaries": 0}, "0 canaries"),
            ({"canaries": 20, "repetitions": (1, 2, 3)}, "shared equally over 3 numbers of repetitions; 21 can"),
            ({"decoys": -1}, "negative"),
            ({"decoys": 1, "labels": ["a"]}, "no label but 'a'"),
            ({"plan": PlantingPlan(("pin {digit:1}",), 6)}, "has 10 secrets, 12 are needed"),
            ({"plan": PlantingPlan((PIN, PIN.upper().replace("DIGIT", "digit")))}, "given twice"),
            ({"plan": PlantingPlan(())}, "no pattern"),
        ],
    )
    def test_what_cannot_be_planted(self, changes, said):
        with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
            draw(**changes)
        assert said in str(caught.value)

    def test_a_sentence_that_is_in_the_data_already(self):
        canary = draw()[3]
        for secret in canary.secrets:  # the held-out secret too: it would not be unseen
            text = Pattern.parse(PIN).fill(secret).upper()
            with pytest.raises(DataError, match=r"^row 2 of the data is already a sentence") as caught:
                draw(texts=["x", text])
            assert " ".join(secret) not in str(caught.value)

    def test_two_patterns_that_make_one_sentence(self):
        with pytest.raises(UsageError, match="make the same sentence"):
            draw(PlantingPlan(("pin {digit:2}", "pin {digit:1} {digit:1}"), 50))


class TestLeft:
    """How many secrets are possible: what is in the data already, planted or written by users, is not."""

    def test_what_users_wrote_with_other_secrets_is_counted_once(self):
        pattern = Pattern.parse("well, pin {digit:2} (or {color})")
        alphabets = {**DIGITS, "color": ("Red", "blue")}
        texts = ["Well,  PIN 4 7 (or red)", "well, pin 4 7 (or Red)", "well, pin 1 1 (or blue)"]
        others = [
            "well, pin 4 7 (or green)",
            "well, pin 4 (or red)",
            "so: well, pin 4 7 (or red)",
            "well, pin 4 7 or red",
        ]
        assert of_users(pattern, alphabets, [*texts, *others]) == 2

    def test_left(self):
        canaries = draw(PlantingPlan(("pin {digit:2}",), canaries=3, repetitions=(1,), decoys=2))
        planting = Planting("s", "p", 100, 0, "k", DIGITS, canaries, written=5)
        assert candidates_left(planting) == 100 - 5 - 3 * 3 + 1
