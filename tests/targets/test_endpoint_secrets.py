"""Where a token goes, and where it never goes."""

import pytest
from fake_service import TOKEN, Service, failure


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("REDTEAM_TOKEN", raising=False)


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


@pytest.mark.parametrize("token", ["a b", "two\nlines", "tab\tbed", "naïve"])
def test_a_token_that_is_no_header(monkeypatch, token):
    monkeypatch.setenv("REDTEAM_TOKEN", token)
    message = failure(Service().open)
    assert "the token in $REDTEAM_TOKEN has characters no header can carry" in message
    assert token not in message


def test_the_name_holds_no_secret(monkeypatch):
    service = Service()
    target = service.open("https://user:hunter2@models.example:8443/v1?key=hunter2#hunter2")
    assert target.name == "https://models.example:8443/v1"
    assert service.requests[0].headers["authorization"].startswith("Basic ")
    assert service.requests[0].url.query == b"key=hunter2"
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


def test_identity_tells_all_that_chooses_the_model_and_shows_nothing(monkeypatch):
    def identity(url="https://host/score?model=a", token=None, variable="REDTEAM_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
        if token:
            monkeypatch.setenv(variable, token)
        target = Service().open(url, token_env=variable)
        monkeypatch.delenv(variable, raising=False)
        return target.identity

    found = [
        identity(),
        identity("https://host/score?model=b"),
        identity("https://host/score"),
        identity("https://host/other?model=a"),
        identity("https://ann:pw@host/score?model=a"),
        identity("https://bob:pw@host/score?model=a"),
        identity("https://ann:pv@host/score?model=a"),
        identity(token="secret-one"),
        identity(token="secret-two"),
        identity(token="secret-one", variable="OTHER_TOKEN"),
    ]
    assert len(set(found)) == len(found)
    assert identity("https://ann:pw@host/score?model=a") == found[4]
    assert not [each for each in found if "secret" in each or "pw" in each]
