"""Each API form against a small server that takes that form and no other."""

import json

import httpx
import numpy as np
import pytest
from fake_service import Service, failure
from loopback import send, serve

from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.apis import NAMES
from redteam.targets.endpoint import Endpoint
from redteam.targets.target import Access

TEXTS = ("x", "yy", "zzz", "naïve 漢字")
LABELS = ("good", "bad")


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("REDTEAM_TOKEN", raising=False)


def row(text):
    return [1 / (1 + len(text)), 1 - 1 / (1 + len(text))]


def scores(text):
    """A Hugging Face answer: the surest label first."""
    named = [{"label": label, "score": p} for label, p in zip(LABELS, row(text), strict=True)]
    return sorted(named, key=lambda each: -each["score"])


def texts_of(value):
    assert isinstance(value, list)
    assert all(isinstance(text, str) for text in value)
    return value


def only(document, *names):
    assert set(document) <= set(names), f"unknown field in {sorted(document)}"
    return document


def redteam(body):
    texts = texts_of(only(json.loads(body), "texts")["texts"])
    return {"probabilities": [dict(zip(LABELS, row(t), strict=True)) for t in texts]}


def hugging_face(body):
    document = only(json.loads(body), "inputs", "parameters")
    assert document["parameters"] == {"top_k": None}
    return [scores(t) for t in texts_of(document["inputs"])]


def tei(body):
    inputs = only(json.loads(body), "inputs", "truncate")["inputs"]
    assert all(isinstance(each, list) and len(each) == 1 for each in inputs)  # two bare texts would be one pair
    return [scores(text) for (text,) in inputs]


def instances(body):
    return {"predictions": [row(t) for t in texts_of(only(json.loads(body), "instances")["instances"])]}


def mlflow(body):
    return {
        "predictions": [
            dict(zip(LABELS, row(t), strict=True)) for t in texts_of(only(json.loads(body), "inputs")["inputs"])
        ]
    }


def tensors(body):
    (tensor,) = only(json.loads(body), "inputs")["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("text", "BYTES")
    assert tensor["shape"] == [len(tensor["data"]), 1]
    return tensor["data"]


def triton(body):
    texts = texts_of(tensors(body))
    data = [p for t in texts for p in row(t)]
    extra = {"name": "logits", "shape": [len(texts), 1], "datatype": "FP32", "data": [7.0] * len(texts)}
    return {"outputs": [extra, {"name": "probs", "shape": [len(texts), 2], "datatype": "FP32", "data": data}]}


def mlserver(body):
    texts = texts_of(tensors(body))
    data = [json.dumps(scores(t)) for t in texts]
    return {"outputs": [{"name": "output", "shape": [len(texts), 1], "datatype": "BYTES", "data": data}]}


def classify(body):
    texts = texts_of(only(json.loads(body), "input")["input"])
    data = [
        {"index": i, "label": scores(t)[0]["label"], "probs": row(t), "num_classes": 2} for i, t in enumerate(texts)
    ]
    return {"object": "list", "data": data[::-1]}


def torchserve(body):
    return dict(zip(LABELS, row(body.decode("utf-8")), strict=True))


def guarded(answer):
    """Answer as the real one: what is not of its form is a 422, and never answered."""

    def reply(handler, body):
        try:
            document = answer(body)
        except (AssertionError, ValueError, KeyError, TypeError):
            send(handler, b'{"error": "private text"}', status=422)
        else:
            send(handler, json.dumps(document).encode())

    return reply


SERVERS = {
    "redteam": redteam,
    "huggingface": hugging_face,
    "tei": tei,
    "instances": instances,
    "kserve-v2": triton,
    "mlflow": mlflow,
    "vllm-classify": classify,
    "torchserve": torchserve,
}


def check(target):
    examples = Examples(np.arange(4), TEXTS, ("good", "bad", "bad", "good"))
    assert target.access is Access.PROBABILITIES
    order = [LABELS.index(label) for label in target.labels]
    assert np.exp(target.log_probabilities(examples)) == pytest.approx(np.array([row(t) for t in TEXTS])[:, order])


@pytest.mark.parametrize("api", [*SERVERS])
def test_a_form_against_a_server_of_that_form(api):
    with serve(guarded(SERVERS[api])) as url:
        target = Endpoint(url, api=api, labels=LABELS, batch_size=3)
        assert target.requests == 1
        check(target)
        assert target.requests == (5 if api == "torchserve" else 3)


def test_there_is_a_server_for_each_form():
    assert {"auto", *SERVERS} == set(NAMES)


def test_mlserver_writes_objects_into_strings():
    with serve(guarded(mlserver)) as url:
        check(Endpoint(url, api="kserve-v2", batch_size=3))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/invocations", mlflow),
        ("/v2/models/mine/infer", triton),
        ("/v1/models/mine:predict", instances),
        ("/predictions/mine", torchserve),
    ],
)
def test_auto_tells_the_form_by_the_path(path, answer):
    with serve(guarded(answer)) as url:
        target = Endpoint(url.removesuffix("/classify") + path, labels=LABELS)
        assert target.requests == 1
        check(target)


