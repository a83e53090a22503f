"""CNN14 of PANNs as an embedder: 2048-dimensional embeddings and 527 AudioSet labels, from public weights.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition" (2020,
https://arxiv.org/abs/1912.10211): six blocks of two 3 x 3 convolutions, averaged by two between blocks; mean over
frequency, maximum plus mean over time, one hidden layer. Window and filter bank come from the weights' file itself:
32 kHz with a window of 1024, or 16 kHz with 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.errors import DataError
from edge_tta.evaluate.local_weights import load_into, read_state
from edge_tta.evaluate.spectral import FloatArray, mono

CHANNELS = (64, 128, 256, 512, 1024, 2048)
RATES = {1024: (32000, 320), 512: (16000, 160), 256: (8000, 80)}
"""Sample rate in Hz and hop in samples by window length, as published."""
MINIMUM_SECONDS = 1.0
"""Shorter clips are extended with silence: the network halves time five times."""


class ConvolutionBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, then an average over squares of ``pool``."""

    def __init__(self, inputs: int, outputs: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, image: Tensor) -> Tensor:
        """[B, inputs, T, F] to [B, outputs, T // pool, F // pool]."""
        image = F.relu(self.bn1(self.conv1(image)))
        return F.avg_pool2d(F.relu(self.bn2(self.conv2(image))), self.pool)


class Cnn14(nn.Module):
    """The network after the log-mel spectrogram; names are those of the published state dict.

    Args:
        bands: mel bands.
        labels: labels of the classifier.
        channels: channels of the six blocks.
    """

    def __init__(self, bands: int = 64, labels: int = 527, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(bands)
        inputs = 1
        for number, outputs in enumerate(channels, start=1):
            # The last block keeps its resolution.
            pool = 1 if number == len(channels) else 2
            self.add_module(f"conv_block{number}", ConvolutionBlock(inputs, outputs, pool))
            inputs = outputs
        self.fc1 = nn.Linear(inputs, inputs)
        self.fc_audioset = nn.Linear(inputs, labels)
        self.blocks = len(channels)

    def forward(self, decibels: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel in dB [B, T, bands] to embeddings [B, channels] and logits [B, labels]."""
        image = self.bn0(decibels.transpose(1, 2)[..., None]).permute(0, 3, 2, 1)
        for number in range(1, self.blocks + 1):
            image = self.get_submodule(f"conv_block{number}")(image)
        frames = image.mean(dim=3)
        embedding = F.relu(self.fc1(frames.amax(dim=2) + frames.mean(dim=2)))
        return embedding, self.fc_audioset(embedding)


class Cnn14Embedder:
    """CNN14 with the weights of a local file (such as ``Cnn14_mAP=0.431.pth``); see ``Labeller``.

    Args:
        path: state dict as published, with its filter bank.

    Raises:
        DataError: the file is missing or holds something else.
    """

    name = "panns-cnn14"

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        state, self.digest = read_state(path)
        filters = state.pop("logmel_extractor.melW", None)
        if filters is None or filters.dim() != 2 or "fc_audioset.weight" not in state:
            raise DataError(
                f"{path}: not weights of CNN14 (no filter bank logmel_extractor.melW, or no labels)"
            )
        self.window = 2 * (len(filters) - 1)
        if self.window not in RATES:
            raise DataError(f"{path}: a window of {self.window} samples is none of CNN14's, {sorted(RATES)}")
        self.sample_rate, self.hop = RATES[self.window]
        self.filters = filters
        # The published file keeps the transform as convolutions; it is a plain Hann-windowed Fourier transform.
        state = {
            name: value for name, value in state.items() if not name.startswith("spectrogram_extractor.")
        }
        firsts = sorted(name for name in state if name.endswith("conv1.weight"))
        self.network = Cnn14(
            filters.shape[1], len(state["fc_audioset.weight"]), [len(state[name]) for name in firsts]
        ).eval()
        load_into(self.network, state, path)

    def log_mel(self, clip: npt.ArrayLike) -> Tensor:
        """Log-mel power spectrogram in dB [T, bands] of one clip [frames] at ``sample_rate``."""
        signal = mono(clip)
        missing = round(MINIMUM_SECONDS * self.sample_rate) - len(signal)
        samples = torch.from_numpy(np.pad(signal, (0, max(0, missing))))
        spectrum = torch.stft(
            samples,
            self.window,
            self.hop,
            window=torch.hann_window(self.window),
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.abs().square().T @ self.filters
        return 10.0 * torch.log10(power.clamp_min(1e-10))

    def both(self, clips: Sequence[npt.ArrayLike]) -> tuple[FloatArray, FloatArray]:
        """Embeddings [N, 2048] and label distributions [N, 527], clip by clip.

        The distribution is the softmax of the logits, as the field does for divergences between labels.
        """
        embeddings, distributions = [], []
        with torch.inference_mode():
            for clip in clips:
                embedding, logits = self.network(self.log_mel(clip)[None])
                embeddings.append(embedding[0].numpy())
                distributions.append(logits[0].softmax(dim=0).numpy())
        return np.stack(embeddings), np.stack(distributions)

    def embed(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Embeddings, float32 [N, 2048]."""
        return self.both(clips)[0]

    def probabilities(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Label distributions, float32 [N, 527]; rows sum to 1."""
        return self.both(clips)[1]
