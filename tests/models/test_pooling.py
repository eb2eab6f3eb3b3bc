"""A layer that begins as the mean of its tokens: against the mean itself, with other architectures left alone."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig

from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification
from redteam.models.pooling import add_mean, begin_with_mean, begin_with_words, pools_by_mean


def bert(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    config = BertConfig(vocab_size=50, max_position_embeddings=20, num_labels=3, **sizes | changes)
    return AutoModelForSequenceClassification.from_config(config).eval()


IDS = torch.tensor([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def states(model, layer):
    with torch.inference_mode():
        return model.bert(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states[layer]


def test_the_first_state_is_the_mean_of_the_tokens_that_are_no_padding():
    model = bert()
    below = states(model, 2)
    assert add_mean(model)
    assert model.config.num_hidden_layers == 3
    assert torch.equal(states(model, 2), below)  # what is below stays
    mean = (below * MASK[..., None]).sum(1) / MASK.sum(1, keepdim=True)
    expected = torch.nn.functional.layer_norm(below[:, 0] + 10 * mean, (16,), eps=model.config.layer_norm_eps)
    expected = torch.nn.functional.layer_norm(expected, (16,), eps=model.config.layer_norm_eps)
    torch.testing.assert_close(states(model, 3)[:, 0], expected)
    with torch.inference_mode():
        pooled = model.bert(input_ids=IDS, attention_mask=MASK).pooler_output
    torch.testing.assert_close(pooled, expected.tanh())


def test_the_mean_can_become_another_sum():
    """All of the layer but what stands behind a zero can be trained at once: the queries too."""
    model = bert()
    begin_with_mean(model)
    model(input_ids=IDS, attention_mask=MASK, labels=torch.tensor([0, 2])).loss.backward()
    layer = model.bert.encoder.layer[-1]
    for weight in (layer.attention.self.query.weight, layer.attention.self.value.weight, layer.output.dense.weight):
        assert weight.grad.abs().max() > 0


def test_new_models_begin_with_the_words_of_a_text_in_any_order():
    lstm = BiLSTMForSequenceClassification(BiLSTMConfig(vocab_size=50, hidden_size=8, embedding_size=8)).eval()
    model, other = bert(), IDS[:1, [0, 3, 2, 1, 4]]
    with torch.inference_mode():
        assert not torch.allclose(model(IDS[:1]).logits, model(other).logits, atol=1e-6)
        assert begin_with_words(model)
        assert begin_with_words(lstm)
        torch.testing.assert_close(model(IDS[:1]).logits, model(other).logits)
        assert not torch.allclose(model(IDS[:1]).logits, model(IDS[1:]).logits)
    assert not any(p.any() for name, p in lstm.encoder.named_parameters() if name.startswith("bias"))


def test_it_opens_again_as_it_was_saved(tmp_path):
    model = bert()
    add_mean(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(again(input_ids=IDS, attention_mask=MASK).logits, model(IDS, MASK).logits)


def test_other_models_stay_as_they_are():
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=4, hidden_dim=24, num_labels=3)
    for model in (AutoModelForSequenceClassification.from_config(config), bert(is_decoder=True)):
        began = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert not add_mean(model)
        assert not begin_with_mean(model)
        assert not begin_with_words(model)
        assert began.keys() == model.state_dict().keys()
        assert all(torch.equal(began[name], tensor) for name, tensor in model.state_dict().items())


MEAN, CLS = {"pooling_mode_mean_tokens": True}, {"pooling_mode_cls_token": True}


@pytest.mark.parametrize(
    ("said", "mean"),
    [
        (MEAN, True),
        ({"word_embedding_dimension": 384, "pooling_mode_cls_token": False} | MEAN, True),
        ({"pooling_mode": "mean"}, True),
        ({"pooling_mode": "cls"}, False),
        (MEAN | CLS, False),  # both, one behind the other: twice as wide
        (CLS, False),
        ([1], False),
        ("mean", False),
        ({"pooling_mode_mean_tokens": "true"}, False),
        (None, False),
    ],
)
def test_only_where_a_directory_says_so(tmp_path, said, mean):
    if said is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(said))
    assert pools_by_mean(tmp_path) is mean


def test_a_damaged_file_says_nothing(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_bytes(b"\xff{")
    assert not pools_by_mean(tmp_path)
