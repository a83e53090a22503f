"""Text encoders of the peers: the encoder of T5, and RoBERTa with CLAP's projection.

Facts: Raffel et al. 2020 (arXiv 1910.10683) for T5, Chung et al. 2022 (arXiv 2210.11416) for FLAN-T5, which has the
gated feed-forward layers of Shazeer 2020 (arXiv 2002.05202); Liu et al. 2019 (arXiv 1907.11692) for RoBERTa; Wu et al.
2023 (arXiv 2211.06687) for CLAP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.layers import RMSNorm

HIDDEN = -1e4
"""Added to the attention logits of padding."""


@dataclass(frozen=True)
class T5Config:
    """Shape of a T5 encoder."""

    vocab_size: int = 32128
    width: int = 768
    depth: int = 12
    heads: int = 12
    head_width: int = 64
    feedforward: int = 3072
    gated: bool = False
    """GELU times a linear map (FLAN-T5), or ReLU (T5)."""
    buckets: int = 32
    """Relative distances that attention tells apart; the far ones on a logarithmic scale."""
    farthest: int = 128


T5_BASE = T5Config()
FLAN_T5_LARGE = T5Config(width=1024, depth=24, heads=16, feedforward=2816, gated=True)


def distance_buckets(length: int, buckets: int, farthest: int) -> Tensor:
    """Bucket of the distance from every query to every key, int64 [length, length].

    Half of the buckets are for keys after the query. Of a half, one half holds a distance each; in the other the
    distances up to ``farthest`` are spaced logarithmically, and all beyond share the last.
    """
    position = torch.arange(length)
    distance = position[None, :] - position[:, None]
    half = buckets // 2
    exact = half // 2
    near = distance.abs().clamp(min=1).float()
    far = exact + (torch.log(near / exact) / math.log(farthest / exact) * (half - exact)).long()
    steps = torch.where(distance.abs() < exact, distance.abs(), far.clamp(max=half - 1))
    return steps + half * (distance > 0)


class _T5Layer(nn.Module):
    """Pre-norm attention without scaling, then a feed-forward layer; no biases anywhere."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.heads, inner = config.heads, config.heads * config.head_width
        self.attention_norm = RMSNorm(config.width)
        self.query, self.key, self.value = (nn.Linear(config.width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, config.width, bias=False)
        self.norm = RMSNorm(config.width)
        self.expand = nn.Linear(config.width, config.feedforward, bias=False)
        self.gate = nn.Linear(config.width, config.feedforward, bias=False) if config.gated else None
        self.project = nn.Linear(config.feedforward, config.width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """New hidden states [B, T, D]; ``bias`` [B, H, T, T]."""
        hidden = self.attention_norm(x)
        query, key, value = (
            part(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(-1, -2) + bias, dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).flatten(2))
        hidden = self.norm(x)
        expanded = self.expand(hidden)
        if self.gate is None:
            return x + self.project(F.relu(expanded))
        return x + self.project(F.gelu(self.gate(hidden), approximate="tanh") * expanded)


class T5Encoder(nn.Module):
    """ids int64 [B, T] and mask float32 [B, T] to token features float32 [B, T, width]."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.distances = nn.Embedding(config.buckets, config.heads)
        self.layers = nn.ModuleList(_T5Layer(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features of every token; padding, where the mask is 0, is not attended to."""
        buckets = distance_buckets(ids.shape[1], self.config.buckets, self.config.farthest).to(ids.device)
        bias = self.distances(buckets).permute(2, 0, 1)[None] + (1 - mask)[:, None, None] * HIDDEN
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, bias)
        features: Tensor = self.norm(x)
        return features


@dataclass(frozen=True)
class ClapTextConfig:
    """Shape of CLAP's text tower: RoBERTa-base and two Linears."""

    vocab_size: int = 50265
    positions: int = 514
    width: int = 768
    depth: int = 12
    heads: int = 12
    feedforward: int = 3072
    joint: int = 512
    """Width of the space that text and sound share."""


CLAP_TEXT = ClapTextConfig()


class _RobertaLayer(nn.Module):
    """Attention and feed-forward layer with biases, each followed by LayerNorm of the sum."""

    def __init__(self, config: ClapTextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value = (nn.Linear(config.width, config.width) for _ in range(3))
        self.out = nn.Linear(config.width, config.width)
        self.attention_norm = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, config.feedforward)
        self.project = nn.Linear(config.feedforward, config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """New hidden states [B, T, D]; ``bias`` [B, 1, 1, T]."""
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = self.attention_norm(x + self.out(mixed.transpose(1, 2).flatten(2)))
        normed: Tensor = self.norm(x + self.project(F.gelu(self.expand(x))))
        return normed


class ClapText(nn.Module):
    """ids int64 [B, T] and mask float32 [B, T] to a vector float32 [B, joint] of length 1."""

    def __init__(self, config: ClapTextConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.kinds = nn.Embedding(1, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.layers = nn.ModuleList(_RobertaLayer(config) for _ in range(config.depth))
        self.pool = nn.Linear(config.width, config.width)
        self.hidden = nn.Linear(config.width, config.joint)
        self.joint = nn.Linear(config.joint, config.joint)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The sentence's vector, from its first token."""
        # RoBERTa counts positions from 2.
        places = torch.arange(ids.shape[1], device=ids.device) + 2
        x = self.norm(self.words(ids) + self.positions(places) + self.kinds.weight[0])
        bias = (1 - mask)[:, None, None] * HIDDEN
        for layer in self.layers:
            x = layer(x, bias)
        pooled = torch.tanh(self.pool(x[:, 0]))
        return F.normalize(self.joint(F.relu(self.hidden(pooled))), dim=-1)
