"""An endpoint over real sockets: down, slow in every way, broken, redirecting."""

import json
import socket
import time

import numpy as np
import pytest
from loopback import send, serve

from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.endpoint import Endpoint
from redteam.targets.target import Access

AB = {"a": 0.25, "b": 0.75}


def probabilities(body):
    return json.dumps({"probabilities": [AB] * len(json.loads(body)["texts"])}).encode()


def open_quickly(url, **options):
    return Endpoint(url, sleep=lambda _: None, **{"retries": 1, "timeout": 0.25} | options)


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("REDTEAM_TOKEN", "t0ken")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")


def test_a_service_that_works():
    seen = []

    def reply(handler, body):
        seen.append((handler.headers["authorization"], handler.headers["content-type"]))
        send(handler, probabilities(body))

    with serve(reply) as url:
        target = open_quickly(url, batch_size=2)
        few = Examples(np.arange(3), ("x", "y", "z"), ("a", "b", "b"))
        assert target.access is Access.PROBABILITIES
        assert target.losses(few) == pytest.approx(-np.log([0.25, 0.75, 0.75]))
    assert seen == [("Bearer t0ken", "application/json")] * 3


def test_a_service_that_is_down():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(TargetError, match=r"2 attempts failed, the last: ConnectError \(.*refused.*is the service up"):
        open_quickly(f"http://127.0.0.1:{port}/")


def hang(handler, body):
    time.sleep(1.2)


def drip_headers(handler, body):
    for _ in range(60):
        handler.wfile.write(b"H" if _ else b"HTTP/1.1 200 OK\r\nx: ")
        handler.wfile.flush()
        time.sleep(0.02)


def drip_body(handler, body):
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    for _ in range(60):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


@pytest.mark.parametrize("slow", [hang, drip_headers, drip_body])
def test_a_service_that_is_slow_is_left_in_time(slow):
    late = "1 attempt failed, the last: no complete answer in time"
    with serve(slow) as url, pytest.raises(TargetError, match=late):
        open_quickly(url, retries=0)


def test_a_service_that_hangs_up():
    def reply(handler, body):
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    with serve(reply) as url, pytest.raises(TargetError, match="2 attempts failed, the last: RemoteProtocolError"):
        open_quickly(url)


def test_a_service_that_stops_half_way():
    def reply(handler, body):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"probabilities"')
        handler.close_connection = True

    with serve(reply) as url, pytest.raises(TargetError, match="2 attempts failed"):
        open_quickly(url)


def test_a_service_that_fails_and_recovers():
    statuses = [500, 503, 200]
    with serve(lambda handler, body: send(handler, probabilities(body), statuses.pop(0))) as url:
        assert open_quickly(url, retries=2).requests == 3


@pytest.mark.parametrize(
    ("body", "kind", "fragment"),
    [
        (b"<html></html>", "text/html", "answered 'text/html' that is not JSON"),
        (b'{"probabilities": [[0.5, 0.5], [0.5]]}', "application/json", "answered 2 rows for 1 texts"),
        (b'{"probabilities": [[0.5, 0.4]], "classes": ["a", "b"]}', "application/json", "sum to 0.9, not 1"),
    ],
)
def test_a_service_that_answers_nonsense(body, kind, fragment):
    with serve(lambda handler, _: send(handler, body, kind=kind)) as url, pytest.raises(TargetError, match=fragment):
        open_quickly(url)


def test_a_redirect_is_not_followed():
    seen = []

    def elsewhere(handler, body):
        seen.append(handler.headers["authorization"])
        send(handler, probabilities(body))

    def redirect(handler, body):
        handler.send_response(307)
        handler.send_header("location", target_url)
        handler.send_header("content-length", "0")
        handler.end_headers()

    refused = pytest.raises(TargetError, match="307 Temporary Redirect; redirects are not followed")
    with serve(elsewhere) as target_url, serve(redirect) as url, refused:
        open_quickly(url)
    assert seen == []
