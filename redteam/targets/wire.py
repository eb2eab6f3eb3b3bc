"""One HTTP request that ends in time and in bounds, and how long to wait before the next."""

import email.utils
import http
import queue
import threading
import time
from dataclasses import dataclass

import httpx

BODY_LIMIT = 64 * 2**20
RETRIED = frozenset({429, 500, 502, 503, 504})
_FIRST_DELAY, _LONGEST_DELAY, _LONGEST_RETRY_AFTER = 0.5, 30.0, 60.0


class NoReply(Exception):
    """One attempt brought nothing usable; the message says why, and another attempt may fare better."""


class TooLarge(Exception):
    """The body went beyond BODY_LIMIT; another attempt would fare no better."""


@dataclass(frozen=True)
class Reply:
    """What came back; the body is read only where the status says success."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def line(self) -> str:
        """The status with its standard phrase: the server's own words could hold the texts."""
        try:
            return f"{self.status} {http.HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)


def post(client: httpx.Client, url: httpx.URL, content: bytes, headers: dict[str, str], timeout: float) -> Reply:
    """Send one POST and return the reply; raise NoReply or TooLarge.

    `timeout` bounds the whole exchange in seconds. The timeouts of sockets start anew with every byte and do
    not cover name resolution, so the exchange runs in a thread of its own, left behind when time is up.
    """
    outcome: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
    deadline = time.monotonic() + timeout

    def exchange() -> None:
        try:
            outcome.put(_exchange(client, url, content, headers, deadline))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=exchange, daemon=True, name="redteam-request").start()
    try:
        result = outcome.get(timeout=timeout)
    except queue.Empty:
        raise _late() from None
    if isinstance(result, Reply):
        return result
    if isinstance(result, httpx.TimeoutException):
        raise _late() from None
    if isinstance(result, httpx.HTTPError):
        reason = " ".join(str(result).split())[:120]
        raise NoReply(f"{type(result).__name__}{f' ({reason})' if reason else ''}") from None
    raise result


def _late() -> NoReply:
    return NoReply("no complete answer in time")


def _exchange(client: httpx.Client, url: httpx.URL, content: bytes, headers: dict[str, str], deadline: float) -> Reply:
    with client.stream("POST", url, content=content, headers=headers) as response:
        body = bytearray()
        if response.is_success:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise TooLarge
                if time.monotonic() > deadline:
                    raise _late()
        return Reply(response.status_code, response.headers, bytes(body))


def delay(attempt: int, reply: Reply | None, now: float) -> float:
    """Return the seconds to wait after failed attempt `attempt` (from 0): doubling, or longer where asked.

    Retry-After counts up to a cap, as seconds or as a date; `now` is in seconds since the epoch.
    """
    backoff = min(_FIRST_DELAY * 2.0**attempt, _LONGEST_DELAY)
    asked = reply.headers.get("retry-after", "").strip() if reply is not None else ""
    return max(backoff, min(_seconds(asked, now), _LONGEST_RETRY_AFTER))


def _seconds(asked: str, now: float) -> float:
    if asked.isascii() and asked.isdecimal():
        return float(asked)
    try:
        return email.utils.parsedate_to_datetime(asked).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
