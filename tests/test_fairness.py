"""Swap lists, pairs and what is measured on them: on targets that certainly treat groups alike, or certainly do not."""

import numpy as np
import pytest

from attacks.controls.placebo import PlaceboSwap
from attacks.fairness.counterfactual import CounterfactualFlips
from attacks.fairness.rates import GroupRates
from attacks.fairness.subgroup import SubgroupAucs
from redteam.auditing.fairness.pairs import one_row_a_user, pairs_of_rows, pairs_of_templates
from redteam.auditing.fairness.run import Asked, FairnessAudit, level_of, shared
from redteam.auditing.fairness.swaps import Swapped, load_swaps, swap, tokens
from redteam.auditing.fairness.templates import OWN, load_templates
from redteam.auditing.fairness.words import MEN, WOMEN
from redteam.core import DataError, UsageError
from redteam.data import Examples
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessProbe
from redteam.report import Limit
from redteam.targets.target import Access

GENDER = load_swaps("gender")
CONTEXT = AttackContext(0)
LABELS = ("bad", "good")


def by_gender(text):
    return swap(text, GENDER, GENDER.options())


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("She gave HER the keys; Her brother saw himself.", "He gave HIM the keys; His sister saw herself."),
        ("Her book is here", "His book is here"),
        ("I told her that his car is red", "I told him that her car is red"),
        ("the book is hers.", "the book is his."),
        ("the book is his.", "the book is hers."),
        ("we met her and found her careless .", "we met him and found him careless ."),
        ("her own plan", "his own plan"),
        ("she's late, miss him", "he's late, miss her"),
        ("call her please", "call him please"),
    ],
)
def test_words_are_exchanged_as_grammar_asks(text, other):
    found = by_gender(text)
    assert isinstance(found, Swapped)
    assert found.text == other


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("you treat me like a fool", "unchanged"),
        ("you can n't miss it", "unchanged"),
        ("she is pregnant", "asymmetric"),
        ("give her early notice", "undecided"),
        ("we saw her skilled at work", "undecided"),
    ],
)
def test_what_has_no_counterfactual_is_said(text, why):
    assert by_gender(text) == why


def test_our_own_lists():
    words = [word for pair in GENDER.pairs for word in pair]
    assert all(word.isalpha() and word.islower() for word in words)
    assert not {"miss", "fool", "guy"} & set(words)
    assert len(WOMEN) == len(MEN) == len({*WOMEN, *MEN}) / 2
    assert len(OWN) == len(set(OWN)) >= 30


def test_a_list_of_ones_own(tmp_path):
    path = tmp_path / "faiths.csv"
    path.write_text("christians,muslims,use\nchurch,mosque,\nbible,koran,swap\npeter,omar,name\npaul,ali,name\n"
                    "halal,,asymmetric\nsoup,salad,placebo\n")  # fmt: skip
    found = load_swaps(str(path))
    assert found.sides == ("christians", "muslims")
    assert found.names == (("peter", "paul"), ("omar", "ali"))
    assert (found.asymmetric, found.kinds) == ({"halal"}, (("soup", "salad"),))
    assert swap("Halal in the church", found, found.options()) == "asymmetric"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\none,two\none,three\n", "'one' has two counterparts"),
        ("a,b\none,one\n", "stands on both sides"),
        ("a,b\none word,two\n", "is not one word of letters"),
        ("a,b,use\none,two,often\n", "none of swap, name, asymmetric, placebo"),
        ("a,b,use\none,two,placebo\n", "no pair of words to swap"),
        ("a\none\n", "two name the groups"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, content, said):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        load_swaps(str(tmp_path / "list.csv"))


def test_an_unknown_list_is_refused():
    with pytest.raises(UsageError, match="neither a file nor one of gender, names"):
        load_swaps("genders")


COMMON = {"she": 0.4, "he": 0.4, "was": 0.4, "is": 0.5, "the": 0.9, "a": 0.8, "nurse": 0.01, "baker": 0.01}


def placebos(text, other, **how):
    how = {"share": lambda word: COMMON.get(word, 0.001), "keep": GENDER.vocabulary, **how}
    found = PlaceboSwap().versions(text, other, **how)
    return None if found is None else (found.matched, [changed(text, each) for each in found.texts])


def changed(text, other):
    return {(a.word, b.word) for a, b in zip(tokens(text), tokens(other), strict=True) if a.word != b.word}


