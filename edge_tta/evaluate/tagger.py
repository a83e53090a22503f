"""A small sound tagger: which of the known labels is heard, and a 256-d embedding to compare sounds with.

It is trained by the ``tagger`` recipe on real clips only, never on generated ones, so that it can judge them. It looks
at a log-mel spectrogram relative to its own loudest cell, hence playback level does not matter. Torch is imported
when a tagger is built or loaded, not when this module is.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_tta.errors import ConfigError, DataError, MissingExtraError
from edge_tta.evaluate.spectral import FLOOR_DB, FloatArray, MelSpec, log_mel, mono
from edge_tta.files import write_file
from edge_tta.ranges import BELOW_ONE, COUNT, require_ranges

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_FILE = "tagger.safetensors"
DESCRIPTION_FILE = "labels.json"
DESCRIPTION_SCHEMA = 1
MINIMUM_FRAMES = 80
"""Shorter spectrograms are extended with silence, as in training (1.86 s with the default ``MelSpec``)."""
RANGE_DB = 80.0
"""Dynamic range the tagger sees below the loudest cell."""


@dataclass(frozen=True)
class TaggerConfig:
    """Size of the tagger network."""

    widths: tuple[int, ...] = (24, 48, 96, 192, 192)
    """Channels of the stem and of each residual block; all but the last block halve time and frequency."""
    embedding: int = 256
    """Width of the embedding in front of the classifier."""
    dropout: float = 0.25
    """Share of features dropped in training before and after the embedding."""
    mel: MelSpec = field(default_factory=MelSpec)
    """Spectrogram the network reads."""

    def __post_init__(self) -> None:
        if len(self.widths) < 2:
            raise ConfigError(f"widths {list(self.widths)} are none of a stem and at least one block")
        require_ranges(self, widths=COUNT, embedding=COUNT, dropout=BELOW_ONE)


class Tags(NamedTuple):
    """What the tagger makes of a list of sounds."""

    embeddings: FloatArray
    """float32 [clips, embedding]."""
    logits: FloatArray
    """float32 [clips, labels], before the softmax."""

    def ranked(self, count: int) -> npt.NDArray[np.int64]:
        """Indices of the ``count`` most likely labels of each clip, best first: int64 [clips, count]."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :count]
        return np.asarray(order, dtype=np.int64)


@functools.lru_cache(maxsize=1)
def _network_class() -> Any:
    """The ``nn.Module`` classes, made on first use so that importing this module does not import torch."""
    try:
        import torch
        from torch import nn
        from torch.nn import functional
    except ImportError as error:
        raise MissingExtraError("eval", "the sound tagger") from error

    class ResidualBlock(nn.Module):
        """Two 3 x 3 convolutions around which an averaged, projected copy of the input is carried."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.first_norm = nn.BatchNorm2d(outputs)
            self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.second_norm = nn.BatchNorm2d(outputs)
            self.skip: nn.Module = nn.Identity()
            if inputs != outputs or stride != 1:
                average = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
                self.skip = nn.Sequential(average, nn.Conv2d(inputs, outputs, 1, bias=False))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            inner = functional.relu(self.first_norm(self.first(features)))
            return functional.relu(self.skip(features) + self.second_norm(self.second(inner)))

    class TaggerNetwork(nn.Module):
        """Residual convolutional network over log-mel, pooled over time by mean and maximum."""

        def __init__(self, labels: int, config: TaggerConfig) -> None:
            super().__init__()
            widths = config.widths
            self.stem = nn.Conv2d(1, widths[0], 3, 2, 1, bias=False)
            self.stem_norm = nn.BatchNorm2d(widths[0])
            last = len(widths) - 2
            self.blocks = nn.Sequential(
                *(ResidualBlock(widths[i], widths[i + 1], 1 if i == last else 2) for i in range(last + 1))
            )
            self.embedding = nn.Linear(2 * widths[-1], config.embedding)
            self.dropout = nn.Dropout(config.dropout)
            self.classifier = nn.Linear(config.embedding, labels)

        def forward(self, decibels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Log-mel in dB [B, frames, bands] to logits [B, labels] and embeddings [B, embedding]."""
            relative = decibels - decibels.amax((1, 2), keepdim=True)
            scaled = (relative.clamp_min(-RANGE_DB) + RANGE_DB / 2) / (RANGE_DB / 4)
            image = scaled.transpose(1, 2).unsqueeze(1).contiguous(memory_format=torch.channels_last)
            features = self.blocks(functional.relu(self.stem_norm(self.stem(image)))).mean(2)
            pooled = torch.cat([features.mean(-1), features.amax(-1)], dim=1)
            embedding = functional.relu(self.embedding(self.dropout(pooled)))
            return self.classifier(self.dropout(embedding)), embedding

    return TaggerNetwork


