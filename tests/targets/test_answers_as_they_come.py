"""Answers that are not quite a distribution for each text: each is read by a fixed rule, and it is said."""

import json

import httpx
import numpy as np
import pytest
from fake_service import URL, Service, examples, failure

from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.answers import OTHER, Answers
from redteam.targets.blackbox import PROBE
from redteam.targets.distributions import completed, hard, in_percent, normalised, partial_fault, probability_fault
from redteam.targets.endpoint import Endpoint
from redteam.targets.function import FunctionTarget
from redteam.targets.target import Access

ABC = ("a", "b", "c")


def softmax(text, k=3):
    rng = np.random.default_rng([*text.encode()])
    p = np.exp(3 * rng.normal(size=k))
    return p / p.sum()


def full(text, labels=ABC):
    return dict(zip(labels, softmax(text, len(labels)).tolist(), strict=True))


def surest(text, k, labels=ABC):
    return [{"label": n, "score": p} for n, p in sorted(full(text, labels).items(), key=lambda item: -item[1])[:k]]


def served(answer):
    """A service whose body for some texts is `answer(texts)`."""
    return Service(answer)


class TestRounded:
    @pytest.mark.parametrize("decimals", [2, 3, 4])
    @pytest.mark.parametrize("k", [2, 7, 150])
    @pytest.mark.parametrize("cut", [np.round, lambda p, d: np.floor(p * 10**d) / 10**d])
    def test_any_distribution_rounded_or_cut_is_read_and_others_are_not(self, decimals, k, cut):
        rows = np.array([softmax(f"text {i}", k) for i in range(200)])
        made = cut(rows, decimals)
        assert probability_fault(made) is None
        assert probability_fault(made.astype(np.float32).astype(np.float64)) is None
        shares, _ = normalised(made)
        assert shares.sum(axis=1) == pytest.approx(1)
        assert np.abs(shares - rows).max() <= k * 10**-decimals

    @pytest.mark.parametrize("row", [[0.5, 0.4], [0.52, 0.51], [0.3, 0.3, 0.3], [1.0, 0.1], [0.123456, 0.8]])
    def test_what_rounding_cannot_make_is_refused(self, row):
        assert probability_fault(np.array([row])) is not None

    def test_a_row_of_which_nothing_is_left_prefers_no_label(self):
        shares, off = normalised(np.array([[0.0] * 4, [0.5, 0.5, 0, 0]]))
        assert shares[0].tolist() == [0.25] * 4
        assert off == 1

    def test_by_a_service_and_it_is_counted(self):
        target = served(lambda texts: {"probabilities": [[round(p, 2) for p in softmax(t)] for t in texts]}).open(
            labels=ABC
        )
        rows = examples(200, ABC)
        expected = np.array([np.round(softmax(t), 2) for t in rows.texts])
        expected /= expected.sum(axis=1, keepdims=True)
        given = np.exp(target.log_probabilities(rows))
        assert given[expected > 0] == pytest.approx(expected[expected > 0])
        (note,) = target.remarks
        assert note.endswith("of 200 answers read do not sum to 1, as rounded ones do: divided by their sums")


class TestPercentages:
    @pytest.mark.parametrize("decimals", [0, 1, 6])
    def test_are_divided(self, decimals):
        named = {t: {n: round(100 * p, decimals) for n, p in full(t).items()} for t in [PROBE, *examples(40).texts]}
        target = served(lambda texts: {"probabilities": [named[t] for t in texts]}).open()
        rows = examples(40, ABC)
        given = np.exp(target.log_probabilities(rows))
        assert given.sum(axis=1) == pytest.approx(1)
        assert np.abs(given - np.array([softmax(t) for t in rows.texts])).max() < 0.02
        assert "answers are percentages: divided by 100" in target.remarks

    def test_of_the_surest_label_alone(self):
        answers = Answers("t")
        scored = answers.read([{"label": "a", "score": 97.3}], 1)
        assert np.exp(scored.log_probabilities)[0] == pytest.approx([0.973, 0.027])

    @pytest.mark.parametrize(
        ("first", "second"), [([40, 60], [0.4, 0.6]), ([0.4, 0.6], [40, 60]), ([40, 61.5], [40, 60])]
    )
    def test_only_always(self, first, second):
        answers = Answers("t", ["a", "b"])
        if first != [40, 61.5]:  # which is none itself
            answers.read({"probabilities": [first]}, 1)
            first = second
        with pytest.raises(TargetError, match="sum to"):
            answers.read({"probabilities": [first]}, 1)

    def test_logits_are_none(self):
        assert not in_percent(np.array([[2.0, 3.1]]))
        assert not in_percent(np.array([[7.3, np.nan]]))
        assert in_percent(np.array([[12.5, 87.5], [50, 50]]))


