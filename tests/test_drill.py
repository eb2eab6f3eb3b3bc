"""The drill as a grid: which cells there are, what of them is kept, and how they become rows and findings."""

import inspect
import json
import re
import stat
from dataclasses import asdict

import numpy as np
import pytest
from conftest import sentences
from enumeration import Enumeration

from defenses.plain import Plain
from defenses.regularised import Regularised
from defenses.regularised.early_stopping import EarlyStopping
from redteam.canary import PlantingPlan
from redteam.cli.canary import plant
from redteam.cli.drill import _DrillGrid
from redteam.cli.numbers import parse_numbers
from redteam.core import UsageError
from redteam.core.files import sha256
from redteam.data import Columns, read_examples
from redteam.data.planted import load_planting
from redteam.experiments import cells as shared_cells
from redteam.experiments.cells import run_cells
from redteam.experiments.drill.cells import rows_in
from redteam.experiments.drill.grid import (
    PROTOCOLS,
    DrillCell,
    choose_defenses,
    choose_labels,
    choose_patterns,
    drill_grid,
)
from redteam.experiments.drill.run import drill_tasks, open_drill, report_drill
from redteam.experiments.drill.table import render_text
from redteam.experiments.setup import Trainer
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.registry import discover_defenses
from redteam.training.train import ModelChoice

SHORT = ("pin", "my pin is {digit:2}")
SWITCHES = {"early_stopping", "dropout", "characters", "deduplicate", "label_smoothing"}
NAIVE = (Enumeration(),)
PLAIN = Trainer("none", Plain(epochs=1, batch_size=32))
SOFT = Trainer("dropout", Regularised(early_stopping=False, dropout=0.3, characters=False, epochs=1))


class Broken(Enumeration):
    """An attack that falls over."""

    id = "RT298"

    def extract(self, target, queries, candidates, context):
        raise ValueError("fell over")


class Whole(Enumeration):
    """An attack that says that it tries every candidate, of two symbols or fewer."""

    def enumerates(self, query):
        return query.size <= 100


class Search(Enumeration):
    """An attack that would search for what another finds in any case."""

    id, ranks, searches = "RT296", False, True


class Elsewhere(Enumeration):
    """An attack that does not apply."""

    id = "RT297"

    def extract(self, target, queries, candidates, context):
        raise NotApplicable("nothing to see")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    rows = sentences(160, seed=1)
    pairs = zip(rows.texts, rows.labels, strict=True)
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs))
    return path


def tasks(data, folder, *, repetitions=(1, 20), seeds=1, trainers=(PLAIN, SOFT), attacks=NAIVE, **options):
    folder.mkdir(exist_ok=True)
    labels = options.pop("labels", ("per-canary",))
    shape = {"model": ModelChoice("tiny", 1), "canaries": 3} | options
    shared, _ = open_drill(data, folder, attacks, **shape)
    cells = drill_grid([SHORT], repetitions, trainers, seeds, labels=labels, canaries=shape["canaries"])
    return drill_tasks(shared, trainers, cells, folder)


def run(some, **options):
    return {task.cell: result for task, result in run_cells(some, **options)}


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A finished drill: its folder and its numbers."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(tasks(data, folder))


