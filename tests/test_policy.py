from datetime import date

import pytest

from redteam.core import PolicyError
from redteam.policy import with_unset
from redteam.policy.reading import DEFAULT, Limit, Waiver, load_policy
from redteam.report.values import Evidence
from redteam.statistics import Interval

TODAY = date(2026, 7, 1)
ON_CANARIES = tuple(Limit(metric, 0.0, required=False) for metric in ("exposure", "extraction_rate"))
FULL = """\
# what a release must keep
max_auc = 0.60
max_tpr = { fpr = 0.01, limit = 0.05 }
max_epsilon = 8
max_exposure = 10.5
max_extraction_rate = 0.0
require = ["RT101", "RT901"]
strict = true

[[waivers]]
id = "RT101.auc"
reason = "accepted for the pilot, see ticket 12"
expires = 2027-01-31
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text, tmp_path, name="redteam.toml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_policy(path, today=TODAY)


def refusal(text, tmp_path, name="redteam.toml"):
    with pytest.raises(PolicyError) as caught:
        load(text, tmp_path, name)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600  # it names every key there is
    return message


def test_without_a_file_the_built_in_limits_hold():
    policy = load_policy(None, today=TODAY)
    assert policy == DEFAULT
    assert policy.limits == (Limit("auc", 0.55), Limit("tpr", 0.05, 0.01))
    assert with_unset(policy.limits) == (*policy.limits, *ON_CANARIES)
    assert policy.source == "built-in limits"


def test_every_key_is_read_with_its_line(tmp_path):
    policy = load(FULL, tmp_path)
    assert policy.limits == (
        Limit("auc", 0.6),
        Limit("tpr", 0.05, fpr=0.01),
        Limit("epsilon", 8.0, delta=1e-5),
        Limit("exposure", 10.5),
        Limit("extraction_rate", 0.0),
    )
    assert policy.require == ("RT101", "RT901")
    assert policy.strict is True
    assert policy.waivers[0].expires == date(2027, 1, 31)
    assert policy.source == "redteam.toml"
    assert [policy.line_of(key) for key in ("max_auc", "max_tpr", "waivers", "unheard")] == [2, 3, 10, 1]


def test_a_file_replaces_the_built_in_limits(tmp_path):
    """But for those on canaries: they are 0 where none is named, and count where there are canaries."""
    assert load("max_epsilon = 3", tmp_path).limits == (Limit("epsilon", 3.0, delta=1e-5),)
    rate = load("max_extraction_rate = 0.5", tmp_path)
    assert with_unset(rate.limits) == (ON_CANARIES[0], Limit("extraction_rate", 0.5))
    with pytest.raises(PolicyError, match="sets no limit"):
        load("strict = true", tmp_path)


def test_tpr_limits_may_be_a_list_or_tables(tmp_path):
    listed = load("max_tpr = [{fpr=0.01, limit=0.05}, {fpr=0.001, limit=0.01}]", tmp_path)
    tables = load("[[max_tpr]]\nfpr=0.01\nlimit=0.05\n[[max_tpr]]\nfpr=0.001\nlimit=0.01\n", tmp_path)
    assert listed == tables
    assert [limit.fpr for limit in listed.limits if limit.metric == "tpr"] == [0.01, 0.001]


def test_an_expiry_may_be_an_iso_string_and_holds_all_that_day(tmp_path):
    text = f'max_auc = 0.6\n[[waivers]]\nid = "a"\nreason = "b"\nexpires = "{TODAY}"\n'
    assert load(text, tmp_path).waivers == (Waiver("a", "b", TODAY),)


def test_redteam_toml_comes_before_pyproject_and_pyproject_only_with_a_table(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n")
    assert load_policy(None, today=TODAY) == DEFAULT
    project.write_text("[project]\nname = 'x'\n\n[tool.redteam]\nmax_auc = 0.7\n")
    found = load_policy(None, today=TODAY)
    assert (found.limits, found.source, found.line_of("max_auc")) == ((Limit("auc", 0.7),), "pyproject.toml", 5)
    (tmp_path / "redteam.toml").write_text("max_auc = 0.8")
    assert load_policy(None, today=TODAY).limits == (Limit("auc", 0.8),)


def test_a_link_to_a_policy_that_is_gone_is_not_the_built_in_policy(tmp_path):
    (tmp_path / "redteam.toml").symlink_to("nowhere")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(None, today=TODAY)


def test_a_named_pyproject_needs_the_table(tmp_path):
    assert "no [tool.redteam] table" in refusal("[tool.other]\na = 1\n", tmp_path, "pyproject.toml")
    assert "no [tool.redteam] table" in refusal("tool = 'redteam'\n", tmp_path, "pyproject.toml")
    assert "must be a table" in refusal("tool.redteam = 3\n", tmp_path, "pyproject.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_acu = 0.6", ["unknown key 'max_acu' = 0.6", "did you mean 'max_auc'?"]),
        ("zzz = 1", ["unknown key 'zzz'", "known are"]),
        ("max_auc = true", ["max_auc = True", "not a number"]),
        ("max_auc = '0.6'", ["max_auc = '0.6'", "not a number"]),
        ("max_auc = 0.49", ["max_auc = 0.49", "at least 0.5"]),
        ("max_auc = 1", ["max_auc = 1", "below 1"]),
        ("max_auc = nan", ["max_auc = nan", "out of range"]),
        ("max_epsilon = inf", ["max_epsilon = inf", "finite"]),
        ("max_epsilon = 1" + "0" * 400, ["max_epsilon", "finite"]),
        ("max_epsilon = 1" + "0" * 5000, ["not TOML"]),
        ("max_epsilon = -1", ["max_epsilon = -1"]),
        ("max_epsilon = 1\nmax_delta = 1", ["max_delta = 1", "below 1"]),
        ("max_auc = 0.6\nmax_delta = 1e-6", ["max_delta limits nothing by itself", "max_epsilon"]),
        ("max_exposure = -0.1", ["max_exposure = -0.1"]),
        ("max_extraction_rate = 1.0", ["max_extraction_rate = 1.0", "below 1"]),
        ("max_tpr = 0.05", ["max_tpr = 0.05", "table with { fpr"]),
        ("max_tpr = []", ["sets no limit"]),
        ("max_tpr = { fpr = 0.01 }", ["limit is missing"]),
        ("max_tpr = { fpr = 0, limit = 0.1 }", ["max_tpr.fpr = 0", "above 0"]),
        ("max_tpr = { fpr = 1.0, limit = 0.1 }", ["max_tpr.fpr = 1.0"]),
        ("max_tpr = { fpr = 0.01, limit = 1 }", ["max_tpr.limit = 1"]),
        ("max_tpr = { fpr = 0.05, limit = 0.05 }", ["max_tpr.limit = 0.05", "leaks nothing could not pass"]),
        ("max_tpr = { fpr = 0.01, limit = 0.1, at = 3 }", ["unknown key 'max_tpr.at' = 3"]),
        ("max_tpr = [{fpr=0.01, limit=0.1}, {fpr=0.01, limit=0.2}]", ["twice"]),
        ("", ["sets no limit", "max_auc, max_tpr"]),
        ("strict = true", ["sets no limit"]),
        ("max_auc = 0.6\nstrict = 1", ["strict = 1", "true or false"]),
        ("max_auc = 0.6\nrequire = 'RT101'", ["require = 'RT101'", "list of attack ids"]),
        ("max_auc = 0.6\nrequire = ['']", ["list of attack ids"]),
        ("max_auc = 0.6\nwaivers = 3", ["waivers = 3", "[[waivers]]"]),
        ("max_auc = ", ["not TOML"]),
        (b"max_auc = 0.6 # \xff", ["not UTF-8"]),
        ("[tool.redteam]\nmax_auc = 0.6", ["unknown key 'tool'"]),
    ],
)
def test_what_is_not_plainly_a_policy_is_refused(text, words, tmp_path):
    message = refusal(text, tmp_path)
    for word in ["redteam.toml", *words]:
        assert word in message


@pytest.mark.parametrize(
    ("waiver", "words"),
    [
        ('id = "a"\nreason = "b"', ["waivers[0]", "expires is missing"]),
        ('id = "a"\nreason = " "\nexpires = 2027-01-01', ["waivers[0].reason = ' '", "not empty"]),
        ('id = ""\nreason = "b"\nexpires = 2027-01-01', ["waivers[0].id"]),
        ('id = "a"\nreason = "b"\nexpires = "soon"', ["waivers[0].expires = 'soon'", "must be a date"]),
        ('id = "a"\nreason = "b"\nexpires = 2027-01-01T00:00:00', ["must be a date"]),
        ('id = "a"\nreason = "b"\nexpires = 2026-06-30', ["waiver 'a' expired on 2026-06-30"]),
        ('id = "a"\nreason = "b"\nexpires = 2027-01-01\nowner = "me"', ["unknown key 'waivers[0].owner'"]),
    ],
)
def test_a_waiver_names_what_why_and_until_when(waiver, words, tmp_path):
    message = refusal(f"max_auc = 0.6\n[[waivers]]\n{waiver}\n", tmp_path)
    for word in words:
        assert word in message


def test_the_same_waiver_twice_is_refused(tmp_path):
    one = '[[waivers]]\nid = "a"\nreason = "b"\nexpires = 2027-01-01\n'
    assert "waived twice" in refusal(f"max_auc = 0.6\n{one}{one}", tmp_path)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_policy(tmp_path / "none.toml", today=TODAY)


def test_a_byte_order_mark_is_read_over(tmp_path):
    assert load(b"\xef\xbb\xbfmax_auc = 0.6", tmp_path).limits == (Limit("auc", 0.6),)


def test_a_limit_covers_its_metric_and_its_fpr_only():
    def tpr(fpr):
        return Evidence("RT101", "loss", "tpr", Interval(0.1, 0.0, 0.2, 0.05), 9, 9, 1.0, fpr)

    limit = Limit("tpr", 0.05, 0.1 + 0.2)
    assert limit.covers(tpr(0.3))
    assert not limit.covers(tpr(0.3001))
    assert not limit.covers(tpr(None))
    assert not Limit("auc", 0.6).covers(tpr(0.3))


def test_a_limit_on_epsilon_is_at_a_delta(tmp_path):
    assert load("max_epsilon = 3\nmax_delta = 1e-7", tmp_path).limits == (Limit("epsilon", 3.0, delta=1e-7),)
    assert Limit("epsilon", 3.0, delta=1e-7).name == "max_epsilon 3 at delta 1e-07"
