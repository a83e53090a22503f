"""Trains every codec for as many steps, and measures what it loses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.direct import DirectStage
from benchmarks.codecs.variants import Variant
from edge_tta.catalog import Clip
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError, DataError, TrainingError
from edge_tta.evaluate.clips import read_clips
from edge_tta.evaluate.codec import CodecFigures, codec_figures
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.tagger import Tagger, load_tagger
from edge_tta.files import write_file
from edge_tta.train.clips import decoded_clips
from edge_tta.train.data.clip_cache import ClipCache
from edge_tta.train.loop import Trainer
from edge_tta.train.loop_config import LoopConfig
from edge_tta.train.recipes import DataConfig
from edge_tta.train.stages.codec import CodecStage, CodecStageConfig

OUTCOME = "outcome.json"
"""In the folder of a variant's run once it is judged."""

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Outcome:
    """What became of a variant."""

    name: str
    title: str
    latents_per_second: float
    latent_channels: int
    steps: int
    figures: CodecFigures


@dataclass(frozen=True)
class Order:
    """What to do."""

    data: Path
    cache: Path
    tagger: Path
    work: Path
    steps: int
    precision: str = "bf16"


def run_study(order: Order, chosen: Sequence[Variant], tell: Tell) -> list[Outcome]:
    """Train and judge variants one after the other; what is judged is not judged again, what was cut off goes on.

    Raises:
        ConfigError, DataError, TrainingError, OutputError: as the parts say.
    """
    clips, cache = decoded_clips(
        DataConfig(folder=str(order.data), cache=str(order.cache)), 44100, lambda *_: None
    )
    tagger = load_tagger(order.tagger)
    judged = read_clips(order.data, ("val",))
    outcomes = []
    for variant in chosen:
        written = order.work / variant.name / OUTCOME
        if written.is_file():
            outcome = _read(written)
        else:
            stage = _stage(variant, clips, cache)
            trainer = _trained(variant, stage, order)
            with trainer.average.applied():
                outcome = _outcome(variant, stage, order.steps, judged, tagger)
            write_file(written, json.dumps(asdict(outcome), allow_nan=False).encode())
        outcomes.append(outcome)
        found = outcome.figures
        tell(
            f"{variant.name}: log-mel {found.log_mel.value:.3f}, first {100 * found.reconstructed_top1.value:.1f} %"
        )
    return outcomes


def _read(path: Path) -> Outcome:
    try:
        return from_dict(Outcome, json.loads(path.read_bytes()))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path}: no outcome of this study ({error}); remove it to judge again") from error


def _stage(variant: Variant, clips: list[Clip], cache: ClipCache) -> CodecStage:
    # The same seconds in a batch, whatever the rate.
    config = CodecStageConfig(crop_frames=24 * 2048 // variant.model.audio.hop)
    if variant.head == "direct":
        return DirectStage(config, variant.model, clips, cache).attach()
    return CodecStage(config, variant.model, clips, cache)


def _trained(variant: Variant, stage: CodecStage, order: Order) -> Trainer:
    loop = LoopConfig(
        steps=order.steps,
        learning_rate=8e-4,
        warmup_steps=100,
        average_decay=0.995,
        precision="bf16" if order.precision == "bf16" else "fp32",
        checkpoint_every=max(1, order.steps // 4),
    )
    settings = {"variant": variant.name, "steps": order.steps}
    trainer = Trainer(stage, loop, order.work / variant.name, settings)
    trainer.resume()
    trainer.train()
    if trainer.stopped:
        raise TrainingError(
            f"{variant.name}: stopped at step {trainer.step}; the same command goes on from there"
        )
    return trainer


def _outcome(
    variant: Variant, stage: CodecStage, steps: int, judged: Sequence[Clip], tagger: Tagger
) -> Outcome:
    hop, channels = variant.model.audio.hop, variant.model.audio.latent_channels

    def through(waveform: Tensor) -> Tensor:
        if isinstance(stage, DirectStage):
            return stage.decode(waveform)
        return stage.codec.decode(stage.codec.encode(waveform))

    def reconstruct(samples: FloatArray) -> FloatArray:
        padded = np.pad(samples, (0, -len(samples) % hop))
        with torch.no_grad():
            found: FloatArray = through(torch.from_numpy(padded)[None, None])[0, 0, : len(samples)].numpy()
        return found

    figures = codec_figures(reconstruct, judged, tagger, np.random.default_rng(0), sheet_labels=1).figures
    return Outcome(variant.name, variant.title, variant.latents_per_second, channels, steps, figures)
