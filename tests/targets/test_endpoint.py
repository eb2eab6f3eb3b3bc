"""An endpoint over a fake transport: forms, budget, retries, token."""

import email.utils
import json
import time

import httpx
import numpy as np
import pytest

from redteam.data import Examples
from redteam.errors import TargetError
from redteam.target import Access, Target, load_target
from redteam.targets import wire
from redteam.targets.blackbox import PROBE
from redteam.targets.endpoint import Endpoint

URL = "https://models.example/v1/classify"
TOKEN = "s3cret-t0ken"


def examples(n, labels=("a", "b")):
    texts = tuple(f"private text number {i}" for i in range(n))
    return Examples(np.arange(n), texts, tuple(labels[i % len(labels)] for i in range(n)))


def by_length(texts):
    return {"probabilities": [{"a": 1 / len(t), "b": 1 - 1 / len(t)} for t in texts]}


class Service:
    """A transport that answers with `answer(texts)`, or with what is queued in `first`, and keeps the requests."""

    def __init__(self, answer=by_length, first=()):
        self.answer, self.first = answer, list(first)
        self.requests, self.naps = [], []

    def __call__(self, request):
        self.requests.append(request)
        if self.first:
            queued = self.first.pop(0)
            if isinstance(queued, Exception):
                raise queued
            if queued is not None:
                return queued
        return httpx.Response(200, json=self.answer(json.loads(request.content)["texts"]))

    @property
    def batches(self):
        return [json.loads(request.content)["texts"] for request in self.requests]

    def open(self, url=URL, **options):
        return Endpoint(url, transport=httpx.MockTransport(self), sleep=self.naps.append, **options)


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("REDTEAM_TOKEN", raising=False)


def failure(call, *arguments, **options):
    with pytest.raises(TargetError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "private text" not in message
    assert TOKEN not in message
    return message


def test_probabilities():
    service = Service()
    target = service.open(batch_size=2)
    assert isinstance(target, Target)
    assert (target.name, target.kind, target.digest) == (URL, "endpoint", None)
    assert (target.access, target.labels) == (Access.PROBABILITIES, ("a", "b"))
    assert (service.batches, target.requests) == ([[PROBE]], 1)
    five = examples(5)
    expected = [1 / len(t) if label == "a" else 1 - 1 / len(t) for t, label in zip(five.texts, five.labels, strict=True)]
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
    assert "not the 2 of the answers before" in failure(target.predict, examples(2))


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
        (400, "answered 400 Bad Request; is the form"),
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


# -- retries ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [429, 500, 502, 503, 504, httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError])
def test_trouble_that_passes_is_waited_out(trouble):
    first = httpx.Response(trouble) if isinstance(trouble, int) else trouble("private text"[:0])
    service = Service(first=[first, first])
    target = service.open()
    assert (target.requests, service.naps) == (3, [0.5, 1.0])


def test_trouble_that_stays_is_told():
    service = Service(first=[httpx.Response(503)] * 5)
    message = failure(service.open)
    assert "5 attempts failed, the last: answered 503 Service Unavailable, 0 of 1 texts scored" in message
    assert service.naps == [0.5, 1.0, 2.0, 4.0]
    assert "1 attempt failed, the last: ConnectError (refused)" in failure(
        Service(first=[httpx.ConnectError("refused")]).open, retries=0
    )


def test_only_the_batch_that_failed_is_asked_again():
    service = Service(first=[None, None, httpx.Response(500), None])
    target = service.open(batch_size=2)
    target.predict(examples(6))
    texts = list(examples(6).texts)
    assert service.batches == [[PROBE], texts[:2], texts[2:4], texts[2:4], texts[4:]]


@pytest.mark.parametrize(
    ("retry_after", "nap"),
    [("7", 7.0), ("0", 0.5), ("86400", 60.0), ("9" * 400, 60.0), ("soon", 0.5), ("-5", 0.5), ("²", 0.5), ("", 0.5)],
)
def test_retry_after(retry_after, nap):
    header = {"retry-after": retry_after.encode()}
    service = Service(first=[httpx.Response(429, headers=header)])
    service.open()
    assert service.naps == [nap]


def test_retry_after_a_date():
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert 15 < wire.delay(0, wire.Reply(503, httpx.Headers({"retry-after": date}), b""), time.time()) <= 20
    past = email.utils.formatdate(0, usegmt=True)
    assert wire.delay(1, wire.Reply(503, httpx.Headers({"retry-after": past}), b""), time.time()) == 1.0
    assert wire.delay(50, None, 0) == 30.0


# -- budget ----------------------------------------------------------------------------------------------------


def test_a_budget_that_cannot_do_is_told_before_the_first_batch():
    service = Service()
    target = service.open(batch_size=2, budget=4)
    message = failure(target.predict, examples(10))
    assert "10 texts need 5 requests, 3 are left of a budget of 4" in message
    assert "a budget of 6 or a batch_size of 4 would do" in message
    assert target.requests == 1
    target.predict(examples(6))
    assert target.requests == 4
    message = failure(target.predict, examples(7))
    assert "0 are left of a budget of 4; a budget of 8 would do" in message


def test_retries_count_against_the_budget():
    service = Service(first=[None, None, httpx.Response(503), httpx.Response(503)])
    target = service.open(batch_size=2, budget=4)
    message = failure(target.predict, examples(6))
    assert "the budget of 4 requests is used up (last: answered 503 Service Unavailable)" in message
    assert "2 of 6 texts scored; a budget of 6 would do" in message
    assert (target.requests, service.naps) == (4, [0.5])


def test_the_probe_counts_against_the_budget():
    assert "budget of 1 requests is used up" in failure(Service(first=[httpx.Response(500)]).open, budget=1)
    assert Service().open(budget=1).requests == 1


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"budget": 0}, "budget must be at least 1 request"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"retries": -1}, "retries must be 0 or more, not -1"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"timeout": float("nan")}, "timeout must be a positive number"),
        ({"labels": ["a"]}, "labels must be at least two different names"),
    ],
)
def test_settings_that_make_no_sense(options, fragment):
    service = Service()
    assert fragment in failure(service.open, **options)
    assert service.requests == []


