"""The generator: a Flux-style latent transformer that predicts average velocities.

Joint text+audio blocks (MMDiT, Esser et al., 2024), then audio-only blocks (DiT, Peebles & Xie, 2023), as in MeanAudio
(arXiv 2508.06098, section 3). Convention: t = 0 is data, t = 1 noise, z_t = (1 - t) x + t eps; the output is the
average velocity u(z_t, r, t) over the interval of length ``duration`` = t - r, so that x = eps - u(eps, 0, 1) in one
step and ``duration`` = 0 is plain flow matching.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import GeneratorConfig
from edge_tta.model.layers import (
    Dropout,
    GatedConvMLP,
    Modulation,
    QueryKeyValue,
    ScalarEmbedding,
    TimeConv,
    attend,
    modulate,
)

SECONDS_SCALE = 12.0
"""Durations are embedded as a share of this many seconds."""

GUIDANCE_SCALE = 8.0
"""Guidance scales are embedded as (scale - 1) over this."""


class TextStem(nn.Module):
    """Text features to the width of the streams: Linear and a gated MLP, [B, T, text_width] -> [B, T, width]."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(text_width, width)
        self.mlp = GatedConvMLP(width, 2 * width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Projected features."""
        hidden: Tensor = self.linear(features)
        return hidden + self.mlp(hidden)


class JointBlock(nn.Module):
    """Audio and text streams attend to each other; in the last joint block text only lends its keys and values."""

    def __init__(self, config: GeneratorConfig, last: bool) -> None:
        super().__init__()
        width, shared = config.width, config.shared_modulation
        self.last = last
        self.audio_modulation = Modulation(width, 6, shared)
        self.audio_attention = QueryKeyValue(width, config.heads)
        self.audio_out = nn.Linear(width, width)
        self.audio_mlp = GatedConvMLP(width, config.feedforward, config.kernel)
        self.text_modulation = Modulation(width, 2 if last else 6, shared)
        self.text_attention = QueryKeyValue(width, config.heads)
        self.text_out = None if last else nn.Linear(width, width)
        self.text_mlp = None if last else GatedConvMLP(width, config.feedforward, 1)
        self.dropout = Dropout()

    def forward(
        self,
        audio: Tensor,
        text: Tensor,
        condition: Tensor,
        shared: Tensor | None,
        bias: Tensor | None,
        explicit: bool,
    ) -> tuple[Tensor, Tensor]:
        """New audio [B, L, D] and text [B, T, D]; ``bias`` [B, 1, 1, T + L] hides padding text."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.audio_modulation(condition, shared)
        text_parts = self.text_modulation(condition, shared)
        query, key, value = self.audio_attention(modulate(audio, shift, scale))
        text_query, text_key, text_value = self.text_attention(modulate(text, text_parts[0], text_parts[1]))
        key, value = torch.cat([text_key, key], dim=2), torch.cat([text_value, value], dim=2)
        audio = audio + gate * self.dropout(self.audio_out(attend(query, key, value, bias, explicit)))
        audio = audio + mlp_gate * self.dropout(self.audio_mlp(modulate(audio, mlp_shift, mlp_scale)))
        if self.text_out is not None and self.text_mlp is not None:
            text = text + text_parts[2] * self.dropout(
                self.text_out(attend(text_query, key, value, bias, explicit))
            )
            text = text + text_parts[5] * self.dropout(
                self.text_mlp(modulate(text, text_parts[3], text_parts[4]))
            )
        return audio, text


class AudioBlock(nn.Module):
    """Audio stream alone: attention, then gated ConvMLP, both modulated by the condition."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.modulation = Modulation(config.width, 6, config.shared_modulation)
        self.attention = QueryKeyValue(config.width, config.heads)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = GatedConvMLP(config.width, config.feedforward, config.kernel)
        self.dropout = Dropout()

    def forward(self, audio: Tensor, condition: Tensor, shared: Tensor | None, explicit: bool) -> Tensor:
        """New audio [B, L, D]."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition, shared)
        query, key, value = self.attention(modulate(audio, shift, scale))
        audio = audio + gate * self.dropout(self.out(attend(query, key, value, None, explicit)))
        return audio + mlp_gate * self.dropout(self.mlp(modulate(audio, mlp_shift, mlp_scale)))


class Generator(nn.Module):
    """Average velocity of a noisy latent under a text condition."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        if config.joint_blocks < 1:
            raise ValueError("joint_blocks must be at least 1: text enters through the joint blocks")
        self.config = config
        width, features = config.width, config.time_features
        self.explicit_attention = False
        """Write attention out; needed under forward-mode differentiation and for export."""
        self.audio_in = TimeConv(config.latent_channels, width, config.stem_kernel)
        self.text_in = TextStem(config.text_width, width)
        self.pooled_in = nn.Sequential(
            nn.Linear(config.text_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.time_in = ScalarEmbedding(width, features)
        self.duration_in = ScalarEmbedding(width, features, silent_start=True)
        self.seconds_in = ScalarEmbedding(width, features)
        self.guidance_in = ScalarEmbedding(width, features, silent_start=True)
        self.null_tokens = nn.Parameter(torch.zeros(1, 1, config.text_width))
        self.null_pooled = nn.Parameter(torch.zeros(1, config.text_width))
        self.shared_modulation = nn.Linear(width, 6 * width) if config.shared_modulation else None
        if self.shared_modulation is not None:
            nn.init.zeros_(self.shared_modulation.weight)
            nn.init.zeros_(self.shared_modulation.bias)
        self.joint_blocks = nn.ModuleList(
            JointBlock(config, last=index == config.joint_blocks - 1) for index in range(config.joint_blocks)
        )
        self.audio_blocks = nn.ModuleList(AudioBlock(config) for _ in range(config.audio_blocks))
        self.out_modulation = Modulation(width, 2, shared=False)
        self.audio_out = TimeConv(width, config.latent_channels, config.stem_kernel)
        nn.init.zeros_(self.audio_out.linear.weight)
        nn.init.zeros_(self.audio_out.linear.bias)

    def forward(
        self,
        latent: Tensor,
        time: Tensor,
        duration: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        guidance: Tensor,
        text_mask: Tensor | None = None,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Predict the average velocity.

        Args:
            latent: float32 [B, L, C], noisy standardised latent z_t.
            time: float32 [B], t in 0..1.
            duration: float32 [B], t - r in 0..t.
            tokens: float32 [B, T, text_width], text features.
            pooled: float32 [B, text_width], sentence vector.
            seconds: float32 [B], requested duration in seconds.
            guidance: float32 [B], guidance scale; 1 means none.
            text_mask: bool [B, T], True where a token is real; None when nothing is padded.
            drop: bool [B], True where the condition is replaced by the learned null condition; None for nowhere.

        Returns:
            float32 [B, L, C].
        """
        if drop is not None:
            tokens, pooled, text_mask = self._drop_text(tokens, pooled, text_mask, drop)
        condition = self.time_in(time) + self.duration_in(duration)
        condition = condition + self.seconds_in(seconds / SECONDS_SCALE)
        condition = condition + self.guidance_in((guidance - 1.0) / GUIDANCE_SCALE)
        condition = F.silu(condition + self.pooled_in(pooled))
        shared = None if self.shared_modulation is None else self.shared_modulation(condition)
        bias = None
        if text_mask is not None:
            hidden_text = torch.zeros_like(text_mask, dtype=latent.dtype).masked_fill(~text_mask, -1e4)
            bias = F.pad(hidden_text, (0, latent.shape[1]))[:, None, None]
        audio, text = self.audio_in(latent), self.text_in(tokens)
        for block in self.joint_blocks:
            audio, text = block(audio, text, condition, shared, bias, self.explicit_attention)
        for block in self.audio_blocks:
            audio = block(audio, condition, shared, self.explicit_attention)
        shift, scale = self.out_modulation(condition, None)
        velocity: Tensor = self.audio_out(modulate(audio, shift, scale))
        return velocity

    def _drop_text(
        self, tokens: Tensor, pooled: Tensor, text_mask: Tensor | None, drop: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Replace dropped rows by the null condition, which is one token long."""
        if text_mask is None:
            text_mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        first = torch.arange(tokens.shape[1], device=tokens.device)[None] == 0
        tokens = torch.where(drop[:, None, None], self.null_tokens, tokens)
        pooled = torch.where(drop[:, None], self.null_pooled, pooled)
        return tokens, pooled, torch.where(drop[:, None], first, text_mask)
