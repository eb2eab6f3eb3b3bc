"""The page of a verification, and saved ones that are broken or contradict themselves."""

import json

import pytest
from saved_verifications import PRIVATISER, TRAINER, VIOLATED, document

from redteam.core import ReportError
from redteam.verify.page import render_page
from redteam.verify.saved import load_privatiser_verification, load_verification
from redteam.verify.words.page import render_page as words_page

HOSTILE = "<script>x</script> \x1b[31m\u202e"


def saved(tmp_path, found):
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("verification", "load"), [(TRAINER, load_verification), (PRIVATISER, load_privatiser_verification)]
)
def test_what_was_written_is_read_back(tmp_path, verification, load):
    assert load(saved(tmp_path, document(verification))) == verification


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "consistent"}, "more is shown than is accounted for"),
        ({"verdict": "inconclusive"}, "more is shown than is accounted for"),
        ({"accounted": None, "nominal": None}, "nothing is guaranteed"),
        ({"alpha": 2.0}, "its error is not between 0 and 1"),
        ({"canaries": 0}, "it is of nothing"),
        ({"nominal": document(TRAINER)["nominal"] | {"delta": 7.0}}, "a delta not between"),
        ({"one_run": {"low": 9.0, "attainable": 1.0, "method": "one_run", "assumption": ""}}, "0 <= low <= attainable"),
        ({"verdict": "fine"}, "must be one of consistent"),
        ({"more": 1}, "unknown key 'more'"),
        ({"seed": "x"}, "must be of type integer"),
        ({"format": "redteam.verification/9"}, "verify again"),
    ],
)
def test_a_violation_is_never_drawn_as_something_else(tmp_path, changes, said):
    with pytest.raises(ReportError, match=said):
        load_verification(saved(tmp_path, document(VIOLATED, **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"one_run": {"low": 2.5, "attainable": 6.0, "method": "one_run", "assumption": ""}, "decides": "one_run"},
        {"clopper_pearson": {"low": 0.1, "attainable": 1.5, "method": "clopper_pearson", "assumption": ""}},
        {"nominal": document(TRAINER)["nominal"] | {"epsilon": 0.1}},
    ],
)
def test_what_could_not_be_consistent_is_not_drawn_so(tmp_path, changes):
    with pytest.raises(ReportError, match="contradicts itself: consistent, but"):
        load_verification(saved(tmp_path, document(TRAINER, **changes)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"infinite": True}, "more is shown or accounted for"),
        ({"claimed": 2.0}, "more is shown or accounted for"),
        ({"accounted": 9.0, "accounted_plain": 1.0}, "more is shown or accounted for"),
        ({"claimed": -1.0}, "below 0"),
        ({"accounted": 1.0}, "is missing"),
        ({"pairs": []}, "it is of nothing"),
        ({"pairs": [document(PRIVATISER)["pairs"][0] | {"words": ["one"]}]}, "below 0"),
        ({"pairs": [document(PRIVATISER)["pairs"][0] | {"low": 10.0}]}, "more is shown than could be"),
    ],
)
def test_a_privatiser_that_is_violated_is_not_drawn_as_another(tmp_path, changes, said):
    with pytest.raises(ReportError, match=said):
        load_privatiser_verification(saved(tmp_path, document(PRIVATISER, **changes)))


def test_a_page_says_the_verdict_the_bound_and_how_to_do_it_again(tmp_path):
    drawn = render_page(VIOLATED)
    assert '<span class="badge leak">VIOLATED</span>' in drawn
    for words in ("at least 3.00", "do not release", "Clopper-Pearson (decides)", "--canaries 4000", "<svg"):
        assert words in drawn
    assert '<span class="badge pass">CONSISTENT</span>' in render_page(TRAINER)


def test_what_comes_from_outside_is_text(tmp_path):
    trainer = load_verification(saved(tmp_path, document(TRAINER, subject=HOSTILE, findings=[HOSTILE], reason=HOSTILE)))
    pair = document(PRIVATISER)["pairs"][0] | {"words": [HOSTILE, "dog"]}
    words = load_privatiser_verification(saved(tmp_path, document(PRIVATISER, subject=HOSTILE, pairs=[pair])))
    for drawn in (render_page(trainer), words_page(words)):
        assert "&lt;script&gt;x&lt;/script&gt; \\u001b[31m\\u202e" in drawn
        assert "<script>" not in drawn
        assert "\x1b" not in drawn
