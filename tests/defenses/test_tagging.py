"""Taggers over clients: the formats, the scores against cases worked out by hand, and training that learns."""

import json

import numpy as np
import pytest
import torch

from defenses.federated import Federated, PrivateFederated
from defenses.federated.flower import job
from defenses.federated.local import RoundTask, train_client
from defenses.federated.tagging.spans import spans_of, tag_scores
from defenses.federated.tagging.tagger import initial_tagger, predict_tags, tag_problem
from defenses.federated.tagging.texts import TaggedTexts, read_tagged
from defenses.federated.tagging.training import train_tagger
from defenses.federated.updates import weights_of
from redteam.core import DataError, UsageError

NAMES, PLACES, FILLER = ("anna", "bert", "carla"), ("rome", "oslo", "new york"), ("went", "to", "saw", "again", "the")


def tagged(count, *, seed):
    """Names are persons and towns places, wherever they stand."""
    rng, tokens, tags = np.random.default_rng(seed), [], []
    for _ in range(count):
        words, own = [], []
        for kind in rng.permutation(["per", "loc", "O", "O"]):
            said = rng.choice({"per": NAMES, "loc": PLACES, "O": FILLER}[kind]).split()
            words += said
            own += ["O"] * len(said) if kind == "O" else [f"B-{kind}", *[f"I-{kind}"] * (len(said) - 1)]
        tokens.append(tuple(words))
        tags.append(tuple(own))
    return TaggedTexts(tuple(tokens), tuple(tags), tuple(f"user-{i % 5}" for i in range(count)))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-a I-a O B-b", [(0, 2, "a"), (3, 4, "b")]),
        ("B-a B-a", [(0, 1, "a"), (1, 2, "a")]),
        ("I-a I-a", [(0, 2, "a")]),
        ("B-a I-b", [(0, 1, "a"), (1, 2, "b")]),
        ("O I-a B-a I-a", [(1, 2, "a"), (2, 4, "a")]),
    ],
)
def test_spans_are_those_of_conlleval(tags, spans):
    assert sorted(spans_of(tags.split())) == spans


def test_scores_of_a_case_worked_out_by_hand():
    truth = [["B-a", "I-a", "O", "B-b"], ["O", "B-a", "O"]]
    answers = [["B-a", "I-a", "O", "B-a"], ["B-b", "B-a", "I-a"]]
    found = tag_scores(truth, answers)  # 4 of 7 words; of 3 spans one is found, among 4 that were answered
    assert found.accuracy == pytest.approx(4 / 7)
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 4, 1 / 3, 2 / 7))
    assert (found.words, found.spans) == (7, 3)
    assert tag_scores(truth, truth).f1 == 1.0
    assert tag_scores(truth, [["O"] * 4, ["O"] * 3]).f1 == 0.0
    with pytest.raises(ValueError, match="argument"):
        tag_scores(truth, [["O"] * 3, ["O"] * 3])


COLUMNS = """-DOCSTART- -X- O O

# user = ann
Anna NNP B-NP B-per
left VBD B-VP O

# user = bob
# NN O O
New NNP O B-loc
York NNP O I-loc
"""


def test_columns_and_json_lines_hold_the_same_texts(tmp_path):
    (tmp_path / "a.conll").write_text(COLUMNS)
    found = read_tagged(tmp_path / "a.conll")
    assert found.tokens == (("Anna", "left"), ("#", "New", "York"))
    assert found.tags == (("B-per", "O"), ("O", "B-loc", "I-loc"))
    assert found.users == ("ann", "bob")
    lines = [
        json.dumps({"tokens": w, "tags": t, "user": u})
        for w, t, u in zip(found.tokens, found.tags, found.users, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    assert read_tagged(tmp_path / "a.jsonl") == found
    assert found.examples().labels == ("per", "loc")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.conll", "Anna\n", "line 1: one column; a word and its tag are needed"),
        ("a.conll", "Anna per\n\n", "line 2: tag 'per'; in IOB2 a tag is O, B-KIND or I-KIND"),
        ("a.conll", "\n\n", "holds no tagged text"),
        ("a.jsonl", '{"tokens": ["a"], "tags": []}\n', "line 1: 1 words and 0 tags: give each word one"),
        ("a.jsonl", '{"tokens": ["a"]}\n', "line 1: not an object with tokens and tags"),
        ("a.jsonl", '{"tokens": "a", "tags": "O"}\n', "line 1: tokens and tags must be lists of strings"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_tagged(tmp_path / name)


def test_clients_learn_to_tag_and_their_rows_are_their_own():
    texts, unseen = tagged(60, seed=0), tagged(30, seed=1)
    trainer = Federated(rounds=12, clients_per_round=5, local_epochs=2, batch_size=4, learning_rate=0.01)
    before = tag_scores(unseen.tags, predict_tags(initial_tagger("tiny", texts, seed=0), unseen))
    done = train_tagger(trainer, initial_tagger("tiny", texts, seed=0), texts, seed=3)
    after = done.scores(unseen)
    assert before.f1 < 0.5
    assert after.f1 > 0.9, after
    assert after.accuracy > 0.9
    assert done.divided.names == tuple(f"user-{i}" for i in range(5))
    assert len(done.rounds) == 12


def test_the_loss_of_a_text_is_the_mean_over_its_words_and_padding_changes_nothing():
    texts = tagged(6, seed=0)
    initial = initial_tagger("tiny", texts, seed=0)
    initial.model.eval()
    problem = tag_problem(initial, texts, torch.optim.SGD(initial.model.parameters(), lr=0.1), population=None)
    with torch.no_grad():
        together = problem.losses(torch.arange(6))
        alone = torch.cat([problem.losses(torch.tensor([i])) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert float(together.mean()) == pytest.approx(np.log(len(initial.labels)), abs=0.3)


def test_a_client_of_another_process_tags_as_it_does_here(tmp_path):
    texts = tagged(12, seed=0)
    initial = initial_tagger("tiny", texts, seed=0)
    initial.model.train()
    trainer = Federated(batch_size=4).settled(initial, 12)
    how, held = trainer.local_training(), np.array([1, 4, 7, 10])
    problem = tag_problem(initial, texts, trainer.server_step(initial.model), population=None)
    job.write_job(tmp_path / "job", initial, job.ClientData("tags", texts), [held], how)
    task = RoundTask(2, 7, weights_of(initial.model))
    there = job.answer(tmp_path / "job", 0, np.arange(4), task)
    here = train_client(problem, held, task, 0, how)
    assert all(torch.equal(there.update[name], value) for name, value in here.update.items())


def test_a_tagger_is_written_as_others_open_it(tmp_path):
    from transformers import AutoModelForTokenClassification

    texts = tagged(12, seed=0)
    done = train_tagger(Federated(rounds=1, clients_per_round=2), initial_tagger("tiny", texts, seed=0), texts, seed=0)
    done.save(tmp_path / "out")
    opened = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert opened.config.id2label == dict(enumerate(texts.known_tags))
    assert torch.equal(opened.classifier.weight, done.initial.model.classifier.weight)


def test_what_cannot_tag_is_refused():
    texts = tagged(12, seed=0)
    with pytest.raises(UsageError, match="has no head for tags"):
        initial_tagger("bilstm", texts, seed=0)
    with pytest.raises(UsageError, match="at least 2"):
        initial_tagger("tiny", TaggedTexts((("a",),), (("O",),)), seed=0)
    with pytest.raises(UsageError, match=r"RD202 \(federated-private\) trains classifiers"):
        train_tagger(PrivateFederated(), initial_tagger("tiny", texts, seed=0), texts, seed=0)