class TestSurestLabels:
    def test_the_rule(self):
        nan = np.nan
        rows = np.array([[0.6, 0.3, nan, nan], [0.4, nan, nan, nan], [1.0, nan, nan, nan], [0.1, 0.2, 0.3, 0.4]])
        filled = completed(rows)
        assert filled[0] == pytest.approx([0.6, 0.3, 0.05, 0.05])
        assert filled[1] == pytest.approx([0.4, 0.2, 0.2, 0.2])
        assert filled[2].tolist() == [1, 0, 0, 0]
        assert filled[3].tolist() == rows[3].tolist()
        assert completed(np.array([[0.3, nan]])).argmax() == 0  # none more than the smallest given, and none a tie
        assert completed(np.array([[nan, 0.3]])).argmax() == 1
        assert partial_fault(np.array([[0.7, 0.4, nan]])) is not None
        assert partial_fault(np.array([[0.67, 0.34, nan]])) is None  # as rounding makes it

    @pytest.mark.parametrize("k", [1, 2, 3, "varies"])
    @pytest.mark.parametrize("given", [True, False])
    @pytest.mark.parametrize("form", ["scores", "objects", "top"])
    def test_by_a_service(self, k, given, form):
        def of(text):
            return surest(text, (1 + len(text) % 2 if k == "varies" else k))

        def answer(texts):
            if form == "top":
                return [of(t)[0] for t in texts]
            if form == "scores":
                return [of(t) for t in texts]
            return {"probabilities": [{each["label"]: each["score"] for each in of(t)} for t in texts]}

        rows = examples(100, ABC)
        target = Service(lambda texts: answer(texts)).open(labels=ABC if given else None)
        target.meet(rows.labels)
        own = np.array([target.labels.index(label) for label in rows.labels])
        truth = np.array([[full(t).get(label, 0) for label in target.labels] for t in rows.texts])
        found = np.exp(target.log_probabilities(rows))
        assert (target.predict(rows) == truth.argmax(axis=1)).all()
        assert found.argmax(axis=1).tolist() == truth.argmax(axis=1).tolist()
        named = truth.max(axis=1) == truth[np.arange(100), own]
        assert found[np.arange(100), own][named] == pytest.approx(truth[np.arange(100), own][named])
        assert (found.sum(axis=1) < 1 + 1e-6).all()
        if k == 3 and form != "top":
            assert target.remarks == ()
            assert found == pytest.approx(truth)
        else:
            assert set(target.labels) - set(ABC) == (set() if given else {OTHER})
            assert "name only the surest labels" in target.remarks[-1]

    def test_labels_of_answers_alone_have_one_column_together(self):
        labels = ("a", "b", "c", "d", "e")
        service = Service(lambda texts: [surest(t, 2, labels) for t in texts])
        rows = examples(100, ("a", "b"))
        target = service.open(batch_size=7)
        target.meet(rows.labels)
        known = target.labels
        values = target.log_probabilities(rows)
        assert target.labels == known
        assert values.shape == (100, len(known))
        top = [surest(t, 1, labels)[0]["label"] for t in rows.texts]
        column = [known.index(label if label in known else OTHER) for label in top]
        assert values.argmax(axis=1).tolist() == column

    def test_names_that_never_meet_the_data_are_refused(self):
        target = Service(lambda texts: [surest(t, 1, ("x", "y", "z")) for t in texts]).open()
        rows = examples(20)
        target.meet(rows.labels)
        assert "the data has 'a', 'b': no label is in both" in failure(target.predict, rows)

    @pytest.mark.parametrize("share", [1.0, 0.9])
    def test_answers_that_always_name_the_same_labels_leave_none_out(self, share):
        """A label that the model lacks, or numbers that do not sum to 1, must not pass for the surest labels."""
        target = Service(lambda texts: {"probabilities": [{"a": 0.5 * share, "b": 0.5 * share} for _ in texts]}).open()
        rows = examples(20, ABC)
        target.meet(rows.labels)
        message = failure(target.log_probabilities, rows)
        assert "1 labels unknown to the model ('c'); it always names the same: 'a', 'b'" in message

    def test_bounds_are_the_same_whoever_was_a_member(self):
        rows = examples(30, ABC)
        target = Service(lambda texts: [surest(t, 1) for t in texts]).open(labels=ABC)
        straight, turned = target.losses(rows), target.losses(rows.take(np.arange(30)[::-1]))
        assert straight.tolist() == turned[::-1].tolist()


class TestLabels:
    def test_whole_numbers_are_positions_among_the_labels_given(self):
        target = FunctionTarget(lambda texts: np.array([len(t) % 2 for t in texts]), labels=["neg", "pos"])
        assert target.access is Access.LABELS
        assert target.predict(Examples(np.arange(2), ("xx", "x"))).tolist() == [0, 1]
        assert target.remarks == ("2 of 2 answers read are whole numbers: taken as positions among the labels given",)

    def test_numbers_that_are_names_stay_names(self):
        answers = Answers("t", ["1", "0"])
        assert answers.read({"labels": [1, 0]}, 2).predicted.tolist() == [0, 1]
        with pytest.raises(TargetError, match="outside the 2 known"):
            Answers("t", ["neg", "pos"]).read({"labels": [2]}, 1)

    def test_objects_with_a_label_and_no_score(self):
        target = FunctionTarget(lambda texts: [{"label": "a"} for _ in texts])
        assert (target.access, target.labels) == (Access.LABELS, ("a",))

    def test_a_one_for_the_label_and_zeros_are_labels(self):
        assert hard(Answers("t", ABC).read({"probabilities": [[0, 1, 0], [1.0, 0, 0]]}, 2).log_probabilities)
        assert not hard(Answers("t", ABC).read({"probabilities": [[0, 1, 0], [0.99, 0.01, 0]]}, 2).log_probabilities)


