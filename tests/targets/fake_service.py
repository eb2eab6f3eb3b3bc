"""A service that answers over a fake transport, and what every failure of an endpoint must look like."""

import json

import httpx
import numpy as np
import pytest

from redteam.core import TargetError
from redteam.data import Examples
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


def failure(call, *arguments, **options):
    with pytest.raises(TargetError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "private text" not in message
    assert TOKEN not in message
    return message
