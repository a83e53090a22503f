"""The short-time Fourier transform of the codec, frames that overlap by half, and bands of its bins."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_tta.config import AudioSpec, CodecConfig


class StftGeometry:
    """Constants of one STFT: periodic Hann window, frames centred on their hop, phases taken at the frame centre."""

    def __init__(self, config: CodecConfig, audio: AudioSpec) -> None:
        if audio.hop % (config.stack * config.n_fft):
            raise ValueError("n_fft must divide the codec's latent hop")
        self.n_fft, self.hop = config.n_fft, config.stft_hop
        self.bins = config.n_fft // 2 + 1
        self.frames_per_latent = audio.hop // config.stack // config.stft_hop
        self.pad = (config.n_fft - config.stft_hop) // 2
        self.window = torch.hann_window(config.n_fft, periodic=True, dtype=torch.float64)
        self.scale = 2.0 / float(self.window.sum())
        overlap = self.window**2 + torch.roll(self.window**2, self.hop)
        self.synthesis_window = self.window / overlap
        # A phase at the centre of a frame is that at its start with every other sign turned.
        self.signs = torch.tensor([1.0, -1.0]).repeat(self.bins)[: self.bins]
        bins = torch.arange(self.bins, dtype=torch.float64)
        self.centre_turns = torch.remainder(bins * self.hop, self.n_fft) / self.n_fft

    def analyse(self, waveform: Tensor) -> Tensor:
        """Complex STFT [..., frames, K] of float32 [..., N] with N a multiple of the hop; phase at frame centres."""
        padded = F.pad(waveform, (self.pad, self.pad))
        frames = padded.unfold(-1, self.n_fft, self.hop)
        spectrum = torch.fft.rfft(frames * self.window.to(waveform))
        return spectrum * (self.scale * self.signs.to(waveform))

    def phase_advance(self, stft: Tensor, tonal_bins: int) -> Tensor:
        """Unit phasors of the phase advance since the previous frame, against each bin's centre frequency.

        Args:
            stft: complex [B, S, frames, K] with phases at frame centres.
            tonal_bins: how many of the lowest bins to return.

        Returns:
            complex [B, S, frames, tonal_bins]; zero in the first frame, which has no predecessor.
        """
        low = stft[..., :tonal_bins]
        unit = low / (low.abs() + 1e-9)
        turns = self.centre_turns[:tonal_bins].to(stft.device)
        centre = torch.polar(torch.ones_like(turns), -2 * math.pi * turns).to(stft.dtype)
        return F.pad(unit[:, :, 1:] * unit[:, :, :-1].conj() * centre, (0, 0, 1, 0))


def band_matrix(bins: int, bands: int, bin_hz: float) -> Tensor:
    """Which band each STFT bin belongs to, as a 0/1 matrix float32 [bands, bins]; bands are equal in mel.

    Low bands narrower than a bin are merged with their neighbours by construction: every bin has exactly one band.
    """
    hertz = np.arange(bins) * bin_hz
    mel = 2595.0 * np.log10(1.0 + hertz / 700.0)
    index = np.minimum((mel / mel[-1] * bands).astype(int), bands - 1)
    return torch.from_numpy(np.eye(bands, dtype=np.float32)[index].T.copy())