def picky(refuses, status=422, most=10**6, answer=None):
    """A service that answers `status` to a request with a text that `refuses`, or with more than `most` texts."""

    def reply(request):
        texts = json.loads(request.content)["texts"]
        asked.append(texts)
        if len(texts) > most or any(map(refuses, texts)):
            return httpx.Response(status, text="private text")
        return httpx.Response(200, json=(answer or (lambda ts: {"probabilities": [full(t) for t in ts]}))(texts))

    asked = []
    service = Service()
    service.asked = asked
    service.open_ = lambda **options: Endpoint(URL, transport=httpx.MockTransport(reply), **options)
    return service


class TestRefusals:
    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_a_text_is_found_among_many_and_left_out(self, status):
        rows = examples(100, ABC)
        service = picky(lambda t: t.endswith(" 37"), status)
        target = service.open_(batch_size=16)
        values = target.attempt(rows, refusals=5)
        assert np.flatnonzero(np.isnan(values).any(axis=1)).tolist() == [37]
        kept = [i for i in range(100) if i != 37]
        assert np.exp(values[kept]) == pytest.approx(np.array([softmax(rows.texts[i]) for i in kept]))
        assert target.requests == len(service.asked) == 1 + 7 + 2 * 4  # the probe, the batches, four halvings
        assert target.remarks == ()

    def test_other_calls_take_none(self):
        target = picky(lambda t: t.endswith(" 3")).open_()
        assert "422" in failure(target.log_probabilities, examples(10))
        assert "422" in failure(target.predict, examples(10))
        target.attempt(examples(10), refusals=1)
        assert "refused 1 of 10 texts" in failure(target.predict, examples(10))

    def test_too_many_end_it_at_once(self):
        service = picky(lambda t: t != PROBE)
        message = failure(service.open_(batch_size=8).attempt, examples(1000), refusals=3)
        assert "answered 422" in message
        assert "4 texts refused; more than the 3 texts that may be" in message
        assert len(service.asked) < 20

    @pytest.mark.parametrize(("most", "requests"), [(1, 1 + 5 + 32 + 32), (8, 1 + 2 + 4 + 4)])
    def test_how_many_texts_are_taken_at_a_time_is_found_out(self, most, requests):
        service = picky(lambda t: False, 413, most)
        target = service.open_(batch_size=32)
        rows = examples(64, ABC)
        assert np.exp(target.attempt(rows, refusals=0)) == pytest.approx(np.array([softmax(t) for t in rows.texts]))
        assert (target.batch_size, target.requests) == (most, requests)
        assert target.remarks == (f"takes no more than {most} text{'s' * (most > 1)} at a time",)

    def test_one_answer_for_many_texts_is_asked_for_one_by_one(self):
        target = Service(lambda texts: {"probabilities": [full(texts[0])]}).open(batch_size=4)
        rows = examples(9, ABC)
        assert np.exp(target.log_probabilities(rows)) == pytest.approx(np.array([softmax(t) for t in rows.texts]))
        assert target.batch_size == 1

    def test_every_request_is_in_the_budget(self):
        service = picky(lambda t: t.endswith(" 3"))
        message = failure(service.open_(batch_size=8, budget=4).attempt, examples(16), refusals=1)
        assert "the budget of 4 requests is used up" in message
        assert len(service.asked) == 4

    @pytest.mark.parametrize("nothing", [None, {"error": "too long"}])
    @pytest.mark.parametrize("rest", [full, lambda t: "a", lambda t: surest(t, 3)])
    def test_nothing_in_the_place_of_an_answer(self, nothing, rest):
        target = FunctionTarget(lambda texts: [nothing if t.endswith((" 0", " 5")) else rest(t) for t in texts])
        values = target.attempt(examples(12, ABC), refusals=2)
        assert np.flatnonzero(np.isnan(values).any(axis=1)).tolist() == [0, 5]
        assert "a text was not answered" in failure(
            FunctionTarget(lambda texts: [None if t != PROBE else rest(t) for t in texts]).attempt,
            examples(12, ABC),
            refusals=2,
        )

    def test_other_statuses_and_a_refused_probe_are_no_refusal_of_a_text(self):
        assert "answered 404" in failure(picky(lambda t: t != PROBE, 404).open_().attempt, examples(4), refusals=4)
        assert "is --api auto its form" in failure(picky(lambda t: True).open_)
