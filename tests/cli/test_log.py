"""`--log`: a tracker that cannot be had is refused before anything is done, in one line."""

import pytest
from conftest import ROOT
from forks import fast
from materials import error_line

SAFE = ROOT / "tests" / "formats" / "golden" / "safe.json"
HIDDEN = """
import importlib.util as _util
_found = _util.find_spec
_util.find_spec = lambda name, *more: None if name in ("mlflow", "tensorboard") else _found(name, *more)
"""


@pytest.mark.parametrize(
    ("command", "name", "said"),
    [
        (("audit", "absent.pt"), "mlflow", "pip install mlflow-skinny"),
        (("gate", "absent.json"), "tensorboard", "pip install tensorboard"),
        (("gap", "absent.csv", "-o", "x"), "mlflow", "pip install mlflow-skinny"),
        (("drill", "absent.csv", "-o", "x"), "mlflow", "pip install mlflow-skinny"),
        (("verify", "dpsgd"), "mlflow", "pip install mlflow-skinny"),
        (("compare", "absent.json", "absent.json"), "mlflow", "pip install mlflow-skinny"),
        (("audit", "absent.pt"), "neptune", "known are mlflow, wandb, tensorboard"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_the_work(tmp_path, command, name, said):
    line = error_line(fast(*command, "--log", name, cwd=tmp_path, before=HIDDEN))
    assert line.startswith(f"redteam: --log {name}: ")
    assert said in line


def test_a_folder_of_that_name_is_no_package(tmp_path):
    """As wandb itself leaves behind where it wrote a run."""
    (tmp_path / "aim").mkdir()
    program = (
        "import redteam.integrations.trackers as t; t._TRACKERS['aim'] = print; import sys; sys.path.insert(0, '.')"
    )
    line = error_line(fast("gate", SAFE, "--log", "aim", cwd=tmp_path, before=program))
    assert "pip install aim" in line


def test_without_it_nothing_is_logged(tmp_path):
    done = fast("gate", SAFE, cwd=tmp_path)
    assert done.returncode == 0
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]
