"""Training of the sound tagger that the evaluation uses: supervised, on real training clips only."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from edge_tta.errors import DataError, TrainingError
from edge_tta.evaluate.clips import Clip, load_clip, read_clips
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.tagger import TaggerConfig, build_network, pad_frames, save_tagger, tagger_input
from edge_tta.train.spectrogram_augment import AugmentConfig, augment_batch, crop, label_weights

logger = logging.getLogger(__name__)

STATE_FILE = "state.safetensors"
EVALUATION_FRAMES = 520
"""Frames of a clip that are judged: 12 s."""


@dataclass(frozen=True)
class TaggerRecipe:
    """Everything that decides what a tagger run yields."""

    network: TaggerConfig = field(default_factory=TaggerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    minimum_clips: int = 8
    """Labels with fewer training clips are left out."""
    development_share: float = 0.08
    """Share of training recordings held out to watch the run."""
    batch: int = 64
    steps: int = 6000
    learning_rate: float = 4e-3
    """Peak of the cosine schedule."""
    warmup_steps: int = 200
    weight_decay: float = 0.05
    label_smoothing: float = 0.07
    average_decay: float = 0.998
    """Decay of the moving average of the weights, which is what is saved and judged."""
    clip_norm: float = 5.0
    evaluate_every: int = 500
    """Steps between two looks at the development clips, and between two saved states."""
    seed: int = 0


@dataclass(frozen=True)
class Accuracy:
    """Share of clips recognised."""

    n: int
    top1: float
    top5: float
    cross_entropy: float


@dataclass(frozen=True)
class Examples:
    """Cached spectrograms with their label indices."""

    spectrograms: tuple[FloatArray, ...] = field(repr=False)
    """dB [frames, bands] each."""
    indices: np.ndarray
    """int64 [clips]."""


def known_labels(clips: Sequence[Clip], minimum: int) -> tuple[str, ...]:
    """Labels with at least ``minimum`` training clips, sorted."""
    counts = Counter(clip.label for clip in clips if clip.split == "train")
    return tuple(sorted(label for label, count in counts.items() if count >= minimum))


def is_development(recording: str, share: float) -> bool:
    """Whether a training recording is held out; a hash decides, so all its clips go the same way on every machine."""
    digest = hashlib.sha256(f"dev:{recording}".encode()).hexdigest()
    return int(digest, 16) % 1000 / 1000 < share


def load_examples(clips: Sequence[Clip], labels: Sequence[str], config: TaggerConfig) -> Examples:
    """Decode clips and keep their spectrograms in memory (about 0.7 MB a minute)."""
    rate = config.mel.sample_rate
    spectrograms = tuple(tagger_input(load_clip(clip.path, rate), rate, config.mel) for clip in clips)
    position = {label: index for index, label in enumerate(labels)}
    return Examples(spectrograms, np.array([position[clip.label] for clip in clips], dtype=np.int64))


def measure(network: nn.Module, examples: Examples) -> Accuracy:
    """Judge whole clips one by one."""
    network.eval()
    with torch.inference_mode():
        logits = torch.cat(
            [
                network(torch.from_numpy(pad_frames(s[:EVALUATION_FRAMES]))[None])[0]
                for s in examples.spectrograms
            ]
        )
    target = torch.from_numpy(examples.indices)
    hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == target[:, None]
    return Accuracy(
        n=len(target),
        top1=float(hits[:, 0].float().mean()),
        top5=float(hits.any(dim=1).float().mean()),
        cross_entropy=float(functional.cross_entropy(logits, target)),
    )


class TaggerTraining:
    """One run: network, moving average, optimiser and step, with everything drawn from (seed, step)."""

    def __init__(self, recipe: TaggerRecipe, labels: Sequence[str]) -> None:
        self.recipe, self.labels, self.step = recipe, tuple(labels), 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = build_network(len(labels), recipe.network).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to a hundredth."""
        recipe = self.recipe
        progress = min(1.0, self.step / recipe.steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
        return recipe.learning_rate * min(1.0, (self.step + 1) / recipe.warmup_steps) * (0.99 * cosine + 0.01)

    def batch(self, examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of the current step: a pure function of recipe, examples and step."""
        recipe = self.recipe
        generator = np.random.default_rng([recipe.seed, self.step])
        frames = int(generator.integers(recipe.augment.shortest_frames, recipe.augment.longest_frames))
        weights = label_weights(examples.indices)
        chosen = generator.choice(len(weights), size=recipe.batch, p=weights)
        windows = np.stack(
            [crop(examples.spectrograms[i], frames, recipe.augment, generator) for i in chosen]
        )
        targets = np.eye(len(self.labels), dtype=np.float32)[examples.indices[chosen]]
        windows, targets = augment_batch(windows, targets, recipe.augment, generator)
        smoothing = recipe.label_smoothing
        targets = targets * (1 - smoothing) + smoothing / len(self.labels)
        return torch.from_numpy(windows), torch.from_numpy(targets.astype(np.float32))

    def advance(self, examples: Examples) -> float:
        """One optimiser step; returns the loss.

        Raises:
            TrainingError: loss or gradient is not finite; weights and average are untouched then.
        """
        windows, targets = self.batch(examples)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
            logits, _ = self.network(windows)
        loss = -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            figures = f"loss {float(loss.detach())}, gradient norm {float(norm)}"
            raise TrainingError(f"tagger step {self.step}: {figures}; lower the learning rate")
        self.optimizer.step()
        self.step += 1
        decay = min(self.recipe.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            current = self.network.state_dict()
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(current[name], 1.0 - decay)
                else:
                    value.copy_(current[name])
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the whole state, so that a run goes on bit for bit; the file appears whole or not at all."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for parameter, state in self.optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
        tensors = {
            name: value.detach().clone(memory_format=torch.contiguous_format)
            for name, value in tensors.items()
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            save_file(
                tensors, temporary, metadata={"step": str(self.step), "labels": json.dumps(self.labels)}
            )
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self, path: Path) -> None:
        """Go on from :meth:`save`.

        Raises:
            TrainingError: the state belongs to other labels or another network.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata()
        if tuple(json.loads(metadata["labels"])) != self.labels:
            raise TrainingError(f"{path}: was trained on other labels; use another output folder")
        tensors = load_file(path)

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {
                name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
            }

        try:
            self.network.load_state_dict(part("network."))
            self.average.load_state_dict(part("average."))
        except RuntimeError as error:
            raise TrainingError(
                f"{path}: does not fit the recipe's network; use another output folder"
            ) from error
        for name, parameter in self.network.named_parameters():
            state = part(f"optimizer.{name}.")
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = state[key].clone(memory_format=torch.preserve_format)
            self.optimizer.state[parameter] = state
        self.step = int(metadata["step"])


def train_tagger(
    recipe: TaggerRecipe,
    data: Path,
    output: Path,
    *,
    resume: bool = True,
    on_progress: Callable[[int, int, float, float], None] | None = None,
) -> dict[str, Accuracy]:
    """Train a tagger and write it where :func:`edge_tta.evaluate.tagger.load_tagger` reads it.

    Args:
        recipe: what to train.
        data: folder with ``metadata.csv``; rows of split ``train`` are learnt, of split ``val`` only judged.
        output: folder for the tagger, ``state.safetensors`` and ``training.json``.
        resume: go on from a state in ``output``.
        on_progress: called after every step with step, steps, loss and seconds left.

    Returns:
        Accuracy on the held-out recordings ("development") and on the val clips ("validation").

    Raises:
        DataError: no label has enough clips, or a clip cannot be read.
        TrainingError: a loss or gradient was not finite, or a state does not fit the recipe.
    """
    clips = read_clips(data, ("train", "val"))
    labels = known_labels(clips, recipe.minimum_clips)
    if len(labels) < 2:
        raise DataError(f"{data}: two labels with at least {recipe.minimum_clips} training clips are needed")
    clips = tuple(clip for clip in clips if clip.label in set(labels))
    held = [
        clip.split == "train" and is_development(clip.recording, recipe.development_share) for clip in clips
    ]
    sets = {
        "training": [c for c, h in zip(clips, held, strict=True) if c.split == "train" and not h],
        "development": [c for c, h in zip(clips, held, strict=True) if h],
        "validation": [c for c in clips if c.split == "val"],
    }
    examples = {name: load_examples(chosen, labels, recipe.network) for name, chosen in sets.items()}
    logger.info("tagger: %d labels, %s", len(labels), {name: len(chosen) for name, chosen in sets.items()})
    output.mkdir(parents=True, exist_ok=True)
    run = TaggerTraining(recipe, labels)
    if resume and (output / STATE_FILE).exists():
        run.restore(output / STATE_FILE)
    started, first = time.monotonic(), run.step
    while run.step < recipe.steps:
        loss = run.advance(examples["training"])
        if on_progress is not None:
            left = (time.monotonic() - started) / (run.step - first) * (recipe.steps - run.step)
            on_progress(run.step, recipe.steps, loss, left)
        if run.step % recipe.evaluate_every == 0:
            run.save(output / STATE_FILE)
            if sets["development"]:
                logger.info(
                    "tagger step %d: loss %.3f, %s",
                    run.step,
                    loss,
                    measure(run.average, examples["development"]),
                )
    run.save(output / STATE_FILE)
    save_tagger(run.average, labels, recipe.network, output)
    result = {
        name: measure(run.average, examples[name]) for name in ("development", "validation") if sets[name]
    }
    record = {"recipe": asdict(recipe), "accuracy": {name: asdict(value) for name, value in result.items()}}
    temporary = output / f".training.json.{os.getpid()}.partial"
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, output / "training.json")
    return result
