"""The gap experiment: which cells there are, what of them is kept, and how they become rows and verdicts."""

import json
import stat
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import sentences
from gap_doubles import Boaster, Clumsy, cell, evidence, numbers

from attacks.membership.loss import LossThreshold
from defenses.plain import Plain
from redteam.core import DataError, UsageError
from redteam.core.identity import foreign_code
from redteam.data import Columns, read_examples
from redteam.experiments import cells as shared_cells
from redteam.experiments.cells import run_cells
from redteam.experiments.gap.cells import GapTask, gap_tasks, open_gap
from redteam.experiments.gap.grid import GapCell, choose_trainers, gap_grid, parse_epsilons
from redteam.experiments.gap.page import outcome
from redteam.experiments.gap.report import GapResult
from redteam.experiments.gap.run import report_gap
from redteam.experiments.gap.table import render_text
from redteam.experiments.report import FailedCell
from redteam.experiments.setup import Trainer
from redteam.plugins.registry import discover_defenses
from redteam.training.train import ModelChoice

KNOWN = discover_defenses()
FAKES = (Trainer("plain", Plain(1)), Trainer("boaster", Boaster()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    rows = sentences(240, seed=1)
    pairs = zip(rows.texts, rows.labels, strict=True)
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs))
    return path


def tasks(data, folder, *, epsilons=(None, 8.0), seeds=1, trainers=FAKES):
    folder.mkdir(exist_ok=True)
    setup, _ = open_gap(data, folder, [LossThreshold()], model=ModelChoice("tiny", 1))
    return gap_tasks(setup, trainers, gap_grid(trainers, epsilons, seeds), folder)


def run(some, **options):
    return {task.cell: numbers(result) for task, result in run_cells(some, **options)}


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A finished experiment: its folder and its numbers."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(tasks(data, folder))


def test_epsilons_are_read_as_written():
    assert parse_epsilons("inf, 16,0.5,8.0,8") == (None, 16.0, 0.5, 8.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty list"),
        (" , ", "an empty list"),
        ("8,0", "--epsilon 0: must be above 0"),
        ("-1", "must be above 0"),
        ("nan", "--epsilon nan: must be above 0"),
        ("-inf", "must be above 0"),
        ("eight", "'eight': is no number"),
    ],
)
def test_what_is_no_epsilon_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse_epsilons(text)


def test_plain_is_trained_once_a_seed_and_private_trainers_at_every_epsilon():
    cells = gap_grid(FAKES, (None, 8.0, 2.0), 2)
    assert [c for c in cells if c.trainer == "plain"] == [GapCell("plain", None, 0), GapCell("plain", None, 1)]
    assert len(cells) == len(set(cells)) == 2 * (1 + 3)
    assert len({c.folder for c in cells}) == len(cells)


def test_close_epsilons_have_folders_of_their_own():
    assert GapCell("x", 1.0000001, 0).folder != GapCell("x", 1.0000002, 0).folder


def test_trainers_are_chosen_by_name_or_id_and_given_the_settings():
    found = (Plain(), Boaster())
    asked, private = {"epochs": 7, "batch_size": 16}, {"delta": 1e-6, "batch_size": 64, "epochs": None}
    plain, boaster = choose_trainers(["PLAIN", "rd901"], found, asked, private)
    assert plain.defense == Plain(7, 16)
    assert boaster.at(2.0) == Boaster(2.0, None, 1e-6, 7, 64)
    assert boaster.at(None) == Boaster(None, 0.0, 1e-6, 7, 64)


def test_the_four_trainers_are_defences_that_there_are():
    names = ["plain", "dpsgd", "edpsgd", "microbatch", "RD102"]
    chosen = {t.name: t.defense.parameters() | {"id": t.defense.id} for t in choose_trainers(names, KNOWN, {})}
    assert [p["id"] for p in chosen.values()] == ["RD100", "RD101", "RD102", "RD102"]
    assert chosen["edpsgd"]["clipping"] == "example"
    assert (chosen["microbatch"]["clipping"], chosen["microbatch"]["calibrate_to"]) == ("microbatch", "nominal")


