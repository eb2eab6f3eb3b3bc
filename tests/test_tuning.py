"""Settings of attacks from the command line: what is taken, and one line for what is not."""

from dataclasses import dataclass
from typing import Literal

import pytest
from enumeration import Enumeration

from redteam.core.errors import UsageError
from redteam.plugins.registry import discover_extractions
from redteam.plugins.settings import settings_of, tune


@dataclass(frozen=True)
class Tunable(Enumeration):
    id = "RT298"

    count: int = 3
    rate: float = 0.5
    hold: int | None = 24
    kind: Literal["soft", "hard"] = "soft"


def test_settings_are_changed_and_the_others_stay():
    plain, tuned = tune((Enumeration(), Tunable()), ["rt298.hold=none", "RT298.kind=hard", "RT298.rate=1e-3"])
    assert type(plain) is Enumeration
    assert tuned == Tunable(3, 0.001, None, "hard")
    assert settings_of(plain) == {}
    assert settings_of(tuned) == {"count": 3, "rate": 0.001, "hold": None, "kind": "hard"}


def test_every_setting_of_every_attack_can_be_given_as_it_is():
    for attack in discover_extractions():
        given = [f"{attack.id}.{name}={value}" for name, value in settings_of(attack).items()]
        assert tune((attack,), given) == (attack,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("RT298", "write ID.NAME=VALUE"),
        ("RT298.count", "write ID.NAME=VALUE"),
        ("RT298.count=", "write ID.NAME=VALUE"),
        ("RT297.count=1", "RT297 is not among the attacks that are run: RT298"),
        ("RT298.speed=1", "RT298 has no setting 'speed'; it has count, rate, hold, kind"),
        ("RT298.count=0", "must be a whole number above 0$"),
        ("RT298.count=1.5", "must be a whole number above 0$"),
        ("RT298.count=none", "must be a whole number above 0$"),
        ("RT298.hold=-1", "must be a whole number above 0, or none$"),
        ("RT298.rate=nan", "must be a number above 0$"),
        ("RT298.rate=inf", "must be a number above 0$"),
        ("RT298.kind=loud", "must be one of soft, hard$"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(UsageError, match=rf"^--set {given}: {said}"):
        tune((Tunable(),), [given])
