"""The example pages of the site are what is drawn today of the reports that they are of."""

import re
import sys

import pytest
from conftest import ROOT
from excerpts import REGENERATE

sys.path.append(str(ROOT / "docs" / "make"))
from example_pages import EXAMPLES, pages

DRAWN = pages()


@pytest.mark.parametrize("name", DRAWN)
def test_an_example_is_drawn_as_today(name):
    if REGENERATE:
        (EXAMPLES / name).write_text(DRAWN[name], encoding="utf-8")
    page = (EXAMPLES / name).read_text(encoding="utf-8")
    assert page == DRAWN[name], "run: make docs (or: python docs/make/example_pages.py)"
    assert len(page.encode()) < 1_000_000
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", page)


def test_every_example_is_drawn_and_linked():
    assert {path.name for path in EXAMPLES.iterdir()} == set(DRAWN)
    linked = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert all(f"(examples/{name})" in linked for name in DRAWN)
