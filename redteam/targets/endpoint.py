"""A classifier behind an HTTP(S) endpoint: JSON texts go out, labels or probabilities come back."""

import functools
import hashlib
import ipaddress
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from redteam.core import TargetError
from redteam.targets import wire
from redteam.targets.answers import Mismatch, Scored
from redteam.targets.apis import choose_api, settled
from redteam.targets.blackbox import BlackBox, Refused
from redteam.targets.kind import TargetKind

_HINTS = {
    400: "is --api {api} its form? --api NAME says another, --request-template any",
    401: "put a valid token into ${token_env}",
    403: "put a valid token into ${token_env}",
    404: "check the path of the URL",
    405: "check the path of the URL",
    413: "a smaller batch_size may do",
    422: "is --api {api} its form? --api NAME says another, --request-template any",
}

_OF_A_TEXT = frozenset({400, 413, 422})  # what a service may answer because of one text of many

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED = {"content-type", "content-length", "transfer-encoding", "accept-encoding", "host", "connection"}


class EndpointKind(TargetKind):
    """An http(s) URL."""

    name, looks = "endpoint", "a URL"

    def names(self, source: str) -> bool:
        """Return whether it begins as one."""
        return source.startswith(("http://", "https://"))

    def open(self, source: str, **options: Any) -> "Endpoint":
        """Ask it for a first, harmless text."""
        return Endpoint(source, **options)


