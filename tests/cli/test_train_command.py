import json
import stat

import pytest
from conftest import sentences
from forks import fast
from materials import error_line, leftovers, numbers, write

BATCH = ("--set", "batch_size=16")
QUICK = ("--set", "epochs=1", *BATCH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write(folder / "data.csv", sentences(300, seed=1))
    (folder / "redteam.toml").write_text("max_auc = 0.9\nallow_untrained = true")
    for model in ("tiny", "bilstm"):
        result = train(folder, "--model", model, "-o", f"{model}.pt")
        *_, trained, wrote = result.stderr.splitlines()
        assert trained.startswith("trained on ")
        assert wrote.endswith(f"next: redteam audit {model}.pt")
    return folder


def train(folder, *arguments, **options):
    result = fast("train", "data.csv", *QUICK, *arguments, cwd=folder, **options)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert leftovers(folder) == []
    return result


def report(folder, model, code=0):
    result = fast("audit", model, "-f", "json", "-a", "RT103", cwd=folder)
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("model", ["tiny", "bilstm"])
def test_what_was_trained_is_audited_with_randomised_members(folder, model):
    found = report(folder, f"{model}.pt")
    assert found["grade"] == "A"
    ledger = json.loads((folder / f"{model}.ledger.json").read_text())
    sides = ledger["membership"]
    assert found["data"]["members"] == len(sides["members"])
    assert len(sides["members"]) + len(sides["nonmembers"]) == 300
    assert 100 < len(sides["members"]) < 200
    assert found["target"]["digest"] == ledger["model"]
    assert ledger["data"]["path"] == "data.csv"  # relative: the folder can move


def test_the_ledger_is_private_and_the_model_knows_nothing_of_it(folder):
    mode = (folder / "tiny.ledger.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    ledger = json.loads((folder / "tiny.ledger.json").read_text())
    model = (folder / "tiny.pt").read_bytes()
    assert ledger["salt"].encode() not in model
    assert b"member" not in model
    text = (folder / "data.csv").read_text().splitlines()[1].split(",")[1]
    assert text.encode() not in model


def test_same_seed_same_model_and_another_seed_another(folder):
    for name, seed in (("again", 0), ("other", 1)):
        train(folder, "-o", f"{name}.pt", "--seed", seed)
    first, again, other = (json.loads((folder / f"{n}.ledger.json").read_text()) for n in ("tiny", "again", "other"))
    assert first["model"] == again["model"] != other["model"]
    assert first["membership"] == again["membership"] != other["membership"]
    assert first["salt"] != again["salt"]  # two releases must not be linkable by their reports


def test_the_shares_are_those_asked_for(folder):
    train(folder, "--holdout", "0.2", "-o", "shares.pt", "--set", "dropout=0.3", "--layers", "1")
    ledger = json.loads((folder / "shares.ledger.json").read_text())
    sides = {side: len(ledger["membership"][side]) for side in ("members", "nonmembers")}
    assert sides["members"] > 2 * sides["nonmembers"]
    assert ledger["recipe"]["parameters"]["model"] == {
        "spec": "tiny",
        "layers": 1,
        "freeze_embeddings": False,
        "dropout": 0.3,
    }
    assert report(folder, "shares.pt")["data"]["nonmembers"] == sides["nonmembers"]


def test_a_model_in_another_folder_finds_its_data(folder):
    (folder / "models").mkdir()
    train(folder, "-o", "models/model.pt")
    ledger = json.loads((folder / "models" / "model.ledger.json").read_text())
    assert ledger["data"]["path"] == "../data.csv"
    assert report(folder, "models/model.pt")["grade"] == "A"


def test_a_hugging_face_directory_to_start_from(folder):
    assert fast("unpack", "tiny.pt", "-o", "start", cwd=folder).returncode == 0
    train(folder, "--model", "start", "--freeze-embeddings", "-o", "tuned.pt")
    assert report(folder, "tuned.pt")["grade"] == "A"


def test_repeated_texts_fall_on_one_side(folder):
    once = sentences(60, seed=4)
    write(folder / "twice.csv", once.take([*range(60), *range(60)]))
    result = fast("train", "twice.csv", *QUICK, "-o", "twice.pt", cwd=folder)
    assert result.returncode == 0
    found = fast("audit", "twice.pt", "-f", "json", cwd=folder)
    data = json.loads(found.stdout)["data"]
    assert (data["moved_out"], data["duplicates"]) == (0, 60)
    assert data["members"] + data["nonmembers"] == 60


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\nhello,a\n", "not enough data"),
        ("text,label\n" + "".join(f"text {i},a\n" for i in range(50)), "1 distinct labels"),
        ("text,label\nhello,a\nho,\n", "row 2: label is empty"),
    ],
)
def test_data_that_cannot_be_trained_on_leaves_no_file(folder, content, words):
    (folder / "bad.csv").write_text(content)
    assert words in error_line(fast("train", "bad.csv", *QUICK, "-o", "bad.pt", cwd=folder))
    assert not list(folder.glob("bad.*pt*")) + list(folder.glob("bad.*json"))


def test_a_training_that_diverges_says_what_to_do(folder):
    before = numbers((folder / "tiny.ledger.json").read_text())
    result = fast(
        "train", "data.csv", *BATCH, "-o", "tiny.pt", "--set", "learning_rate=10", "--set", "epochs=9", cwd=folder
    )
    assert result.returncode in (0, 2)  # clipping may hold it
    if result.returncode == 2:
        assert "try a learning_rate of" in error_line(result)
        assert numbers((folder / "tiny.ledger.json").read_text()) == before


@pytest.mark.parametrize(
    ("arguments", "defense", "expected"),
    [
        (("--defense", "es+ce"), "RD110", {"early_stopping": True, "characters": True, "dropout": None}),
        (("--defense", "all", "--set", "dropout=0.3", "--set", "patience=2"), "RD110", {"dropout": 0.3, "patience": 2}),
        (("--defense", "RD112"), "RD112", {"dropout": 0.5, "early_stopping": False}),
        (
            ("--defense", "dropout+ls", "--set", "label_smoothing=0.2"),
            "RD110",
            {"dropout": 0.5, "label_smoothing": 0.2},
        ),
        (("--defense", "deduplication"), "RD114", {"deduplicate": True}),
        (("--defense", "none"), "RD100", {"epochs": 1}),
    ],
)
def test_defences_against_extraction_and_their_combinations(folder, arguments, defense, expected):
    train(folder, "-o", "defended.pt", *arguments)
    recipe = json.loads((folder / "defended.ledger.json").read_text())["recipe"]
    assert recipe["defense"] == defense
    assert recipe["parameters"] | expected == recipe["parameters"]
    assert recipe["parameters"]["model"]["dropout"] is None  # the defence's own, where it has one
    assert report(folder, "defended.pt")["grade"] == "A"
