"""Settings of attacks from the command line: what is taken, and one line for what is not."""

from dataclasses import dataclass
from typing import Literal

import pytest
from enumeration import Enumeration

from redteam.core import UsageError
from redteam.plugins.registry import discover_attacks, discover_defenses, discover_extractions
from redteam.plugins.settings import Setting, changes_of, describe, settings_of, tune


@dataclass(frozen=True)
class Tunable(Enumeration):
    id = "RT298"

    count: int = Setting("How many.", "things", least=1).default(3)
    rate: float = Setting("How fast.", above=0, below=2).default(0.5)
    hold: int | None = Setting("How long.", least=1).default(24)
    kind: Literal["soft", "hard"] = "soft"
    loud: bool = False


def test_settings_are_changed_and_the_others_stay():
    plain, tuned = tune((Enumeration(), Tunable()), ["rt298.hold=none", "RT298.kind=hard", "rate=1e-3", "loud=yes"])
    assert type(plain) is Enumeration
    assert tuned == Tunable(3, 0.001, None, "hard", True)
    assert settings_of(plain) == {}
    assert settings_of(tuned) == {"count": 3, "rate": 0.001, "hold": None, "kind": "hard", "loud": True}


def test_every_setting_of_every_plug_in_is_described_and_can_be_given_as_it_is():
    for plugin in (*discover_attacks(), *discover_extractions(), *discover_defenses()):
        known = describe(plugin)
        assert all(each.setting.does.endswith(".") for each in known), plugin.id
        assert tune((plugin,), [f"{plugin.id}.{each.name}={each.shown}" for each in known]) == (plugin,)
        assert changes_of(plugin) == ""


def test_what_was_changed_is_said_as_it_was_given():
    (tuned,) = tune((Tunable(),), ["hold=none", "count=7"])
    assert changes_of(tuned) == "count=7, hold=none"
    assert tune((Tunable(),), changes_of(tuned).split(", ")) == (tuned,)


def test_a_setting_without_an_id_is_for_all_that_have_it():
    without = Enumeration()
    assert tune((without, Tunable(), Tunable()), ["count=9"]) == (without, Tunable(9), Tunable(9))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("RT298", "write NAME=VALUE or ID.NAME=VALUE"),
        ("RT298.count", "write NAME=VALUE or ID.NAME=VALUE"),
        ("RT298.count=", "write NAME=VALUE or ID.NAME=VALUE"),
        ("RT297.count=1", "RT297 is not among what is run: RT298"),
        ("RT298.speed=1", "RT298 has no setting 'speed'; known: count, rate, hold, kind"),
        ("RT298.count=0", "must be a whole number at least 1$"),
        ("RT298.count=1.5", "must be a whole number at least 1$"),
        ("RT298.count=none", "must be a whole number at least 1$"),
        ("RT298.hold=-1", "must be a whole number at least 1, or none$"),
        ("RT298.rate=nan", "must be a number above 0 and below 2$"),
        ("RT298.rate=inf", "must be a number above 0 and below 2$"),
        ("RT298.kind=loud", "must be one of soft, hard$"),
        ("RT298.loud=2", "must be true or false$"),
        ("RT298.count=1_000", "must be a whole number at least 1$"),
        ("rate=2", "must be a number above 0 and below 2$"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(UsageError, match=rf"^--set {given}: {said}"):
        tune((Tunable(),), [given])


def test_one_setting_twice_is_refused():
    with pytest.raises(UsageError, match=r"^--set RT298.count=4: count is given twice$"):
        tune((Tunable(),), ["RT298.count=3", "RT298.count=4"])