class TestGrid:
    def test_names_and_lengths_make_templates(self):
        assert choose_patterns(["pin", "color"], (4, 10)) == (
            ("pin", "my pin code is {digit:4}"),
            ("pin", "my pin code is {digit:10}"),
            ("color", "color {color:4}"),
            ("color", "color {color:10}"),
        )

    def test_a_sentence_that_states_its_count_comes_once(self):
        assert choose_patterns(["door {digit:3}", "gate {digit: n }"], (4, 5)) == (
            ("door {digit:3}", "door {digit:3}"),
            ("gate {digit: n }", "gate {digit:4}"),
            ("gate {digit: n }", "gate {digit:5}"),
        )

    @pytest.mark.parametrize("pattern", ["no slot", "{digit:0}", "my {digit:x}"])
    def test_what_is_no_pattern_is_refused(self, pattern):
        with pytest.raises(UsageError):
            choose_patterns([pattern], (4,))

    def test_defences_are_combined_by_name(self):
        names = ["none", "es", "CE+d", "early-stopping+characters+dropout", "edpsgd", "dedup", "label-smoothing"]
        found = choose_defenses(names, discover_defenses(), {"epochs": 7, "batch_size": None})
        titles = ["none", "early-stopping", "dropout+characters", "all", "edpsgd", "deduplication", "label-smoothing"]
        assert [trainer.name for trainer in found] == titles
        assert [trainer.defense.id for trainer in found] == [
            "RD100",
            "RD111",
            "RD110",
            "RD110",
            "RD102",
            "RD114",
            "RD115",
        ]
        assert all(trainer.defense.epochs == 7 for trainer in found)
        on = [
            {k for k, v in asdict(trainer.defense).items() if k in SWITCHES and v}
            for trainer in found
            if trainer.defense.id.startswith("RD11")
        ]
        assert on == [
            {"early_stopping"},
            {"dropout", "characters"},
            {"early_stopping", "dropout", "characters"},
            {"deduplicate"},
            {"label_smoothing"},
        ]

    @pytest.mark.parametrize(("names", "said"), [([], "an empty list"), (["magic"], "'magic': known are none, all")])
    def test_unknown_defences_are_refused(self, names, said):
        with pytest.raises(UsageError, match=said):
            choose_defenses(names, discover_defenses(), {})

    def test_every_cell_has_a_folder_of_its_own(self):
        cells = drill_grid(choose_patterns(["pin", "call"], (4, 10)), (1, 10), (PLAIN, SOFT), 3)
        assert len(cells) == len({cell.folder for cell in cells}) == 2 * 2 * 2 * 2 * 3
        assert cells[0].folder == "my-pin-code-is-digit-4-r1-existing-none-seed0"

    def test_every_sentence_has_a_folder_of_its_own(self):
        long = "x " * 200
        sentences = (
            "my pin {digit:4}",
            "my, pin {digit:4}",
            "\u043a\u043e\u0434 {digit:4}",
            "\u043f\u0438\u043d {digit:4}",
        )
        sentences = (*sentences, f"{long}{{digit:4}}", f"{long}{{digit:5}}")
        folders = [cell.folder for cell in drill_grid([("a", one) for one in sentences], (1,), (PLAIN,), 1)]
        assert folders[0] == "my-pin-digit-4-r1-existing-none-seed0"
        assert len(set(folders)) == len(sentences)
        assert max(map(len, folders)) < 150
        for other in ("my  PIN {digit:4}", "my pin {digit: 4}"):
            with pytest.raises(UsageError, match="one sentence is given twice"):
                choose_patterns(["my pin {digit:4}", other], (4,))

    def test_labels_are_the_datas_unless_others_are_named(self):
        """One default for drill, plan and command."""
        assert PlantingPlan(("a {digit:2}",)).label == "existing"
        assert {cell.label for cell in drill_grid([SHORT], (1,), (PLAIN,), 2)} == {"existing"}
        assert _DrillGrid().labels == ("existing",)
        assert inspect.signature(plant).parameters["label"].default == "existing"

    def test_labels_are_listed_and_those_of_the_data_known(self):
        known = ("alarm", "books, and more", "fresh air")
        assert choose_labels(["existing, per-canary,fresh", "one-per-model"], known) == PROTOCOLS
        assert choose_labels(["books, and more", "alarm,existing,alarm"], known) == (known[1], "alarm", "existing")
        for given, said in (([" ,"], "an empty list"), (["existing,books"], "'books': unknown; known are existing")):
            with pytest.raises(UsageError, match=said):
                choose_labels(given, known)

    def test_one_canary_a_model_takes_as_many_models_as_others_take_canaries(self):
        cells = drill_grid([SHORT], (30,), (PLAIN,), 2, labels=("fresh", "one-per-model"), canaries=3)
        assert [(cell.label, cell.seed) for cell in cells] == [
            ("fresh", 0), *[("one-per-model", n) for n in range(3)],
            ("fresh", 1), *[("one-per-model", n) for n in range(3, 6)],
        ]  # fmt: skip
        assert {cell.canaries(3) for cell in cells if cell.label == "fresh"} == {3}
        assert {cell.canaries(3) for cell in cells if cell.label == "one-per-model"} == {1}
        odd = drill_grid([SHORT], (1,), (PLAIN,), 1, labels=("a b", "a-b", "a", "x" * 300, *PROTOCOLS))
        assert len({cell.folder for cell in odd}) == 8
        assert max(len(cell.folder) for cell in odd) < 150

    @pytest.mark.parametrize("text", ["", "0", "a", "1,-2", "1.5", "9999999"])
    def test_what_is_no_number_is_refused(self, text):
        with pytest.raises(UsageError, match="--repetitions"):
            parse_numbers(text, "--repetitions")

    def test_numbers_are_read_as_written(self):
        assert parse_numbers("1, 10,100,10", "--repetitions") == (1, 10, 100)


