"""Compact text encoder: SentencePiece ids -> token features and one sentence vector.

Post-norm transformer layers of BERT's shape (Devlin et al., 2018), so that layers of a public sentence encoder can be
the start of training (``edge_tta.train.teacher``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import TextEncoderConfig
from edge_tta.errors import ConfigError
from edge_tta.model.layers import attend


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each followed by LayerNorm; [B, T, D]."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.expand = nn.Linear(width, feedforward)
        self.project = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor | None, explicit: bool) -> Tensor:
        """Shape-preserving; ``bias`` [B, 1, 1, T] hides padding."""
        batch, length, _ = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, length, self.heads, self.head_width).transpose(1, 2)

        mixed = attend(split(self.query(x)), split(self.key(x)), split(self.value(x)), bias, explicit)
        x = self.attention_norm(x + self.attention_out(mixed))
        hidden: Tensor = self.norm(x + self.project(F.gelu(self.expand(x))))
        return hidden


class TextEncoder(nn.Module):
    """Token features and sentence vector of a tokenised prompt.

    Args:
        config: shape of the network.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ConfigError(f"text encoder: {config.heads} heads do not divide a width of {config.width}")
        self.config = config
        self.explicit_attention = False
        """Write attention out; used for export."""
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.randn(config.max_tokens, config.width) * 0.02)
        self.embedding_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.heads, config.feedforward) for _ in range(config.depth)
        )

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a batch of prompts.

        Args:
            ids: int64 [B, T], T at most ``max_tokens``.
            mask: bool [B, T], True where an id is real; None when nothing is padded.

        Returns:
            Token features float32 [B, T, width], LayerNorm-scaled (about unit variance), and the sentence vector
            float32 [B, width]: the mean of the real tokens' features scaled to length sqrt(width), so that its
            entries have about unit variance too.
        """
        x = self.embedding_norm(self.embedding(ids) + self.positions[: ids.shape[1]])
        bias = None
        if mask is not None:
            bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -1e4)[:, None, None]
        for layer in self.layers:
            x = layer(x, bias, self.explicit_attention)
        if mask is None:
            mean = x.mean(dim=1)
        else:
            weight = mask.to(x.dtype)[..., None]
            mean = (x * weight).sum(dim=1) / weight.sum(dim=1)
        scale = self.config.width**0.5
        return x, scale * mean * torch.rsqrt(mean.square().sum(dim=-1, keepdim=True) + 1e-6)
