"""Answers in another order than the texts, that differ from time to time, or that repeat the texts."""

import numpy as np
import pytest
from fake_service import Service, examples, failure

from redteam.auditing.scoring import ScoreCache
from redteam.core import TargetError
from redteam.targets.function import FunctionTarget

LABELS = ("a", "b")
POOL = examples(40)


def share(text):
    return (1 + sum(map(ord, text)) % 97) / 100


def rows(texts):
    return [[share(text), 1 - share(text)] for text in texts]


def cache(function):
    return ScoreCache(FunctionTarget(function, labels=LABELS, name="f"), max_skipped=0.5)


@pytest.mark.parametrize(
    "mix",
    [
        lambda texts: texts[::-1],
        sorted,
        lambda texts: np.random.default_rng(len(texts)).permutation(texts).tolist(),
    ],
)
@pytest.mark.parametrize("show", [rows, lambda texts: [LABELS[share(text) < 0.5] for text in texts]])
def test_another_order_is_refused(mix, show):
    with pytest.raises(TargetError, match=r"^f: answers a batch in another order than its texts \(.* --batch-size 1 "):
        cache(lambda texts: show(mix(texts))).answered(POOL)


def test_their_own_order_is_asked_for_once_more_and_counts_no_more():
    asked = []
    honest = cache(lambda texts: (asked.append(texts), rows(texts))[1])
    found = honest.log_probabilities(POOL)
    assert np.exp(found[:, 0]) == pytest.approx([share(text) for text in POOL.texts])
    assert [len(texts) for texts in asked] == [1, 40, 40]
    assert sorted(asked[1]) == sorted(asked[2])
    assert (honest.noticed, honest.target._answers.tally.rows) == ((), 40)
    honest.log_probabilities(examples(50))
    assert len(asked) == 4


def test_noise_is_said():
    rng = np.random.default_rng(0)
    noisy = cache(lambda texts: rng.dirichlet((1, 1), size=len(texts)))
    noisy.answered(POOL)
    assert noisy.noticed == (
        "40 of 40 texts that were asked again had another answer: it does not always say the same",
    )


def test_texts_that_are_refused_each_time_are_no_change():
    picky = cache(
        lambda texts: [None if text.endswith("7") else row for text, row in zip(texts, rows(texts), strict=True)]
    )
    assert picky.answered(POOL).sum() == 36
    assert picky.noticed == ()


class TestAnswersThatRepeatTheTexts:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda texts: {"labels": texts},
            lambda texts: {"labels": [text.upper() for text in texts]},
            lambda texts: {"probabilities": [{text: 0.5, "b": 0.5} for text in texts]},
            lambda texts: {texts[0]: 1},
        ],
    )
    def test_are_not_repeated_in_what_is_said(self, answer):
        probed = []

        def reply(texts):
            probed.append(texts)
            return (
                answer(texts) if len(probed) > 1 else {"labels": ["a"]} if "labels" in answer(texts) else by_name(texts)
            )

        def by_name(texts):
            return {"probabilities": [{"a": 0.4, "b": 0.6} for _ in texts]}

        message = failure(Service(reply).open(batch_size=40).predict, examples(40, labels=("x", "y")))
        assert message.endswith("where labels or probabilities were wanted; see --response-path and --api")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-1" + "0" * 30])
def test_numbers_that_no_float_holds(number):
    service = Service(first=[_body(f'{{"probabilities": [{{"a": {number}, "b": 0}}]}}')])
    failure(service.open)


@pytest.mark.parametrize(
    "body", ['{"probabilities": [{"a": 0.2, "a": 0.8, "b": 0.2}]}', '{"labels": ["a"], "labels": ["b"]}']
)
def test_a_key_that_stands_twice(body):
    assert "a key stands twice" in failure(Service(first=[_body(body)]).open)


def _body(text):
    import httpx

    return httpx.Response(200, content=text.encode())