def test_unknown_trainers_and_settings_are_refused():
    with pytest.raises(UsageError, match=r"--trainer 'magic': known are plain, .*boaster"):
        choose_trainers(["magic"], (Plain(), Boaster()), {})
    with pytest.raises(UsageError, match="an empty list"):
        choose_trainers([], (Plain(),), {})
    with pytest.raises(UsageError, match=r"learning_rate: RD901 .boaster. has no such setting"):
        choose_trainers(["boaster"], (Plain(), Boaster()), {"learning_rate": 0.1})


def test_a_cell_holds_what_training_and_attack_gave(unbroken):
    folder, results = unbroken
    plain, boaster = results[GapCell("plain", None, 0)], results[GapCell("boaster", 8.0, 0)]
    assert plain.guarantee is None
    assert boaster.guarantee.accounted.epsilon == 8.0
    assert plain.members + plain.nonmembers == 240
    assert plain.accuracy.low <= plain.accuracy.value <= plain.accuracy.high
    assert {(e.metric, e.fpr) for e in plain.evidence} >= {("auc", None), ("tpr", 0.01)}
    names = {path.name for path in (folder / "plain-inf-seed0").iterdir()}
    apart = {"canaries.pt", "canaries.ledger.json", "canaries.planted.pt"}
    assert names == {"model.pt", "model.ledger.json", "report.json", "cell.json"} | apart


def test_canaries_take_nothing_from_a_model_that_clips_nothing(data, unbroken, tmp_path):
    """They are in a training of their own, by the same settings, so that accuracy is what it is without any."""
    (planted,) = tasks(data, unbroken[0], trainers=FAKES[:1])
    (bare,) = (
        replace(task, setup=replace(task.setup, canaries=0)) for task in tasks(data, tmp_path, trainers=FAKES[:1])
    )
    ((_, found),) = run_cells([bare])
    result = planted.take()
    assert result.accuracy == found.accuracy
    assert result.accuracy_members == found.accuracy_members
    assert not [e for e in found.evidence if e.attack == "label-canaries"]
    shown = {e.signal: e for e in result.evidence if e.attack == "label-canaries"}
    assert shown.keys() >= {"all updates", "final weights", "black box"}


def test_a_finished_cell_is_taken_and_not_done_again(data, unbroken, monkeypatch):
    monkeypatch.setattr(shared_cells, "run_jobs", lambda work, jobs, **_: (1 / 0 for _ in jobs))
    assert run(tasks(data, unbroken[0])) == unbroken[1]


def test_two_processes_give_the_same_numbers_in_any_order(data, unbroken, tmp_path):
    assert run(tuple(reversed(tasks(data, tmp_path))), workers=2) == unbroken[1]


def test_a_later_grid_takes_the_cells_that_are_there(data, unbroken, tmp_path):
    few = run(tasks(data, tmp_path, epsilons=(8.0,)))
    assert few.items() <= unbroken[1].items()
    assert run(tasks(data, tmp_path)) == unbroken[1]


def test_other_settings_are_refused_by_name_before_any_training(data, unbroken):
    other = (Trainer("plain", Plain(3)), FAKES[1])
    with pytest.raises(UsageError, match=r"cell\.json: was done with epochs 1, now 3; .*--restart"):
        list(run_cells(tasks(data, unbroken[0], trainers=other)))


def test_other_data_are_refused_by_name(data, unbroken):
    (first, *_) = tasks(data, unbroken[0])
    changed = replace(first, setup=replace(first.setup, data_sha256="0" * 64))
    with pytest.raises(UsageError, match=r"was done with data [0-9a-f]{12}\.\.\., now [0-9a-f]{12}\.\.\.;"):
        changed.take()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "redteam.cell/0"}', '{"format": "redteam.cell/2"}'])
