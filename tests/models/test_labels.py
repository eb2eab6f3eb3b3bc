"""A config names its labels twice; where the two contradict each other, one of them is another model's."""

import json
from dataclasses import replace

import pytest
from tiny_models import LABELS, bundle, directory

from redteam.core import BundleError
from redteam.models.labels import check_labels
from redteam.models.opening import load_encoder, open_model, read_directory

NAMES = {str(i): label for i, label in enumerate(LABELS)}  # 0 down, 1 level, 2 up
NUMBERS = {label: i for i, label in enumerate(LABELS)}
MADE_UP = {f"LABEL_{i}": i for i in range(3)}


@pytest.mark.parametrize(
    "numbers",
    [NUMBERS, None, {}, MADE_UP, {k: str(v) for k, v in NUMBERS.items()}, {k: float(v) for k, v in NUMBERS.items()}],
)
def test_that_say_the_same_are_opened(tmp_path, numbers):
    hf = directory(tmp_path / "hf", settings={"label2id": numbers})
    packed = read_directory(hf)
    assert packed.labels == LABELS
    open_model(packed, name="m")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label2id": {"down": 1, "level": 0, "up": 2}}, "in the first 0 is 'down', in the second 'down' is 1"),
        ({"label2id": {"down": 0, "level": 1}}, "in the first 2 is 'up', in the second 2 is None"),
        ({"label2id": {"down": 0, "level": 1, "high": 2}}, "in the first 2 is 'up', in the second 2 is 'high'"),
        ({"label2id": NUMBERS | {"high": 2}}, "in the first 2 is 'up', in the second 'high' is 2"),
        ({"label2id": NUMBERS | {"other": 3}}, "in the second 'other' is 3"),
        ({"label2id": {"LABEL_0": 1, "LABEL_1": 0, "LABEL_2": 2}}, "in the first 0 is 'down'"),
        ({"label2id": {"LABEL_0": 0, "LABEL_1": 1}}, "in the first 0 is 'down'"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "names two labels 'a'"),
        ({"id2label": {"0": "a", "2": "b"}}, "must number the labels from 0 without a gap"),
        ({"num_labels": 4}, "num_labels = 4 and names 3 labels in id2label"),
        ({"id2label": NAMES | {"00": "x"}}, "names a number twice"),
    ],
)
def test_that_contradict_each_other_are_refused(tmp_path, settings, said):
    hf = directory(tmp_path / "hf", settings=settings)
    with pytest.raises(BundleError, match=r"^[^\n]*$") as caught:
        read_directory(hf)
    assert said in str(caught.value) or "num_labels" in str(settings)
    whole = bundle()
    changed = whole.config | settings
    with pytest.raises(BundleError, match=r"^[^\n]*$"):
        open_model(replace(whole, config=changed), name="m")
    assert load_encoder(directory(tmp_path / "b"), ("x", "y"), layers=None).config.id2label == {0: "x", 1: "y"}


def test_names_made_up_beside_real_numbers():
    check_labels({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"b": 0, "a": 1}}, "m")
    with pytest.raises(BundleError, match="contradict each other"):
        check_labels({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"b": 0, "a": 2}}, "m")


def test_names_that_are_no_texts():
    check_labels({"id2label": {"0": True, "1": False}, "label2id": {"true": 0, "false": 1}}, "m")
    check_labels({"id2label": {0: 10, 1: 20}, "label2id": {"10": 0, "20": 1}}, "m")
    with pytest.raises(BundleError, match="contradict each other"):
        check_labels({"id2label": {"0": True, "1": False}, "label2id": {"true": 1, "false": 0}}, "m")


def test_a_number_that_stands_twice_in_the_file(tmp_path):
    hf = directory(tmp_path / "hf")
    text = json.dumps(json.loads((hf / "config.json").read_text()))
    (hf / "config.json").write_text(text.replace('"0": "down"', '"0": "up", "0": "down"'))
    with pytest.raises(BundleError, match=r"no readable config.json .*key '0' occurs twice"):
        read_directory(hf)
