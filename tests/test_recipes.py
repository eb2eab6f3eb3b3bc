"""The recipes of CONTRIBUTING, as they are printed: each is one file, discovered both ways, and keeps its contract."""

import importlib
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from conftest import ROOT, RuleTarget, sentences

from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.core import TargetError, UsageError
from redteam.data import Examples, Split
from redteam.formats import FORMATS
from redteam.plugins.registry import choose, discover_attacks, discover_defenses, discover_update_attacks
from redteam.policy.reading import load_policy
from redteam.report import metrics
from redteam.targets.loading import load_target, target_kinds

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = {Path(path).stem: (path, text) for path, text in BLOCKS if not path.startswith("tests/")}
TESTS = {Path(path).stem.removeprefix("test_"): text for path, text in BLOCKS if path.startswith("tests/")}
POINTS = {
    "surprise": ("redteam.attacks", "Surprise"),
    "length": ("redteam.attacks", "Length"),
    "moved_rows": ("redteam.attacks", "MovedRows"),
    "half": ("redteam.defenses", "Half"),
    "typo_rate": ("redteam.metrics", "TypoRate"),
    "oneline": ("redteam.formats", "render"),
    "keywords": ("redteam.targets", "KeywordKind"),
}


@pytest.fixture(params=["a file in the package", "an entry point"])
def plugged(request, tmp_path, monkeypatch):
    """A function that puts a recipe where it is found, and forgets it afterwards."""
    before = set(sys.modules)

    def plug(name):
        path, text = FILES[name]
        folder = tmp_path / "mine"
        folder.mkdir()
        package = importlib.import_module(path.rpartition("/")[0].replace("/", "."))
        (folder / f"{name}.py").write_text(text)
        if request.param == "an entry point":
            group, member = POINTS[name]
            info = folder / "mine-1.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
            (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:{member}\n")
            monkeypatch.syspath_prepend(str(folder))
        else:
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
            importlib.invalidate_caches()

    yield plug
    for module in set(sys.modules) - before:
        if module.rpartition(".")[2] in FILES:
            del sys.modules[module]


def test_every_recipe_has_its_test_and_its_kind():
    assert set(FILES) == set(TESTS) == set(POINTS)


def test_an_attack(plugged):
    plugged("surprise")
    (mine,) = choose(discover_attacks(), ["RT190"])
    members, others = sentences(120, seed=1), sentences(120, seed=2)
    report = audit(RuleTarget(members), Split.of(members, others), controls=(), settings=AuditSettings(fprs=()))
    assert {evidence.attack for evidence in report.evidence} >= {"RT101", mine.id}


def test_a_control(plugged):
    plugged("length")
    members, others = sentences(120, seed=1), sentences(120, seed=2, words=9)
    report = audit(RuleTarget(), Split.of(members, others), (), settings=AuditSettings(fprs=()))
    seen = {control.control: control.auc.low for control in report.controls}
    assert report.grade == "C"
    assert seen["RT990"] > 0.9


def test_an_attack_on_updates(plugged):
    plugged("moved_rows")
    (mine,) = choose(discover_update_attacks(), ["moved rows"])
    assert mine.gives == ("tokens",)


def test_a_defence(plugged):
    plugged("half")
    (mine,) = choose(discover_defenses(), ["half"])
    assert mine.parameters() == {"epochs": 3}


def test_a_metric(plugged, tmp_path):
    plugged("typo_rate")
    (tmp_path / "policy.toml").write_text("max_auc = 0.6\nmax_typo_rate = 0.1\n")
    metrics.metric.cache_clear()
    limits = load_policy(tmp_path / "policy.toml", today=date(2026, 1, 1)).limits
    assert [limit.name for limit in limits] == ["max_auc 0.6", "max_typo_rate 0.1"]
    metrics.metric.cache_clear()


def test_a_format(plugged):
    plugged("oneline")
    assert "oneline" in list(FORMATS)
    assert FORMATS["oneline"].__name__ == "render"
    with pytest.raises(KeyError):
        FORMATS["twolines"]


def test_a_kind_of_target(plugged, tmp_path):
    plugged("keywords")
    path = tmp_path / "mine.keywords"
    path.write_text("drinks: tea coffee\nfruit: apple pear\n")
    target = load_target(str(path))
    asked = Examples(range(2), ("an apple a day", "coffee or tea"), ("fruit", "drinks"))
    assert (target.kind, target.predict(asked).tolist()) == ("keywords", [1, 0])


@pytest.mark.parametrize("name", TESTS)
def test_a_recipe_keeps_its_contract(name, tmp_path, monkeypatch):
    path, text = FILES[name]
    package = importlib.import_module(path.rpartition("/")[0].replace("/", "."))
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    found = {}
    exec(TESTS[name], found)
    found["test_contract"](*([tmp_path] if "(tmp_path)" in TESTS[name] else []))
    del sys.modules[f"{package.__name__}.{name}"]


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_is_in_the_house_style(name):
    path, text = FILES[name]
    ruff = str(ROOT / ".venv" / "bin" / "ruff")
    checks = (["check", "--stdin-filename", path], ["format", "--check", "--stdin-filename", path])
    for check in checks:
        result = subprocess.run([ruff, *check, "-"], input=text, capture_output=True, text=True, cwd=ROOT, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_two_kinds_that_name_one_source_are_refused(plugged, tmp_path, monkeypatch):
    plugged("keywords")
    kinds = target_kinds()
    (keywords,) = (kind for kind in kinds if kind.name == "keywords")
    monkeypatch.setattr("redteam.targets.loading.target_kinds", lambda: (*kinds, keywords))
    with pytest.raises(TargetError, match=r"mine.keywords: is taken for a target of several kinds"):
        load_target(str(tmp_path / "mine.keywords"))


def test_a_broken_package_is_named(tmp_path, monkeypatch):
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[redteam.formats]\nnice = nowhere:render\n[redteam.targets]\nnice = nowhere:Kind\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for use in (lambda: FORMATS["nice"], lambda: load_target("x.pt")):
        with pytest.raises(UsageError, match=r"plug-in nice = nowhere:.* cannot be loaded"):
            use()
