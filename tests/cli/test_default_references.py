"""References where nothing is said: trained where the ledger knows how and that is little work, else said."""

from dataclasses import replace

import pytest
from conftest import ROOT, learnable, run_redteam

from redteam.auditing.inputs import Sources, open_inputs
from redteam.cli import references as cli
from redteam.cli.options import OpeningOptions
from redteam.core import UsageError
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


def test_eight_are_trained_where_that_is_little_work_and_an_attack_uses_them(inputs, tmp_path, as_a_reader):
    found = provided(inputs, tmp_path)
    assert isinstance(found, TrainedReferences)
    assert isinstance(found.trainer, LedgerRecipe)
    assert (found.models, found.optional) == (8, True)
    assert provided(inputs, tmp_path, references=0) is None
    given = cli.ReferenceSources(inputs, str(SAFE), None, None, 0, tmp_path, OpeningOptions())
    assert cli.provider(cli.ReferenceOptions(), given, used=False) is None


def test_what_is_much_work_is_said_and_left(inputs, tmp_path, monkeypatch, as_a_reader):
    said = []
    monkeypatch.setattr(cli, "say", said.append)
    monkeypatch.setattr(cli, "MOST_WORK", 1e10)
    assert provided(inputs, tmp_path) is None
    assert said == [
        "audited without reference models, a weaker attack: --references 8 takes 5.9e+10 weights x tokens x passes, "
        "5.9 times what is trained unasked"
    ]


def test_the_environment_may_say_that_nothing_is_trained_unasked(inputs, tmp_path, monkeypatch):
    assert provided(inputs, tmp_path) is None  # as all tests are told
    assert provided(inputs, tmp_path, references=3).models == 3
    monkeypatch.setenv("REDTEAM_REFERENCES", "many")
    with pytest.raises(UsageError, match="REDTEAM_REFERENCES=many: must be 0 or 8"):
        provided(inputs, tmp_path)


def test_a_training_that_fails_unasked_is_said_and_the_audit_does_without(inputs, tmp_path, monkeypatch):
    told = []
    few = replace(provided(inputs, tmp_path, references=2), optional=True, tell=told.append)
    assert few.scores(inputs.split.members.take([0])) is None
    assert told == ["audited without reference models: 1 audited row: reference models need at least 20"]


def test_a_target_with_a_frozen_encoder_is_trained_and_audited_with_references(tmp_path):
    rows = learnable(120, seed=5)
    lines = [f"{text},{label}\n" for text, label in zip(rows.texts, rows.labels, strict=True)]
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(lines))
    frozen = ("--set", "freeze_encoder=true", "--set", "epochs=2", "--model", "minilm", "--layers", "1")
    made = run_redteam("train", "data.csv", *frozen, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = run_redteam("audit", "model.pt", "--references", "4", "-v", cwd=tmp_path)
    assert "4 reference models trained by RD100 (plain)" in " ".join(done.stdout.split()), done.stderr