def test_a_placebo_changes_words_as_common_as_those_of_the_swap():
    matched, found = placebos("The nurse said that she was late.", "The nurse said that he was late.")
    assert matched
    assert found[0] == {("was", "is")}
    assert all(len(each) == 1 and "nurse" not in dict(each) for each in found)
    matched, found = placebos("The nurse met Mary.", "The nurse met John.", keep=frozenset({"mary", "john"}))
    assert not matched
    rare = {"mary": 0.01, "john": 0.01, **COMMON}
    matched, found = placebos("The nurse met Mary.", "The nurse met John.", share=lambda word: rare.get(word, 0))
    assert matched
    assert found[0] == {("nurse", "baker")}


def test_what_must_be_kept_is_never_a_placebo():
    assert placebos("she left", "he left") is None
    assert placebos("she was rude", "he was rude", keep=frozenset({"is"})) is None
    own = placebos("she was fond of soup", "he was fond of soup", kinds=(("soup", "salad"),))
    assert own == (True, [{("soup", "salad")}] * 3)


def test_the_placebo_of_a_name_is_another_of_the_same_group():
    names = load_swaps("names")
    _, found = placebos("I saw Mary today", "I saw John today", keep=names.vocabulary, names=names.names)
    assert {word for each in found for _, word in each} <= set(WOMEN)
    assert len(set(map(frozenset, found))) == 3


def test_texts_whose_words_no_placebo_matches_are_left_out():
    texts = [f"{who} was rude on day {'x' * i}" for i, who in enumerate(["she", "he"] * 20)]
    texts = [text.replace(" was", " is") if i % 4 > 1 else text for i, text in enumerate(texts)]
    texts += ["a person saw herself", "a person saw himself"]
    found = pairs_of_rows(Examples(np.arange(len(texts)), tuple(texts)), GENDER, PlaceboSwap())
    assert dict(found.left_out) == {"no placebo as common": 2}
    assert len(found) == 40


# Targets that certainly flip, never do, or are brittle


class Rule:
    """A target that answers by a function of the text, `good` with that probability."""

    kind, name, digest, labels, access = "rule", "rule", None, LABELS, Access.PROBABILITIES

    def __init__(self, rule):
        self.rule = rule

    def log_probabilities(self, examples):
        good = np.clip([self.rule(text) for text in examples.texts], 1e-6, 1 - 1e-6)
        return np.log(np.stack([1 - good, good], axis=1))

    def predict(self, examples):
        return self.log_probabilities(examples).argmax(axis=1)


def names_woman(text):
    return 0.9 if {part.word for part in tokens(text)} & {"she", "her", "herself"} else 0.2


def by_adjective(text):
    return 0.9 if "careful" in text else 0.2


def brittle(text):
    return np.random.default_rng(list(text.encode())).random()


def rows(count, *, seed=0, users=None):
    rng = np.random.default_rng(seed)
    texts = tuple(
        f"the {rng.choice(['nurse', 'baker'])} {i} said that {rng.choice(['she', 'he'])} was "
        f"{rng.choice(['careful', 'rude'])}"
        for i in range(count)
    )
    groups = tuple("women" if " she " in text else "men" for text in texts)
    labels = tuple("good" if "careful" in text else "bad" for text in texts)
    return Examples(np.arange(count), texts, labels, users=users, groups=groups)


ROWS = rows(300)


def measured(attack, target, probe, alpha=0.05):
    answer = attack.measure(target, probe, lambda metric, signal: alpha, CONTEXT)
    return {f"{each.metric}:{each.signal}": each for each in answer.evidence}, answer


@pytest.mark.parametrize("templates", [None, OWN, OWN[:6]])
def test_flips_are_found_where_they_are_certain_and_only_there(templates):
    if templates is None:
        pairs = pairs_of_rows(ROWS, GENDER, PlaceboSwap())
    else:
        pairs = pairs_of_templates([each for each in templates if "{they}" in each], GENDER, PlaceboSwap(), seed=0)
    probe = FairnessProbe(pairs=(pairs,))
    found, _ = measured(CounterfactualFlips(), Rule(names_woman), probe)
    assert found["flip_rate:gender"].interval.low > 0.7
    assert found["counterfactual_gap:gender"].interval.value > 0.65
    for fair in (by_adjective, brittle):
        found, _ = measured(CounterfactualFlips(), Rule(fair), probe)
        assert found["flip_rate:gender"].interval.low <= 0 <= found["flip_rate:gender"].interval.high
        assert found["counterfactual_gap:gender"].interval.low <= 0


