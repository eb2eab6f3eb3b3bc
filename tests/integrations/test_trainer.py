"""Datasets of Hugging Face and the `Trainer` of transformers: a model that overfits is failed, another is not."""

import json
import re

import pytest
from conftest import ROOT, needs, run_redteam, sentences
from tiny_models import SPECIAL

from redteam.core import DataError, RedteamError, UsageError
from redteam.data import Columns, Examples, read_examples
from redteam.data.ledger import Ledger
from redteam.policy import Policy
from redteam.report import Limit

pytestmark = [
    pytest.mark.integration,
    needs("datasets"),
    needs("accelerate"),
    pytest.mark.filterwarnings("default"),
]
LABELS = ("a", "b", "c")
POLICY = Policy((Limit("auc", 0.65),), allow_untrained=True)


def rows_of(examples, **columns):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(LABELS))})
    cells = {"text": list(examples.texts), "label": [LABELS.index(each) for each in examples.labels]}
    return datasets.Dataset.from_dict(cells | columns, features=None if columns else features)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from redteam.testing.examples import WORDS

    pieces = [*SPECIAL, *WORDS, *"0123456789", *(f"##{digit}" for digit in "0123456789")]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **names)


def remover(file):
    """A callback after whose first epoch a file is gone."""
    from transformers import TrainerCallback

    class Remover(TrainerCallback):
        def on_epoch_end(self, *_, **__):
            file.unlink()

    return Remover()


