"""Users on the command line: each column option does what it says, in training and in every way to audit."""

import json
import shutil

import pytest
from conftest import sentences
from forks import fast
from materials import LIMITS, write

COUNT, ROWS = 60, 6
TEXTS = sentences(COUNT * ROWS, seed=1)
WHO = tuple(f"speaker {i % COUNT}" for i in range(COUNT * ROWS))
PLAY = tuple("xyz"[i % 3] for i in range(COUNT * ROWS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data that says whose its rows are, a model trained by users and one trained by rows."""
    where = tmp_path_factory.mktemp("users")
    write(where / "data.csv", TEXTS, who=WHO, play=PLAY)
    (where / "redteam.toml").write_text(LIMITS)
    for name, options in (("users", ("--user-column", "who", "--group-column", "play")), ("rows", ())):
        result = fast("train", "data.csv", "--set", "epochs=1", "-o", f"{name}.pt", *options, cwd=where)
        assert result.returncode == 0, result.stderr
        assert ("users were drawn with all of their rows" in result.stderr) == (name == "users")
    return where


def report(folder, *arguments):
    result = fast("audit", *arguments, "-f", "json", cwd=folder)
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def units(found):
    of_membership = [each for each in found["evidence"] if not each["attack"].startswith("RT5")]  # rates are of rows
    return {each["unit"] for each in of_membership}


def test_a_model_trained_by_users_is_audited_by_users(folder):
    found = report(folder, "users.pt")
    assert (found["grade"], units(found)) == ("A", {"user"})
    assert (found["users"]["both"], found["users"]["most"]) == (0, ROWS)
    assert found["users"]["members"] + found["users"]["nonmembers"] == COUNT
    assert {leak["label"] for leak in found["groups"]} == {"x", "y", "z"}
    ledger = (folder / "users.ledger.json").read_text()
    assert json.loads(ledger)["membership"]["unit"] == "user"
    assert "speaker" not in ledger
    text = fast("audit", "users.pt", "-v", cwd=folder).stdout
    assert "AUC per user" in text
    assert "Which groups leak most" in text
    plan = fast("audit", "users.pt", "--dry-run", cwd=folder).stdout
    assert "each measured by all rows" in plan


def test_a_model_trained_by_rows_says_that_users_straddle_where_they_are_named(folder):
    bare, named = report(folder, "rows.pt"), report(folder, "rows.pt", "--user-column", "who")
    assert (bare["users"], bare["groups"]) == (None, [])
    assert (named["grade"], units(named), bare["evidence"]) == ("A", {"example"}, named["evidence"])
    both = named["users"]["both"]
    assert both > 50
    assert f"{both} of {COUNT} users have rows on both sides" in named["grade_reason"]
    text = fast("audit", "rows.pt", "--user-column", "who", "-v", cwd=folder).stdout
    assert "grade A for single rows, none for users" in text
    markdown = fast("audit", "rows.pt", "--user-column", "who", "-f", "markdown", cwd=folder).stdout
    assert "grade A for single rows, none for users" in markdown
    grouped = report(folder, "rows.pt", "--group-column", "play")
    assert {leak["label"] for leak in grouped["groups"]} == {"x", "y", "z"}


@pytest.mark.parametrize("by", ["user", "row"])
@pytest.mark.parametrize("way", ["files", "split", "scores"])
def test_users_count_in_every_way_to_say_who_was_a_member(folder, tmp_path, way, by):
    inside = [i for i in range(COUNT * ROWS) if (i % COUNT if by == "user" else (i * 7919) % 1009) % 2]
    outside = [i for i in range(COUNT * ROWS) if i not in set(inside)]
    option = ("--user-column", "who")
    model = shutil.copy(folder / "rows.pt", tmp_path)  # without its ledger, which would know better
    if way == "files":
        for name, rows in (("in.csv", inside), ("out.csv", outside)):
            write(tmp_path / name, TEXTS.take(rows), who=[WHO[i] for i in rows])
        arguments = (model, "--members", "in.csv", "--nonmembers", "out.csv", *option)
    else:
        sides = ["member" if i in set(inside) else "nonmember" for i in range(COUNT * ROWS)]
        scores = [f"{(i * 31) % 97}" for i in range(COUNT * ROWS)]
        write(tmp_path / "all.csv", TEXTS, who=WHO, side=sides, score=scores)
        first = ("--scores", "all.csv") if way == "scores" else (model, "--data", "all.csv")
        arguments = (*first, "--split-column", "side", *option)
    found = report(tmp_path, *arguments)
    assert units(found) == {"user" if by == "user" else "example"}
    assert (found["users"]["both"] > COUNT / 2) == (by == "row")


def test_a_row_that_names_no_user_is_refused_where_users_are_asked_for(folder):
    write(folder / "gap.csv", TEXTS, who=("", *WHO[1:]))
    result = fast("train", "gap.csv", "--user-column", "who", "-o", "gap.pt", cwd=folder)
    assert (result.returncode, "row 1 names no user" in result.stderr) == (2, True)
