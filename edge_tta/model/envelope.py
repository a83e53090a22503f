"""Shaping a sound in time: gains much shorter than the decoder's windows, which move what rises to where it rises.

A window of the inverse STFT spreads an onset over its whole length, so noise is heard before a clap. Coders of music
have met this since gain control was put before their transforms (Link, "An attack processing of audio signals for
optimizing the temporal characteristics of a low bit-rate audio coding system", 1993). Here the gains are not sent: the
decoder predicts them from what it knows of neighbouring frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_tta.config import AudioSpec, CodecConfig
from edge_tta.model.layers import ConvNeXtBlock

WIDTH = 48
"""Most of the head that predicts gains. Twice as much predicts no better; so few weights are left float by every
recipe."""


class Envelope(nn.Module):
    """Gains of every hop from the decoder's hidden frames, and their effect on a sound.

    The last layer starts at zero, which is a gain of one: a decoder that gets an envelope sounds as it did.

    Args:
        config: ``envelope_steps`` is at least 1 and divides ``stft_hop``.
        audio: how many channels there are.
    """

    to_samples: Tensor

    def __init__(self, config: CodecConfig, audio: AudioSpec) -> None:
        super().__init__()
        self.channels, self.steps = audio.channels, config.envelope_steps
        width = min(WIDTH, config.frame_width)
        self.frame_in = nn.Linear(config.frame_width, width)
        self.block = ConvNeXtBlock(width, config.expansion, config.kernel)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, audio.channels * config.envelope_steps)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("to_samples", interpolation(self.steps, config.stft_hop), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Natural logarithms of gains [B, S, frames, steps] from the decoder's frames [B, frames, width]."""
        log_gain = self.out(self.norm(self.block(self.frame_in(hidden))))
        batch, frames, _ = hidden.shape
        return log_gain.reshape(batch, frames, self.channels, self.steps).transpose(1, 2)

    def shaped(self, waveform: Tensor, log_gain: Tensor) -> Tensor:
        """A sound times its gains, which are lines from the middle of one step to that of the next.

        Args:
            waveform: float32 [B, S, frames * hop].
            log_gain: float32 [B, S, frames, steps].

        Returns:
            Waveform as given.
        """
        gain = torch.exp(log_gain)
        before = torch.cat([gain[:, :, :1, :1], gain[:, :, :-1, -1:]], dim=2)
        after = torch.cat([gain[:, :, 1:, :1], gain[:, :, -1:, -1:]], dim=2)
        samples = torch.matmul(torch.cat([before, gain, after], dim=-1), self.to_samples)
        return waveform * samples.reshape(waveform.shape)


def interpolation(steps: int, hop: int) -> Tensor:
    """Samples of a hop from its steps' values and from one neighbour on either side, float32 [steps + 2, hop].

    Values lie in the middle of their steps; between two of them a sample takes a share of each.
    """
    place = (torch.arange(hop, dtype=torch.float64) + 0.5) * steps / hop + 0.5
    distance = (place[None] - torch.arange(steps + 2, dtype=torch.float64)[:, None]).abs()
    return (1.0 - distance).clamp(min=0.0).float()