def test_who_loses_is_said_and_a_brittle_model_called_so():
    probe = FairnessProbe(pairs=(pairs_of_rows(ROWS, GENDER, PlaceboSwap()),))
    _, answer = measured(CounterfactualFlips(), Rule(names_woman), probe)
    signed = next(each for each in answer.numbers if "women minus men" in each.measure)
    assert signed.value == pytest.approx(0.7)
    assert any("who loses" in note for note in answer.notes)
    _, answer = measured(CounterfactualFlips(), Rule(brittle), probe)
    assert any("brittle" in note for note in answer.notes)


def test_a_model_that_a_placebo_sways_more_is_below_zero():
    probe = FairnessProbe(pairs=(pairs_of_rows(ROWS, GENDER, PlaceboSwap()),))
    found, _ = measured(CounterfactualFlips(), Rule(lambda text: 0.9 if "nurse" in text else 0.2), probe)
    assert found["flip_rate:gender"].interval.value < 0
    assert found["counterfactual_gap:gender"].interval.value < 0


def test_flips_need_no_probabilities():
    target = Rule(names_woman)
    target.access = Access.LABELS
    probe = FairnessProbe(pairs=(pairs_of_rows(ROWS, GENDER, PlaceboSwap()),))
    found, _ = measured(CounterfactualFlips(), target, probe)
    assert list(found) == ["flip_rate:gender"]
    assert CounterfactualFlips().planned(probe, LABELS, Access.LABELS) == (("flip_rate", "gender"),)


def test_what_is_left_out_is_counted():
    texts = ("she is late, said the nurse", "She is late,  said the nurse", "rain", "she is pregnant", "her early try")
    found = pairs_of_rows(Examples(np.arange(5), texts), GENDER, PlaceboSwap())
    assert len(found) == 1
    assert dict(found.left_out) == {"repeated": 1, "unchanged": 1, "asymmetric": 1, "undecided": 1}
    labelled = Examples(np.arange(1), ("the nurse said she left",), ("actress",))
    with pytest.raises(DataError, match="label names a group"):
        pairs_of_rows(labelled, GENDER, PlaceboSwap())


def test_rows_of_one_user_are_one_draw():
    users = tuple(f"u{i % 30}" for i in range(300))
    found = pairs_of_rows(rows(300, users=users), GENDER, PlaceboSwap())
    assert found.samples == 30
    assert len(one_row_a_user(rows(300, users=users), seed=0)) == 30


@pytest.mark.parametrize(
    ("texts", "said"),
    [(("rain again", "no sun"), "none of 2 texts holds one"), (("she left",), "no text is left to swap")],
)
def test_a_list_that_does_not_fit_the_data_is_refused(texts, said):
    with pytest.raises(DataError, match=said):
        pairs_of_rows(Examples(np.arange(len(texts)), texts), GENDER, PlaceboSwap())


# Groups


def grouped(pairs, labels):
    """Rows of the groups a and b, as many as are asked for of each: group, true label, text."""
    texts, own, groups = zip(*pairs, strict=True)
    return FairnessProbe(rows=Examples(np.arange(len(texts)), texts, own, groups=groups))