# -- secrets ---------------------------------------------------------------------------------------------------


def test_the_token_is_sent_as_bearer(monkeypatch):
    service = Service()
    service.open()
    assert "authorization" not in service.requests[0].headers
    monkeypatch.setenv("REDTEAM_TOKEN", f" {TOKEN}\n")
    service.open()
    assert service.requests[1].headers["authorization"] == f"Bearer {TOKEN}"
    monkeypatch.setenv("OTHER", "x")
    service.open(token_env="OTHER")
    assert service.requests[2].headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("url", ["http://models.example/", "http://10.0.0.1/", "http://localhost.evil.example/"])
def test_a_token_never_travels_in_the_clear(monkeypatch, url):
    service = Service()
    service.open(url)  # without a token there is nothing to lose
    monkeypatch.setenv("REDTEAM_TOKEN", TOKEN)
    assert "the token in $REDTEAM_TOKEN would travel unencrypted; use https" in failure(service.open, url)
    assert len(service.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "http://localhost/", "http://[::1]:8000/x"])
def test_a_token_may_stay_on_this_machine(monkeypatch, url):
    monkeypatch.setenv("REDTEAM_TOKEN", TOKEN)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    service = Service()
    service.open(url)
    assert service.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", ["a b", "two\nlines", "nul\0", "naïve"])
def test_a_token_that_is_no_header(monkeypatch, token):
    monkeypatch.setenv("REDTEAM_TOKEN", token) if "\0" not in token else monkeypatch.setitem(
        __import__("os").environ, "REDTEAM_TOKEN", "tab\tbed"
    )
    message = failure(Service().open)
    assert "the token in $REDTEAM_TOKEN has characters no header can carry" in message
    assert token not in message


def test_the_name_holds_no_secret(monkeypatch):
    service = Service()
    target = service.open("https://user:hunter2@models.example:8443/v1?key=hunter2#hunter2")
    assert target.name == "https://models.example:8443/v1"
    assert service.requests[0].headers["authorization"].startswith("Basic ")
    assert str(service.requests[0].url).endswith("?key=hunter2#hunter2") or "key=hunter2" in str(service.requests[0].url)
    message = failure(service.open, "http://user:hunter2@models.example/")
    assert "the password in the URL would travel unencrypted" in message
    assert "hunter2" not in message
    monkeypatch.setenv("REDTEAM_TOKEN", TOKEN)
    assert "use one" in failure(service.open, "https://user:hunter2@models.example/")


@pytest.mark.parametrize("url", ["https://", "ftp://x/", "https://user:hun/ter2@x/", "https://x:99999999/", "x"])
def test_urls_that_are_none(url):
    message = failure(Service().open, url)
    assert "the endpoint's URL" in message
    assert "ter2" not in message


def test_load_target_opens_endpoints():
    target = load_target(URL, transport=httpx.MockTransport(Service()), budget=5)
    assert isinstance(target, Endpoint)
    assert target.budget == 5
