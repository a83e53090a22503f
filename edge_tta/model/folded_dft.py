"""The codec's STFT and its inverse as small dense products: a window of half-overlapping frames, folded twice.

A cosine is even and a sine odd about the start and the middle of a window, so a quarter as many products would do
if both were also even or odd about the middle of that half; bins of even number are, in one sense, and bins of odd
number in the other. So cosines and sines of even and of odd bins each make a quarter of a window, and sums and
differences of these four are the window: a quarter of the arithmetic, exactly (docs/decisions/0015).

Bins of even and odd number stay apart, and so do the halves of a block whose samples run forward and backward: nothing
is reversed until samples are wanted, which XNNPACK cannot do at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.stft import StftGeometry

BEFORE, AFTER = (0, 0, 1, 0), (0, 0, 0, 1)
"""One more row before or after the others, for ``torch.nn.functional.pad``."""


class ByParity(NamedTuple):
    """What belongs to bins of even number and what belongs to those of odd number, K' bins each."""

    even: Tensor
    """float32 [..., frames, K // 2 + 1]."""
    odd: Tensor
    """float32 [..., frames, K // 2]."""

    def scaled(self, factors: Iterable[Tensor]) -> ByParity:
        """Both times factors of the same shapes."""
        even, odd = (part * factor for part, factor in zip(self, factors, strict=True))
        return ByParity(even, odd)


class Blocks(NamedTuple):
    """A signal in blocks of one hop, each as two halves that meet in its middle; Q = n_fft / 4.

    The sample in the middle is in both, and the last of ``backward`` belongs to the next block.
    """

    forward: Tensor
    """float32 [..., blocks, Q + 1]: samples 0 to Q of every block."""
    backward: Tensor
    """float32 [..., blocks, Q + 1]: samples hop, hop - 1, to Q."""


class DftMatrices(nn.Module):
    """The matrices of the even or the odd bins.

    Args:
        geometry: the STFT, its hop half a window.
        first: 0 for the even bins, 1 for the odd.
    """

    synthesis_cosine: Tensor
    synthesis_sine: Tensor
    analysis_cosine: Tensor
    analysis_sine: Tensor

    def __init__(self, geometry: StftGeometry, first: int) -> None:
        super().__init__()
        size, quarter = geometry.n_fft, geometry.n_fft // 4
        number = torch.arange(first, geometry.bins, 2, dtype=torch.float64)[:, None]
        turns = torch.remainder(number * torch.arange(quarter + 1), size) / size
        cosine, sine = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
        scale = geometry.scale * geometry.signs.double()[first::2, None]
        # All bins but the first and the last stand for two of a whole DFT.
        mirrored = torch.where((number == 0) | (number == size // 2), 1.0, 2.0) / (size * scale.square())
        # Folding counts the samples twice that lie on a fold.
        once = torch.ones(quarter + 1, dtype=torch.float64)
        once[0], once[-1] = 0.5, 0.5
        for name, matrix in {
            "synthesis_cosine": cosine * scale * mirrored,
            "synthesis_sine": -sine * scale * mirrored,
            "analysis_cosine": (cosine * scale * once).T,
            "analysis_sine": (-sine * scale * once).T,
        }.items():
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)


class FoldedDft(nn.Module):
    """Analysis and synthesis of frames that overlap by half.

    Args:
        geometry: the STFT.
    """

    near: Tensor
    far: Tensor
    synthesis_near: Tensor
    synthesis_far: Tensor

    def __init__(self, geometry: StftGeometry) -> None:
        super().__init__()
        self.even, self.odd = DftMatrices(geometry, 0), DftMatrices(geometry, 1)
        half, quarter = geometry.n_fft // 2, geometry.n_fft // 4
        for name, window in (("", geometry.window), ("synthesis_", geometry.synthesis_window)):
            # A window is the same from both ends: what lies by its edges, and what lies by its middle.
            near, far = window[: quarter + 1], window[quarter : half + 1].flip(0)
            self.register_buffer(f"{name}near", near.float(), persistent=False)
            self.register_buffer(f"{name}far", far.float(), persistent=False)

    def synthesise(self, real: ByParity, imaginary: ByParity) -> Blocks:
        """Windowed and overlap-added blocks, one more than frames, of a spectrum [..., frames, K']."""
        even, odd = self.even, self.odd
        cosine_even = torch.matmul(real.even, even.synthesis_cosine)
        cosine_odd = torch.matmul(real.odd, odd.synthesis_cosine)
        sine_even = torch.matmul(imaginary.even, even.synthesis_sine)
        sine_odd = torch.matmul(imaginary.odd, odd.synthesis_sine)
        outer, outer_sine = cosine_even + cosine_odd, sine_even + sine_odd
        inner, inner_sine = cosine_even - cosine_odd, sine_even - sine_odd
        near, far = self.synthesis_near, self.synthesis_far
        # A block is the second half of one frame and the first half of the next.
        return Blocks(
            F.pad((inner + inner_sine) * far, BEFORE) + F.pad((outer + outer_sine) * near, AFTER),
            F.pad((outer - outer_sine) * near, BEFORE) + F.pad((inner - inner_sine) * far, AFTER),
        )

    def analyse(self, blocks: Blocks) -> tuple[ByParity, ByParity]:
        """Real and imaginary parts of all frames that a signal has a part in.

        Args:
            blocks: float32 [..., blocks, Q + 1] each.

        Returns:
            [..., blocks + 1, K'] each: a frame is two blocks, the first frame one of silence and the first of the
            signal, the last frame the last of the signal and one of silence. Nothing has to be cut, which costs a copy.
        """
        outer, outer_end = (
            F.pad(blocks.forward * self.near, BEFORE),
            F.pad(blocks.backward * self.near, AFTER),
        )
        inner, inner_end = F.pad(blocks.backward * self.far, BEFORE), F.pad(blocks.forward * self.far, AFTER)
        even_outer, even_inner = outer + outer_end, inner + inner_end
        odd_outer, odd_inner = outer - outer_end, inner - inner_end
        even, odd = self.even, self.odd
        real = ByParity(
            torch.matmul(even_outer + even_inner, even.analysis_cosine),
            torch.matmul(even_outer - even_inner, odd.analysis_cosine),
        )
        imaginary = ByParity(
            torch.matmul(odd_outer - odd_inner, even.analysis_sine),
            torch.matmul(odd_outer + odd_inner, odd.analysis_sine),
        )
        return real, imaginary


def samples_of(blocks: Blocks) -> Tensor:
    """Samples float32 [..., blocks * hop] of blocks."""
    backward = blocks.backward[..., 1:].flip(-1)
    return torch.cat([blocks.forward[..., :-1], backward], dim=-1).flatten(-2)


def blocks_of(samples: Tensor, hop: int) -> Blocks:
    """Blocks of samples float32 [..., blocks * hop]; after the last of them comes silence."""
    blocks = samples.unflatten(-1, (-1, hop))
    following = F.pad(blocks[..., 1:, :1], AFTER)
    backward = torch.cat([blocks[..., hop // 2 :], following], dim=-1).flip(-1)
    return Blocks(blocks[..., : hop // 2 + 1], backward)