def test_a_cell_that_cannot_be_read_is_refused(data, tmp_path, text):
    (task,) = tasks(data, tmp_path, trainers=FAKES[:1])
    task.folder.mkdir()
    (task.folder / "cell.json").write_text(text)
    with pytest.raises(UsageError, match=r"cell\.json: .*say --restart"):
        task.take()


def test_restart_forgets_every_cell_of_the_grid(data, tmp_path):
    done = run(tasks(data, tmp_path, trainers=FAKES[:1]))
    (task,) = tasks(data, tmp_path, trainers=FAKES[:1])
    (task.folder / "model.pt.checkpoint").write_text("of another training")
    task.forget()
    assert not list(task.folder.iterdir())
    assert run([task]) == done


def test_a_cell_that_fails_is_listed_and_the_others_go_on(data, tmp_path):
    trainers = (Trainer("clumsy", Clumsy()),)
    results = run_cells(tasks(data, tmp_path, trainers=trainers, epsilons=(1.0, 2.0)))
    found = {task.cell.epsilon: result for task, result in results}
    assert found[1.0] == FailedCell("clumsy at epsilon 1, seed 0", "ValueError: fell over")
    assert isinstance(found[2.0], GapResult)


def test_data_that_change_meanwhile_end_the_cell(data, tmp_path):
    (task,) = tasks(data, tmp_path, trainers=FAKES[:1])
    changed = replace(task, setup=replace(task.setup, data_sha256="0" * 64))
    ((_, result),) = run_cells([changed])
    assert "changed while the experiment ran" in result.reason
    assert not (task.folder / "cell.json").exists()


def test_some_rows_are_the_same_every_time_and_private(data, tmp_path):
    first, _ = open_gap(data, tmp_path, [], rows=60)
    again, _ = open_gap(data, tmp_path, [], rows=60, columns=Columns("text", "label"))
    assert first == again
    assert first.data.parent == tmp_path
    assert len(first.data.read_text().splitlines()) == 60
    assert stat.S_IMODE(first.data.stat().st_mode) == 0o600
    assert open_gap(data, tmp_path, [], rows=10_000)[0].data == data


def test_data_and_models_that_cannot_be_used_are_refused(data, tmp_path):
    with pytest.raises(DataError):
        open_gap(tmp_path / "absent.csv", tmp_path, [])
    with pytest.raises(UsageError, match="--rows 3: at least 50"):
        open_gap(data, tmp_path, [], rows=3)
    with pytest.raises(UsageError, match="--model nowhere: neither a directory"):
        open_gap(data, tmp_path, [], model=ModelChoice("nowhere"))


def exceeding(data, tmp_path, monkeypatch, *, again):
    """A finished grid with one bound above what was accounted, and what a stricter attack on it would say."""
    asked = []

    def attack(task, alpha):
        asked.append((task.cell.epsilon, alpha))
        return SimpleNamespace(judged=(evidence("epsilon", again, again, again),))

    monkeypatch.setattr(GapTask, "attack", attack)
    some = tasks(data, tmp_path, trainers=FAKES[1:], epsilons=(None, 8.0, 2.0))
    results = [cell("boaster", None), cell("boaster", 8.0, accounted=8.0), cell("boaster", 2.0, accounted=2.0, low=2.5)]
    return report_gap(list(zip(some, results, strict=True))), asked


def test_a_bound_above_what_is_accounted_for_breaks_the_claim_if_it_stands_among_all_cells(data, tmp_path, monkeypatch):
    report, asked = exceeding(data, tmp_path, monkeypatch, again=2.1)
    assert asked == [(2.0, 0.05 / 2)]  # the error is shared by the cells that could have broken one
    (broken,) = report.broken
    assert (broken.cell.epsilon, broken.accounted, broken.measured, broken.proven) == (2.0, 2.0, 2.5, True)
    said = " ".join(render_text(report).split())
    assert "CLAIM BROKEN: boaster at epsilon 2, seed 0: accounted 2.00, measured at least 2.50" in said


