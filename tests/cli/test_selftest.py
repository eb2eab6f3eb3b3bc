from forks import fast


def test_the_tool_is_right_on_this_machine(tmp_path):
    result = fast("selftest", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [line[:6] for line in result.stdout.splitlines()] == ["ok    "] * 3
    assert result.stderr.splitlines()[-1] == "the tool is right about all of them"  # after what a slow machine shows
    assert list(tmp_path.iterdir()) == []


BLIND = """
import redteam.auditing.measure as audit
audit.area_interval = lambda ranking, alpha, low_share: audit.Interval(0.5, 0.4, 0.6, alpha)
audit.tpr_interval = lambda ranking, fpr, alpha, seed: audit.Interval(0.01, 0.0, 0.02, alpha)
"""


def test_a_tool_that_is_wrong_says_so(tmp_path):
    result = fast("selftest", cwd=tmp_path, before=BLIND)
    assert result.returncode == 2
    assert result.stdout.startswith("WRONG  a model that certainly leaks is failed: exit ")
    assert result.stderr.splitlines()[-1] == "the tool is wrong on this machine: do not trust its verdicts here"
