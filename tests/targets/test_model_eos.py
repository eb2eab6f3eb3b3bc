"""A text that spells out a model's end token is answered as it would be alone, and so are its neighbours."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, BartConfig, PreTrainedTokenizerFast, T5Config

from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.loading import load_target

WORDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "was": 4, "now": 5, "9": 6}
ENDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
NAMES = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
SIZES = {"d_model": 8, "max_position_embeddings": 32}
SIZES |= {f"{part}_{what}": 1 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
SIZES |= {f"{part}_ffn_dim": 8 for part in ("encoder", "decoder")}
CONFIGS = {
    "bart": lambda: BartConfig(vocab_size=7, init_std=0.5, **SIZES, **ENDS, **NAMES),
    "t5": lambda: T5Config(vocab_size=7, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, **ENDS, **NAMES),
}
TEXTS = ("was 9 now 9", "was <s>9</s> now 9", "now", "</s>", "9 9 9 9 9 9")


@pytest.fixture(params=CONFIGS)
def target(request, tmp_path):
    words = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(CONFIGS[request.param]()).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(tmp_path)
    return load_target(str(tmp_path), device="cpu")


def test_each_text_has_the_answer_it_has_alone(target):
    def answers(*texts):
        return target.log_probabilities(Examples(np.arange(len(texts)), texts))

    alone = np.concatenate([answers(text) for text in TEXTS])
    np.testing.assert_allclose(answers(*TEXTS), alone, atol=1e-5)
    assert len({tuple(row.round(6)) for row in alone}) > 2  # the texts do differ to the model


def test_a_text_that_fails_alone_is_an_error(target):
    for module in target.model.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == len(WORDS):
            module.weight.data = module.weight.data[:6]
    with pytest.raises(TargetError, match="fails on its own tokens"):
        target.log_probabilities(Examples(np.arange(2), ("was 9", "was")))
