"""What would be uploaded to an index is what the index takes."""

import subprocess
import sys

import pytest
from conftest import needs
from test_package import build, build_sdist

pytestmark = [pytest.mark.integration, needs("twine")]


def test_both_distributions_pass_the_check_of_the_index(tmp_path):
    (tmp_path / "wheel").mkdir(), (tmp_path / "sdist").mkdir()
    built = [build(tmp_path / "wheel"), build_sdist(tmp_path / "sdist")]
    command = [sys.executable, "-m", "twine", "check", "--strict", *built]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
