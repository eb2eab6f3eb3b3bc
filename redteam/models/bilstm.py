"""A bidirectional LSTM classifier as a Hugging Face model, so that it saves, loads and trains like any other."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class BiLSTMConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is Any to mypy
    """Sizes of a `BiLSTMForSequenceClassification`."""

    model_type = "redteam_bilstm"

    vocab_size: int = 30522
    hidden_size: int = 128
    embedding_size: int = 128
    dropout: float = 0.1
    pad_token_id: int | None = 0


class BiLSTMForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """Embedding, one bidirectional LSTM layer, mean over the tokens that are not padding, linear classifier."""

    config_class = BiLSTMConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: BiLSTMConfig) -> None:
        """Build the layers from the config's sizes."""
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.encoder = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torch's own initialisation, which suits every layer here."""

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding table, which freezing and inversion ask for."""
        return self.embedding

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Classify tokens `input_ids` [batch, length] or their embeddings [batch, length, embedding_size]."""
        embedded = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        hidden, mask = self._encode(self.dropout(embedded), attention_mask)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

    def last_states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the LSTM's state at each token, [batch, length, 2 x hidden_size]."""
        return self._encode(self.embedding(input_ids), attention_mask)[0]

    def _encode(self, embedded: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the LSTM over real tokens only; return hidden states and a [batch, length, 1] mask."""
        batch, length = embedded.shape[:2]
        if attention_mask is None or bool(attention_mask.all()):
            return self.encoder(embedded)[0], embedded.new_ones(batch, length, 1)
        lengths = attention_mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=length)
        return hidden, attention_mask.unsqueeze(-1).to(embedded.dtype)
