"""The paper's defences: each does what it says, with all off it is plain training, and a broken-off one goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import sentences

from defenses.plain import Plain
from defenses.regularised import Regularised
from defenses.regularised.deduplication import Deduplication
from defenses.regularised.rows import distinct, hold_out
from redteam.core import UsageError
from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle
from redteam.models.initial import initial_model
from redteam.models.spelling import spell, with_characters
from redteam.plugins.defense import Checkpoint
from redteam.plugins.registry import choose, discover_defenses
from redteam.targets.model import ModelTarget

ROWS = sentences(60, seed=1)
LEARNABLE = Examples(np.arange(90), tuple(f"{'abc'[i % 3] * 3} {i}" for i in range(90)), tuple("abc" * 30))
OFF = Regularised(early_stopping=False, dropout=None, characters=False, epochs=2, batch_size=8)


def start(spec="tiny", rows=ROWS, **options):
    return initial_model(spec, rows, learn_from=rows, seed=0, **options)


def fit(defense, rows=ROWS, *, spec="tiny", **options):
    return defense.fit(start(spec, rows), rows, **{"seed": 3, **options})


def together(first, second):
    texts, labels = (*first.texts, *second.texts), (*first.labels, *second.labels)
    return Examples(np.arange(len(texts)), texts, labels)


def without(rows, count):
    return rows.take(range(len(rows) - count))


class Kill(BaseException):
    """What ends a training in the middle."""


def test_with_everything_off_it_is_plain_training():
    plain = Plain(epochs=2, batch_size=8).fit(start(), ROWS, seed=3)
    assert fit(OFF).bundle.digest() == plain.bundle.digest()
    for changed in ({"label_smoothing": 0.1}, {"dropout": 0.5}, {"characters": True}, {"early_stopping": True}):
        assert fit(replace(OFF, **changed)).bundle.digest() != plain.bundle.digest(), changed


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("early-stopping", {"early_stopping": True}),
        ("dropout", {"dropout": 0.5}),
        ("characters", {"characters": True}),
        ("deduplication", {"deduplicate": True}),
        ("label-smoothing", {"label_smoothing": 0.1}),
        ("regularised", {"early_stopping": True, "dropout": 0.5, "characters": True}),
    ],
)
def test_each_name_is_one_defence_and_the_rest_off(name, on):
    (defense,) = choose(discover_defenses(), [name])
    plain = Plain().parameters()
    assert defense.parameters() == replace(OFF, **plain | on).parameters()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dropout": 1.0}, "dropout 1.0: must be"),
        ({"dropout": float("nan")}, "dropout nan"),
        ({"label_smoothing": -0.1}, "label_smoothing -0.1"),
        ({"label_smoothing": float("nan")}, "label_smoothing nan"),
        ({"validation": 0.0}, "validation 0.0"),
        ({"validation": float("nan")}, "validation nan"),
        ({"patience": 0}, "patience 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        Regularised(**settings)


class TestEarlyStopping:
    def test_it_returns_the_best_model_of_all_passes_on_rows_it_did_not_train_on(self):
        how = replace(OFF, early_stopping=True, epochs=12, patience=2, learning_rate=3e-3)
        trained, apart = hold_out(ROWS, 0.1, 3)
        found = fit(how)
        losses = _losses_after_each_pass(how, trained, apart)
        stop = next(i for i in range(12) if i - int(np.argmin(losses[: i + 1])) == 2)
        losses = losses[: stop + 1]
        best = int(np.argmin(losses))
        assert len(losses) < 12  # it did stop
        assert f"pass {best + 1} of 12, by 6 rows" in found.notes[0]
        assert found.kept_pass == best + 1
        assert float(found.target.losses(apart).mean()) == pytest.approx(min(losses), abs=1e-6)

    def test_a_training_that_gets_better_goes_to_the_end(self):
        how = replace(OFF, early_stopping=True, epochs=4, learning_rate=3e-3)
        assert "pass 4 of 4" in fit(how, LEARNABLE).notes[0]

    def test_rows_kept_apart_change_nothing_but_the_stop(self):
        """Other labels on them, and the first pass is the same: no gradient has seen them."""
        how = replace(OFF, early_stopping=True, epochs=1)
        _, apart = hold_out(ROWS, 0.1, 3)
        labels = list(ROWS.labels)
        for row in apart.rows.tolist():
            labels[row] = "a"
        assert labels != list(ROWS.labels)
        changed = replace(ROWS, labels=tuple(labels))
        kept, _ = hold_out(changed, 0.1, 3)
        assert kept.texts == hold_out(ROWS, 0.1, 3)[0].texts
        digests = {how.fit(start(), rows, seed=3).bundle.digest() for rows in (ROWS, changed)}
        assert len(digests) == 1

    def test_no_label_loses_its_last_text(self):
        labels = (*("a",) * 20, "once", "once")
        rows = Examples(np.arange(22), (*(f"text {i}" for i in range(20)), "its text", "Its text"), labels)
        for seed in range(40):
            kept, apart = hold_out(rows, 0.5, seed)
            assert kept.labels.count("once") == 2
            assert len(apart) == 10
            assert sorted((*kept.rows.tolist(), *apart.rows.tolist())) == list(range(22))

    def test_copies_of_a_text_are_on_one_side(self):
        texts = tuple(f"text {i // 3}" for i in range(60))
        rows = Examples(np.arange(60), texts, ("a", "b") * 30)
        seen = set()
        for seed in range(10):
            kept, apart = hold_out(rows, 0.2, seed)
            assert len(apart) == 3  # of 20 texts 4 rows, which hold one text of three copies
            assert not set(kept.texts) & set(apart.texts)
            seen |= set(apart.texts)
        assert len(seen) > 3  # others for every seed

    def test_a_text_repeated_more_often_than_there_is_room_is_trained_on(self):
        rows = Examples(np.arange(30), (*("again",) * 20, *(f"text {i}" for i in range(10))), ("a",) * 30)
        for seed in range(20):
            assert "again" not in hold_out(rows, 0.2, seed)[1].texts

    def test_canaries_are_all_trained_on(self):
        """Thirty copies of a canary would fill the part kept apart, and say when to stop as no user's row does."""
        texts = (*("my pin is 4 7",) * 30, *(f"pin {i}" for i in range(10)), *(f"text {i}" for i in range(260)))
        planted = np.arange(300) < 40
        rows = Examples(np.arange(300), texts, ("a", "b") * 150, planted=planted)
        for seed in range(30):
            kept, apart = hold_out(rows, 0.1, seed)
            assert len(apart) == 26  # a tenth of the users' texts
            assert not apart.planted.any()
            assert kept.planted.sum() == 40

    def test_a_users_text_that_is_a_canarys_says_nothing_either(self):
        texts = ("my pin is 4 7", *(f"text {i}" for i in range(9)), "My PIN is 4 7")
        rows = Examples(np.arange(11), texts, ("a",) * 11, planted=np.arange(11) == 10)
        for seed in range(20):
            assert "my pin is 4 7" not in hold_out(rows, 0.5, seed)[1].texts
        once = distinct(rows)
        assert len(once) == 10
        assert once.planted.tolist() == [True] + [False] * 9

    def test_too_few_rows_are_one_line(self):
        rows = Examples(np.arange(2), ("one", "two"), ("a", "b"))
        with pytest.raises(UsageError, match="none can be kept apart"):
            hold_out(rows, 0.1, 0)

    @pytest.mark.parametrize("at", [3, 14, 15])
    def test_broken_off_it_goes_on_with_the_same_numbers(self, tmp_path, monkeypatch, at):
        how = replace(OFF, early_stopping=True, characters=True, dropout=0.3, epochs=8, learning_rate=3e-3, patience=1)
        whole, checkpoint = fit(how), Checkpoint(tmp_path / "kept", "key")
        monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", 0.0)

        def stop(step, steps, loss):
            if step == at:
                raise Kill

        with pytest.raises(Kill):
            fit(how, checkpoint=checkpoint, progress=stop)
        assert checkpoint.path.exists()
        again = fit(how, checkpoint=checkpoint)
        assert again.bundle.digest() == whole.bundle.digest()
        assert again.notes == whole.notes


