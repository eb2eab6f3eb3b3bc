"""An endpoint over a fake transport: what it answers and what it makes of nonsense."""

import httpx
import numpy as np
import pytest
from fake_service import URL, Service, examples, failure

from redteam.data import Examples
from redteam.targets import wire
from redteam.targets.blackbox import PROBE
from redteam.targets.endpoint import Endpoint
from redteam.targets.loading import load_target
from redteam.targets.target import Access, Target


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("REDTEAM_TOKEN", raising=False)


def test_probabilities():
    service = Service()
    target = service.open(batch_size=2)
    assert isinstance(target, Target)
    assert (target.name, target.kind, target.digest) == (URL, "endpoint", None)
    assert (target.access, target.labels) == (Access.PROBABILITIES, ("a", "b"))
    assert (service.batches, target.requests) == ([[PROBE]], 1)
    five = examples(5)
    expected = [
        1 / len(t) if label == "a" else 1 - 1 / len(t) for t, label in zip(five.texts, five.labels, strict=True)
    ]
    assert target.losses(five) == pytest.approx(-np.log(expected))
    assert target.log_probabilities(five).shape == (5, 2)
    assert target.predict(five).tolist() == [1] * 5
    assert [len(batch) for batch in service.batches] == [1, 2, 2, 1]


def test_the_last_answers_are_kept_but_not_given_away():
    service = Service()
    target = service.open()
    target.log_probabilities(examples(3))[:] = 7
    target.predict(examples(3))[:] = 7
    assert (target.log_probabilities(examples(3)) <= 0).all()
    assert target.predict(examples(3)).tolist() == [1, 1, 1]
    assert target.requests == 2
    target.predict(examples(4))
    assert target.requests == 3


def test_no_examples_no_requests():
    target = Service().open()
    empty = Examples(np.arange(0), (), ())
    assert target.predict(empty).shape == (0,)
    assert target.losses(empty).shape == (0,)
    assert target.log_probabilities(empty).shape == (0, 2)
    assert target.requests == 1


def test_what_cannot_be_asked_costs_nothing():
    target = Service().open()
    assert "labels unknown to the model" in failure(target.losses, examples(2, ("a", "zebra")))
    assert "carry no texts" in failure(target.predict, Examples(np.arange(2)))
    assert target.requests == 1


def test_texts_of_every_kind_arrive():
    texts = ("", "naïve 漢字 \U0001f600", "\ud800", "a\nb\0")
    service = Service(lambda texts: {"probabilities": [[0.5, 0.5]] * len(texts), "classes": ["a", "b"]})
    service.open().predict(Examples(np.arange(4), texts))
    assert service.batches[1] == list(texts)


def test_a_probability_of_zero_gives_a_finite_loss():
    target = Service(lambda texts: {"probabilities": [{"a": 0, "b": 1}] * len(texts)}).open()
    assert target.losses(examples(2)).tolist() == pytest.approx([708.396, 0], abs=1e-3)


def test_labels_only():
    target = Service(lambda texts: {"labels": ["a"] * len(texts), "classes": ["a", "b"]}).open()
    assert (target.access, target.labels) == (Access.LABELS, ("a", "b"))
    assert target.predict(examples(3)).tolist() == [0, 0, 0]
    assert "shows labels only" in failure(target.losses, examples(2))
    assert "shows labels only" in failure(target.log_probabilities, examples(2))


def test_labels_that_nothing_lists_grow_with_answers_and_data():
    target = Service(lambda texts: {"labels": ["b" if t != PROBE else "c" for t in texts]}).open()
    assert target.labels == ("c",)
    assert target.predict(examples(20, ("a", "b"))).tolist() == [1] * 20
    assert target.labels == ("c", "b", "a")
    assert target.predict(examples(20, ("a", "b"))).tolist() == [1] * 20


def test_growing_labels_that_never_meet_the_data_are_refused():
    target = Service(lambda texts: {"labels": ["intent_1"] * len(texts)}).open()
    assert "no label is in both" in failure(target.predict, examples(20))


def test_label_names_of_hugging_face_meet_the_data():
    target = Service(lambda texts: {"labels": ["LABEL_0"] * len(texts)}).open()
    target.predict(examples(20, ("0", "1")))
    assert target.labels == ("LABEL_0", "1")


def test_a_class_set_that_changes_between_batches():
    service = Service()
    target = service.open(batch_size=2)
    service.answer = lambda texts: {"probabilities": [{"a": 0.5, "c": 0.5}] * len(texts)}
    assert np.exp(target.log_probabilities(examples(2))[0]) == pytest.approx([0.5, 0, 0.5])
    assert target.labels == ("a", "b", "(another label)")  # the surest two of more than two
    assert "not the 2 given" in failure(Service(service.answer).open, labels=["a", "b"])


BAD_BODIES = [
    (b"<html>Please log in</html>", "that is not JSON; is this the right URL?"),
    (b"", "that is not JSON"),
    (b'{"probabilities": [', "that is not JSON"),
    (b"\xff\xfe\x00", "that is not JSON"),
    (b"[" * 100_000, "that is not JSON"),
    (b'{"probabilities": [{"a": NaN, "b": 1}]}', "NaN or infinite"),
    (b'{"probabilities": [[0.5, 0.5]]}', 'without "classes"'),
    (b'{"labels": ["a", "b"]}', "answered 2 rows for 1 texts"),
    (b'{"texts": ["What is"]}', "its keys: 'texts'"),
    (b"3", "answered a bare int"),
]


@pytest.mark.parametrize(("body", "fragment"), BAD_BODIES)
def test_nonsense_is_one_line_and_is_not_asked_again(body, fragment):
    service = Service(first=[httpx.Response(200, content=body, headers={"content-type": "text/html"})])
    assert fragment in failure(service.open)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("status", "fragment"),
    [
        (400, "answered 400 Bad Request; is --api auto its form"),
        (401, "answered 401 Unauthorized; put a valid token into $REDTEAM_TOKEN"),
        (404, "answered 404 Not Found; check the path"),
        (413, "a smaller batch_size may do"),
        (418, "answered 418"),
        (501, "answered 501 Not Implemented"),
        (599, "answered 599"),
        (302, "answered 302 Found; redirects are not followed"),
        (307, "redirects are not followed"),
    ],
)
def test_other_statuses_fail_at_once(status, fragment):
    elsewhere = {"location": "https://evil.example/?private text"}
    service = Service(first=[httpx.Response(status, text="private text", headers=elsewhere)])
    assert fragment in failure(service.open)
    assert (len(service.requests), service.naps) == (1, [])


def test_a_body_beyond_all_bounds(monkeypatch):
    monkeypatch.setattr(wire, "BODY_LIMIT", 1000)
    service = Service(first=[httpx.Response(200, content=iter([b"x" * 600] * 100))])
    assert "an answer is larger than" in failure(service.open)
    assert len(service.requests) == 1


def test_load_target_opens_endpoints():
    target = load_target(URL, transport=httpx.MockTransport(Service()), budget=5)
    assert isinstance(target, Endpoint)
    assert target.budget == 5