class Endpoint(BlackBox):
    """A classifier behind one of the forms of `redteam.targets.apis`, or of a template of the user's own.

    One probe request at construction finds access and labels. `retries` repeat a request after trouble on
    the line or status 429, 500, 502, 503, 504; `budget` is the most requests ever sent, probe and retries
    included (`requests` counts them); `timeout` bounds one request as a whole, in seconds. A token in the
    environment variable `token_env` is sent as Bearer, never to another host and never in the clear; so are
    `headers`, NAME=VARIABLE each, with the value of that environment variable.
    What goes wrong is a TargetError; no message holds a text, the token or the URL's secrets.
    """

    kind = "endpoint"
    _client: httpx.Client

    def __init__(
        self,
        url: str,
        *,
        batch_size: int = 32,
        timeout: float = 30.0,
        retries: int = 4,
        budget: int | None = None,
        token_env: str = "REDTEAM_TOKEN",
        headers: Sequence[str] = (),
        api: str = "auto",
        request_template: str | None = None,
        response_path: str | None = None,
        labels: Sequence[str] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Check the settings and send the probe; `transport` and `sleep` are there for tests."""
        self._url, name = _address(url)
        self._api = choose_api(api, self._url.host, self._url.path, template=request_template, response=response_path)
        super().__init__(name, labels, batch_size)
        self.batch_size = 1 if self._api.one_by_one else batch_size
        self.timeout, self.retries, self.budget = timeout, retries, budget
        self.requests = 0
        self._token_env, self._transport, self._sleep = token_env, transport, sleep
        self._total = 0
        self._check_settings()
        self._secrets = self._credentials() | self._extra(headers)
        self._headers = self._secrets | {"content-type": self._api.media_type, "accept-encoding": "identity"}
        self._probe()

    def _check_settings(self) -> None:
        timeout, retries, budget = self.timeout, self.retries, self.budget
        if not (timeout > 0 and math.isfinite(timeout)):
            raise TargetError(f"{self.name}: timeout must be a positive number of seconds, not {timeout!r}")
        if not (isinstance(retries, int) and retries >= 0):
            raise TargetError(f"{self.name}: retries must be 0 or more, not {retries!r}")
        if budget is not None and not (isinstance(budget, int) and budget >= 1):
            raise TargetError(f"{self.name}: budget must be at least 1 request (the probe), not {budget!r}")

    def _credentials(self) -> dict[str, str]:
        """Return the header that carries the token; refuse to send any secret where others can read it."""
        token = os.environ.get(self._token_env, "").strip() if self._token_env else ""
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise TargetError(f"{self.name}: the token in ${self._token_env} has characters no header can carry")
        if token and self._url.userinfo:
            raise TargetError(f"{self.name}: a token in ${self._token_env} and a password in the URL; use one")
        if (token or self._url.userinfo) and self._url.scheme == "http" and not _is_loopback(self._url.host):
            what = f"the token in ${self._token_env}" if token else "the password in the URL"
            raise TargetError(f"{self.name}: {what} would travel unencrypted; use https, or unset it")
        return {"authorization": f"Bearer {token}"} if token else {}

    def _extra(self, headers: Sequence[str]) -> dict[str, str]:
        """Return the headers that are named with an environment variable each; refuse what must not be sent."""
        found: dict[str, str] = {}
        for given in headers:
            name, _, variable = given.partition("=")
            name = name.strip().lower()
            if not _HEADER.fullmatch(name) or not variable:
                raise TargetError("--header: write NAME=VARIABLE, a header and the environment variable of its value")
            if name in _RESERVED or name in found:
                raise TargetError(f"--header {name}: is set already; leave it out")
            value = os.environ.get(variable, "").strip()
            if not value or not (value.isascii() and value.isprintable()):
                raise TargetError(f"--header {name}: ${variable} is empty or has characters no header can carry")
            found[name] = value
        if "authorization" in found and (self._credentials() or self._url.userinfo):
            raise TargetError(f"--header authorization: there is a token in ${self._token_env} or the URL too; use one")
        if found and self._url.scheme == "http" and not _is_loopback(self._url.host):
            raise TargetError(f"{self.name}: header {next(iter(found))} would travel unencrypted; use https")
        return found

    def _score(self, texts: tuple[str, ...], *, refusals: int = 0) -> Scored:
        self.check_budget(len(texts))
        # A client lives for one call, so that no socket stays open and nobody has to close anything. Proxies
        # from the environment are not asked for what is on this machine: they would see a token in the clear.
        with httpx.Client(
            transport=self._transport,
            timeout=self.timeout,
            follow_redirects=False,
            trust_env=not _is_loopback(self._url.host),
        ) as self._client:
            return super()._score(texts, refusals=refusals)

    @functools.cached_property
    def identity(self) -> str:
        """A hash of all that chooses the model behind: the whole URL, user and query included, and the token.

        It costs memory and time to compute, so that who finds it cannot try passwords.
        """
        sent = [f"{name}: {value}" for name, value in sorted(self._headers.items())]
        secret = "\n".join([str(self._url), self._url.userinfo.decode("latin-1"), *sent, self._api.key])
        salt = f"redteam endpoint {self.name} {self._token_env}".encode()
        return hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1).hex()

    @property
    def requests_left(self) -> int | None:
        """How many more requests may be sent; None without a limit."""
        return None if self.budget is None else self.budget - self.requests

    def check_budget(self, texts: int, *, again: int = 0) -> None:
        """Raise TargetError, before anything is asked, where `texts`, and `again` so many, need more requests."""
        self._total, batches = texts, math.ceil(texts / self.batch_size) + math.ceil(again / self.batch_size)
        if self.budget is None or batches <= self.budget - self.requests:
            return
        left = self.budget - self.requests
        fewer = f" or a batch_size of {math.ceil(self._total / left)}" if left and not again else ""
        raise TargetError(
            f"{self.name}: {self._total + again} texts need {batches} requests, {left} are left of a budget of"
            f" {self.budget}; a budget of {self.requests + batches}{fewer} would do"
        )

    def _ask(self, texts: list[str]) -> object:
        content = self._api.content(texts)
        reply, trouble = None, ""
        for attempt in range(self.retries + 1):
            self._check_left(trouble)
            if attempt:
                self._sleep(wire.delay(attempt - 1, reply, time.time()))
            self.requests += 1
            try:
                reply = wire.post(self._client, self._url, content, self._headers, self.timeout)
            except wire.NoReply as error:
                reply, trouble = None, str(error)
            except wire.TooLarge:
                limit = f"{wire.BODY_LIMIT // 2**20} MiB"
                raise Mismatch(f"{self.name}: an answer is larger than {limit}; say a smaller --batch-size") from None
            else:
                if reply.status not in wire.RETRIED:
                    return self._document(reply, len(texts))
                trouble = f"answered {reply.line}"
        tried = f"{self.retries + 1} attempts" if self.retries else "1 attempt"
        raise TargetError(f"{self.name}: {tried} failed, the last: {trouble}{self._progress()}; is the service up?")

    def _check_left(self, trouble: str) -> None:
        if self.budget is None or self.requests < self.budget:
            return
        needed = self.requests + math.ceil((self._total - self.scored) / self.batch_size)
        last = f" (last: {trouble})" if trouble else ""
        raise TargetError(
            f"{self.name}: the budget of {self.budget} requests is used up{last}{self._progress()};"
            f" a budget of {needed} would do if nothing else fails"
        )

    def _progress(self) -> str:
        return f", {self.scored} of {self._total} texts scored"

    def _document(self, reply: wire.Reply, texts: int) -> object:
        """Return the parsed body; raise TargetError for any status but success and for what is not JSON."""
        if 300 <= reply.status < 400:
            raise TargetError(f"{self.name}: answered {reply.line}; redirects are not followed, give the final URL")
        if not 200 <= reply.status < 300:
            hint = _HINTS.get(reply.status, "").replace("{token_env}", self._token_env)
            hint = hint.replace("{api}", self._api.name)
            kind = Refused if reply.status in _OF_A_TEXT else TargetError
            raise kind(f"{self.name}: answered {reply.line}{f'; {hint}' if hint else ''}")
        try:
            document = self._api.parse(reply.body)
        except (ValueError, RecursionError) as error:
            if str(error).endswith("occurs twice"):
                raise TargetError(f"{self.name}: answered JSON in which a key stands twice") from None
            kind = reply.headers.get("content-type", "no content type")[:40]
            raise TargetError(f"{self.name}: answered {kind!r} that is not JSON; is this the right URL?") from None
        self._api = settled(self._api, document)
        try:
            return self._api.answers(document, texts)
        except ValueError as error:
            raise TargetError(f"{self.name}: {error}; is --api {self._api.name} its form?") from None


def _address(text: str) -> tuple[httpx.URL, str]:
    """Return the URL and the name it goes by: without user, password, query and fragment."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError, TypeError):
        # Not repeated: what makes it unreadable is often a password.
        raise TargetError("the endpoint's URL cannot be read; write https://host:port/path") from None
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 2**16:
        raise TargetError("the endpoint's URL must be http:// or https:// with a host and a possible port")
    return url, f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
