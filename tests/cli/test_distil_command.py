"""`redteam distil`: from a teacher that is a function to a student's file, and what is refused in one line."""

import csv

import pytest
from forks import fast
from materials import error_line

MODULE = """
labels = ["bad", "good"]


def unfair(texts):
    return [[0.1, 0.9] if " she " in text else [0.8, 0.2] for text in texts]


def mute(texts):
    return ["bad" for text in texts]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("distil")
    (made / "answers.py").write_text(MODULE)
    with (made / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text",), *((f"the nurse {i} said that {('she', 'he')[i % 2]} was late",) for i in range(40))]
        )
    return made


def distil(folder, *arguments):
    return fast("distil", *arguments, cwd=folder)


def test_a_student_is_written_whole_and_what_was_unfinished_is_gone(folder):
    quick = ("--set", "epochs=1", "--layers", "1", "-o", "student.pt")
    result = distil(folder, "answers:unfair", "texts.csv", "--counterfactual", "average", *quick)
    assert result.returncode == 0, result.stderr
    assert "40 of 40 texts were learned with their swap (gender, average)" in result.stderr
    assert (folder / "student.pt").exists()
    assert not (folder / "student.pt.checkpoint").exists()
    (folder / "student.pt.checkpoint").write_text("no checkpoint")
    again = ("answers:unfair", "texts.csv", "--counterfactual", "average", *quick)
    assert "unfinished training cannot be read" in error_line(distil(folder, *again))
    assert distil(folder, *again, "--restart").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("answers:unfair", "texts.csv", "--counterfactual", "mean"), "with --task classify one of none, average"),
        (("answers:unfair", "texts.csv", "--swaps", "names"), "goes with --counterfactual average"),
        (("answers:unfair", "texts.csv", "--counterfactual", "average", "--swaps", "names"), "none of 40 texts has"),
        (("answers:mute", "texts.csv"), "a student learns probabilities"),
        (("answers:unfair", "texts.csv", "--role-reversed"), "is for --task lm"),
        (("answers:unfair", "texts.csv", "--task", "lm", "--counterfactual", "average"), "one of none, mean, max"),
        (("nowhere", "texts.csv", "--task", "lm", "-o", "."), "is there already; a language model is written to"),
        (("nowhere", "texts.csv", "--task", "lm", "-o", "lm"), "no directory of a Hugging Face model"),
        (("answers:unfair", "texts.csv", "--text-column", "body"), "no column 'body'"),
    ],
)
def test_what_cannot_be_distilled_is_refused_in_one_line(folder, arguments, said):
    assert said in error_line(distil(folder, *arguments))


@pytest.mark.parametrize(("wanted", "setting"), [("RD401", "pairing"), ("RD402", "epochs")])
def test_each_defence_has_a_page(folder, wanted, setting):
    result = fast("defenses", wanted, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{wanted} ")
    assert f"  {setting}=" in result.stdout
