"""The generator in XNNPACK's layout, with the weights of the original; see ``export.xnnpack_layers``."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_tta.model.generator import (
    GUIDANCE_SCALE,
    SECONDS_SCALE,
    AudioBlock,
    Generator,
    JointBlock,
    TextStem,
)
from edge_tta.model.layers import Modulation
from export.xnnpack_layers import (
    Convolution,
    Embedding,
    GatedMLP,
    Normalise,
    Rotary,
    SplitQueryKeyValue,
    attend,
    constant,
    silu,
)

Rows = tuple[Tensor, Tensor]


class Modulated(nn.Module):
    """``Modulation`` and, for chosen parts, the one that adaLN adds to a scale: [1, D] -> parts times [1, D].

    Args:
        source: the layer it replaces.
        scales: which parts are scales.
    """

    def __init__(self, source: Modulation, scales: Sequence[int]) -> None:
        super().__init__()
        self.parts = source.parts
        self.linear = copy.deepcopy(source.linear)
        bias = source.offset if source.linear is None else source.linear.bias
        assert bias is not None
        shifted = bias.detach().clone()
        for part in scales:
            shifted.chunk(self.parts)[part].add_(1.0)
        self.offset = None if source.offset is None else constant(shifted[None])
        if self.linear is not None:
            with torch.no_grad():
                self.linear.bias.copy_(shifted)

    def forward(self, condition: Tensor, shared: Tensor | None) -> tuple[Tensor, ...]:
        """Shifts, scales (one added) and gates."""
        if self.linear is not None:
            flat = self.linear(condition)
        else:
            assert shared is not None and self.offset is not None
            flat = shared[:, : self.offset.shape[1]] + self.offset
        width = flat.shape[1] // self.parts
        return tuple(flat[:, part * width : (part + 1) * width] for part in range(self.parts))


class AudioLayer(nn.Module):
    """``AudioBlock``, [L, D]."""

    def __init__(self, source: AudioBlock, width: int) -> None:
        super().__init__()
        self.modulation = Modulated(source.modulation, (1, 4))
        self.attention = SplitQueryKeyValue(source.attention)
        self.out = copy.deepcopy(source.out)
        self.mlp = GatedMLP(source.mlp)
        self.norm = Normalise(width, 1e-6)

    def forward(self, audio: Tensor, condition: Tensor, shared: Tensor | None, rows: Rows) -> Tensor:
        """New audio."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition, shared)
        query, key, value = self.attention(self.norm(audio) * scale + shift, rows)
        audio = audio + gate * self.out(attend(query, key, value))
        changed: Tensor = audio + mlp_gate * self.mlp(self.norm(audio) * mlp_scale + mlp_shift)
        return changed


