"""The text encoder in XNNPACK's layout, with the weights of the original; see ``export.xnnpack_layers``."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.text_encoder import EncoderLayer, TextEncoder
from export.xnnpack_layers import AffineNorm, Product, attend, constant, heads_first, linear_of


class TextLayer(nn.Module):
    """``EncoderLayer``, [T, D]; the factor of attention is folded into the queries."""

    def __init__(self, source: EncoderLayer) -> None:
        super().__init__()
        self.heads, self.head_width = source.heads, source.head_width
        factor = source.head_width**-0.5
        self.query = linear_of(source.query.weight * factor, source.query.bias * factor)
        self.key, self.value = copy.deepcopy(source.key), copy.deepcopy(source.value)
        self.attention_out = copy.deepcopy(source.attention_out)
        self.attention_norm, self.norm = AffineNorm(source.attention_norm), AffineNorm(source.norm)
        self.expand, self.project = copy.deepcopy(source.expand), copy.deepcopy(source.project)

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        query, key, value = (
            heads_first(layer(x), self.heads, self.head_width) for layer in (self.query, self.key, self.value)
        )
        x = self.attention_norm(x + self.attention_out(attend(query, key, value)))
        hidden: Tensor = self.norm(x + self.project(F.gelu(self.expand(x))))
        return hidden


class XnnpackTextEncoder(nn.Module):
    """``TextEncoderGraph`` in XNNPACK's layout, batch 1. The table keeps bf16 where that is exact: half the bytes."""

    def __init__(self, source: TextEncoder) -> None:
        super().__init__()
        width = source.config.width
        table = source.embedding.weight.detach()
        exact = torch.equal(table.bfloat16().float(), table)
        self.embedding = nn.Embedding.from_pretrained(table.bfloat16() if exact else table.clone())
        self.positions = constant(source.positions)
        self.embedding_norm = AffineNorm(source.embedding_norm)
        self.layers = nn.ModuleList(TextLayer(layer) for layer in source.layers)  # type: ignore[arg-type]
        self.sum = Product(torch.ones(width, 1))
        self.length, self.epsilon = constant(torch.tensor([width**0.5])), constant(torch.tensor([1e-6]))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """As ``TextEncoderGraph.forward``."""
        x = self.embedding(ids.view(-1)).float() + self.positions[: ids.shape[1]]
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x)
        mean = x.mean(dim=0, keepdim=True)
        pooled = self.length * mean * torch.rsqrt(self.sum(mean * mean) + self.epsilon)
        return x.view(1, -1, x.shape[1]), pooled
