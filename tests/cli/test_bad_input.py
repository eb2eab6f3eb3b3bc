"""Every input that somebody will bring one day: one clear line, exit 2, and nothing half-written."""

import io
import json
import os
import pickle
import time
import zipfile

import pytest
import torch
from conftest import sentences
from forks import fast
from materials import (
    LEAKY,
    MEMBERS,
    SAFE,
    SIDES,
    error_line,
    furnish,
    leftovers,
    send,
    serve,
    write,
)

ERRORS = []  # every error message of this module, for the last test


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with a trained model, its ledger, members, others and functions that answer."""
    folder = furnish(tmp_path_factory.mktemp("bad"))
    write(folder / "data.csv", sentences(200, seed=1))
    result = fast("train", "data.csv", "--epochs", "1", cwd=folder)
    assert result.returncode == 0, result.stderr
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield folder
    assert leftovers(folder) == []
    after = {name: (folder / name).read_bytes() for name in before}
    assert after == before  # no failure changed what was there


def fails(bench, *arguments, **options):
    """Run what must fail with exit code 2 and return its one line."""
    line = error_line(fast(*arguments, cwd=bench, **options))
    ERRORS.append(line)
    return line


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
    missing = "no such file or directory, and neither module:function nor a URL"
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
    assert words in fails(bench, "audit", "model.pt", "--members", name, "--nonmembers", "others.csv")


def test_sides_that_are_the_same_or_missing(bench):
    same = ("--members", "members.csv", "--nonmembers", "members.csv")
    assert f"after {len(MEMBERS)} texts found on both sides" in fails(bench, "audit", "model.pt", *same)
    assert "none.csv: cannot be read" in fails(
        bench, "audit", "model.pt", "--members", "none.csv", "--nonmembers", "others.csv"
    )
    assert "no split column" in fails(bench, "audit", "model.pt", "--data", "data.csv")
    split = ("--data", "members.csv", "--split-column", "id")
    assert "says nothing about membership; known: member" in fails(bench, "audit", "model.pt", *split)


SCORES = {
    "words.csv": ("member,score\n1,high\n0,low\n", "row 1: score: 'high' is not a number"),
    "nan.csv": ("member,score\n1,0.5\n0,nan\n", "row 2: score: nan is not a finite number"),
    "members_only.csv": ("member,score\n1,0.5\n1,0.4\n", "0 non-members"),
    "no_side.csv": ("score\n0.5\n", "no membership column"),
    "no_score.csv": ("member\n1\n", "no score, loss or probability"),
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
    "lost_data": (lambda x: x["data"].update(path="gone.csv"), "gone.csv is not there; put it back or say --ledger"),
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
    result = fast("audit", "answers:ignorant", *SIDES, "--policy", "require.toml", "--exit-zero", cwd=bench)
    assert result.returncode == 2
    assert "RT777 is required and gave no evidence" in result.stderr


# Options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("audit", "name one thing to audit"),
        ("audit model.pt --scores constant.csv", "name one thing to audit"),
        ("audit model.pt --members members.csv", "--members and --nonmembers go together"),
        ("audit model.pt --reference members.csv", "--reference goes with --members and --nonmembers"),
        ("audit model.pt --members a --nonmembers b --data c", "--members and --data exclude each other"),
        ("audit model.pt --members a --nonmembers b --ledger c", "--members and --ledger exclude each other"),
        ("audit --scores a --data c", "--scores and --data exclude each other"),
        ("audit model.pt --attack RT999", "unknown id 'RT999'; known: RT101"),
        ("audit model.pt --attack RT901", "RT901: is a control and always runs"),
        ("audit model.pt --alpha 0", "--alpha 0.0: must lie between"),
        ("audit model.pt --alpha nan", "--alpha nan: must lie between"),
        ("audit model.pt --alpha much", "'much'"),
        ("audit model.pt --fpr 0", "--fpr 0.0: must lie between"),
        ("audit model.pt --fpr nan", "--fpr nan: must lie between"),
        ("audit model.pt --seed -1", "-1"),
        ("audit model.pt --seed 1.5", "1.5"),
        ("audit model.pt --format html", "html"),
        ("audit model.pt --frobnicate", "--frobnicate"),
        ("audit model.pt other.pt", "other.pt"),
        ("audit model.pt --timeout 3", "--timeout is for http(s) targets; model.pt is none"),
        ("audit model.pt --text-column words --data data.csv", "no column 'words' for text"),
        ("frobnicate", "frobnicate"),
        ("--frobnicate", "--frobnicate"),
        ("gate", "see: redteam gate --help"),
        ("train data.csv --holdout 1.5", "1.5"),
        ("train data.csv --holdout nan", "--holdout nan: must be a finite number"),
        ("train data.csv --weight-decay inf", "--weight-decay inf: must be a finite number"),
        ("train data.csv --epochs 0", "0"),
        ("train data.csv --model gpt", "--model gpt: neither a directory nor one of tiny, bilstm"),
        ("train data.csv --defense RD999", "unknown id 'RD999'; known: RD100"),
        ("train data.csv --model bilstm --layers 3", "--layers 3: bilstm has one layer"),
        ("train none.csv", "none.csv: cannot be read"),
        ("train data.csv -o data.csv", "would overwrite an input"),
        ("train data.csv -o missing/model.pt", "--output missing/model.pt: the folder missing does not exist"),
    ],
)
def test_options_that_make_no_sense(bench, arguments, words):
    assert words in fails(bench, *arguments.split())


# Targets that answer nonsense


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("def f(texts): raise ValueError('two\\nlines \\x1b[31m')", "raised ValueError: two lines \\u001b[31m"),
        ("def f(texts): import sys; sys.exit(0)", "raised SystemExit: 0"),
        ("def f(texts): return [[1.0]]", "answered shape (1, 1) for 1 texts and 3 labels"),
        ("def f(texts): return [[2.0, -1.0, 0.0] for _ in texts]", "negative"),
        ("def f(texts): return [[float('nan')] * 3 for _ in texts]", "NaN"),
        ("f = 3", "not callable"),
        ("g = 3", "has no 'f'"),
        ("import sys; sys.exit(0)", "raised SystemExit: 0"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("def f(texts", "raised SyntaxError"),
    ],
)
def test_a_function_that_breaks(bench, function, words):
    (bench / "broken.py").write_text(f"labels = ['a', 'b', 'c']\n{function}\n")
    line = fails(bench, "audit", "broken:f", *SIDES)
    assert "broken:f: " in line
    assert words in line


def test_a_module_that_is_not_there(bench):
    assert "no module 'nowhere' here" in fails(bench, "audit", "nowhere:f", *SIDES)


def answers(document):
    def reply(handler, body):
        texts = json.loads(body)["texts"]
        send(handler, json.dumps(document(texts) if callable(document) else document).encode())

    return reply


def late(handler, body):
    time.sleep(1)
    send(handler, b"{}")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (lambda handler, body: send(handler, b"oops", 500), "500 Internal Server Error"),
        (lambda handler, body: send(handler, b"oops", 404), "404 Not Found; check the path of the URL"),
        (lambda handler, body: send(handler, b"<html>", kind="text/html"), "answered 'text/html' that is not JSON"),
        (late, "no complete answer in time"),
        (answers(7), "answered a bare int"),
        (answers({"probabilities": []}), "answered 0 rows for 1 texts"),
        (answers({"probabilities": [[0.5, 0.5]], "classes": ["a", "b", "c"]}), "answered shape (1, 2)"),
        (answers(lambda texts: {"probabilities": [{"x": 0.5, "y": 0.5}] * len(texts)}), "labels unknown to the model"),
        (answers(lambda texts: {"probabilities": [{"a": 3, "b": -2}] * len(texts)}), "negative"),
    ],
)
def test_an_endpoint_that_breaks(bench, reply, words):
    with serve(reply) as url:
        line = fails(bench, "audit", url, *SIDES, "--timeout", "0.5", "--retries", "0")
    assert line.startswith(f"redteam: {url}: ")
    assert words in line


def test_an_endpoint_that_is_down_or_too_dear(bench):
    with serve(answers({})) as url:
        pass
    assert "is the service up?" in fails(bench, "audit", url, *SIDES, "--retries", "0")
    assert "must be http:// or https://" in fails(bench, "audit", "http://", *SIDES)
    classes = answers(lambda texts: {"probabilities": [[0.2, 0.3, 0.5]] * len(texts), "classes": ["a", "b", "c"]})
    with serve(classes) as url:
        assert "1400 texts need 44 requests, 4 are left" in fails(bench, "audit", url, *SIDES, "--budget", "5")


# Places that cannot be written


def test_output_that_cannot_be_written_is_refused_before_the_work(bench):
    audit = ("audit", "model.pt", *SIDES)
    assert "the folder missing does not exist" in fails(bench, *audit, "-o", "missing/report")
    assert "is a folder; name a file" in fails(bench, *audit, "-o", ".")
    for name in ("model.pt", "model.ledger.json", "members.csv", "redteam.toml"):
        options = ("--policy", "redteam.toml", "-o", name)
        assert f"--output {name} would overwrite an input" in fails(bench, *audit, *options)
    assert "would overwrite an input" in fails(bench, "audit", "--scores", "constant.csv", "-o", "constant.csv")
    assert fast("unpack", "model.pt", "-o", "unpacked", cwd=bench).returncode == 0
    assert "would overwrite" in fails(bench, "pack", "unpacked", "-o", "unpacked/model.safetensors")
    assert "is a folder" in fails(bench, "pack", "unpacked", "-o", "unpacked")
    assert "the folder missing does not exist" in fails(bench, "pack", "unpacked", "-o", "missing/model.pt")
    assert "the folder missing does not exist" in fails(bench, "unpack", "model.pt", "-o", "missing/folder")
    assert "not an empty directory" in fails(bench, "unpack", "model.pt", "-o", "unpacked")


LITTLE_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


def test_a_full_disk_leaves_what_was_there(bench):
    (bench / "report.json").write_text("before")
    options = ("-a", "RT101", "-f", "json", "-o", "report.json")
    for target, code in (("answers:ignorant", 2), ("answers:leaky", 1)):
        result = fast("audit", target, *SIDES, *options, cwd=bench, before=LITTLE_ROOM.format(1000))
        assert result.returncode == code
        assert "cannot write report.json: File too large" in result.stderr
        assert (bench / "report.json").read_text() == "before"
        assert "PASS" not in result.stderr
    (bench / "kept.pt").write_text("before")
    room = LITTLE_ROOM.format(100_000)
    assert "kept.pt: " in fails(bench, "pack", "unpacked", "-o", "kept.pt", before=room)
    assert (bench / "kept.pt").read_text() == "before"
    assert "other: " in fails(bench, "unpack", "model.pt", "-o", "other", before=room)
    assert not (bench / "other").exists()
    assert "data.csv" not in fails(bench, "train", "data.csv", "--epochs", "1", "-o", "new.pt", before=room)
    assert not list(bench.glob("new.*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_standard_output(bench):
    for arguments in (("attacks",), ("--version",), ("--help",), ("audit", "model.pt", *SIDES, "--plan")):
        result = fast(*arguments, cwd=bench, stdout="/dev/full")
        assert result.returncode == 2
        assert "No space left on device" in result.stderr


# What breaks inside

CRASHES = {
    "a bug": ("def f(*a, **k): raise RuntimeError('it\\nbroke')", "RuntimeError: it broke"),
    "an end of file": ("def f(*a, **k): raise EOFError('no more')", "EOFError: no more"),
    "sys.exit(0)": ("def f(*a, **k): sys.exit(0)", "something called sys.exit(0)"),
    "no memory": ("def f(*a, **k): raise MemoryError", "MemoryError"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_no_verdict(bench, name):
    function, words = CRASHES[name]
    result = fast("audit", "model.pt", cwd=bench, before=f"{function}\nimport redteam.case\nredteam.case.open_case = f")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.lstrip("\n").startswith("redteam: internal error, nothing was decided: ")
    assert result.stderr.strip().count("\n") == 0
    assert words in result.stderr


PLUGIN = '''"""RT150 evil: does harm."""
from redteam.attack import Attack
from redteam.target import Access


class Evil(Attack):
    id, name, needs, signals = "RT150", "evil", Access.LOSSES, ("one",)

    def score(self, target, pool, *, seed):
        {}
'''


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (PLUGIN.format("import sys; sys.exit(0)"), "RT150 failed: SystemExit: 0"),
        (PLUGIN.format("return {'one': [float('nan')] * len(pool)}"), "RT150 failed: one: 1400 of 1400 scores are NaN"),
        (PLUGIN.format("pass").replace("RT150", "RT101"), "two plug-ins share the id RT101"),
        ("import sys; sys.exit(0)", "plug-in evil = evil:Evil cannot be loaded (SystemExit: 0)"),
        ("nothing = 0", "plug-in evil = evil:Evil cannot be loaded (AttributeError"),
    ],
)
def test_a_broken_plug_in_is_never_a_pass(bench, tmp_path, code, words):
    (tmp_path / "evil-1.dist-info").mkdir()
    (tmp_path / "evil-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (tmp_path / "evil-1.dist-info" / "entry_points.txt").write_text("[redteam.attacks]\nevil = evil:Evil\n")
    (tmp_path / "evil.py").write_text(code)
    before = f"sys.path.insert(0, {str(tmp_path)!r})"
    result = fast("audit", "answers:ignorant", *SIDES, "--exit-zero", cwd=bench, before=before)
    assert result.returncode == 2
    assert words in result.stderr


def test_every_error_is_short_enough_to_read_and_names_no_training_text():
    assert len(ERRORS) > 50
    texts = {*MEMBERS.texts, *sentences(200, seed=1).texts}
    for line in ERRORS:
        assert len(line) < 420, line
        assert line.isprintable()
        assert not any(text in line for text in texts)


def test_nothing_of_a_fixture_was_touched():
    for model in (LEAKY, SAFE):
        assert sorted(p.name for p in model.parent.iterdir()) == ["model.ledger.json", "model.pt", "report.json"]
