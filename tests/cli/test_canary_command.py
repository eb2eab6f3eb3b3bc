"""`redteam canary plant` and `redteam canary extract`: exit codes, one line for every error, and no secret in sight."""

import json
import os
import stat
import sys
from dataclasses import replace

import pytest
from conftest import ROOT, sentences
from forks import fast
from materials import SAFE, error_line, write

from redteam.models.bundle import load_bundle, save_bundle

sys.path.append(str(ROOT / "tests"))

PIN = ("--pattern", "my pin is {digit:2}")
MODEL = ("model.pt", "--canary-ledger", "planted.canaries.json")
FOUND = f"""
sys.path.append({str(ROOT / "tests")!r})
import enumeration, redteam.plugins.registry
redteam.plugins.registry.discover_extractions = lambda: (enumeration.Enumeration(),)
"""


def run(folder, *arguments, **options):
    return fast("canary", *arguments, cwd=folder, before=FOUND, **options)


def fails(folder, *arguments, **options):
    return error_line(run(folder, *arguments, **options))


def secrets(folder, name="planted"):
    document = json.loads((folder / f"{name}.canaries.json").read_text())
    return [" ".join(secret) for canary in document["canaries"] for secret in canary["secrets"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Planted data, and a model that was trained on all of it elsewhere."""
    folder = tmp_path_factory.mktemp("canaries")
    write(folder / "data.csv", sentences(80, seed=1))
    options = ("--canaries", "12", "--repetitions", "12", "--label", "per-canary")
    result = run(folder, "plant", "data.csv", "-o", "planted.csv", *PIN, *options)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    train(folder)
    return folder


def train(folder):
    from redteam.canary import canaries_beside, canary_rows, vocabulary_texts
    from redteam.data import Columns, Examples, read_examples
    from redteam.models.bundle import save_bundle
    from redteam.models.initial import initial_model
    from redteam.models.opening import write_directory
    from redteam.plugins.registry import choose, discover_defenses

    planting = canaries_beside(folder / "planted.csv")
    examples = read_examples(folder / "planted.csv", Columns()).examples
    users = examples.take([i for i in range(len(examples)) if i not in canary_rows(planting)])
    texts = (*users.texts, *vocabulary_texts(planting))
    (plain,) = choose(discover_defenses(), ["plain"])
    initial = initial_model("tiny", examples, learn_from=Examples(range(len(texts)), texts), seed=0)
    bundle = type(plain)(epochs=40, learning_rate=2e-3).fit(initial, examples, seed=0).bundle
    save_bundle(bundle, folder / "model.pt")
    write_directory(bundle, folder / "hf", name="model")


class TestPlant:
    def test_files_and_what_is_said(self, folder):
        ledger = folder / "planted.canaries.json"
        assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
        text = (folder / "planted.csv").read_text()
        assert text.count("my pin is") == 144
        result = run(folder, "plant", "data.csv", "-o", "other.csv", *PIN, "--canaries", "6", "--repetitions", "1,3")
        assert (result.returncode, result.stdout) == (0, "")
        assert "planted 6 canaries in 12 of 92 rows" in result.stderr
        assert "6 of 6 canaries share sentence and label" in result.stderr
        assert not any(secret in result.stderr for secret in secrets(folder, "other"))

    def test_same_seed_same_file(self, folder):
        for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
            assert run(folder, "plant", "data.csv", "-o", f"{name}.csv", *PIN, "--seed", seed).returncode == 0
        one, two, three = ((folder / f"{name}.csv").read_bytes() for name in ("one", "two", "three"))
        assert one == two != three

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "Missing option '--pattern'"),
            (("--pattern", "no slot"), "has no slot for a secret"),
            (("--pattern", "x {city:2}"), "unknown alphabet 'city'"),
            (("--pattern", "x {one:2}", "--alphabet", "one=one.txt"), "has 1 symbols"),
            (("--pattern", "x {one:2}", "--alphabet", "one"), "NAME=FILE"),
            (("--pattern", "x {one:2}", "--alphabet", "one=none.txt"), "none.txt: cannot be read"),
            (("--pattern", "x {digit}", "--canaries", "6"), "has 10 secrets, 12 are needed"),
            ((*PIN, "--label", "nope"), "--label 'nope': unknown"),
            ((*PIN, "--repetitions", "0"), "whole numbers from 1 to 999999"),
            ((*PIN, "--repetitions", "999999", "--canaries", "20"), "more than 10,000,000 rows"),
            (
                (*PIN, "--pattern", "a {digit:3}", "--canaries", "2", "--repetitions", "1,2"),
                "2 canaries for 2 patterns: at least 4",
            ),
            ((*PIN, "--repetitions", "1,x"), "whole numbers"),
            ((*PIN, "--repetitions", "1,2,3"), "shared equally"),
            ((*PIN, "--canaries", "0"), "--canaries"),
            ((*PIN, "--decoys", "-1"), "--decoys"),
            ((*PIN, "-o", "data.csv"), "is the data itself"),
            ((*PIN, "-o", "planted.csv"), "exists"),
            ((*PIN, "-o", "new.tsv"), "keeps the format"),
            ((*PIN, "-o", "no/new.csv"), "folder does not exist"),
            ((*PIN, "--text-column", "nope"), "no column 'nope'"),
            ((*PIN, "--tokenizer", "nope"), "--tokenizer nope: no pattern has a slot {word:COUNT}"),
            (("--pattern", "x {word:2}", "--tokenizer", "nope"), "no such file or directory"),
        ],
    )
    def test_bad_input(self, folder, arguments, said):
        (folder / "one.txt").write_text("only\n")
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert said in fails(folder, "plant", "data.csv", *(() if "-o" in arguments else ("-o", "new.csv")), *arguments)
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    def test_data_that_is_planted_already(self, folder):
        line = fails(folder, "plant", "planted.csv", "-o", "twice.csv", "--pattern", "call {digit:4}")
        assert "planted.csv: holds canaries already" in line
        assert not (folder / "twice.csv").exists()

    def test_a_sentence_of_the_data(self, folder):
        examples = sentences(30, seed=5)
        write(folder / "used.csv", examples)
        text = (folder / "used.csv").read_text()
        every = "".join(f"p{i},MY pin is {i // 10} {i % 10},a\n" for i in range(100))
        (folder / "used.csv").write_text(text + every)
        line = fails(folder, "plant", "used.csv", "-o", "new.csv", *PIN)
        assert "is already a sentence drawn for" in line
        assert not (folder / "new.csv").exists()


class TestExtract:
    def extract(self, folder, *arguments, target="model.pt", canaries="planted.canaries.json", **options):
        return run(folder, "extract", target, "--canary-ledger", canaries, *arguments, **options)

    @pytest.mark.parametrize("target", ["model.pt", "hf"])
    def test_what_was_learned_comes_out(self, folder, target):
        result = self.extract(folder, target=target)
        assert result.returncode == 1, (result.stdout, result.stderr)
        assert "EXTRACTED" in result.stdout
        assert "RT299, 12 repetitions, 12 canaries" in result.stdout
        assert not any(secret in result.stdout + result.stderr for secret in secrets(folder))

    def test_forms(self, folder):
        assert self.extract(folder, "--exit-zero").returncode == 0
        whole = self.extract(folder, "-f", "json", "-o", "report.json")
        assert (whole.returncode, whole.stdout) == (1, "")
        report = json.loads((folder / "report.json").read_text())
        assert report["format"] == "redteam.extraction/2"
        assert report["tests"] == 3
        assert not any(secret in (folder / "report.json").read_text() for secret in secrets(folder))
        self.extract(folder, "--show-text", "-o", "shown.txt")
        assert stat.S_IMODE((folder / "shown.txt").stat().st_mode) == 0o600
        shown = self.extract(folder, "--show-text").stdout
        assert sum(secret in shown for secret in secrets(folder)) >= 12
        named = self.extract(folder, "--attack", "enumeration", "-f", "json").stdout
        assert json.loads(named)["groups"] == report["groups"]

    def test_the_ledger_of_the_model_will_do(self, folder):
        from redteam.data.ledger import DataFile, Ledger, Membership, TrainingRecipe
        from redteam.data.planted import load_planting
        from redteam.models.bundle import load_bundle

        planting = load_planting(folder / "planted.canaries.json")
        ledger = Ledger(
            model=load_bundle(folder / "model.pt").digest(),
            data=DataFile("planted.csv", planting.planted_sha256, planting.rows, {}),
            membership=Membership(True, 0, 0.5, 0.0, (), (), ()),
            recipe=TrainingRecipe("RD100", {}, 0),
            guarantee=None,
            salt="00" * 16,
            canaries=planting.encoded(),
        )
        ledger.save(folder / "model.ledger.json")
        assert run(folder, "extract", "model.pt").returncode == 1
        assert "written for another model" in fails(folder, "extract", SAFE, "--canary-ledger", "model.ledger.json")
        (folder / "model.ledger.json").unlink()
        assert "no ledger beside it" in fails(folder, "extract", "model.pt")

    def test_a_model_that_saw_none_of_it(self, folder):
        """Same data, another draw and other secrets: what it was trained on is not what is asked."""
        options = ("--canaries", "12", "--repetitions", "12", "--label", "per-canary", "--seed", "8")
        run(folder, "plant", "data.csv", "-o", "unseen.csv", *PIN, *options)
        result = self.extract(folder, canaries="unseen.canaries.json")
        assert result.returncode == 0, result.stdout
        assert "PASS" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("model.pt", "--canary-ledger", "none.json"), "none.json: cannot be read"),
            (("model.pt", "--canary-ledger", "data.csv"), "not JSON"),
            (("none.pt", "--canary-ledger", "planted.canaries.json"), "none.pt: no such file"),
            (("none.pt",), "no file, so there is no ledger beside it"),
            ((SAFE, "--canary-ledger", "planted.canaries.json"), "the model was trained on other data"),
            (("alone.pt", "--canary-ledger", "planted.canaries.json"), "labels unknown to the model"),
            ((*MODEL, "-a", "RT777"), "unknown id 'RT777'"),
            ((*MODEL, "--alpha", "0.9"), "--alpha"),
            ((*MODEL, "--training-data", "planted.csv"), "planted.csv: needs --base"),
            ((*MODEL, "--set", "x"), "--set x: write NAME=VALUE or ID.NAME=VALUE"),
            (
                (*MODEL, "--training-data", "planted.csv", "--base", "hf"),
                "--training-data planted.csv: no attack that is run scores tokens",
            ),
            ((*MODEL, "--base", "."), "--base .: holds no config.json"),
            ((*MODEL, "--base", "none"), "--base none: is no directory"),
            ((*MODEL, "-o", "model.pt"), "would overwrite"),
            ((*MODEL, "-o", "planted.canaries.json"), "would overwrite"),
            ((*MODEL, "-f", "xml"), "--format"),
            ((*MODEL, "--token-env", "X"), "--token-env"),
        ],
    )
    def test_bad_input(self, folder, arguments, said):
        (folder / "alone.pt").write_bytes(SAFE.read_bytes())
        assert said in fails(folder, "extract", *arguments)

    def test_a_reference_that_is_none(self, folder):
        (folder / "copy.pt").write_bytes((folder / "model.pt").read_bytes())
        assert "copy.pt: is the target itself" in fails(folder, "extract", *MODEL, "--reference", "copy.pt")
        assert "does not know 12 labels" in fails(folder, "extract", *MODEL, "--reference", SAFE)

    def test_what_would_help_no_attack(self, folder):
        """With the attacks that there are: one that is narrowed without a base, a reference that none looks at."""

        def line(*arguments):
            return error_line(fast("canary", "extract", *MODEL, *arguments, cwd=folder))

        assert "RT202 with narrow: needs --base" in line("--set", "RT202.narrow=3")
        assert "RT203 with narrow: needs --base" in line("-a", "RT203", "--set", "narrow=3")
        assert "RT201 has no setting 'narrow'; known: enumerable, sample" in line("-a", "RT201", "--set", "narrow=3")
        assert "no attack that is run compares with one" in line("-a", "RT204", "--reference", "hf")

    def test_a_reference_that_saw_the_canaries_hides_nothing(self, folder):
        """Only its own ledger could tell; so what comes out without it counts besides."""
        bundle = load_bundle(folder / "model.pt")
        state = {
            name: tensor * 1.001 if tensor.is_floating_point() else tensor for name, tensor in bundle.state.items()
        }
        save_bundle(replace(bundle, state=state), folder / "saw.pt")
        result = self.extract(folder, "--reference", "saw.pt", "-f", "json")
        assert result.returncode == 1
        report = json.loads(result.stdout)
        assert [group["attack"] for group in report["groups"]] == ["RT299", "RT299 against reference"]
        assert report["tests"] == 6

    def test_an_edited_ledger(self, folder):
        document = json.loads((folder / "planted.canaries.json").read_text())
        document["canaries"][0]["planted"] = 1 - document["canaries"][0]["planted"]
        (folder / "edited.json").write_text(json.dumps(document))
        assert "digest differs" in fails(folder, "extract", "model.pt", "--canary-ledger", "edited.json")

    def test_no_attack_is_no_pass(self, folder):
        none = "import redteam.plugins.registry\nredteam.plugins.registry.discover_extractions = lambda: ()"
        result = fast("canary", "extract", *MODEL, cwd=folder, before=none)
        assert result.returncode == 2
        assert "NOT SETTLED" in result.stdout
        assert "no attack could be run" in result.stderr


class TestAudit:
    """From the data to the verdict: plant, train, audit, and judge the report again."""

    @pytest.fixture(scope="class")
    @classmethod
    def audited(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("audited")
        write(folder / "data.csv", sentences(300, seed=1))
        plan = ("--canaries", "12", "--repetitions", "30", "--label", "per-canary")
        assert run(folder, "plant", "data.csv", "-o", "planted.csv", *PIN, *plan).returncode == 0
        how = ("--model", "bilstm", "--set", "epochs=30", "--set", "learning_rate=5e-3")
        result = fast("train", "planted.csv", "-o", "model.pt", *how, cwd=folder)
        assert result.returncode == 0, result.stderr
        assert "12 canaries in 360 rows were trained on too" in result.stderr
        return folder

    def audit(self, folder, *arguments):
        return fast("audit", *arguments, cwd=folder, before=FOUND)

    def test_what_was_learned_fails_the_build(self, audited):
        (audited / "canaries.toml").write_text("max_extraction_rate = 0.0\n")
        result = self.audit(audited, "model.pt", "--policy", "canaries.toml", "-f", "json", "-o", "report.json")
        assert result.returncode == 1, result.stderr
        assert "2 leaks proven" in result.stderr
        report = json.loads((audited / "report.json").read_text())
        assert report["data"]["canaries"] == 12
        assert not any(secret in (audited / "report.json").read_text() for secret in secrets(audited))
        again = fast("gate", "report.json", "--policy", "canaries.toml", cwd=audited)
        assert again.returncode == 1
        assert "12 canaries planted besides" in " ".join(again.stdout.split())

    def test_attacks_are_chosen_over_both_kinds(self, audited):
        def ids(*arguments):
            result = self.audit(audited, "model.pt", "-f", "json", *arguments)
            return {e["attack"] for e in json.loads(result.stdout)["evidence"]}

        assert ids() == {"RT101", "RT102", "RT103", "RT299"}
        assert ids("-a", "RT101") == {"RT101"}
        assert ids("-a", "enumeration", "-a", "RT101") == {"RT101", "RT299"}

    def test_the_plan_names_them(self, audited):
        result = self.audit(audited, "model.pt", "--dry-run")
        assert "canaries   12 of 30 copies" in result.stdout
        assert "RT299      enumeration: runs" in result.stdout

    def test_a_model_trained_elsewhere(self, audited):
        assert fast("unpack", "model.pt", "-o", "hf", cwd=audited).returncode == 0
        write(audited / "others.csv", sentences(200, seed=50))
        sides = ("--members", "planted.csv", "--nonmembers", "others.csv", "-f", "json")
        report = json.loads(self.audit(audited, "hf", *sides).stdout)
        assert (report["data"]["canaries"], report["data"]["members"]) == (12, 300)
        (audited / "away.csv").write_bytes((audited / "planted.csv").read_bytes())
        away = ("--members", "away.csv", *sides[2:], "--canary-ledger", "planted.canaries.json")
        assert json.loads(self.audit(audited, "hf", *away).stdout)["evidence"] == report["evidence"]

    def test_a_base_that_is_none_or_hostile(self, audited):
        assert "--base none: is no directory" in error_line(self.audit(audited, "model.pt", "--base", "none"))
        (audited / "hostile").mkdir(exist_ok=True)
        (audited / "hostile" / "config.json").write_text('{"model_type": "bert"}')
        os.mkfifo(audited / "hostile" / "tokenizer.json")
        for command in ("audit", ("canary", "extract")):
            arguments = (command,) if isinstance(command, str) else command
            assert "hostile: " in error_line(fast(*arguments, "model.pt", "--base", "hostile", cwd=audited))

    def test_a_canary_ledger_that_others_may_read(self, audited):
        (audited / "planted.canaries.json").chmod(0o644)
        warned = "planted.canaries.json: can be read by others (mode 644)"
        assert warned in self.audit(audited, "model.pt", "--dry-run").stderr
        asked = ("canary", "extract", "model.pt", "--canary-ledger", "planted.canaries.json", "--attack", "RT299")
        assert warned in fast(*asked, cwd=audited, before=FOUND).stderr
        (audited / "planted.canaries.json").chmod(0o600)

    def test_an_edited_ledger_is_no_audit(self, audited):
        document = json.loads((audited / "model.ledger.json").read_text())
        document["canaries"][0]["canaries"].pop()
        (audited / "edited.json").write_text(json.dumps(document))
        assert "digest differs" in error_line(self.audit(audited, "model.pt", "--ledger", "edited.json"))


def test_help_names_both():
    result = fast("canary", "--help", cwd=ROOT)
    assert result.returncode == 0
    assert "plant" in result.stdout
    assert "extract" in result.stdout
