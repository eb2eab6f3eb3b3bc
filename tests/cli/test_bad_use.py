"""Every other way to go wrong: options, targets that break, places that are full, crashes inside."""

import json
import os
import time

import pytest
from forks import fast
from materials import LEAKY, SAFE, SIDES, fails, furnished, send, serve


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with a trained model, its ledger, members, others and functions that answer."""
    with furnished(tmp_path_factory.mktemp("bad")) as folder:
        yield folder


# Options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("audit", "name one thing to audit"),
        ("audit model.pt --scores constant.csv", "name one thing to audit"),
        ("audit model.pt --members members.csv", "--members and --nonmembers go together"),
        ("audit model.pt --user-column who", "no column 'who' for user"),
        ("audit model.pt --group-column which", "no column 'which' for group"),
        ("audit model.pt --id-column id", "leave out all but --user-column and --group-column"),
        ("train data.csv --user-column nobody", "no column 'nobody' for user"),
        ("audit model.pt --members a --nonmembers b --data c", "--members and --data exclude each other"),
        ("audit model.pt --members a --nonmembers b --ledger c", "--members and --ledger exclude each other"),
        ("audit model.pt --training-data a --data c", "--training-data goes with a ledger"),
        ("audit --scores a --data c", "--scores and --data exclude each other"),
        ("audit model.pt --attack RT999", "unknown id 'RT999'; known: RT101"),
        ("audit model.pt --attack RT901", "RT901: is a control and always runs"),
        ("audit model.pt --alpha 0", "--alpha 0: must lie between"),
        ("audit model.pt --alpha nan", "--alpha nan: must lie between"),
        ("audit model.pt --alpha much", "'much'"),
        ("audit model.pt --fpr 0", "--fpr 0.0: must lie between"),
        ("audit model.pt --fpr nan", "--fpr nan: must lie between"),
        ("audit model.pt --seed -1", "-1"),
        ("audit model.pt --seed 1.5", "1.5"),
        ("audit model.pt --format pdf", "pdf"),
        ("audit model.pt --frobnicate", "--frobnicate"),
        ("audit model.pt other.pt", "other.pt"),
        ("audit model.pt --timeout 3", "--timeout is for http(s) targets; model.pt is none"),
        ("audit model.pt --request-budget 3", "--request-budget is for http(s) targets; model.pt is none"),
        ("audit answers:leaky --device cpu --data data.csv", "--device is for models, a file or a directory"),
        ("audit --scores scores.csv --max-length 9", "--max-length is for models, a file or a directory; --scores is"),
        ("audit answers:leaky --adapter-base x --data data.csv", "--adapter-base is for models"),
        ("audit model.pt --device gpu", "--device gpu: unknown; there are cpu, cuda, cuda:N and mps"),
        ("audit model.pt --device cuda:99", "--device cuda:99: torch finds"),
        ("audit model.pt --max-length 2", "max_length is 2: no room for a token"),
        ("audit model.pt --max-length 9", "is of the model as it cuts texts itself; leave it out"),
        ("audit model.pt --adapter-base .", "a file with a whole model and no adapter: --adapter-base is for one"),
        ("audit model.pt --open-seconds 0", "--open-seconds 0: must lie between"),
        ("audit model.pt --open-memory nan", "--open-memory nan: must lie between"),
        ("pack . --open-memory -1", "--open-memory -1: must lie between"),
        ("audit model.pt --text-column words --data data.csv", "no column 'words' for text"),
        ("frobnicate", "frobnicate"),
        ("--frobnicate", "--frobnicate"),
        ("gate", "see: redteam gate --help"),
        ("train data.csv --holdout 1.5", "1.5"),
        ("train data.csv --holdout nan", "--holdout nan: must be a finite number"),
        ("train data.csv --set weight_decay=inf", "--set weight_decay=inf: must be a number at least 0"),
        ("train data.csv --set epochs=0", "--set epochs=0: must be a whole number at least 1, or none"),
        ("train data.csv --model gpt", "--model gpt: neither a directory nor one of tiny, bilstm"),
        ("train data.csv --defense RD999", "--defense 'RD999': known are none, all, early-stopping (es)"),
        ("train data.csv --defense dropout+dpsgd", "--defense 'dropout+dpsgd': only early-stopping, dropout"),
        ("train data.csv --defense dropout+d", "--defense 'dropout+d': one part is there twice"),
        ("train data.csv --defense dropout --set dropout=0", "--set dropout=0: is no defence; leave dropout out"),
        ("train data.csv --defense ls+d --set label_smoothing=0", "--set label_smoothing=0: is no defence"),
        (
            "train data.csv --set label_smoothing=0.1",
            "has a setting 'label_smoothing'; known: epochs, batch_size",
        ),
        (
            "train data.csv --defense ls --set label_smoothing=nan",
            "label_smoothing=nan: must be a number at least",
        ),
        ("audit model.pt --attack RT202", "--attack RT202: the training data holds no canaries"),
        ("audit model.pt --base model.pt", "--base model.pt: is no directory; give that of the encoder"),
        (
            "audit model.pt -a RT101 --base .",
            "--base .: no attack that was named compares texts, and the training data",
        ),
        ("audit model.pt --canary-ledger data.csv", "--canary-ledger"),
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
        (
            "def f(texts): raise ValueError('two\\nlines \\x1b[31m')",
            "raised ValueError at broken.py:2 (REDTEAM_DEBUG",
        ),
        ("def f(texts): import sys; sys.exit(0)", "raised SystemExit: 0"),
        ("def f(texts): raise GeneratorExit", "raised GeneratorExit at broken.py:2"),
        (
            "import threading as t\ndef f(x): u = t.Thread(target=lambda: x['secret']); u.start(); u.join()",
            "answered NoneType where",
        ),
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
        (answers(lambda texts: {"probabilities": [{"x": 0.5, "y": 0.5}] * len(texts)}), "no label is in both"),
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
        assert "1432 texts need 45 requests, 4 are left" in fails(bench, "audit", url, *SIDES, "--request-budget", "5")


# Places that cannot be written


def test_output_that_cannot_be_written_is_refused_before_the_work(bench):
    audit = ("audit", "model.pt", *SIDES)
    assert "the folder missing does not exist" in fails(bench, *audit, "-o", "missing/report")
    assert "is a folder; name a file" in fails(bench, *audit, "-o", ".")
    for name in ("model.pt", "model.ledger.json", "members.csv", "redteam.toml"):
        options = ("--policy", "redteam.toml", "-o", name)
        assert f"--output {name} would overwrite an input" in fails(bench, *audit, *options)
    assert "would overwrite an input" in fails(bench, "audit", "--scores", "members.csv", "-o", "members.csv")
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
    for target, code in (("answers:even", 2), ("answers:leaky", 1)):
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
    assert "data.csv" not in fails(bench, "train", "data.csv", "--set", "epochs=1", "-o", "new.pt", before=room)
    assert not list(bench.glob("new.*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_standard_output(bench):
    for arguments in (("attacks",), ("--version",), ("--help",), ("audit", "model.pt", "--dry-run")):
        result = fast(*arguments, cwd=bench, stdout="/dev/full")
        assert result.returncode == 2
        assert "No space left on device" in result.stderr


# What breaks inside

CRASHES = {
    "a bug": ("def f(*a, **k): raise RuntimeError('it\\nbroke')", "RuntimeError: it broke"),
    "an end of file": ("def f(*a, **k): raise EOFError('no more')", "EOFError: no more"),
    "sys.exit(0)": ("def f(*a, **k): sys.exit(0)", "something called sys.exit(0)"),
    "what is no Exception": ("def f(*a, **k): raise GeneratorExit('all\\nover')", "GeneratorExit: all over"),
    "no memory": ("def f(*a, **k): raise MemoryError", "MemoryError"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_no_verdict(bench, name):
    function, words = CRASHES[name]
    result = fast(
        "audit",
        "model.pt",
        cwd=bench,
        before=f"{function}\nimport redteam.auditing.inputs as i\ni.open_inputs = f",
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.lstrip("\n").startswith("redteam: internal error, nothing was decided: ")
    assert result.stderr.strip().count("\n") == 0
    assert words in result.stderr


PLUGIN = '''"""RT150 evil: does harm."""
from redteam.plugins.attack import Attack
from redteam.targets.target import Access


class Evil(Attack):
    id, name, needs, signals = "RT150", "evil", Access.LOSSES, ("one",)

    def score(self, target, pool, context):
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
    result = fast("audit", "answers:even", *SIDES, "--exit-zero", cwd=bench, before=before)
    assert result.returncode == 2
    assert words in result.stderr


def test_nothing_of_a_fixture_was_touched():
    for model in (LEAKY, SAFE):
        assert sorted(p.name for p in model.parent.iterdir()) == ["model.ledger.json", "model.pt", "report.json"]