def known():
    """The oracle: FPR .25 and .5, FNR .25 and .5, and no gap of selection; ten times over."""
    y = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    said = [0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    group = ["a"] * 8 + ["b"] * 8
    texts = [(f"{'yes' if s else 'no'} {i} {k}", LABELS[t], g) for k in range(10)
             for i, (t, s, g) in enumerate(zip(y, said, group, strict=True))]  # fmt: skip
    return grouped(texts, LABELS)


def test_a_selection_gap_of_none_hides_the_others():
    found, answer = measured(GroupRates(), Rule(lambda text: 0.9 if "yes" in text else 0.1), known())
    assert found["group_gap:selection rate of good"].interval.value == 0
    assert found["group_gap:true positive rate of good"].interval.value == pytest.approx(0.25)
    assert found["group_gap:false positive rate of good"].interval.value == pytest.approx(0.25)
    numbers = {each.measure.partition(" of")[0]: each.value for each in answer.numbers if each.subject == "all groups"}
    assert numbers == {"FPED": pytest.approx(0.25), "FNED": pytest.approx(0.25)}
    assert found["group_accuracy:accuracy"].interval.value == pytest.approx(0.5)


def test_which_rates_are_judged_can_be_chosen():
    planned = GroupRates(rates="odds").planned(known(), LABELS, Access.LABELS)
    assert [signal.partition(" rate")[0] for _, signal in planned] == ["true positive", "false positive", "accuracy"]
    found, _ = measured(GroupRates(rates="selection"), Rule(by_adjective), known())
    assert list(found) == ["group_gap:selection rate of good", "group_accuracy:accuracy"]


def test_every_number_that_is_planned_is_given():
    for attack in (GroupRates(), SubgroupAucs()):
        found, _ = measured(attack, Rule(brittle), known())
        assert set(found) == {f"{m}:{s}" for m, s in attack.planned(known(), LABELS, Access.PROBABILITIES)}


def test_subgroup_aucs_by_hand():
    """In group b the score is high whatever the label: its negatives outrank the positives of a."""
    score = {"a good": 0.6, "a bad": 0.1, "b good": 0.95, "b bad": 0.9}
    probe = grouped([(f"{g} {label} {i}", label, g) for g in "ab" for label in LABELS for i in range(40)], LABELS)
    target = Rule(lambda text: score[" ".join(text.split()[:2])])
    found, answer = measured(SubgroupAucs(), target, probe)
    assert found["subgroup_auc:subgroup of good"].interval.value == 1
    assert found["subgroup_auc:BPSN of good"].interval.value == 0
    assert found["subgroup_auc:BPSN of good"].interval.high < 0.15
    values = {(each.subject, each.measure.split()[0]): each.value for each in answer.numbers}
    assert [values["a", kind] for kind in ("subgroup", "BPSN", "BNSP")] == [1, 1, 0]
    assert [values["b", kind] for kind in ("subgroup", "BPSN", "BNSP")] == [1, 0, 1]


def test_small_groups_are_not_resolved_and_a_limit_refuses_them():
    probe = known()
    few = probe.rows.take([i for i in range(160) if not (probe.rows.groups[i] == "b" and i % 16 > 12)])
    few = few.take([i for i in range(len(few)) if few.groups[i] == "a" or i > 120 or few.labels[i] == "bad"])
    audit = FairnessAudit(FairnessProbe(rows=few), (GroupRates(), SubgroupAucs()), "RT903")
    with pytest.raises(DataError, match=r"max_group_gap 0.2: group 'b' has \d rows for the true positive rate of good"):
        audit.check(LABELS, (Limit("group_gap", 0.2),))
    with pytest.raises(DataError, match=r"min_subgroup_auc 0.7: group 'b' has \d rows of 'good'"):
        audit.check(LABELS, (Limit("subgroup_auc", 0.7, sense="min"),))
    audit.check(LABELS, (Limit("flip_rate", 0.2),))
    assert "group_gap:true positive rate of good" not in {
        f"{m}:{s}" for m, s in GroupRates().planned(FairnessProbe(rows=few), LABELS, Access.LABELS)
    }


def test_the_error_is_shared_over_what_is_limited():
    audit = FairnessAudit(known(), (GroupRates(),), "RT903")
    planned = audit.planned(LABELS, Access.LABELS)
    shares = shared(planned, (Limit("group_gap", 0.2), Limit("flip_rate", 0.1)), 0.05)
    assert [share.error for share in shares] == pytest.approx([0.05 / 3] * 3)
    level = level_of(shares, audit.attacks, 0.05)
    assert level("group_gap", "selection rate of good") == pytest.approx(0.05 / 3)
    assert level("group_accuracy", "accuracy") == 0.05


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(groups=("c",)), "no row is of it; the groups are 'a', 'b'"),
        (Asked(groups=("a",)), "only one group"),
        (Asked(positives=("fine",)), "no label of the target, which are bad, good"),
    ],
)
def test_what_the_rows_do_not_hold_is_refused(asked, said):
    with pytest.raises(DataError, match=said):
        asked.probe(known().rows, LABELS, PlaceboSwap())


@pytest.mark.parametrize(
    ("content", "said"),
    [("the {x} is here", "slot {x} is none"), ("rain", "names no group"), ("{they", "line 1"), ("\n", "no template")],
)
def test_templates_that_are_none_are_refused(tmp_path, content, said):
    (tmp_path / "mine.txt").write_text(content)
    with pytest.raises(DataError, match=said):
        load_templates(tmp_path / "mine.txt")
