"""Steps that a lossy coder leaves in the spectrum of training clips, taken out of a trained decoder's weights.

A coder stores how loud each of its bands is, and may code what lies below and above some frequency in two ways, so
neighbouring bands come out too loud or too quiet against each other. Opus has band edges at 8.0 and 15.6 kHz, and in
its hybrid mode 8 kHz is also where the coder for speech ends (RFC 6716, sections 2 and 4.3). A codec trained on such
clips learns the steps, and a generator exaggerates them (docs/decisions/0014).

    python -m edge_tta.train.coder_steps CHECKPOINT 8000 15600
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from edge_tta.errors import ConfigError, EdgeTTAError
from edge_tta.model.checkpoint import load_part, read_config, save_part
from edge_tta.model.codec import Codec, Decoder

BLUR_BINS = 2.0
"""Half of the width that a step has after a Hann window, bins."""
FIT = 0.1
"""Bins within this share of the edge tell how high the step is."""
REACH = 0.12
"""The step becomes a slope from this share of the edge below it to as much above it."""


def without_steps(n_fft: int, sample_rate: int, edges_hz: Sequence[float]) -> Tensor:
    """Projection of log-magnitudes [K] onto those without a step at any edge, float64 [K, K], K = n_fft / 2 + 1.

    Magnitudes about an edge are regressed on a constant, a slope, and a step that fades out to either side; what is
    found of the last is taken away. Magnitudes that only slope there stay as they are, and so does all further off.

    Args:
        n_fft: samples in a window of the codec's STFT.
        sample_rate: Hz.
        edges_hz: where the coder's bands meet, Hz.

    Raises:
        ConfigError: an edge too low, too high, or too near to another.
    """
    bins, bin_hz = n_fft // 2 + 1, sample_rate / n_fft
    projection = torch.eye(bins, dtype=torch.float64)
    hertz = torch.arange(bins, dtype=torch.float64) * bin_hz
    free_from = 0.0
    for edge in sorted(edges_hz):
        low, high = (1 - REACH) * edge, (1 + REACH) * edge
        if FIT * edge < 4 * BLUR_BINS * bin_hz or high > hertz[-1]:
            raise ConfigError(
                f"coder edge {edge:g} Hz is too low or too high for this codec: steps there cannot be told; leave it "
                "out (coder_edges_hz in a recipe)"
            )
        if low < free_from:
            raise ConfigError(f"coder edge {edge:g} Hz is too near to the one below it")
        free_from = high
        distance = hertz - edge
        across = (distance / (BLUR_BINS * bin_hz)).clamp(-1.0, 1.0)
        fading = 0.5 * torch.sin(0.5 * torch.pi * across) - 0.5 * (distance / (REACH * edge)).clamp(-1.0, 1.0)
        near = distance.abs() <= FIT * edge
        terms = torch.stack([torch.ones_like(hertz), distance / edge, fading], dim=1)
        height = torch.zeros_like(hertz)
        height[near] = torch.linalg.pinv(terms[near])[2]
        projection = projection - torch.outer(fading, height)
    return projection


@torch.no_grad()
def remove_steps(decoder: Decoder, projection: Tensor) -> None:
    """Change a decoder's weights so that the log-magnitudes it predicts come out projected.

    They are linear in the last layer's input and in the latent, so this is exact, costs a device nothing, and changes
    nothing the second time. Phases and gains in time stay.

    Args:
        decoder: changed in place.
        projection: float64 [K, K], from ``without_steps``.
    """
    bins, std = len(projection), decoder.bin_std.double()
    standardised = projection * std / std[:, None]
    for weight in (decoder.magnitude.weight, decoder.magnitude.bias[:, None], decoder.shortcut.weight):
        per_bin = weight.double().reshape(-1, bins, weight.shape[1])
        weight.copy_((standardised @ per_bin).reshape(weight.shape))
    decoder.bin_mean.copy_(projection @ decoder.bin_mean.double())


def remove_from_checkpoint(directory: Path, edges_hz: Sequence[float]) -> None:
    """Take the steps out of a checkpoint's decoder and write its codec anew.

    Raises:
        ConfigError: see ``without_steps``.
        DataError: the checkpoint cannot be read.
    """
    config = read_config(directory)
    codec = load_part(directory, config, "codec")
    assert isinstance(codec, Codec)
    projection = without_steps(config.codec.n_fft, config.audio.sample_rate, edges_hz)
    remove_steps(codec.decoder, projection)
    save_part(directory, config, "codec", codec)


def main(arguments: Sequence[str]) -> None:
    """The command line: a checkpoint, then edges in Hz."""
    try:
        directory, first, *more = arguments
        remove_from_checkpoint(Path(directory), [float(edge) for edge in (first, *more)])
    except EdgeTTAError as error:
        sys.exit(f"coder_steps: {error}")
    except ValueError:
        sys.exit("usage: python -m edge_tta.train.coder_steps CHECKPOINT HZ...")


if __name__ == "__main__":
    main(sys.argv[1:])