@pytest.mark.parametrize("api", ["redteam", "instances", "vllm-classify"])
def test_auto_tells_the_form_by_the_answer_to_the_probe_and_then_keeps_to_it(api):
    name = {"redteam": "texts", "instances": "instances", "vllm-classify": "input"}[api]
    seen = []

    def reply(handler, body):
        document = json.loads(body)
        seen.append(set(document))
        send(handler, json.dumps(SERVERS[api](json.dumps({name: document[name]}).encode())).encode())

    with serve(reply) as url:
        target = Endpoint(url, labels=LABELS)
        assert target.requests == 1
        check(target)
    assert len(seen[0]) > 1
    assert seen[1:] == [{name}]


def test_auto_goes_on_asking_by_each_name_where_a_list_does_not_tell():
    def reply(handler, body):
        send(handler, json.dumps([scores(t) for t in json.loads(body)["inputs"]]).encode())

    with serve(reply) as url:
        check(Endpoint(url))


@pytest.mark.parametrize("asked", [api for api in SERVERS if api != "redteam"])
def test_another_form_than_the_servers_is_refused(asked):
    with serve(guarded(redteam)) as url, pytest.raises(TargetError, match=f"422.*is --api {asked} its form") as caught:
        Endpoint(url, api=asked, labels=LABELS)
    assert "private text" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "path", "answer"),
    [
        ('{"q": {"docs": "$texts"}, "k": 2}', "r.*.p", lambda d: {"r": [{"p": row(t)} for t in d["q"]["docs"]]}),
        ('{"rows": [{"text": "$text", "id": 1}]}', "rows", lambda d: {"rows": [row(r["text"]) for r in d["rows"]]}),
        ('{"text": "$text"}', "answer.0", lambda d: {"answer": [row(d["text"])]}),
        ('{"text": "$text"}', None, lambda d: dict(zip(LABELS, row(d["text"]), strict=True))),
        ('{"text": "$text"}', None, lambda d: scores(d["text"])),
        ('{"text": "$text"}', "", lambda d: {"probabilities": [row(d["text"])]}),
    ],
)  # fmt: skip
def test_a_template_asks_any_service(template, path, answer):
    with serve(lambda handler, body: send(handler, json.dumps(answer(json.loads(body))).encode())) as url:
        check(Endpoint(url, request_template=template, response_path=path, labels=LABELS, batch_size=3))


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"api": "grpc"}, "--api grpc: no such form; choose of auto, redteam"),
        ({"request_template": "{"}, "--request-template: not JSON"),
        ({"request_template": '{"a": "text"}'}, "no place for texts"),
        ({"request_template": '"$texts"', "response_path": "a..b"}, "empty name between dots"),
        ({"request_template": '"$texts"', "api": "mlflow"}, "--api mlflow: goes without"),
        ({"response_path": "a.b"}, "the answer has nothing at 'a'"),
        ({"response_path": "*"}, r"\* stands where the answer has no list"),
        ({"api": "instances"}, 'answered no "predictions"; is --api instances its form'),
        ({"api": "kserve-v2"}, 'answered no "outputs"'),
        ({"api": "vllm-classify"}, 'answered no "data"'),
        ({"headers": ["x-key"]}, "write NAME=VARIABLE"),
        ({"headers": ["x-key=NOT_SET_AT_ALL"]}, r"\$NOT_SET_AT_ALL is empty"),
        ({"headers": ["Host=PATH"]}, "--header host: is set already"),
    ],
)
def test_what_is_refused_in_one_line(options, fragment):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"labels": ["a"]}))
    with pytest.raises(TargetError, match=fragment):
        Endpoint("https://models.example/x", transport=transport, **options)


def test_labels_in_another_order_than_the_service_says_are_refused():
    with serve(guarded(classify)) as url, pytest.raises(TargetError, match="give them in its order"):
        Endpoint(url, api="vllm-classify", labels=LABELS[::-1])


def test_a_header_goes_with_every_request_and_never_in_the_clear(monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret-t0ken")
    service = Service()
    target = service.open(headers=["X-Api-Key=MY_KEY"])
    assert service.requests[0].headers["x-api-key"] == "s3cret-t0ken"
    assert target.identity != Service().open().identity
    message = failure(service.open, "http://models.example/", headers=["X-Api-Key=MY_KEY"])
    assert "header x-api-key would travel unencrypted" in message
    monkeypatch.setenv("REDTEAM_TOKEN", "other")
    assert "use one" in failure(service.open, headers=["Authorization=MY_KEY"])


def test_kept_answers_belong_to_the_form_they_were_given_in():
    identities = {
        Service().open(api="redteam").identity,
        Service().open(request_template='{"texts": "$texts"}').identity,
        Service().open(request_template='{"texts": "$texts", "k": 1}').identity,
    }
    assert len(identities) == 3
