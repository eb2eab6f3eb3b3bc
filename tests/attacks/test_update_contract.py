"""Every attack on updates, and their control, keep their contracts."""

import pytest

from redteam.plugins.registry import (
    discover_update_attacks,
    discover_update_controls,
    discover_update_membership,
)
from redteam.testing import check_update_attack, check_update_control, check_update_membership


@pytest.mark.parametrize("attack", discover_update_attacks(), ids=lambda attack: attack.id)
def test_attacks(attack):
    check_update_attack(attack)


@pytest.mark.parametrize("attack", discover_update_membership(), ids=lambda attack: attack.id)
def test_attacks_that_ask_for_texts(attack):
    check_update_membership(attack)


@pytest.mark.parametrize("control", discover_update_controls(), ids=lambda control: control.id)
def test_controls(control):
    check_update_control(control)
