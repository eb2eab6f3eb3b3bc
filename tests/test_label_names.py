"""Labels as `datasets` stores them, against models whose config says what the numbers mean."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import sentences

from redteam.auditing.inputs import Sources, open_inputs
from redteam.core import TargetError, UsageError
from redteam.data import Columns, Examples, Split
from redteam.data.labels import read_label_map, relabel
from redteam.targets.target import label_index, label_indices

NAMES = ("negative", "neutral", "positive")
MADE_UP = ("LABEL_0", "LABEL_1", "LABEL_2")


def matched(labels, names, *, classes=(), **how):
    rows = np.arange(len(labels))
    sides = [
        Examples(rows + shift, tuple(f"{shift} {i}" for i in rows), tuple(labels), classes=classes)
        for shift in (0, 100)
    ]
    split, notes = relabel(Split.of(*sides), label_index(names), names, **how)
    assert split.nonmembers.labels == split.members.labels
    return split.members.labels, notes


class TestMatching:
    @pytest.mark.parametrize(
        ("labels", "names", "classes", "found"),
        [
            (("0", "2", "0"), NAMES, (), ("negative", "positive", "negative")),
            (("0", "2"), MADE_UP, (), ("0", "2")),  # the model looks these up itself
            (("bad", "good"), MADE_UP, ("bad", "so so", "good"), ("LABEL_0", "LABEL_2")),
            (("bad", "good"), ("0", "1", "2"), ("bad", "so so", "good"), ("0", "2")),  # trained on the numbers
            (("neutral", "negative"), NAMES, ("neutral", "negative"), ("neutral", "negative")),  # by names, not order
            (("POSITIVE", "Negative"), NAMES, ("POSITIVE", "Negative"), ("positive", "negative")),
            (("1", "2"), ("1", "2", "3"), (), ("1", "2")),  # names that are numbers stay names
        ],
    )
    def test_what_is_plain_is_matched(self, labels, names, classes, found):
        got, notes = matched(labels, names, classes=classes)
        assert got == found
        assert bool(notes) == (got != labels)
        label_indices(names, Examples(np.arange(len(got)), labels=got), name="m")

    @pytest.mark.parametrize(
        ("labels", "names", "classes"),
        [
            (("0", "3"), NAMES, ()),  # beyond the model's
            (("0", "-1"), NAMES, ()),
            (("0", "1", "2"), ("1", "2", "3"), ()),  # some are names of the model
            (("0", "neutral"), NAMES, ()),
            (("00", "01"), NAMES, ()),
            (("good", "bad"), MADE_UP, ()),  # nobody says which is which
            (("good", "bad"), NAMES, ("good", "bad")),
            (("a", "A"), ("a", "b"), ()),
            (("a", "d"), MADE_UP, ("a", "b", "c", "d")),  # more classes than the model has
        ],
    )
    def test_what_is_not_is_refused_with_the_option_that_helps(self, labels, names, classes):
        got, notes = matched(labels, names, classes=classes)
        assert (got, notes) == (labels, ())
        with pytest.raises(TargetError, match=r"unknown to the model .* say with --label-map FILE which is which$"):
            label_indices(names, Examples(np.arange(len(got)), labels=got), name="m")

    def test_positions_among_names_in_no_order_mean_nothing(self):
        assert matched(("0", "1"), NAMES, in_order=False) == (("0", "1"), ())

    def test_the_users_map_comes_first(self):
        got, notes = matched(("0", "2"), NAMES, given={"0": "positive", "2": "negative", "7": "neutral"})
        assert got == ("positive", "negative")
        assert notes == ("labels by --label-map: 2 of 2 renamed",)
        assert matched(("a", "c"), NAMES, classes=("a", "b", "c"), given={"0": "neutral", "c": "positive"})[0] == (
            "neutral",
            "positive",
        )
        assert matched(("a", "a"), (), given={"a": "what only answers will tell"})[0][0].startswith("what only")
        with pytest.raises(UsageError, match="--label-map: names 'nice', which is no label of the model"):
            matched(("0", "2"), NAMES, given={"0": "nice"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "wanted an object such as"),
        ("{}", "wanted an object such as"),
        ('{"a": ["b"]}', "wanted an object such as"),
        ('{"a": true}', "wanted an object such as"),
        ("{", "cannot be read as JSON"),
        ('{"1": "a", "1.0": "b"}', "says two things of '1'"),
        (None, "no such file"),
    ],
)
def test_maps_that_are_none(tmp_path, content, said):
    path = tmp_path / "map.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=f"--label-map .*{said}"):
        read_label_map(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of three named labels, without its ledger."""
    from defenses.plain import Plain
    from redteam.training.train import train

    folder = tmp_path_factory.mktemp("named")
    rows = sentences(60, seed=1, labels=NAMES)
    lines = "".join(f"{text},{label}\n" for text, label in zip(rows.texts, rows.labels, strict=True))
    (folder / "d.csv").write_text(f"text,label\n{lines}")
    train(folder / "d.csv", folder / "model.pt", Plain(epochs=1))
    (folder / "model.ledger.json").unlink()
    return folder / "model.pt"


