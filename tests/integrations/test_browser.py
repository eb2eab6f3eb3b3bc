"""The pages in a real browser: three widths, light and dark, printed, by keyboard, and by axe-core."""

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "tests" / "verify"))
from saved_verifications import VIOLATED, document

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
AXE = ROOT / ".venv-integrations" / "axe" / "package" / "axe.min.js"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("default"),
]
SAVED = {
    "leaky": ROOT / "fixtures" / "leaky" / "report.json",
    "canaries": ROOT / "tests" / "formats" / "golden" / "canaries.json",
    "hostile": ROOT / "tests" / "formats" / "golden" / "hostile.json",
    "gap": ROOT / "docs" / "records" / "gap-snips.json",
    "drill": ROOT / "docs" / "records" / "drill-labels.json",
    "verification": None,
    "comparison": None,
}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make test-integrations")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module", params=SAVED)
def page_file(request, tmp_path_factory):
    from forks import fast

    folder = tmp_path_factory.mktemp("pages")
    saved = SAVED[request.param] or folder / "saved.json"
    if request.param == "verification":
        saved.write_text(json.dumps(document(VIOLATED)), encoding="utf-8")
    elif request.param == "comparison":
        fast("compare", SAVED["canaries"], SAVED["hostile"], "-f", "json", "-o", saved, cwd=folder)
    assert fast("report", saved, "-o", "page.html", cwd=folder).returncode == 0
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_a_page_fits_its_width_and_says_no_error(browser, page_file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(page.screenshot(full_page=True)) > 10_000
    assert said == []
    assert asked == [page_file.as_uri()]
    page.close()


def test_a_page_prints_whole(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.emulate_media(media="print")
    hidden = "[...document.querySelectorAll('details')].filter(each => each.lastElementChild.offsetHeight === 0).length"
    assert page.evaluate(hidden) == 0
    page.close()


def test_the_keyboard_reaches_everything_in_order(browser, page_file):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    tops, tags = [], []
    while True:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body") or len(tags) > 500:
            break
        tags.append(page.evaluate("document.activeElement.tagName"))
        tops.append(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert tags[0] == "A"
    assert tags.count("SUMMARY") == page.locator("summary:visible").count()
    assert tops == sorted(tops)
    page.close()


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: make test-integrations fetches it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, page_file, scheme):
    page = browser.new_context(bypass_csp=True, color_scheme=scheme).new_page()
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    page.close()
