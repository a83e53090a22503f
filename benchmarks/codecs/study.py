"""Trains every codec for as many steps, and measures what it loses and what it costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.direct import DirectStage
from benchmarks.codecs.variants import Variant
from edge_tta.errors import TrainingError
from edge_tta.evaluate.clips import Clip, read_clips
from edge_tta.evaluate.codec import CodecFigures, codec_figures
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.tagger import Tagger, load_tagger
from edge_tta.model.generator import Generator
from edge_tta.model.presets import preset
from edge_tta.train.clips import decoded_clips
from edge_tta.train.loop import Trainer
from edge_tta.train.loop_config import LoopConfig
from edge_tta.train.recipes import DataConfig
from edge_tta.train.stages.codec import CodecStage, CodecStageConfig

SECONDS = 10.0
"""Of sound, in measurements of time."""
ROUNDS = 9

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Outcome:
    """What became of a variant."""

    name: str
    title: str
    latents_per_second: float
    latent_channels: int
    steps: int
    seconds_per_step: float
    """Of training."""
    figures: CodecFigures
    decoder_ms: float
    """Median for 10 s of sound, float32, by torch."""
    generator_ms: float
    """Median of one pass of edge-120m's shape (random weights) over the latent of 10 s, float32, by torch."""


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
    """Train and judge variants one after the other; a training that was cut off goes on where it was.

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
        # The same seconds in a batch, whatever the rate.
        frames = 24 * 2048 // variant.model.audio.hop
        config = CodecStageConfig(crop_frames=frames)
        stage: CodecStage = (
            DirectStage(config, variant.model, clips, cache).attach()
            if variant.head == "direct"
            else CodecStage(config, variant.model, clips, cache)
        )
        loop = LoopConfig(
            steps=order.steps,
            learning_rate=8e-4,
            warmup_steps=100,
            average_decay=0.995,
            precision="bf16" if order.precision == "bf16" else "fp32",
            checkpoint_every=max(1, order.steps // 4),
        )
        trainer = Trainer(stage, loop, order.work / variant.name, digest=f"{variant.name}-{order.steps}")
        trainer.resume()
        started, first = time.monotonic(), trainer.step
        trainer.train()
        if trainer.stopped:
            raise TrainingError(
                f"{variant.name}: stopped at step {trainer.step}; the same command goes on from there"
            )
        per_step = (time.monotonic() - started) / max(1, trainer.step - first)
        tell(f"{variant.name}: trained, {per_step:.2f} s a step")
        with trainer.average.applied():
            outcomes.append(_outcome(variant, stage, order, per_step, judged, tagger))
        found = outcomes[-1].figures
        tell(
            f"{variant.name}: log-mel {found.log_mel.value:.3f}, first {100 * found.reconstructed_top1.value:.1f} %"
        )
    return outcomes


def _outcome(
    variant: Variant, stage: CodecStage, order: Order, per_step: float, judged: Sequence[Clip], tagger: Tagger
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
    frames = variant.model.audio.latent_frames(SECONDS)
    latent = torch.randn((1, frames, channels), generator=torch.Generator().manual_seed(0))
    decode = stage.head if isinstance(stage, DirectStage) else stage.codec.decoder
    return Outcome(
        variant.name,
        variant.title,
        variant.latents_per_second,
        channels,
        order.steps,
        per_step,
        figures,
        _milliseconds(lambda: decode(latent)),
        _generator_ms(latent),
    )


def _generator_ms(latent: Tensor) -> float:
    """One pass of edge-120m's shape over a latent, with ten tokens of text."""
    config = replace(preset("edge-120m").generator, latent_channels=latent.shape[2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(config).eval()
    one = torch.ones(1)
    tokens, pooled = torch.zeros(1, 10, config.text_width), torch.zeros(1, config.text_width)
    return _milliseconds(lambda: generator(latent, one, one, tokens, pooled, SECONDS * one, 3 * one))


def _milliseconds(call: Callable[[], Tensor]) -> float:
    """Median of ``ROUNDS`` calls after one."""
    taken = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            call()
            taken.append(1000.0 * (time.perf_counter() - started))
    return statistics.median(taken[1:])
