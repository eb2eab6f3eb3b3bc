"""The numbers of a report, and its page as an artefact, in a tracker: MLflow, Weights & Biases, TensorBoard.

Where a run goes is said as the tracker's users say it: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLFLOW_RUN_ID,
WANDB_PROJECT and WANDB_MODE; TensorBoard's files go below `runs`.
"""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from redteam.core import RedteamError, UsageError, one_line
from redteam.integrations.logged import Logged

PAGE = "redteam.html"
_MOST = 1000  # numbers that MLflow takes at once


def tracker_name(name: str) -> str:
    """Return the name of a tracker; UsageError for one that is unknown, or whose package is not installed."""
    if name not in _TRACKERS:
        raise UsageError(f"--log {name}: known are {', '.join(_TRACKERS)}")
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # a folder of that name, as wandb leaves behind, is no package
        package = {"mlflow": "mlflow-skinny"}.get(name, name)
        raise UsageError(f"--log {name}: needs a package that is not installed here: pip install {package}")
    return name


def log(name: str, logged: Logged) -> None:
    """Write what a report comes to to one tracker; RedteamError, in one line, where that fails."""
    with contextlib.redirect_stdout(sys.stderr):  # standard output is the report's
        try:
            _TRACKERS[name](logged)
        except Exception as error:
            raise RedteamError(f"--log {name}: {one_line(error)}") from None


def _numbers(logged: Logged) -> dict[str, float]:
    return {f"redteam/{name}": value for name, value in logged.numbers.items()}


def _about(logged: Logged) -> dict[str, str]:
    return {f"redteam.{name}": value for name, value in logged.about.items()}


def _mlflow(logged: Logged) -> None:
    import mlflow

    with mlflow.start_run():
        numbers = iter(_numbers(logged).items())
        while some := dict(islice(numbers, _MOST)):
            mlflow.log_metrics(some)
        mlflow.set_tags(_about(logged))
        mlflow.log_text(logged.page, PAGE)


def _wandb(logged: Logged) -> None:
    import wandb

    # neither the console, which may name files, nor code or git: what is logged is the report
    settings = wandb.Settings(console="off", disable_git=True, disable_code=True, silent=True)
    with wandb.init(job_type="redteam", config=_about(logged), settings=settings) as run:
        run.log(_numbers(logged))
        page = wandb.Artifact("redteam-report", type="report")
        with page.new_file(PAGE) as file:
            file.write(logged.page)
        run.log_artifact(page)


def _tensorboard(logged: Logged) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = Path("runs") / f"redteam-{datetime.now():%Y%m%d-%H%M%S-%f}"
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _numbers(logged).items()]
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(wall_time=time.time(), step=0, summary=Summary(value=values)))
    writer.close()
    (folder / PAGE).write_text(logged.page, encoding="utf-8")


_TRACKERS: dict[str, Callable[[Logged], Any]] = {"mlflow": _mlflow, "wandb": _wandb, "tensorboard": _tensorboard}
