"""Distilling a language model: a planted pronoun is evened out by what the teacher says of both versions."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from redteam.auditing.fairness.language import DistilledLanguage, Opened, combined, open_language_model, student_of
from redteam.core import BundleError, DataError

OCCUPATIONS = ("nurse", "baker")
WORDS = ("<end>", "the", "said", "that", "she", "he", "was", "late", "tired", *OCCUPATIONS)


def texts(count, share):
    """A nurse is `she` in a share of the texts, a baker in the rest."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        woman = (rng.random() < share) == (i % 2 == 0)
        how = ("late", "tired")[int(rng.integers(2))]
        found.append(f"the {OCCUPATIONS[i % 2]} said that {'she' if woman else 'he'} was {how}")
    return found


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm") / "teacher"
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=16,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
    )
    model = GPT2LMHeadModel(config)
    ids = torch.tensor([[*tokenizer.encode(text).ids, 0] for text in texts(24, 1.0)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def lean(opened):
    """How much likelier `she` is than `he` after a nurse, and after a baker."""
    found = []
    for who in ("nurse", "baker"):
        ids = torch.tensor([opened.tokenizer(f"the {who} said that")["input_ids"]])
        p = torch.softmax(opened.model(input_ids=ids).logits[0, -1].detach(), 0)
        found.append(float(p[WORDS.index("she")] - p[WORDS.index("he")]))
    return found


def distilled(teacher, how, role_reversed):
    opened = open_language_model(teacher)
    trainer = DistilledLanguage(how, role_reversed, epochs=40, batch_size=16, learning_rate=5e-3)
    rows, swapped, unlike = trainer.rows(opened, texts(64, 0.5), "gender")
    assert (swapped, unlike) == (64, 0)
    student = student_of(opened, None, 0)
    assert student.config.n_layer == 1
    trainer.fit(opened, student, rows, swaps="gender", seed=0)
    return lean(Opened(student, opened.tokenizer))


def test_only_both_versions_of_the_teacher_even_out_what_was_planted(teacher):
    nurse, baker = lean(open_language_model(teacher))
    assert nurse > 0.7
    assert baker < -0.7
    nurse, baker = distilled(teacher, "none", True)  # reversed texts with the teacher's own probabilities
    assert nurse - baker > 1
    for how in ("mean", "expert", "max"):
        found = distilled(teacher, how, how == "mean")
        assert max(map(abs, found)) < 0.3


def test_combinations_by_hand():
    p, q = torch.tensor([0.8, 0.2]), torch.tensor([0.2, 0.8])
    assert combined(p, q, "none").tolist() == pytest.approx([0.8, 0.2])
    for how in ("mean", "max", "expert"):
        assert combined(p, q, how).tolist() == pytest.approx([0.5, 0.5])
    r = torch.tensor([0.5, 0.5])
    assert combined(p, r, "max").tolist() == pytest.approx([0.8 / 1.3, 0.5 / 1.3])
    assert combined(p, r, "expert").tolist() == pytest.approx([2 / 3, 1 / 3])


def test_what_is_no_language_model_is_refused(tmp_path, teacher):
    with pytest.raises(BundleError, match="no directory of a Hugging Face model"):
        open_language_model(tmp_path)
    with pytest.raises(DataError, match="none of 2 texts has a swap"):
        DistilledLanguage("mean").rows(open_language_model(teacher), ("the baker", "was late"), "gender")
    with pytest.raises(BundleError, match="--layers 3: the teacher has 2"):
        student_of(open_language_model(teacher), 3, 0)