class TestCells:
    def test_a_cell_holds_what_training_and_attack_gave_and_no_secret(self, unbroken):
        folder, results = unbroken
        cell = DrillCell(*SHORT, 20, "none", 0, "per-canary")
        result = results[cell]
        assert (result.canaries, result.crowded, result.sizes) == (3, 0, (10, 10))
        assert len(result.found) == 3
        assert all(f.attack == "RT299" and f.places == 2 and f.secret is None for f in result.found)
        assert result.exact == ("RT299",)
        assert 0 <= result.right <= result.tested
        names = {path.name for path in (folder / cell.folder).iterdir()}
        kept = {"model.pt", "cell.json", "planted.jsonl", "planted.canaries.json"}
        assert names == kept
        planting = load_planting(folder / cell.folder / "planted.canaries.json")
        said = (folder / cell.folder / "cell.json").read_text()
        assert not any(" ".join(secret) in said for canary in planting.canaries for secret in canary.secrets)
        assert stat.S_IMODE((folder / cell.folder / "planted.canaries.json").stat().st_mode) == 0o600

    def test_every_copy_is_trained_on_and_the_test_texts_are_not(self, unbroken):
        folder, _ = unbroken
        columns = Columns("text", "label")
        (test,) = folder.glob("test-*.jsonl")
        apart = set(read_examples(test, columns).examples.texts)
        for count in (1, 20):
            cell = folder / DrillCell(*SHORT, count, "none", 0, "per-canary").folder
            texts = read_examples(cell / "planted.jsonl", columns).examples.texts
            planted = [text for text in texts if text.startswith("my pin")]
            assert len(planted) == 3 * count
            assert not apart & set(texts)
            assert len(texts) - len(planted) + len(apart) == 160

    def test_canaries_are_the_same_for_every_defence_and_others_for_every_seed(self, data, unbroken):
        folder, _ = unbroken
        drawn = {}
        for cell in (DrillCell(*SHORT, r, d, 0, "per-canary") for r in (1, 20) for d in ("none", "dropout")):
            canaries = load_planting(folder / cell.folder / "planted.canaries.json").canaries
            drawn[cell] = [(c.secrets, c.planted, c.label) for c in canaries]
        assert len({str(one) for one in drawn.values()}) == 1

    def test_a_repeated_secret_is_learned_and_a_held_out_one_is_not(self, unbroken):
        """Twenty copies with a label of their own, in a model of no defence, stand before the held-out ones."""
        ahead = [f.ahead for f in unbroken[1][DrillCell(*SHORT, 20, "none", 0, "per-canary")].found]
        assert np.mean(ahead) > 0

    def test_labels_stand_side_by_side(self, data, tmp_path):
        some = tasks(data, tmp_path, repetitions=(20,), trainers=(PLAIN,), labels=PROTOCOLS)
        done = list(run_cells(some))
        report = report_drill(done)
        assert [(row.label, row.canaries, row.seeds) for row in report.rows] == [
            ("existing", 3, (0,)), ("per-canary", 3, (0,)), ("fresh", 3, (0,)), ("one-per-model", 3, (0, 1, 2)),
        ]  # fmt: skip
        assert report.tests == 4 * 3
        assert [row.crowded for row in report.rows] == [0, 0, 3, 0]
        labels = {name: [] for name in PROTOCOLS}
        for task, _ in done:
            planting = load_planting(task.folder / "planted.canaries.json")
            assert len(planting.canaries) == (1 if task.cell.label == "one-per-model" else 3)
            labels[task.cell.label] += [(canary.label, canary.secrets) for canary in planting.canaries]
        assert {name: len({label for label, _ in own}) for name, own in labels.items()} == dict(
            zip(PROTOCOLS, (3, 3, 1, 1), strict=True)
        )
        assert {label for label, _ in labels["existing"]} == {"a", "b", "c"}
        secrets = {name: [secret for _, secret in own] for name, own in labels.items()}
        assert secrets["existing"] == secrets["per-canary"] == secrets["fresh"]  # so that rows compare
        assert len(set(secrets["one-per-model"])) == 3
        for name in PROTOCOLS:
            assert re.search(rf"  {name} +none +\d+\.\d%!? +-  +\d\.\d \(\d\.\d\) +\d of 3 ", render_text(report))
            assert f"label {name}: " in render_text(report)
        more = tasks(data, tmp_path, repetitions=(20,), trainers=(PLAIN,), labels=PROTOCOLS[3:], canaries=4)
        assert [task.take() is not None for task in more] == [True, True, True, False]

    def test_early_stopping_stops_where_each_canary_has_a_label_of_its_own(self, data, tmp_path):
        """No validation row has such a label; users' rows here teach nothing, so that their loss soon rises."""
        early = Trainer("early-stopping", EarlyStopping(epochs=40, patience=2, learning_rate=3e-3))
        some = tasks(data, tmp_path, repetitions=(20,), trainers=(early,), labels=("per-canary", "existing"))
        for result in run(some).values():
            assert result.passes == 40
            assert 1 <= result.kept < 40

    def test_a_finished_cell_is_taken_and_not_done_again(self, data, unbroken, monkeypatch):
        monkeypatch.setattr(shared_cells, "run_jobs", lambda work, jobs, **_: (1 / 0 for _ in jobs))
        assert run(tasks(data, unbroken[0])) == unbroken[1]

    def test_two_processes_give_the_same_numbers_in_any_order(self, data, unbroken, tmp_path):
        some = tasks(data, tmp_path, repetitions=(20,))
        results = run(tuple(reversed(some)), workers=2)
        assert results.items() <= unbroken[1].items()
        assert len(results) == 2

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"trainers": (Trainer("none", Plain(epochs=3)), SOFT)}, "epochs 1, now 3"),
            ({"canaries": 4}, "canaries 3, now 4"),
            ({"attacks": (Broken(),)}, "RT29"),
            ({"rows": 100}, "rows 160, now 100"),
        ],
    )
    def test_other_settings_are_refused_by_name_before_any_training(self, data, unbroken, changed, said):
        with pytest.raises(UsageError, match=rf"cell\.json: was done with .*{said}.*--restart"):
            list(run_cells(tasks(data, unbroken[0], **changed)))

    def test_a_drill_on_another_column_is_not_the_same(self, tmp_path):
        path = tmp_path / "two.csv"
        path.write_text("text,label,topic\n" + "".join(f"some text {i},l{i % 2},t{i % 3}\n" for i in range(90)))
        done = tasks(path, tmp_path / "d", repetitions=(1,), trainers=(PLAIN,), columns=Columns("text", "label"))
        assert run(done)
        other = tasks(path, tmp_path / "d", repetitions=(1,), trainers=(PLAIN,), columns=Columns("text", "topic"))
        with pytest.raises(UsageError, match=r"was done with files .*--restart"):
            run(other)

    def test_what_draws_the_secrets_of_a_file_is_not_published(self, data, unbroken):
        some = tasks(data, unbroken[0])
        report = report_drill(tuple(run_cells(some)))
        said = report.to_json() + "".join(path.read_text() for path in unbroken[0].glob("*/cell.json"))
        keys = {sha256(data), *(load_planting(path).key for path in unbroken[0].glob("*/*.canaries.json"))}
        assert not [key for key in keys if key in said]

    def test_a_secret_that_the_model_cuts_off_is_refused_before_any_training(self, data, tmp_path):
        shared, _ = open_drill(data, tmp_path, NAIVE, model=ModelChoice("tiny", 1), canaries=3)
        cells = drill_grid([SHORT, ("long", "my pin is {digit:300}")], (1,), (PLAIN,), 1)
        with pytest.raises(UsageError, match=r"cuts 'my pin is \{digit:300\}' off"):
            drill_tasks(shared, (PLAIN,), cells, tmp_path)

    def test_searches_are_left_out_where_an_attack_tries_every_candidate_of_every_cell(self, data, tmp_path):
        shared, _ = open_drill(data, tmp_path, (Whole(), Search()), model=ModelChoice("tiny", 1), canaries=3)
        longer = ("longer", "my pin is {digit:3}")

        def attacks(patterns, kept=()):
            some = drill_tasks(shared, (PLAIN,), drill_grid(patterns, (1,), (PLAIN,), 1), tmp_path, kept=kept)
            return [[attack.id for attack in task.setup.attacks] for task in some]

        assert attacks([SHORT]) == [["RT299"]]
        assert attacks([SHORT, longer]) == [["RT299", "RT296"]] * 2  # rows compare by the same attacks
        assert attacks([longer, SHORT]) == [["RT299", "RT296"]] * 2
        assert attacks([SHORT], kept=None) == attacks([SHORT], kept=("RT296",)) == [["RT299", "RT296"]]

    def test_what_is_left_out_takes_no_share_of_the_error_and_is_said(self, data, tmp_path):
        shared, _ = open_drill(data, tmp_path, (Whole(), Search()), model=ModelChoice("tiny", 1), canaries=3)
        cells = drill_grid([SHORT], (1,), (PLAIN,), 1)
        report = report_drill(tuple(run_cells(drill_tasks(shared, (PLAIN,), cells, tmp_path, kept=()))))
        assert report.tests == 3
        assert not report.broken
        (line,) = report.skipped
        assert "RT296 does not apply" in line
        assert "RT299 ranks every candidate" in line

    def test_an_edited_cell_is_refused(self, data, unbroken, tmp_path):
        (first, *_) = tasks(data, tmp_path, repetitions=(1,))
        first.folder.mkdir()
        text = (unbroken[0] / first.folder.name / "cell.json").read_text()
        assert '"right": ' in text
        (first.folder / "cell.json").write_text(text.replace('"right": ', '"right": 1'))
        with pytest.raises(UsageError, match=r"cell\.json: the numbers were edited .*--restart"):
            first.take()

    def test_broken_or_foreign_cells_are_one_line(self, data, tmp_path):
        (first, *_) = tasks(data, tmp_path)
        first.folder.mkdir()
        (first.folder / "cell.json").write_text("{")
        with pytest.raises(UsageError, match="--restart"):
            first.take()
        first.forget()
        assert first.take() is None

    def test_a_ledger_left_from_a_broken_off_cell_is_planted_again(self, data, unbroken, tmp_path):
        (task,) = tasks(data, tmp_path, repetitions=(1,), trainers=(PLAIN,))
        task.folder.mkdir()
        (task.folder / "planted.jsonl").write_text("half")
        assert run([task]).items() <= unbroken[1].items()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"rows": 10}, "--rows 10"),
            ({"canaries": 60}, "has 100 secrets, 120 are needed"),
            ({"labels": ("nobody",)}, "unknown"),
            ({"attacks": ()}, "no attack"),
        ],
    )
    def test_what_cannot_be_planted_is_refused_before_any_training(self, data, tmp_path, options, said):
        with pytest.raises(UsageError, match=said):
            tasks(data, tmp_path, **options)
        assert not list(tmp_path.glob("*/*"))

    def test_an_attack_that_breaks_or_does_not_apply_is_told(self, data, tmp_path):
        attacks = (Enumeration(), Broken(), Elsewhere())
        some = tasks(data, tmp_path, repetitions=(1,), trainers=(PLAIN,), attacks=attacks)
        done = list(run_cells(some))
        report, asked = report_drill(done), report_drill(done, required=True)
        assert report.broken == (
            "attack RT298 broke on my pin is {digit:2}, R 1, label per-canary, none: ValueError: fell over",
        )
        lacking = "attack RT297 does not apply on my pin is {digit:2}, R 1, label per-canary, none: nothing to see"
        assert report.skipped == (lacking,)
        assert (asked.broken, asked.skipped) == ((*report.broken, lacking), ())
        assert [each.attack for each in report.rows[0].attacks] == ["RT299"]
        assert report.tests == 9  # what broke was counted all the same

    def test_where_no_attack_could_be_run_nothing_was_seen(self, data, tmp_path):
        some = tasks(data, tmp_path, repetitions=(1,), trainers=(PLAIN,), attacks=(Elsewhere(),))
        report = report_drill(list(run_cells(some)))
        assert any(
            "no attack could be run on my pin is {digit:2}, R 1, label per-canary, none, seed 0" in line
            for line in report.broken
        )

    def test_what_a_larger_grid_has_shown_counts_in_the_family(self, data, unbroken):
        """To look at four rows and report on one would be to choose it."""
        folder, _ = unbroken
        one = tasks(data, folder, repetitions=(1,), trainers=(PLAIN,))
        assert report_drill(list(run_cells(one))).tests == 4 * 3

    def test_so_does_what_was_written_before_labels_had_a_column(self, data, unbroken, tmp_path):
        (one,) = tasks(data, tmp_path, repetitions=(1,), trainers=(PLAIN,))
        saved = json.loads((unbroken[0] / one.folder.name / "cell.json").read_text())
        assert saved["identity"]["cell"].pop("label") == saved["identity"]["label"] == "per-canary"
        saved["identity"]["label"] = "fresh"
        (tmp_path / "older").mkdir()
        (tmp_path / "older" / "cell.json").write_text(json.dumps(saved))
        assert list(rows_in(tmp_path)) == [("my pin is {digit:2}", 1, "fresh", "none")]
