"""Every file that somebody will bring one day: one clear line, exit 2, and nothing half-written."""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from forks import fast
from materials import MEMBERS, SIDES, fails, furnished


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with a trained model, its ledger, members, others and functions that answer."""
    with furnished(tmp_path_factory.mktemp("bad")) as folder:
        yield folder


# Models


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def archive(document):
    file = io.BytesIO()
    torch.save(document, file)
    return file.getvalue()


def swollen(path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("archive/data.pkl", b"0" * 10**7)
    return file.getvalue()


def changed(**parts):
    """Return a maker of the trained model's bytes with some of its parts replaced."""

    def make(path):
        document = torch.load(path, weights_only=True)
        return archive(document | {key: value(document[key]) for key, value in parts.items()})

    return make


MODELS = {
    "empty": (lambda path: b"", "empty file"),
    "truncated": (lambda path: path.read_bytes()[:-200], "truncated"),
    "half": (lambda path: path.read_bytes()[:5000], "truncated"),
    "text": (lambda path: b"hello, I am a model", "not a zip archive"),
    "other_zip": (swollen, "holds compressed parts"),
    "bomb": (lambda path: archive({"format": "redteam.model/1", "config": Bomb()}), "refused, nothing was run"),
    "old_bomb": (lambda path: pickle.dumps(Bomb()), "could run code when loaded: refused"),
    "module": (lambda path: archive(torch.nn.Linear(2, 2)), "could run code: refused, nothing was run"),
    "weights": (lambda path: archive({"w": torch.ones(2)}), "a bare state_dict"),
    "future": (changed(format=lambda _: "redteam.model/9"), "format is 'redteam.model/9'"),
    "labels": (changed(labels=lambda _: ["x", "y", "z"]), "labels of the config are not those"),
    "endless": (changed(max_length=lambda _: 10**6), "max_length is 1000000"),
    "config": (changed(config=lambda _: "{"), "config is not JSON"),
    "lost": (changed(state_dict=lambda state: dict(list(state.items())[1:])), "lacks tensor 'bert"),
    "nan": (
        changed(state_dict=lambda state: {k: v * torch.nan if v.is_floating_point() else v for k, v in state.items()}),
        "answers are NaN",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_none(bench, name):
    make, words = MODELS[name]
    (bench / f"{name}.pt").write_bytes(make(bench / "model.pt"))
    line = fails(bench, "audit", f"{name}.pt", *SIDES)
    assert f"{name}.pt: " in line
    assert words in line
    assert not (bench / "exploded").exists()


def test_what_is_not_there_at_all(bench):
    (bench / "folder").mkdir()
    missing = "no such file or directory, and neither a URL nor module:function"
    assert f"none.pt: {missing}" in fails(bench, "audit", "none.pt")
    assert f"none.pt: {missing}" in fails(bench, "audit", "none.pt", *SIDES)
    assert "folder: no readable config.json" in fails(bench, "audit", "folder", *SIDES)
    assert "folder: no readable config.json" in fails(bench, "pack", "folder", "-o", "packed.pt")
    assert "none.pt: cannot be read (No such file" in fails(bench, "unpack", "none.pt")
    (bench / "alone.pt").write_bytes((bench / "model.pt").read_bytes())
    assert "no ledger at alone.ledger.json" in fails(bench, "audit", "alone.pt")
    assert "says who was a member" in fails(bench, "audit", "answers:leaky")
    assert "password" not in fails(bench, "audit", "https://user:password@host.example/")
    assert not (bench / "packed.pt").exists()
    assert not (bench / "model").exists()


# Data

TABLES = {
    "empty.csv": (b"", "empty.csv: empty"),
    "header.csv": (b"text,label\n", "no rows"),
    "one.csv": (b"text,label\nhello,a\n", "1 members"),
    "no_label.csv": (b"text,mood\nhello,a\nho,b\n", "no label column among 'text', 'mood'"),
    "no_text.csv": (b"words,label\nhello,a\nho,b\n", "no text column among 'words', 'label'"),
    "gap.csv": (b"text,label\nhello,a\nho,\n", "row 2: label is empty"),
    "latin.csv": (b"text,label\nhello,a\ncaf\xe9,b\n", "line 3: byte 0xe9 is not UTF-8"),
    "wide.csv": (b"text,label\nhello,a,b\n", "line 2 has 3 fields, the header has 2"),
    "stranger.csv": (
        b"text,label\nhello,zebra\nho,a\n",
        "labels unknown to the model ('zebra'); it knows 'a', 'b', 'c'",
    ),
    "broken.jsonl": (b'{"text": "hello", "label": "a"}\n{"text"\n', "line 2: not JSON"),
    "broken.parquet": (b"PAR1 not really PAR1", "cannot be read as Parquet"),
    "data.xlsx": (b"PK", "unknown kind of file '.xlsx'"),
}


@pytest.mark.parametrize("name", TABLES)
def test_data_that_cannot_be_audited(bench, name):
    content, words = TABLES[name]
    (bench / name).write_bytes(content)
    (bench / "apart.pt").write_bytes((bench / "model.pt").read_bytes())  # without its ledger, which would know better
    assert words in fails(bench, "audit", "apart.pt", "--members", name, "--nonmembers", "others.csv")


def test_members_that_the_ledger_beside_the_model_contradicts(bench):
    line = fails(bench, "audit", "model.pt", *SIDES)
    assert "model.ledger.json: is the ledger of this very model and contradicts what is said of it: " in line
    assert "700 of the 700 members are not in its data" in line


def test_sides_that_are_the_same_or_missing(bench):
    same = ("--members", "members.csv", "--nonmembers", "members.csv")
    assert f"after {len(MEMBERS)} texts found on both sides" in fails(bench, "audit", "model.pt", *same)
    assert "none.csv: cannot be read" in fails(
        bench, "audit", "model.pt", "--members", "none.csv", "--nonmembers", "others.csv"
    )
    assert "no split column" in fails(bench, "audit", "model.pt", "--data", "data.csv")
    split = ("--data", "members.csv", "--split-column", "id")
    assert "says nothing about membership; known: train" in fails(bench, "audit", "model.pt", *split)


SCORES = {
    "words.csv": ("member,score\n1,high\n0,low\n", "row 1: score: 'high' is not a number"),
    "nan.csv": ("member,score\n1,0.5\n0,nan\n", "row 2: score: nan is not a finite number"),
    "members_only.csv": ("member,score\n1,0.5\n1,0.4\n", "0 non-members"),
    "no_side.csv": ("score\n0.5\n", "no membership column"),
    "no_score.csv": ("member\n1\n", "no score, loss, predicted or probability"),
    "perhaps.csv": ("member,score\nperhaps,0.5\n", "'perhaps' says nothing about membership"),
    "scores.docx": ("", "unknown kind of file"),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_that_rank_nobody(bench, name):
    content, words = SCORES[name]
    (bench / name).write_text(content)
    assert words in fails(bench, "audit", "--scores", name)


def test_constant_scores_are_never_a_pass(bench):
    (bench / "constant.csv").write_text("member,score\n" + "1,0.5\n0,0.5\n" * 500)
    result = fast("audit", "--scores", "constant.csv", "--exit-zero", cwd=bench)
    assert result.returncode == 2
    assert "first: RT101 failed: loss: all 1000 scores are equal" in result.stderr


# Ledgers


def exchange(ledger):
    sides = ledger["membership"]
    sides["members"][0], sides["nonmembers"][0] = sides["nonmembers"][0], sides["members"][0]


LEDGERS = {
    "exchanged": (exchange, "membership is not what its seed draws: the ledger was edited"),
    "doubled": (lambda x: x["membership"]["members"].append(x["membership"]["nonmembers"][0]), "on two sides"),
    "beyond": (lambda x: x["membership"]["members"].append(10**6), "names a row beyond the 200"),
    "stranger": (lambda x: x.update(model="00" * 32), "written for another model"),
    "future": (lambda x: x.update(format="redteam.ledger/9"), "format is 'redteam.ledger/9'"),
    "extra": (lambda x: x.update(motto="trust me"), "unknown key 'motto'"),
    "unsalted": (lambda x: x.update(salt=""), "the salt is not at least 16 bytes"),
    "lost_data": (lambda x: x["data"].update(path="gone.csv"), "gone.csv is not there; put it back"),
    "other_data": (lambda x: x["data"].update(path="members.csv"), "changed since training (SHA-256 differs"),
}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_ledger_that_is_not_the_models(bench, name):
    edit, words = LEDGERS[name]
    ledger = json.loads((bench / "model.ledger.json").read_text())
    edit(ledger)
    (bench / f"{name}.json").write_text(json.dumps(ledger))
    assert words in fails(bench, "audit", "model.pt", "--ledger", f"{name}.json")


def test_a_ledger_that_is_none(bench):
    (bench / "broken.json").write_text("{")
    (bench / "deep.json").write_text("[" * 100_000)
    for name in ("broken.json", "deep.json"):
        assert f"{name}: not JSON" in fails(bench, "audit", "model.pt", "--ledger", name)
    assert "none.json: cannot be read (No such file" in fails(bench, "audit", "model.pt", "--ledger", "none.json")


# Policies and baselines

POLICIES = {
    "misspelt": ("max_auk = 0.6\n", "unknown key 'max_auk' = 0.6: did you mean 'max_auc'?"),
    "nothing": ("", "sets no limit"),
    "no_toml": ("max_auc =\n", "not TOML"),
    "beyond": ("max_auc = 1.5\n", "max_auc = 1.5 is out of range"),
    "expired": (
        'max_auc = 0.6\n[[waivers]]\nid = "RT101.auc"\nreason = "x"\nexpires = 2001-01-01\n',
        "waiver 'RT101.auc' expired on 2001-01-01",
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_is_none(bench, name):
    content, words = POLICIES[name]
    (bench / f"{name}.toml").write_text(content)
    assert words in fails(bench, "audit", "model.pt", "--policy", f"{name}.toml")


def test_a_baseline_that_is_none(bench, tmp_path):
    fast("audit", "answers:leaky", *SIDES, "-a", "RT101", "-f", "json", "-o", tmp_path / "good.json", cwd=bench)
    report = json.loads((tmp_path / "good.json").read_text())
    (bench / "newer.json").write_text(json.dumps(report | {"format": "redteam.report/9"}))
    (bench / "extra.json").write_text(json.dumps(report | {"motto": "trust me"}))
    assert "format is 'redteam.report/9'" in fails(bench, "audit", "model.pt", "--baseline", "newer.json")
    assert "unknown key 'motto'" in fails(bench, "audit", "model.pt", "--baseline", "extra.json")
    assert "none.json: cannot be read (No such file" in fails(bench, "audit", "model.pt", "--baseline", "none.json")


def test_a_required_attack_that_does_not_exist_is_never_a_pass(bench):
    (bench / "require.toml").write_text('max_auc = 0.9\nrequire = ["RT777"]\n')
    result = fast("audit", "answers:even", *SIDES, "--policy", "require.toml", "--exit-zero", cwd=bench)
    assert result.returncode == 2
    assert "RT777 is required and gave no evidence" in result.stderr
