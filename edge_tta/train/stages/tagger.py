"""Training of the sound tagger that the evaluation uses: supervised, on real training clips only.

Clips of the val split are only judged, and a share of the training recordings is held out as well, so that the run
can be watched on more clips than validation has.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tta.catalog import Clip
from edge_tta.errors import DataError
from edge_tta.evaluate.tagger import (
    TaggerConfig,
    build_network,
    load_tagger,
    pad_frames,
    save_tagger,
    tagger_input,
)
from edge_tta.ranges import BELOW_ONE, COUNT, SEED, require_ranges
from edge_tta.train.data.clip_cache import ClipCache
from edge_tta.train.spectrogram_augment import AugmentConfig, augment_batch, crop, label_weights

JUDGED_SECONDS = 12.0
"""Length of clips that is judged, the product's longest duration."""


@dataclass(frozen=True)
class TaggerStageConfig:
    """What the tagger learns from."""

    network: TaggerConfig = field(default_factory=TaggerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    start: str = ""
    """Folder of a trained tagger to go on from; empty to start from random weights."""
    minimum_clips: int = 8
    """Labels with fewer training clips are left out."""
    development_share: float = 0.08
    """Share of training recordings held out to watch the run."""
    batch: int = 64
    label_smoothing: float = 0.07
    seed: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, minimum_clips=COUNT, development_share=BELOW_ONE, batch=COUNT)
        require_ranges(self, label_smoothing=BELOW_ONE, seed=SEED)


@dataclass(frozen=True)
class Accuracy:
    """Share of clips recognised."""

    n: int
    top1: float
    top5: float
    cross_entropy: float


@dataclass(frozen=True)
class Examples:
    """Spectrograms with their label indices."""

    spectrograms: tuple[npt.NDArray[np.float32], ...] = field(repr=False)
    """dB [frames, bands] each."""
    indices: npt.NDArray[np.int64]
    """Label of each, [clips]."""


def known_labels(clips: Iterable[Clip], minimum: int) -> tuple[str, ...]:
    """Labels with at least ``minimum`` training clips, sorted."""
    counts = Counter(clip.label for clip in clips if clip.split == "train")
    return tuple(sorted(label for label, count in counts.items() if count >= minimum))


def is_development(recording: str, share: float) -> bool:
    """Whether a training recording is held out; a hash decides, so all its clips go the same way on every machine."""
    digest = hashlib.sha256(f"dev:{recording}".encode()).hexdigest()
    return int(digest, 16) % 1000 / 1000 < share


def split_of(clip: Clip, development_share: float) -> str:
    """Part a clip plays: "training", "development" or "validation"; empty for any other split."""
    if clip.split == "train":
        return "development" if is_development(clip.recording, development_share) else "training"
    return "validation" if clip.split == "val" else ""


def measure(network: nn.Module, examples: Examples) -> Accuracy:
    """Judge whole clips one by one."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        spectrograms = (torch.from_numpy(pad_frames(each))[None].to(device) for each in examples.spectrograms)
        logits = torch.cat([network(each)[0] for each in spectrograms]).cpu()
    target = torch.from_numpy(examples.indices)
    hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == target[:, None]
    return Accuracy(
        n=len(target),
        top1=float(hits[:, 0].float().mean()),
        top5=float(hits.any(dim=1).float().mean()),
        cross_entropy=float(functional.cross_entropy(logits, target)),
    )


class TaggerStage:
    """The sound tagger.

    Args:
        config: stage settings.
        clips: catalog of real clips; never put generated ones here, the tagger is to judge those.
        cache: decoded clips in the same order, at the sample rate of ``config.network.mel``.

    Raises:
        DataError: fewer than two labels have enough clips, or the start knows other labels.
    """

    def __init__(self, config: TaggerStageConfig, clips: Sequence[Clip], cache: ClipCache) -> None:
        self.config, self.data_digest = config, cache.digest
        self.labels = known_labels(clips, config.minimum_clips)
        if len(self.labels) < 2:
            raise DataError(
                f"tagger stage: two labels with at least {config.minimum_clips} training clips are needed"
            )
        position = {label: index for index, label in enumerate(self.labels)}
        mel = config.network.mel
        longest = round(JUDGED_SECONDS * mel.sample_rate)
        parts: dict[str, list[int]] = {"training": [], "development": [], "validation": []}
        for index, clip in enumerate(clips):
            if clip.label in position and (part := split_of(clip, config.development_share)):
                parts[part].append(index)
        self.examples = {
            part: Examples(
                tuple(tagger_input(cache.read(index, 0, longest), mel.sample_rate, mel) for index in chosen),
                np.array([position[clips[index].label] for index in chosen], dtype=np.int64),
            )
            for part, chosen in parts.items()
        }
        if not parts["training"]:
            raise DataError("tagger stage: no training clips")
        self.weights = label_weights(self.examples["training"].indices)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build_network(len(self.labels), config.network)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.start:
            start = load_tagger(config.start)
            if start.labels != self.labels:
                raise DataError(
                    f"{config.start}: knows {len(start.labels)} labels, not the {len(self.labels)} of the data"
                )
            self.network.load_state_dict(start.network.state_dict())

    def origin(self) -> dict[str, str]:
        """The clips."""
        return {"data": self.data_digest}

    def modules(self) -> dict[str, nn.Module]:
        """The network."""
        return {"tagger": self.network}

    def averaged(self) -> Iterable[str]:
        """The average is what judges."""
        return ("tagger",)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """One optimiser."""
        return {"tagger": list(self.network.parameters())}

    def due(self, group: str, step: int) -> bool:
        """At every step."""
        return True

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self.network.to(device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented spectrograms [B, frames, bands] in dB and label shares [B, labels]."""
        config, examples = self.config, self.examples["training"]
        generator = np.random.default_rng([config.seed, step])
        frames = int(generator.integers(config.augment.shortest_frames, config.augment.longest_frames))
        chosen = generator.choice(len(self.weights), size=config.batch, p=self.weights)
        windows = np.stack(
            [crop(examples.spectrograms[i], frames, config.augment, generator) for i in chosen]
        )
        targets = np.eye(len(self.labels), dtype=np.float32)[examples.indices[chosen]]
        windows, targets = augment_batch(windows, targets, config.augment, generator)
        targets = targets * (1 - config.label_smoothing) + config.label_smoothing / len(self.labels)
        return torch.from_numpy(windows), torch.from_numpy(targets.astype(np.float32))

    def losses(
        self, group: str, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Cross-entropy to the label shares, and the share of windows whose main label is ranked first."""
        windows, targets = batch
        self.network.train()
        # Dropout can only draw from torch's own generator: seed it for the pass, then put it back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            logits, _ = self.network(windows)
        loss = -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        hits = (logits.detach().argmax(dim=1) == targets.argmax(dim=1)).float().mean()
        return {"loss": loss, "top1": hits}

    def validate(self) -> dict[str, float]:
        """Accuracy on held-out recordings and on validation clips."""
        figures: dict[str, float] = {}
        for part in ("development", "validation"):
            if len(self.examples[part].indices):
                found = measure(self.network, self.examples[part])
                figures |= {f"{part}_top1": found.top1, f"{part}_top5": found.top5}
                figures[f"{part}_cross_entropy"] = found.cross_entropy
        return figures

    def sample(self, directory: Path) -> None:
        """A tagger has nothing to show but its figures."""

    def export(self, directory: Path) -> None:
        """Write the folder :func:`edge_tta.evaluate.tagger.load_tagger` reads."""
        save_tagger(self.network, self.labels, self.config.network, directory)
