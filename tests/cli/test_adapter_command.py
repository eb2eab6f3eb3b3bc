"""An adapter on the command line: packed and audited on top of its base, and refused in one line."""

import json
import sys

import pytest
from conftest import ROOT
from forks import fast
from materials import SIDES, fails, furnished

sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "models")]
from test_adapters import QUERY, adapter, head, pair
from tiny_models import directory, model


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with furnished(tmp_path_factory.mktemp("adapters")) as folder:
        names = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
        directory(folder / "base", made=model(**names))
        adapter(folder / "named", pair(QUERY) | head(), folder / "base")
        adapter(folder / "unnamed", pair(QUERY) | head(), "somebody/model")
        yield folder


def test_it_is_packed_on_top_of_its_base(bench):
    named = fast("pack", "named", "-o", "named.pt", cwd=bench)
    given = fast("pack", "unnamed", "--adapter-base", "base", "-o", "given.pt", cwd=bench)
    assert (named.returncode, given.returncode) == (0, 0)
    assert f"named: merged the adapter onto {bench / 'base'}; its labels are those of" in named.stderr
    assert named.stderr.split("digest")[1] == given.stderr.split("digest")[1]


def test_it_is_audited_on_top_of_its_base(bench):
    """A random model tells nothing apart; what is asked here is that the same model is audited as when packed."""
    fast("pack", "named", "-o", "named.pt", cwd=bench)
    how = ("--max-length", "30", "--batch-size", "64", "--device", "cpu", "-f", "json", "--adapter-base", "base")
    result = fast("audit", "unnamed", *SIDES, *how, cwd=bench)
    packed = fast("audit", "named.pt", *SIDES, *how[:-2], cwd=bench)
    first, second = (json.loads(each.stdout) for each in (result, packed))
    assert first["target"]["kind"] == "directory, texts cut at 30 tokens"
    assert second["target"]["kind"] == "bundle, texts cut at 30 tokens"
    assert first["target"]["digest"] == second["target"]["digest"]
    assert first["evidence"] == second["evidence"]


def test_it_is_refused_in_one_line(bench):
    assert "give it with --adapter-base DIR" in fails(bench, "audit", "unnamed", *SIDES)
    assert "--adapter-base none is no directory" in fails(
        bench, "pack", "unnamed", "--adapter-base", "none", "-o", "x.pt"
    )
    assert "merge the two with redteam pack" in fails(bench, "train", "data.csv", "--model", "named", "-o", "y.pt")


def test_a_directory_that_takes_too_long(bench):
    said = fails(bench, "pack", "named", "--open-seconds", "0.001", "-o", "x.pt")
    assert "s to be opened: refused; --open-seconds" in said
    said = fails(bench, "audit", "named", *SIDES, "--open-memory", "0.00001")
    assert "--open-memory gives an honest one more" in said