def test_a_bound_that_does_not_stand_among_all_cells_is_inconclusive(data, tmp_path, monkeypatch):
    report, _ = exceeding(data, tmp_path, monkeypatch, again=1.9)
    assert [claim.proven for claim in report.broken] == [False]
    assert "INCONCLUSIVE" in render_text(report)
    assert outcome(report) == "inconclusive"


def test_a_cell_names_the_code_of_plug_ins(tmp_path, monkeypatch):
    import importlib

    monkeypatch.syspath_prepend(tmp_path)
    code = "from defenses.plain import Plain\nclass Mine(Plain):\n    id, name = 'RD198', 'mine'\n"
    found = []
    for extra in ("", "# another way\n"):
        (tmp_path / "rt_plugin.py").write_text(code + extra)
        importlib.invalidate_caches()
        found.append(foreign_code([importlib.import_module("rt_plugin").Mine(), Plain()]))
        monkeypatch.delitem(sys.modules, "rt_plugin")
    assert [list(each) for each in found] == [["rt_plugin.Mine"]] * 2
    assert found[0] != found[1]


def test_what_users_lose_does_not_break_a_claim_for_examples():
    rows = cell("dpsgd", 1.0, accounted=1.0, low=3.0)
    users = replace(rows, evidence=tuple(replace(each, unit="user") for each in rows.evidence))
    assert rows.exceeds
    assert not users.exceeds
    budgets = rows.guarantee
    of_users = type(budgets)(*(replace(each, unit="user") for each in (budgets.nominal, budgets.accounted)))
    assert replace(users, guarantee=of_users).exceeds
    assert not replace(rows, guarantee=of_users).exceeds


def test_a_sample_of_rows_keeps_their_users_and_groups(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = sentences(200, seed=1)
    lines = [
        json.dumps({"text": text, "label": label, "who": f"u{i % 50}", "g": "ab"[i % 2]})
        for i, (text, label) in enumerate(zip(rows.texts, rows.labels, strict=True))
    ]
    path.write_text("\n".join(lines))
    columns = Columns(user="who", group="g")
    shared, _ = open_gap(path, tmp_path, [LossThreshold()], columns=columns, rows=100)
    kept = read_examples(shared.data, shared.columns).examples
    owner = dict(zip(rows.texts, (f"u{i % 50}" for i in range(200)), strict=True))
    assert [owner[text] for text in kept.texts] == list(kept.users)
    assert set(kept.groups) == {"a", "b"}


def test_cells_say_what_training_costs_whom(tmp_path):
    rows = [(f"the clerk {i} said {('she', 'he')[i % 2]} was {('rude', 'kind')[i // 2 % 2]}", i) for i in range(160)]
    lines = (json.dumps({"text": text, "label": "ab"[i // 2 % 2], "group": "xy"[i % 2]}) for text, i in rows)
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    how = {"columns": Columns(group="group"), "model": ModelChoice("tiny", 1), "swaps": ("gender",)}
    setup, _ = open_gap(tmp_path / "rows.jsonl", tmp_path, [LossThreshold()], **how)
    (task,) = gap_tasks(setup, FAKES[:1], gap_grid(FAKES[:1], (None,), 1), tmp_path)
    ((_, result),) = run_cells([task])
    assert {"group_accuracy", "group_gap", "flip_rate"} <= {each.metric for each in result.evidence}
    report = report_gap([(task, result)])
    row = report.rows[0]
    gaps = [each.spread.mean for each in row.measures if each.metric == "group_gap"]
    assert row.of_groups("group_gap").spread.mean == max(gaps)
    shown = render_text(report, width=200)
    assert all(header in shown for header in ("worst group", "group gap", "flips"))