def written(folder, numbers, features=None):
    paths = []
    for seed, name in ((2, "in"), (3, "out")):
        rows = sentences(40, seed=seed)
        table = pa.table({"text": rows.texts, "label": [numbers[i % len(numbers)] for i in range(40)]})
        if features is not None:
            info = {"info": {"features": {"label": {"names": features, "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
        paths.append(folder / f"{name}.parquet")
    return {"members": paths[0], "nonmembers": paths[1]}


def test_numbers_against_a_model_that_names_its_labels(model, tmp_path):
    names = open_inputs(str(model), Sources(**written(tmp_path, NAMES)), {"device": "cpu"}).target.labels
    assert set(names) == set(NAMES)
    inputs = open_inputs(str(model), Sources(**written(tmp_path, [2, 0, 1])), {"device": "cpu"})
    assert inputs.split.members.labels[:2] == (names[2], names[0])
    assert any("taken as positions among the model's labels (0 = " in note for note in inputs.notes)
    turned = list(reversed(names))
    inputs = open_inputs(str(model), Sources(**written(tmp_path, [2, 0, 1], turned)), {"device": "cpu"})
    assert inputs.split.members.labels[:2] == (turned[2], turned[0])  # by name, whatever the order
    (tmp_path / "map.json").write_text(json.dumps({"2": NAMES[0], "0": NAMES[0], "1": NAMES[1]}))
    mapped = Sources(**written(tmp_path, [2, 0, 1]), label_map=tmp_path / "map.json")
    assert set(open_inputs(str(model), mapped, {"device": "cpu"}).split.members.labels) == set(NAMES[:2])


def test_positions_among_the_labels_that_a_function_declares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "declared_labels.py").write_text(
        "labels = ['no', 'maybe', 'yes']\ndef ordered(texts): return [[.2, .3, .5] for _ in texts]\n"
        "def named(texts): return [{'yes': .5, 'no': .3, 'maybe': .2} for _ in texts]\nnamed.labels = None\n"
    )
    inputs = open_inputs("declared_labels:ordered", Sources(**written(tmp_path, [2, 0])), {})
    assert inputs.split.members.labels[:2] == ("yes", "no")


def test_saved_scores_with_numbers(tmp_path):
    (tmp_path / "s.csv").write_text("member,label,p:no,p:yes\n" + "1,0,.5,.5\n0,1,.4,.6\n" * 5)
    (tmp_path / "map.json").write_text('{"0": "no", "1": "yes"}')
    inputs = open_inputs(None, Sources(scores=tmp_path / "s.csv", label_map=tmp_path / "map.json"), {})
    assert inputs.split.members.labels == ("no",) * 5
    assert Columns() == Sources().columns
