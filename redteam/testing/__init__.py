"""Contract tests for whoever writes a plug-in: what all that plugs in keeps to.

Each function raises AssertionError with one line that says what is broken, and needs no pytest:

    from redteam.testing import check_attack

    def test_my_attack():
        check_attack(MyAttack)

Ours are held to the same.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redteam.testing.attacks import check_attack
    from redteam.testing.controls import check_control
    from redteam.testing.defenses import check_defense
    from redteam.testing.examples import RuleTarget, sentences
    from redteam.testing.formats import check_format
    from redteam.testing.metrics import check_metric
    from redteam.testing.targets import check_target
    from redteam.testing.updates import check_update_attack, check_update_control, check_update_membership

_HOMES = {
    "RuleTarget": "examples",
    "check_attack": "attacks",
    "check_control": "controls",
    "check_defense": "defenses",
    "check_format": "formats",
    "check_metric": "metrics",
    "check_target": "targets",
    "check_update_attack": "updates",
    "check_update_control": "updates",
    "check_update_membership": "updates",
    "sentences": "examples",
}
__all__ = [
    "RuleTarget",
    "check_attack",
    "check_control",
    "check_defense",
    "check_format",
    "check_metric",
    "check_target",
    "check_update_attack",
    "check_update_control",
    "check_update_membership",
    "sentences",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'redteam.testing' has no attribute {name!r}")
    return getattr(import_module(f"redteam.testing.{_HOMES[name]}"), name)
