"""How a target is opened and asked, as options: which kind each is for, and what the target's own setting is called."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam.cli import options as o
from redteam.core import UsageError, read_text

_SETTINGS = {"adapter_base": "base_model", "request_budget": "budget", "header": "headers"}  # others keep their name
_OF_MODELS = ("adapter_base", "max_length", "device")


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What is given for the target; None leaves its own setting."""

    adapter_base: o.AdapterBase = None
    max_length: o.MaxLength = None
    device: o.Device = None
    batch_size: o.BatchSize = None
    timeout: o.Timeout = None
    retries: o.Retries = None
    request_budget: o.RequestBudget = None
    token_env: o.TokenVariable = None
    api: o.Api = None
    request_template: o.RequestTemplate = None
    response_path: o.ResponsePath = None
    header: o.Headers = None
    labels: o.Labels = None

    def settings(self, target: str | None, opening: o.OpeningOptions = o.USUAL_LIMITS) -> dict[str, Any]:
        """Return the settings for a target, None where scores are read instead; UsageError for those it does not have.

        The labels are for every black box: a function has an order of its answers too.
        """
        given = {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, [])}
        labels, most = given.pop("labels", None), opening.limits()
        exists = target is not None and Path(target).exists()
        for name in given:
            if name in _OF_MODELS and not exists:
                raise UsageError(f"{_flag(name)} is for models, a file or a directory; {target or '--scores'} is none")
            for_all = name == "batch_size" and target is not None
            if name not in _OF_MODELS and not for_all and not is_url(target):
                raise UsageError(f"{_flag(name)} is for http(s) targets; {target or '--scores'} is none")
        settings = {_SETTINGS.get(name, name): value for name, value in given.items()}
        if target and Path(target).is_dir():
            settings["limits"] = most
        if labels is None:
            return settings
        if target is None or exists or not (is_url(target) or ":" in target):
            raise UsageError(f"--labels is for endpoints and functions; {target or '--scores'} names its labels itself")
        return settings | {"labels": _label_list(labels)}


def is_url(target: str | None) -> bool:
    """Tell whether a target's name is that of an endpoint."""
    return (target or "").startswith(("http://", "https://"))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _label_list(said: str) -> list[str]:
    """Return the labels of a list with commas, or of the lines of a file; UsageError where there are not two."""
    try:
        lines = read_text(Path(said)).splitlines() if Path(said).is_file() else said.split(",")
    except (OSError, ValueError) as error:
        raise UsageError(f"--labels {said[:80]}: cannot be read ({type(error).__name__})") from None
    labels = [line.strip() for line in lines if line.strip()]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UsageError(f"--labels {said[:80]}: wanted two or more different labels, a,b,c or a file of one a line")
    return labels