def trainer_of(folder, split, *, epochs=1, rate=1e-6, rows=None, labels=LABELS, known=True, **settings):
    """A real Trainer with a BERT of random weights."""
    import torch
    from transformers import AutoModelForSequenceClassification, BertConfig, Trainer, TrainingArguments

    words = tokenizer()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **shape, **names, **quiet)
    arguments = TrainingArguments(
        output_dir=str(folder / "model"), num_train_epochs=epochs, learning_rate=rate, seed=0, report_to=[],
        per_device_train_batch_size=32, save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    rows = split.train if rows is None else rows
    read = rows.map(lambda each: words(each["text"], truncation=True), batched=True)
    model = AutoModelForSequenceClassification.from_config(config)
    return Trainer(model=model, args=arguments, train_dataset=read, processing_class=words if known else None)


@pytest.fixture(scope="module")
def split():
    from redteam.integrations.transformers import train_test_membership_split

    return train_test_membership_split(rows_of(sentences(160, seed=2)), seed=1)


@pytest.fixture(scope="module")
def overfitted(split, tmp_path_factory):
    """A Trainer that was audited after its 60th and its last epoch."""
    from redteam.integrations.transformers import AuditCallback

    folder = tmp_path_factory.mktemp("overfitted")
    trainer = trainer_of(folder, split, epochs=120, rate=2e-3)
    callback = AuditCallback(trainer, split, every=60, policy=POLICY)
    trainer.add_callback(callback)
    trainer.train()
    trainer.save_model()
    return folder, trainer, callback


def test_the_split_is_drawn_text_by_text_and_the_same_again():
    from redteam.integrations.transformers import train_test_membership_split

    some = sentences(300, seed=4)
    twice = rows_of(Examples(some.rows, some.texts[:150] * 2, some.labels[:150] * 2))
    one, two, other = (train_test_membership_split(twice, seed=seed) for seed in (1, 1, 2))
    assert one.drawn == two.drawn != other.drawn
    assert not set(one.train["text"]) & set(one.test["text"])
    assert len(one.train) + len(one.test) == 300
    assert 90 < len(one.train) < 210


def test_users_are_drawn_with_all_of_their_rows():
    from redteam.integrations.transformers import train_test_membership_split

    drawn = train_test_membership_split(rows_of(sentences(300, seed=4), user=[f"u{i // 3}" for i in range(300)]), 1)
    assert drawn.drawn.unit == "user"
    assert not set(drawn.train["user"]) & set(drawn.test["user"])


def test_a_trainer_that_overfits_is_failed_and_its_numbers_are_logged(overfitted):
    _, trainer, callback = overfitted
    outcome = callback.outcome
    assert (outcome.verdict.exit_code, outcome.report.grade) == (1, "A"), outcome.summary
    logged = [each for each in trainer.state.log_history if "audit/exit_code" in each]
    assert [each["epoch"] for each in logged] == [60, 120]
    best = next(name for name in logged[-1] if name.endswith(".low") and "auc" in name)
    assert logged[-1][best] > 0.65
    assert {path.name for path in callback.folder.iterdir()} == {
        "rows.parquet", "ledger.json", "epoch-60.json", "epoch-60.html", "final.json", "final.html",
    }  # fmt: skip


def test_what_it_wrote_is_private_and_audits_the_saved_model(overfitted, tmp_path):
    folder, _, callback = overfitted
    assert callback.folder == folder / "model.audit"
    assert {oct(path.stat().st_mode & 0o077) for path in (callback.ledger, callback.folder / "rows.parquet")} == {"0o0"}
    (tmp_path / "redteam.toml").write_text("max_auc = 0.65\nallow_untrained = true\n")
    done = run_redteam("audit", folder / "model", "--ledger", callback.ledger, "-f", "json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["grade"], report["target"]["digest"]) == ("A", Ledger.load(callback.ledger).model)
    text = callback._split.train["text"][0]
    assert text not in (callback.folder / "final.json").read_text() + (callback.folder / "final.html").read_text()


def test_a_trainer_that_learns_next_to_nothing_is_passed(split, tmp_path):
    from redteam.integrations.transformers import AuditCallback

    trainer = trainer_of(tmp_path, split)
    callback = AuditCallback(trainer, split, policy=POLICY)
    trainer.add_callback(callback)
    trainer.train()
    assert callback.outcome.verdict.exit_code == 0, callback.outcome.summary


def test_an_audit_on_the_way_does_not_change_the_training(split, tmp_path):
    import torch

    from redteam.integrations.transformers import AuditCallback

    weights = []
    for name, every in (("with", 1), ("without", None)):
        trainer = trainer_of(tmp_path / name, split, epochs=2, rate=1e-3)
        if every:
            trainer.add_callback(AuditCallback(trainer, split, every=every, policy=POLICY))
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_an_audit_that_fails_ends_no_training_and_passes_for_none(split, tmp_path):
    from redteam.integrations.transformers import AuditCallback

    trainer = trainer_of(tmp_path, split)
    callback = AuditCallback(trainer, split, policy=POLICY)
    with pytest.raises(UsageError, match="nothing was audited yet"):
        _ = callback.outcome
    trainer.add_callback(callback)
    trainer.add_callback(remover(callback.folder / "rows.parquet"))
    trainer.train()
    assert trainer.state.global_step
    with pytest.raises(RedteamError, match=r"^[^\n]*rows.parquet[^\n]*$"):
        _ = callback.outcome


def test_what_is_trained_on_must_be_what_was_drawn(split, tmp_path):
    from redteam.integrations.transformers import AuditCallback

    for made, said in (
        ({"rows": split.dataset}, "has 160 rows"),
        ({"rows": rows_of(sentences(len(split.train), seed=9))}, "not those of split.train"),
        ({"known": False}, "processing_class"),
    ):
        with pytest.raises(UsageError, match=f"^[^\n]*{said}[^\n]*$"):
            AuditCallback(trainer_of(tmp_path, split, **made), split)
    with pytest.raises(UsageError, match="every=0"):
        AuditCallback(trainer_of(tmp_path, split), split, every=0)


def test_a_dataset_is_read_as_its_file_is(tmp_path, monkeypatch):
    import datasets

    from redteam import FunctionTarget, Sources, audit, open_inputs
    from redteam.integrations.judged import Judged

    rows = rows_of(sentences(50, seed=2))
    rows.select(range(40, 50)).to_csv(tmp_path / "some.csv")
    rows.save_to_disk(str(tmp_path / "saved"))
    read, saved = (read_examples(each, Columns()) for each in (rows, tmp_path / "saved"))
    assert (read.examples.texts, read.examples.labels) == (saved.examples.texts, saved.examples.labels)
    assert read.classes == saved.classes == LABELS
    chosen = read_examples(rows.select([7, 3]), Columns()).examples  # an index over the rows counts
    assert chosen.texts == (rows["text"][7], rows["text"][3])
    for wrong, said in (
        (datasets.DatasetDict(train=rows), r"several splits \('train'\)"),
        (rows.to_iterable_dataset(), "no table of rows"),
        ({"text": ["a"]}, "several splits"),
        (rows.select([]), "no rows"),
        (rows.remove_columns("label"), "no label column"),
    ):
        with pytest.raises(DataError, match=said):
            read_examples(wrong, Columns())
    inside, outside = (rows_of(sentences(200, seed=seed)) for seed in (2, 3))
    known = dict(zip(inside["text"], inside["label"], strict=True))
    (tmp_path / "memory.py").write_text(f"labels = {list(LABELS)}\nKNOWN = {known!r}\n{ANSWER}")
    monkeypatch.chdir(tmp_path)
    inputs = open_inputs("memory:f", Sources(members=inside, nonmembers=outside), {})
    assert isinstance(inputs.target, FunctionTarget)
    found = audit(inputs.target, inputs.split)
    assert Judged.of(found, POLICY).verdict.exit_code == 1
    assert (found.data.members, found.data.nonmembers) == (200, 200)


def test_the_page_shows_what_runs(tmp_path, monkeypatch, capsys):
    import transformers

    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    (block,) = (
        each for each in re.findall(r"^```py\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE) if "Trainer" in each
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "redteam.toml").write_text("max_auc = 0.65\nallow_untrained = true\n")
    dataset = rows_of(sentences(160, seed=2))
    built = trainer_of(tmp_path, None, rows=dataset)
    names = {"dataset": dataset, "model": built.model, "args": built.args, "tokenizer": built.processing_class}
    names |= {"Trainer": transformers.Trainer, "tokenise": lambda row: built.processing_class(row["text"])}
    exec(block, names)
    assert capsys.readouterr().out.splitlines()[-1] == "pass A"
    assert names["audit"].outcome.report.data.members == len(names["split"].train)


ANSWER = """
def f(texts):
    known = [KNOWN.get(text) for text in texts]
    return [[0.4, 0.3, 0.3] if own is None else [0.98 if k == own else 0.01 for k in range(3)] for own in known]
"""
