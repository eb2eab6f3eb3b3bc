"""Every format of every sample report, byte for byte.

After a change that is meant, `REDTEAM_REGENERATE=1 python -m pytest tests/formats` writes the files anew:
read the diff before committing it.
"""

import os
import re
from pathlib import Path

import pytest
from sample_reports import SAMPLES

from redteam.formats import FORMATS

GOLDEN = Path(__file__).parent / "golden"
STYLE = re.compile(r"(?<=<style>).*(?=</style>)", re.DOTALL)
SUFFIXES = {"text": "txt", "json": "json", "markdown": "md", "sarif": "sarif", "junit": "xml", "html": "html"}


@pytest.mark.parametrize("format", SUFFIXES)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_what_it_was(name, format):
    sample = SAMPLES[name]
    drawn = FORMATS[format](sample.report, sample.judged(), policy=sample.policy, verbose=True)
    drawn = STYLE.sub("", drawn)  # how a page looks is no part of what it says
    path = GOLDEN / f"{name}.{SUFFIXES[format]}"
    if os.environ.get("REDTEAM_REGENERATE"):
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    known = {f"{name}.{suffix}" for name in SAMPLES for suffix in SUFFIXES.values()}
    assert {path.name for path in GOLDEN.iterdir()} == known
    assert set(SUFFIXES) == set(FORMATS)