class JointLayer(nn.Module):
    """``JointBlock``: audio [L, D] and text [T, D] attend to both."""

    def __init__(self, source: JointBlock, width: int) -> None:
        super().__init__()
        self.audio_modulation = Modulated(source.audio_modulation, (1, 4))
        self.audio_attention = SplitQueryKeyValue(source.audio_attention)
        self.audio_out = copy.deepcopy(source.audio_out)
        self.audio_mlp = GatedMLP(source.audio_mlp)
        self.text_modulation = Modulated(source.text_modulation, (1,) if source.last else (1, 4))
        self.text_attention = SplitQueryKeyValue(source.text_attention)
        self.text_out = copy.deepcopy(source.text_out)
        self.text_mlp = None if source.text_mlp is None else GatedMLP(source.text_mlp)
        self.norm = Normalise(width, 1e-6)

    def forward(
        self,
        audio: Tensor,
        text: Tensor,
        condition: Tensor,
        shared: Tensor | None,
        audio_rows: Rows,
        text_rows: Rows,
    ) -> tuple[Tensor, Tensor]:
        """New audio and text."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.audio_modulation(condition, shared)
        text_parts = self.text_modulation(condition, shared)
        query, key, value = self.audio_attention(self.norm(audio) * scale + shift, audio_rows)
        text_query, text_key, text_value = self.text_attention(
            self.norm(text) * text_parts[1] + text_parts[0], text_rows
        )
        key, value = torch.cat([text_key, key], dim=1), torch.cat([text_value, value], dim=1)
        audio = audio + gate * self.audio_out(attend(query, key, value))
        audio = audio + mlp_gate * self.audio_mlp(self.norm(audio) * mlp_scale + mlp_shift)
        if self.text_out is not None and self.text_mlp is not None:
            text = text + text_parts[2] * self.text_out(attend(text_query, key, value))
            text = text + text_parts[5] * self.text_mlp(self.norm(text) * text_parts[4] + text_parts[3])
        return audio, text


class Stem(nn.Module):
    """``TextStem``, [T, text_width] -> [T, D]."""

    def __init__(self, source: TextStem) -> None:
        super().__init__()
        self.linear = copy.deepcopy(source.linear)
        self.mlp = GatedMLP(source.mlp)

    def forward(self, features: Tensor) -> Tensor:
        """Projected features."""
        hidden: Tensor = self.linear(features)
        return hidden + self.mlp(hidden)


class GeneratorLayout(nn.Module):
    """``Generator`` in XNNPACK's layout, batch 1, without masks, with what time and duration add as an input.

    Args:
        source: the generator.
        longest_latent: most latent frames.
        longest_text: most tokens.
    """

    def __init__(self, source: Generator, longest_latent: int, longest_text: int) -> None:
        super().__init__()
        width, head_width = source.config.width, source.config.width // source.config.heads
        self.audio_in, self.audio_out = Convolution(source.audio_in), Convolution(source.audio_out)
        self.text_in = Stem(source.text_in)
        self.pooled_hidden, _, self.pooled_out = copy.deepcopy(source.pooled_in)
        self.seconds_in = Embedding(source.seconds_in, SECONDS_SCALE)
        self.guidance_in = Embedding(source.guidance_in, GUIDANCE_SCALE, offset=1.0)
        self.shared_modulation = copy.deepcopy(source.shared_modulation)
        self.joint_blocks = nn.ModuleList(JointLayer(block, width) for block in source.joint_blocks)  # type: ignore[arg-type]
        self.audio_blocks = nn.ModuleList(AudioLayer(block, width) for block in source.audio_blocks)  # type: ignore[arg-type]
        self.out_modulation = Modulated(source.out_modulation, (1,))
        self.norm = Normalise(width, 1e-6)
        self.audio_rotary = Rotary(longest_latent, head_width)
        self.text_rotary = Rotary(longest_text, head_width)

    def step(
        self,
        latent: Tensor,
        interval: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """Velocity [1, L, C] of a latent [1, L, C] with ``interval`` known."""
        condition = interval + self.seconds_in(seconds) + self.guidance_in(guidance)
        condition = silu(condition + self.pooled_out(silu(self.pooled_hidden(pooled))))
        shared = None if self.shared_modulation is None else self.shared_modulation(condition)
        latent, tokens = latent.view(-1, latent.shape[2]), tokens.view(-1, tokens.shape[2])
        audio_rows, text_rows = self.audio_rotary(latent), self.text_rotary(tokens)
        audio, text = self.audio_in(latent), self.text_in(tokens)
        for block in self.joint_blocks:
            audio, text = block(audio, text, condition, shared, audio_rows, text_rows)
        for block in self.audio_blocks:
            audio = block(audio, condition, shared, audio_rows)
        shift, scale = self.out_modulation(condition, None)
        velocity: Tensor = self.audio_out(self.norm(audio) * scale + shift)
        return velocity.view(1, -1, latent.shape[1])


class XnnpackGenerator(GeneratorLayout):
    """``GeneratorGraph`` in XNNPACK's layout; arguments as for ``GeneratorLayout``."""

    def __init__(self, source: Generator, longest_latent: int, longest_text: int) -> None:
        super().__init__(source, longest_latent, longest_text)
        self.time_in, self.duration_in = Embedding(source.time_in), Embedding(source.duration_in)

    def forward(
        self,
        latent: Tensor,
        time: Tensor,
        duration: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """As ``GeneratorGraph.forward``."""
        interval = self.time_in(time) + self.duration_in(duration)
        return self.step(latent, interval, tokens, pooled, seconds, guidance)


class XnnpackSingleStep(GeneratorLayout):
    """``SingleStepGraph`` in XNNPACK's layout; arguments as for ``GeneratorLayout``."""

    def __init__(self, source: Generator, longest_latent: int, longest_text: int) -> None:
        super().__init__(source, longest_latent, longest_text)
        one = torch.ones(1)
        with torch.no_grad():
            self.interval = constant(source.time_in(one) + source.duration_in(one))

    def forward(
        self, latent: Tensor, tokens: Tensor, pooled: Tensor, seconds: Tensor, guidance: Tensor
    ) -> Tensor:
        """As ``SingleStepGraph.forward``."""
        return self.step(latent, self.interval, tokens, pooled, seconds, guidance)
