"""Discriminators that judge the codec's reconstructions on complex spectrograms of several resolutions.

Multi-resolution STFT discriminator as in Encodec (Defossez et al., 2022, section 3.3) with the band split left out:
two-dimensional convolutions over (time, frequency) of the real and imaginary parts, least-squares adversarial loss
(Mao et al., 2017) and relative feature matching.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class Judgement(NamedTuple):
    """One resolution's verdict."""

    logits: Tensor
    """float32 [B, 1, frames, bins']: towards 1 for real, 0 for reconstructed."""
    features: tuple[Tensor, ...]
    """Activations of every hidden layer, for feature matching."""


class StftDiscriminator(nn.Module):
    """Convolutions over one complex spectrogram; frequency is strided down, time is dilated."""

    window: Tensor

    def __init__(self, n_fft: int, width: int = 16) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, n_fft // 4
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        layers: list[nn.Module] = [weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4)))]
        for dilation in (1, 2, 4):
            conv = nn.Conv2d(width, width, (3, 9), (1, 2), padding=(dilation, 4), dilation=(dilation, 1))
            layers.append(weight_norm(conv))
        layers.append(weight_norm(nn.Conv2d(width, width, (3, 3), padding=(1, 1))))
        self.layers = nn.ModuleList(layers)
        self.out = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform: Tensor) -> Judgement:
        """Judge float32 [B, S, N]; audio channels are judged one by one."""
        flat = waveform.reshape(-1, waveform.shape[-1])
        # Loudness must not decide: every item is brought to unit RMS before it is judged.
        flat = flat / (flat.square().mean(dim=-1, keepdim=True).sqrt() + 1e-4)
        stft = (
            torch.stft(flat, self.n_fft, self.hop, window=self.window, return_complex=True) / self.n_fft**0.5
        )
        hidden = torch.stack([stft.real, stft.imag], dim=1).transpose(2, 3)
        # Square-root compression keeps the phase and lets quiet harmonics weigh in.
        hidden = hidden / (hidden.norm(dim=1, keepdim=True) + 1e-4).sqrt()
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.1)
            features.append(hidden)
        return Judgement(self.out(hidden), tuple(features))


class MultiResolutionDiscriminator(nn.Module):
    """One ``StftDiscriminator`` per window length."""

    def __init__(self, n_ffts: tuple[int, ...] = (2048, 1024, 512), width: int = 16) -> None:
        super().__init__()
        self.judges = nn.ModuleList(StftDiscriminator(n_fft, width) for n_fft in n_ffts)

    def forward(self, waveform: Tensor) -> list[Judgement]:
        """Judgements of float32 [B, S, N], one per resolution."""
        return [judge(waveform) for judge in self.judges]


def discriminator_loss(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """Least-squares loss of the discriminator: real towards 1, fake towards 0; scalar."""
    terms = [
        (r.logits - 1).square().mean() + f.logits.square().mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_loss(fake: list[Judgement]) -> Tensor:
    """Least-squares loss of the codec: its reconstructions towards 1; scalar."""
    return torch.stack([(f.logits - 1).square().mean() for f in fake]).mean()


def feature_matching_loss(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """Mean absolute difference of activations over the mean absolute real activation, per layer; scalar."""
    terms = []
    for r, f in zip(real, fake, strict=True):
        for a, b in zip(r.features, f.features, strict=True):
            terms.append((a.detach() - b).abs().mean() / (a.detach().abs().mean() + 1e-6))
    return torch.stack(terms).mean()
