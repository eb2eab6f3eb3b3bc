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
from pathlib import Path
from typing import Any

from redteam.core import RedteamError, UsageError, one_line
from redteam.integrations.judged import Judged

PAGE = "redteam.html"


def tracker_name(name: str) -> str:
    """Return the name of a tracker; UsageError for one that is unknown, or whose package is not installed."""
    if name not in _TRACKERS:
        raise UsageError(f"--log {name}: known are {', '.join(_TRACKERS)}")
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # a folder of that name, as wandb leaves behind, is no package
        package = {"mlflow": "mlflow-skinny"}.get(name, name)
        raise UsageError(f"--log {name}: needs a package that is not installed here: pip install {package}")
    return name


def log(name: str, judged: Judged) -> None:
    """Write a judged report to one tracker; RedteamError, in one line, where that fails."""
    with contextlib.redirect_stdout(sys.stderr):  # standard output is the report's
        try:
            _TRACKERS[name](judged)
        except Exception as error:
            raise RedteamError(f"--log {name}: {one_line(error)}") from None


def _numbers(judged: Judged) -> dict[str, float]:
    return {f"redteam/{name}": value for name, value in judged.numbers().items()}


def _about(judged: Judged) -> dict[str, str]:
    report = judged.report
    said = {"target": report.target.name, "digest": report.target.digest or "", "grade": report.grade}
    return {f"redteam.{name}": value for name, value in {**said, "verdict": judged.verdict.status}.items()}


def _mlflow(judged: Judged) -> None:
    import mlflow

    with mlflow.start_run():
        mlflow.log_metrics(_numbers(judged))
        mlflow.set_tags(_about(judged))
        mlflow.log_text(judged.render("html"), PAGE)


def _wandb(judged: Judged) -> None:
    import wandb

    # neither the console, which may name files, nor code or git: what is logged is the report
    settings = wandb.Settings(console="off", disable_git=True, disable_code=True, silent=True)
    with wandb.init(job_type="redteam", config=_about(judged), settings=settings) as run:
        run.log(_numbers(judged))
        page = wandb.Artifact("redteam-report", type="report")
        with page.new_file(PAGE) as file:
            file.write(judged.render("html"))
        run.log_artifact(page)


def _tensorboard(judged: Judged) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = Path("runs") / f"redteam-{datetime.now():%Y%m%d-%H%M%S-%f}"
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _numbers(judged).items()]
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(wall_time=time.time(), step=0, summary=Summary(value=values)))
    writer.close()
    (folder / PAGE).write_text(judged.render("html"), encoding="utf-8")


_TRACKERS: dict[str, Callable[[Judged], Any]] = {"mlflow": _mlflow, "wandb": _wandb, "tensorboard": _tensorboard}