def build_network(labels: int, config: TaggerConfig) -> nn.Module:
    """A freshly initialised network for ``labels`` classes; draws from torch's default generator.

    Raises:
        MissingExtraError: torch is not installed.
    """
    network: nn.Module = _network_class()(labels, config)
    return network


def tagger_input(samples: npt.ArrayLike, sample_rate: int, spec: MelSpec) -> FloatArray:
    """Log-mel in dB [frames, bands] of a clip scaled to full scale, so that its playback level cannot matter."""
    signal = mono(samples)
    return log_mel(signal / np.float32(max(float(np.abs(signal).max()), 1e-6)), sample_rate, spec)


def pad_frames(decibels: FloatArray) -> FloatArray:
    """Extend a spectrogram [frames, bands] with silence to ``MINIMUM_FRAMES``."""
    missing = MINIMUM_FRAMES - len(decibels)
    if missing <= 0:
        return decibels
    return np.pad(decibels, ((0, missing), (0, 0)), constant_values=FLOOR_DB)


class Tagger:
    """A trained tagger.

    Attributes:
        labels: label names in the order of the logits.
        config: size of the network.
        digest: SHA-256 of the weights file and the label list; two figures may be compared only if it is equal.
    """

    def __init__(self, network: nn.Module, labels: Sequence[str], config: TaggerConfig, digest: str) -> None:
        self.network = network.eval()
        self.labels = tuple(labels)
        self.config = config
        self.digest = digest
        self._index = {label: position for position, label in enumerate(self.labels)}

    def index(self, label: str) -> int | None:
        """Position of a label among the logits, or None for a label the tagger does not know."""
        return self._index.get(label)

    def tag(self, clips: Sequence[npt.ArrayLike], sample_rate: int) -> Tags:
        """Judge clips one by one, so a clip's figures never depend on its neighbours.

        Args:
            clips: waveforms [frames] or [channels, frames], any length.
            sample_rate: Hz; must be the tagger's own.

        Raises:
            DataError: wrong sample rate, empty or non-finite clip.
        """
        import torch

        if not clips:
            raise DataError("no clips to tag")
        logits, embeddings = [], []
        with torch.inference_mode():
            for clip in clips:
                decibels = pad_frames(tagger_input(clip, sample_rate, self.config.mel))
                scores, embedding = self.network(torch.from_numpy(decibels)[None])
                logits.append(scores[0].numpy())
                embeddings.append(embedding[0].numpy())
        return Tags(np.stack(embeddings), np.stack(logits))


def save_tagger(network: nn.Module, labels: Sequence[str], config: TaggerConfig, directory: Path) -> None:
    """Write weights (float16) and description; each file appears whole or not at all."""
    import torch
    from safetensors.torch import save

    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous(
            memory_format=torch.contiguous_format
        )
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    description = {"schema": DESCRIPTION_SCHEMA, "config": asdict(config), "labels": list(labels)}
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        WEIGHTS_FILE: save(state),
        DESCRIPTION_FILE: (json.dumps(description, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    for name, content in contents.items():
        write_file(directory / name, content)


def _read_description(path: Path) -> tuple[tuple[str, ...], TaggerConfig]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["schema"] != DESCRIPTION_SCHEMA:
            raise DataError(
                f"{path}: schema {description['schema']} is unknown, this version reads {DESCRIPTION_SCHEMA}"
            )
        labels = tuple(description["labels"])
        fields = dict(description["config"])
        config = TaggerConfig(
            **{**fields, "widths": tuple(fields["widths"]), "mel": MelSpec(**fields["mel"])}
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(
            f"{path}: not a tagger description ({error}); train one with the tagger recipe"
        ) from error
    if not labels or len(set(labels)) != len(labels) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{path}: labels must be distinct strings")
    return labels, config


def load_tagger(directory: Path | str) -> Tagger:
    """Load what :func:`save_tagger` wrote.

    Raises:
        DataError: a file is missing or does not fit the description.
        MissingExtraError: torch or safetensors is not installed.
    """
    directory = Path(directory)
    description_path, weights_path = directory / DESCRIPTION_FILE, directory / WEIGHTS_FILE
    labels, config = _read_description(description_path)
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise MissingExtraError("eval", "the sound tagger") from error
    network = build_network(len(labels), config)
    try:
        content = weights_path.read_bytes()
        state = {name: value.float() for name, value in load(content).items()}
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(
            f"{weights_path}: cannot be read as tagger weights ({str(error).splitlines()[0]})"
        ) from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise DataError(
            f"{weights_path}: does not fit its description (missing {missing}, unexpected {unexpected})"
        )
    digest = hashlib.sha256(content + description_path.read_bytes()).hexdigest()
    return Tagger(network, labels, config, digest)
