"""redteam attacks and audits trained text classifiers for privacy leakage.

    from redteam import Split, audit, judge, load_policy, load_target

Each name is imported when it is first asked for: `import redteam` alone loads neither torch nor numpy.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AuditReport": "redteam.report.values",
    "AuditSettings": "redteam.auditing.settings",
    "Columns": "redteam.data",
    "FunctionTarget": "redteam.targets.function",
    "LoopCanaries": "defenses.edpsgd.canaries",
    "PrivateTrainer": "defenses.edpsgd.trainer",
    "Sources": "redteam.auditing.inputs",
    "Split": "redteam.data",
    "audit": "redteam.auditing.run",
    "judge": "redteam.policy.judge",
    "load_policy": "redteam.policy.reading",
    "load_report": "redteam.report.reading",
    "load_target": "redteam.targets.loading",
    "open_inputs": "redteam.auditing.inputs",
    "read_examples": "redteam.data",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'redteam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
