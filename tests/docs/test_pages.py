"""What the README and docs/ say holds: links, ids, policies, Python, the picture."""

import re
import sys
import tomllib
from datetime import date

import pytest
import yaml
from conftest import ROOT
from forks import fast
from pages import PAGES, blocks

from redteam import __version__
from redteam.policy.reading import load_policy

sys.path.append(str(ROOT / "docs" / "make"))
from picture import THEMES, draw, trainings

pytestmark = pytest.mark.usefixtures("as_a_reader")
README = ROOT / "README.md"
PYTHON = [block for block in blocks("python") if block.page != ROOT / "CONTRIBUTING.md"]  # which has tests of its own


def anchors(page):
    """The anchors of a page's headings, as both GitHub and mkdocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_is_dead(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_the_readme_is_short_and_names_the_field():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for words in ("embership-inference", "anary-extraction", "differentially private", "LICENSE", "CITATION.cff"):
        assert words in text


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("README.md", "attacks"),
        ("docs/audit.md", "attacks"),
        ("README.md", "defenses"),
        ("docs/train-privately.md", "defenses"),
    ],
)
def test_the_tables_name_every_attack_and_defence(page, kind, tmp_path):
    known = set(re.findall(r"^R[TD]\d+", fast(kind, cwd=tmp_path).stdout, flags=re.MULTILINE))
    named = set()
    for row in re.findall(r"^\| (R[TD][^|]*)\|", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE):
        first, *_, last = re.findall(r"\d+", row) * 2
        named |= {f"{row[:2]}{number}" for number in range(int(first), int(last) + 1)}
    kind_of = next(iter(known))[:2]
    assert known == {each for each in named if each.startswith(kind_of)}


@pytest.mark.parametrize("block", [b for b in blocks("toml") if "max_auc" in b.text], ids=str)
def test_policies_are_read(block, tmp_path):
    (tmp_path / "policy.toml").write_text(block.text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.toml", today=date(2026, 1, 1)).require
    optional = re.sub(r"^# (max_)", r"\1", block.text, flags=re.MULTILINE)
    (tmp_path / "policy.toml").write_text(optional, encoding="utf-8")
    load_policy(tmp_path / "policy.toml", today=date(2026, 1, 1))


@pytest.mark.parametrize("block", [b for b in blocks("toml") if "entry-points" in b.text], ids=str)
def test_the_groups_of_entry_points_exist(block):
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "redteam").rglob("*.py"))
    for group in tomllib.loads(block.text)["project"]["entry-points"]:
        assert f'"{group}"' in source, group


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_the_python_examples_print_what_is_shown(block, tmp_path):
    after = block.page.read_text(encoding="utf-8").partition(block.text)[2]
    shown = re.match(r"```\n\n```text\n(.*?)```", after, flags=re.DOTALL)
    assert shown, "what it prints stands in a text block right after it"
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    result = fast(cwd=tmp_path, before=f"{block.text}\nimport os, sys\nsys.stdout.flush(), os._exit(0)")
    assert result.returncode == 0, result.stderr
    assert result.stdout == shown[1]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_is_that_of_the_records(theme):
    drawn = (ROOT / "docs" / "images" / f"line-{theme}.svg").read_text(encoding="utf-8")
    assert drawn == draw(theme), "run: make docs (or: python docs/make/picture.py)"


def test_the_trainings_of_the_picture_keep_the_line():
    shown = trainings()
    assert len(shown) == 5
    assert all(each.low <= each.accounted for each in shown if each.accounted is not None)