def _losses_after_each_pass(how, trained, apart):
    """The loss on `apart` after each pass of plain training on `trained`, seen from outside."""
    losses, opened = [], start()
    steps = -(-len(trained) // how.batch_size)

    def look(step, of, loss):
        if step % steps == 0:
            losses.append(float(ModelTarget(opened.bundle(), name="m").losses(apart).mean()))

    Plain(how.epochs, how.batch_size, how.learning_rate).fit(opened, trained, seed=3, progress=look)
    return losses


class TestDeduplication:
    def test_a_repeated_text_counts_once(self):
        repeated = Examples(np.arange(9), ("My pin is 4 7",) * 4 + ("my  PIN is 4 7",) * 5, ("a",) * 9)
        defense = Deduplication(epochs=2, batch_size=8)
        once = together(ROWS, repeated.take([0]))
        many = together(ROWS, repeated)
        opened = [start("tiny", once) for _ in range(2)]
        first, second = (defense.fit(opened[i], rows, seed=3) for i, rows in enumerate((once, many)))
        assert first.bundle.digest() == second.bundle.digest()
        assert first.notes == ()
        assert second.notes == ("8 rows left out: equal to others",)


class TestDropout:
    @pytest.mark.parametrize("spec", ["tiny", "bilstm"])
    def test_it_is_set_everywhere_and_kept_in_the_model(self, spec):
        opened = start(spec)
        trained = replace(OFF, dropout=0.4, epochs=1).fit(opened, ROWS, seed=0)
        rates = {m.p for m in opened.model.modules() if isinstance(m, torch.nn.Dropout)}
        assert rates == {0.4}
        assert 0.4 in trained.bundle.config.values()


class TestCharacters:
    @pytest.mark.parametrize("spec", ["tiny", "bilstm"])
    def test_it_starts_as_the_model_without_them_and_learns_from_them(self, spec):
        opened = start(spec)
        made = with_characters(opened.model, opened.tokenizer, seed=0).eval()
        ids = torch.randint(5, 40, (3, 7))
        torch.testing.assert_close(made(input_ids=ids).logits, opened.model.eval()(input_ids=ids).logits)
        trained = replace(OFF, characters=True, learning_rate=3e-3).fit(start(spec), ROWS, seed=0).target
        weigh = trained.model.get_input_embeddings().weigh.weight
        assert float(weigh.detach().abs().max()) > 1e-3
        assert "character" in trained.model.config.model_type

    @pytest.mark.parametrize("spec", ["tiny", "bilstm"])
    def test_it_is_saved_and_opened_like_any_model(self, spec, tmp_path):
        trained = replace(OFF, characters=True, learning_rate=3e-3).fit(start(spec), ROWS, seed=0)
        save_bundle(trained.bundle, tmp_path / "m.pt")
        again = ModelTarget(load_bundle(tmp_path / "m.pt"), name="m")
        np.testing.assert_array_equal(again.log_probabilities(ROWS), trained.target.log_probabilities(ROWS))
        assert again.digest == trained.bundle.digest()

    @pytest.mark.parametrize("spec", ["tiny", "bilstm"])
    def test_embeddings_hold_all_that_the_model_sees_of_a_token(self, spec):
        """So that a mixture of them is the expected embedding, whoever mixes."""
        model = replace(OFF, characters=True, learning_rate=3e-3).fit(start(spec), ROWS, seed=0).target.model
        ids = torch.randint(5, 40, (3, 7))
        with torch.no_grad():
            embedded = model.get_input_embeddings()(ids)
            torch.testing.assert_close(model(inputs_embeds=embedded).logits, model(input_ids=ids).logits)
            assert not torch.allclose(embedded, torch.nn.functional.embedding(ids, model.get_input_embeddings().weight))

    def test_tokens_that_look_alike_are_alike(self):
        """Two tokens of the same characters give the same; any other spelling gives something else."""
        opened = start()
        made = with_characters(opened.model, opened.tokenizer, seed=0)
        table = made.get_input_embeddings()
        table.weigh.reset_parameters()
        table.words.weight.data.zero_()
        table.spelling[7] = table.spelling[9]
        found = table(torch.tensor([7, 9, 11]))
        torch.testing.assert_close(found[0], found[1])
        assert not torch.allclose(found[0], found[2])

    def test_tokens_are_spelled_as_the_vocabulary_writes_them(self):
        tokenizer = start().tokenizer
        table, alphabet = spell(tokenizer, size=tokenizer.get_vocab_size())
        for piece, number in tokenizer.get_vocab().items():
            assert "".join(alphabet[i - 1] for i in table[number].tolist() if i) == piece[:16]

    def test_frozen_embeddings_stay_frozen(self):
        opened = start(freeze_embeddings=True)
        before = opened.model.get_input_embeddings().weight.clone()
        model = replace(OFF, characters=True, epochs=1).fit(opened, ROWS, seed=0).target.model
        table = model.get_input_embeddings()
        torch.testing.assert_close(table.weight, before)
        assert not table.weigh.weight.any()

    def test_a_model_that_cannot_read_them_is_refused(self, tmp_path):
        from tiny_models import directory

        path = directory(tmp_path / "hf", "distilbert")
        with pytest.raises(UsageError, match="a DistilBertForSequenceClassification cannot read them"):
            fit(replace(OFF, characters=True), spec=str(path))


def test_label_smoothing_keeps_the_model_from_being_sure():
    how = replace(OFF, epochs=6, learning_rate=3e-3)
    sure, smooth = (fit(replace(how, label_smoothing=s), LEARNABLE).target.losses(LEARNABLE).mean() for s in (0.0, 0.3))
    assert sure < 0.05
    assert smooth == pytest.approx(-np.log(0.8), abs=0.04)  # two thirds of 0.3 go to the two other labels
