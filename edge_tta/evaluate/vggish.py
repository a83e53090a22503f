"""VGGish as an embedder: 128 dimensions at 16 kHz, the embedding of the Fréchet audio distance, from public weights.

Hershey et al., "CNN architectures for large-scale audio classification" (2017, https://arxiv.org/abs/1609.09430): a
small VGG over 0.96 s of log-mel spectrogram (25 ms windows, 10 ms hop, 64 bands from 125 to 7500 Hz, log(mel + 0.01) of
magnitudes). As in Kilgour et al., "Fréchet audio distance" (2019, https://arxiv.org/abs/1812.08466), neither the last
rectifier nor the principal components of the AudioSet release are applied. A clip's embedding is the mean over its
examples, while published Fréchet audio distances pool the examples of all clips: ours must not be compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_tta.evaluate.local_weights import load_into, read_state
from edge_tta.evaluate.spectral import FloatArray, mono

SAMPLE_RATE = 16000
WINDOW, HOP, TRANSFORM = 400, 160, 512
BANDS, LOW_HZ, HIGH_HZ = 64, 125.0, 7500.0
EXAMPLE_FRAMES = 96
"""Frames of one example, 0.96 s; examples do not overlap, what is left at the end is dropped."""
OFFSET = 0.01
EXAMPLE_SAMPLES = WINDOW + (EXAMPLE_FRAMES - 1) * HOP


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0))


def mel_filters() -> npt.NDArray[np.float64]:
    """Filters [257, 64]: triangles on the mel scale itself, peak 1; the constant component is left out."""
    bins = _mel(np.linspace(0.0, SAMPLE_RATE / 2, TRANSFORM // 2 + 1))
    edges = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), BANDS + 2)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[0] = 0.0
    return filters


def examples(clip: npt.ArrayLike) -> FloatArray:
    """Log-mel examples float32 [E, 96, 64] of a clip [frames] at 16 kHz; a clip too short for one ends in silence."""
    signal = mono(clip).astype(np.float64)
    signal = np.pad(signal, (0, max(0, EXAMPLE_SAMPLES - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitudes = np.abs(np.fft.rfft(frames * hann, TRANSFORM))
    logarithm = np.log(magnitudes @ mel_filters() + OFFSET)
    count = len(logarithm) // EXAMPLE_FRAMES
    return logarithm[: count * EXAMPLE_FRAMES].reshape(count, EXAMPLE_FRAMES, BANDS).astype(np.float32)


class VGGish(nn.Module):
    """The network; names are those of the public PyTorch state dict.

    Args:
        channels: channels of the six convolutions.
        hidden: width of the two hidden layers.
        embedding: width of the embedding.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 256, 512, 512),
        hidden: int = 4096,
        embedding: int = 128,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for position, outputs in enumerate(channels):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            # Halved after the first, second, fourth and sixth convolution.
            if position in (0, 1, 3, 5):
                layers.append(nn.MaxPool2d(2))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        flat = inputs * (EXAMPLE_FRAMES // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, embedding),
        )

    def forward(self, examples: Tensor) -> Tensor:
        """Log-mel examples [E, 96, 64] to embeddings [E, embedding], before a rectifier."""
        image = self.features(examples[:, None])
        # The weights come from a framework that keeps channels last.
        embedding: Tensor = self.embeddings(image.permute(0, 2, 3, 1).flatten(1))
        return embedding


class VGGishEmbedder:
    """VGGish with the weights of a local file (such as ``vggish-10086976.pth``); see ``Embedder``.

    Args:
        path: state dict.

    Raises:
        DataError: the file is missing or holds something else.
    """

    name = "vggish"
    sample_rate = SAMPLE_RATE

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        state, self.digest = read_state(path)
        convolutions = sorted(
            (name for name in state if name.startswith("features.") and name.endswith(".weight")),
            key=lambda name: int(name.split(".")[1]) if name.split(".")[1].isdigit() else -1,
        )
        sizes = [len(state[name]) for name in convolutions]
        hidden, width = (len(state.get(f"embeddings.{i}.bias", ())) for i in (0, 4))
        self.network = VGGish(sizes, hidden, width) if len(sizes) == 6 and hidden and width else VGGish()
        load_into(self.network.eval(), state, path)

    def embed(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Mean over the examples of each clip, float32 [N, 128]."""
        with torch.inference_mode():
            rows = [self.network(torch.from_numpy(examples(clip))).mean(dim=0).numpy() for clip in clips]
        return np.stack(rows)
