"""The short-time Fourier transform of the codec: analysis, its inverse as one matrix, and bands of bins."""

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
        if audio.hop % (config.stack * config.n_fft) or config.n_fft % config.stft_hop or config.n_fft % 2:
            raise ValueError(
                "stft_hop must divide n_fft, n_fft the codec's latent hop, and n_fft must be even"
            )
        self.n_fft, self.hop = config.n_fft, config.stft_hop
        self.bins = config.n_fft // 2 + 1
        self.frames_per_latent = audio.hop // config.stack // config.stft_hop
        self.pad = (config.n_fft - config.stft_hop) // 2
        self.window = torch.hann_window(config.n_fft, periodic=True, dtype=torch.float64)
        self.scale = 2.0 / float(self.window.sum())
        shifted = [torch.roll(self.window**2, shift * self.hop) for shift in range(self.n_fft // self.hop)]
        self.overlap = torch.stack(shifted).sum(0)
        self.synthesis_window = self.window / self.overlap
        self.parity = torch.tensor([1.0, -1.0]).repeat(self.bins)[: self.bins]
        bins = torch.arange(self.bins, dtype=torch.float64)
        self.centre_turns = torch.remainder(bins * self.hop, self.n_fft) / self.n_fft

    def analyse(self, waveform: Tensor) -> Tensor:
        """Complex STFT [..., frames, K] of float32 [..., N] with N a multiple of the hop; phase at frame centres."""
        padded = F.pad(waveform, (self.pad, self.pad))
        frames = padded.unfold(-1, self.n_fft, self.hop)
        spectrum = torch.fft.rfft(frames * self.window.to(waveform))
        return spectrum * (self.scale * self.parity.to(waveform))

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

    def inverse_matrix(self) -> Tensor:
        """Dense windowed inverse DFT, float32 [2 K, n_fft]: rows are real parts, then imaginary parts."""
        k = torch.arange(self.bins, dtype=torch.float64)[:, None]
        n = torch.arange(self.n_fft, dtype=torch.float64)[None, :]
        angle = 2 * math.pi * torch.remainder(k * n, self.n_fft) / self.n_fft
        weight = torch.full((self.bins, 1), 2.0, dtype=torch.float64)
        weight[0], weight[-1] = 1.0, 1.0
        weight = weight * self.parity.double()[:, None] / (self.n_fft * self.scale)
        rows = torch.cat([weight * torch.cos(angle), -weight * torch.sin(angle)])
        return (rows * self.synthesis_window).float()

    def analysis_matrix(self) -> Tensor:
        """Windowed DFT of windows weighted as ``inverse_matrix`` leaves them, float32 [n_fft, 2 K].

        Analysis is the adjoint of synthesis: the transposed inverse, weighted by the overlap of the synthesis windows.
        """
        halves = torch.full((self.bins,), 0.5, dtype=torch.float64)
        halves[0], halves[-1] = 1.0, 1.0
        gain = (halves * self.n_fft * self.scale**2).repeat(2)
        return (self.inverse_matrix().T.double() * self.overlap[:, None] * gain).float()

    def folded_synthesis(self) -> tuple[Tensor, Tensor]:
        """What makes the even half of a window of real parts, and the odd one of imaginary parts.

        A cosine is even and a sine odd about the window's start and middle, so n_fft / 2 + 1 samples of each say all.

        Returns:
            float32 [K, n_fft / 2 + 1] each.
        """
        even, odd = self.inverse_matrix()[:, : self.n_fft // 2 + 1].chunk(2)
        return even.contiguous(), odd.contiguous()

    def folded_analysis(self) -> tuple[Tensor, Tensor]:
        """What makes real parts of the even half of a window, and imaginary parts of the odd one (``fold``).

        Returns:
            float32 [n_fft / 2 + 1, K] each.
        """
        even, odd = self.analysis_matrix()[: self.n_fft // 2 + 1].chunk(2, dim=1)
        return even.contiguous(), odd.contiguous()

    def fold(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd halves of the windows of a signal, float32 [B, F, n_fft / 2 + 1] each.

        Args:
            blocks: float32 [B, F + n_fft / hop - 1, hop], the signal in blocks of one hop.
        """
        ratio = self.n_fft // self.hop
        frames = blocks.shape[1] - ratio + 1
        pieces = [blocks[:, part : part + frames] for part in range(ratio)]
        first, second = pieces if ratio == 2 else torch.cat(pieces, dim=-1).chunk(2, dim=-1)
        forward, backward = F.pad(first, (0, 1)), F.pad(second.flip(-1), (1, 0))
        return forward + backward, forward - backward

    def overlap_add(self, even: Tensor, odd: Tensor) -> Tensor:
        """Unfold windows from their halves [B, F, n_fft / 2 + 1] and sum them into blocks of one hop.

        Returns:
            float32 [B, F + n_fft / hop - 1, hop].
        """
        ratio, half = self.n_fft // self.hop, self.n_fft // 2
        first, second = (even + odd)[..., :half], (even - odd)[..., 1:].flip(-1)
        pieces = (first, second) if ratio == 2 else torch.cat([first, second], dim=-1).chunk(ratio, dim=-1)
        total = F.pad(pieces[0], (0, 0, 0, ratio - 1))
        for part in range(1, ratio):
            total = total + F.pad(pieces[part], (0, 0, part, ratio - 1 - part))
        return total

    def crop(self, blocks: Tensor) -> Tensor:
        """Waveform float32 [B, F * hop] of overlap-added blocks: what lies before and after the sound is cut off."""
        return blocks.reshape(blocks.shape[0], -1)[:, self.pad : -self.pad]


def band_matrix(bins: int, bands: int, bin_hz: float) -> Tensor:
    """Which band each STFT bin belongs to, as a 0/1 matrix float32 [bands, bins]; bands are equal in mel.

    Low bands narrower than a bin are merged with their neighbours by construction: every bin has exactly one band.
    """
    hertz = np.arange(bins) * bin_hz
    mel = 2595.0 * np.log10(1.0 + hertz / 700.0)
    index = np.minimum((mel / mel[-1] * bands).astype(int), bands - 1)
    return torch.from_numpy(np.eye(bands, dtype=np.float32)[index].T.copy())
