"""The plug-in in a pytest of its own, found by the entry point that pyproject.toml names."""

import os
import tomllib

import pytest
from conftest import ROOT

from redteam.core import PolicyError
from redteam.integrations.pytest import assert_no_leak

pytest_plugins = "pytester"
GOLDEN = ROOT / "tests" / "formats" / "golden"
POLICY = ROOT / "fixtures" / "policy.toml"


@pytest.fixture
def inner(pytester, monkeypatch):
    """A project beside which the plug-in is installed; warnings are errors."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    info = pytester.mkdir("installed") / "made-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made\nVersion: 1\n")
    named = "\n".join(f"{name} = {value}" for name, value in groups["pytest11"].items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{named}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(info.parent), str(ROOT))))

    def run(tests, *options):
        pytester.makepyfile(tests)
        return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options)

    return run


def test_a_project_that_asks_for_nothing_imports_nothing_heavy(inner):
    ran = inner("""
        import sys

        def test_what_is_there(pytestconfig):
            assert pytestconfig.pluginmanager.get_plugin("redteam").__name__ == "redteam.integrations.pytest"
            ours = {name for name in sys.modules if name.split(".")[0] in ("redteam", "attacks", "defenses")}
            assert ours == {"redteam", "redteam.integrations", "redteam.integrations.pytest"}
            assert not {"numpy", "torch", "sklearn", "transformers"} & set(sys.modules)
    """)
    ran.assert_outcomes(passed=1)


def test_a_model_is_audited_and_a_leak_fails_the_test(inner):
    ran = inner(f"""
        from redteam.integrations.pytest import assert_no_leak

        def check(redteam_audit, name):
            model = f"{ROOT}/fixtures/{{name}}/model.pt"
            assert_no_leak(redteam_audit(model, "--policy", "{POLICY}", "--attack", "RT101"), "{POLICY}")

        def test_leaky(redteam_audit):
            check(redteam_audit, "leaky")

        def test_absent(redteam_audit):
            check(redteam_audit, "absent")
    """)
    ran.assert_outcomes(failed=2)
    ran.stdout.fnmatch_lines(["*AssertionError: LEAK:*", "*absent/model.pt: no such file*"])
    ran.stdout.no_fnmatch_line("*subprocess.run*")


def test_reports_are_held_against_a_policy():
    assert_no_leak(GOLDEN / "safe.json")
    assert_no_leak(str(GOLDEN / "safe.json"), None)
    with pytest.raises(AssertionError, match=r"^LEAK: "):
        assert_no_leak(GOLDEN / "leaky.json")
    with pytest.raises(PolicyError, match=r"absent\.toml"):
        assert_no_leak(GOLDEN / "safe.json", "absent.toml")


def test_what_is_inconclusive_is_no_pass():
    with pytest.raises(AssertionError, match="INCONCLUSIVE"):
        assert_no_leak(GOLDEN / "grade_c.json")
