"""References where nothing is said: trained where the ledger knows how and that is little work, else said."""

import pytest
from conftest import ROOT, learnable, run_redteam

from redteam.auditing.inputs import Sources, open_inputs
from redteam.cli import references as cli
from redteam.cli.options import OpeningOptions
from redteam.references.recipe import LedgerRecipe
from redteam.references.trained import TrainedReferences

SAFE = ROOT / "fixtures" / "safe" / "model.pt"


@pytest.fixture(scope="module")
def inputs():
    return open_inputs(str(SAFE), Sources(), {})


def provided(inputs, folder, **options):
    given = cli.ReferenceOptions(**options)
    given.check()
    return cli.provider(given, cli.ReferenceSources(inputs, str(SAFE), None, None, 0, folder, OpeningOptions()))


def test_switched_on_they_are_trained_where_that_is_little_work(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "BY_DEFAULT", 2)
    monkeypatch.setattr(cli, "MOST_WORK", 1e15)
    found = provided(inputs, tmp_path)
    assert isinstance(found, TrainedReferences)
    assert isinstance(found.trainer, LedgerRecipe)
    assert found.models == 2
    assert provided(inputs, tmp_path, references=0) is None


def test_what_is_much_work_is_said_and_left(inputs, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(cli, "say", said.append)
    monkeypatch.setattr(cli, "BY_DEFAULT", 2)
    monkeypatch.setattr(cli, "MOST_WORK", 1.0)
    assert provided(inputs, tmp_path) is None
    assert "audited without reference models, a weaker attack: --references 2 would take " in said[0]
    assert said[0].endswith(" weights x tokens x passes")


def test_switched_off_nothing_is_trained_unasked(inputs, tmp_path):
    assert cli.BY_DEFAULT == 0
    assert provided(inputs, tmp_path) is None
    assert provided(inputs, tmp_path, references=3).models == 3


def test_a_target_with_a_frozen_encoder_is_trained_and_audited_with_references(tmp_path):
    rows = learnable(120, seed=5)
    lines = [f"{text},{label}\n" for text, label in zip(rows.texts, rows.labels, strict=True)]
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(lines))
    frozen = ("--set", "freeze_encoder=true", "--set", "epochs=2", "--model", "minilm", "--layers", "1")
    made = run_redteam("train", "data.csv", *frozen, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = run_redteam("audit", "model.pt", "--references", "4", cwd=tmp_path)
    assert "4 reference models trained by RD100 (plain)" in " ".join(done.stdout.split()), done.stderr
