"""An endpoint that fails for a while, and a budget that runs out."""

import email.utils
import time

import httpx
import pytest
from fake_service import Service, examples, failure

from redteam.targets import wire
from redteam.targets.blackbox import PROBE


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("REDTEAM_TOKEN", raising=False)


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


def test_asking_again_counts_in_the_budget():
    service = Service()
    target = service.open(budget=4, batch_size=2)
    target.check_budget(4, again=2)
    message = failure(target.check_budget, 4, again=3)
    assert "7 texts need 4 requests, 3 are left of a budget of 4; a budget of 5 would do" in message
    assert target.requests == 1
