"""Running a recipe: data, stage and loop put together."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_tta.config import ModelConfig, to_dict
from edge_tta.errors import ConfigError, DataError
from edge_tta.model.checkpoint import ModelCheckpoint, build_module, load_model_checkpoint
from edge_tta.model.codec import Codec
from edge_tta.model.presets import preset
from edge_tta.model.text_encoder import TextEncoder
from edge_tta.text import Tokenizer
from edge_tta.train.couple_data import CoupleData, origin_of
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.catalog import (
    Clip,
    bandwidth_at_least,
    permissive,
    read_esc50,
    read_metadata_csv,
    select,
)
from edge_tta.train.data.decode import ClipCache, load_or_build_clip_cache
from edge_tta.train.data.windows import WindowBuilder
from edge_tta.train.latents import LatentSet, build_latent_shard
from edge_tta.train.loop import Progress, Trainer
from edge_tta.train.recipes import DataConfig, Recipe, load_recipe
from edge_tta.train.stage import Stage
from edge_tta.train.stages.codec import CodecStage
from edge_tta.train.stages.generator import GeneratorStage
from edge_tta.train.stages.tagger import TaggerStage
from edge_tta.train.stages.text_encoder import TextEncoderStage
from edge_tta.train.track import Scalars

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], Any]

SHARD_WINDOWS = 250
"""Windows encoded and stored at a time; an interrupted build goes on at the next shard."""


def read_catalog(config: DataConfig) -> list[Clip]:
    """Clips of a data configuration, filtered.

    Raises:
        ConfigError: no folder or unknown layout.
        DataError: unreadable metadata, or nothing left after filtering.
    """
    if not config.folder:
        raise ConfigError("give data.folder, the folder of training clips (--set data.folder=PATH)")
    readers: dict[str, Callable[[Path], list[Clip]]] = {"metadata": read_metadata_csv, "esc50": read_esc50}
    if config.layout not in readers:
        raise ConfigError(f"data.layout '{config.layout}' is unknown; use {' or '.join(readers)}")
    conditions: list[Callable[[Clip], bool]] = [bandwidth_at_least(config.min_bandwidth_hz)]
    if config.permissive_only:
        conditions.append(permissive)
    clips = select(readers[config.layout](Path(config.folder)), *conditions)
    if not clips:
        raise DataError(f"{config.folder}: no clips are left after filtering by licence and bandwidth")
    return clips


def _decoded(recipe: Recipe, sample_rate: int, report: Report) -> tuple[list[Clip], ClipCache]:
    clips = read_catalog(recipe.data)
    cache = load_or_build_clip_cache(
        clips, Path(recipe.data.cache), sample_rate, lambda done, total: report("decoding clips", done, total)
    )
    return clips, cache


@dataclass(frozen=True)
class _Frozen:
    """What a generator is trained with and does not change."""

    directory: Path
    checkpoint: ModelCheckpoint
    codec: Codec
    encoder: TextEncoder
    tokenizer: Tokenizer

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).ids.tolist()
        return ids


def _frozen(recipe: Recipe, model: ModelConfig) -> _Frozen:
    directory = Path(recipe.checkpoint)
    loaded = load_model_checkpoint(directory, parts=("codec", "text_encoder"))
    assert loaded.codec is not None and loaded.text_encoder is not None
    if loaded.tokenizer is None:
        raise ConfigError(f"{directory} has no tokenizer.model; train the text encoder first")
    tokenizer = Tokenizer(loaded.tokenizer, model.text_encoder.max_tokens)
    return _Frozen(directory, loaded, loaded.codec, loaded.text_encoder, tokenizer)


def _codec_digest(directory: Path) -> str:
    """SHA-256 over the codec's files: a copied checkpoint shares the latents of the one it was copied from."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("codec*.safetensors")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _latent_sets(
    recipe: Recipe,
    model: ModelConfig,
    frozen: _Frozen,
    report: Report,
    splits: tuple[str, ...] = ("train", "val"),
) -> list[LatentSet | None]:
    """Cached latents of training and validation windows; None for a split without clips."""
    clips, cache = _decoded(recipe, model.audio.sample_rate, report)
    key = f"{_codec_digest(frozen.directory)[:16]}-{recipe.data.seed}"
    if recipe.data.captions != DataConfig.captions:
        key += f"-{Path(recipe.data.captions).stem}"
    folder = Path(recipe.data.cache) / f"latents-{model.name}-{key}"
    captioner = Captioner.load(recipe.data.captions)
    totals = {"train": recipe.data.num_windows, "val": recipe.data.num_validation_windows}
    sets: list[LatentSet | None] = []
    for split in splits:
        total = totals[split]
        if not any(clip.split == split for clip in clips):
            sets.append(None)
            continue
        builder = WindowBuilder(clips, cache, captioner, recipe.data.windows, split)
        shards = []
        for start in range(0, total, SHARD_WINDOWS):
            path = folder / f"{split}-{start // SHARD_WINDOWS:04d}.npz"
            count = min(SHARD_WINDOWS, total - start)
            if not path.is_file():
                offset, what = start, f"encoding {split} windows"

                def tell(
                    done: int, _: int, offset: int = offset, what: str = what, total: int = total
                ) -> None:
                    report(what, offset + done, total)

                seed = recipe.data.seed + start // SHARD_WINDOWS
                build_latent_shard(path, builder, frozen.codec, model.audio, count, seed, tell)
            shards.append(path)
        decoder = frozen.codec.decoder
        latents = LatentSet(shards, decoder.latent_mean, decoder.latent_std, model.audio)
        extra = recipe.generator.sample_prompts if recipe.generator is not None else ()
        latents.encode_captions(frozen.encoder, frozen.tokenize, extra=extra)
        sets.append(latents)
    return sets


def _generator_stage(recipe: Recipe, model: ModelConfig, report: Report) -> GeneratorStage:
    """The generator's stage on windows of real sound, or on stored couples."""
    assert recipe.generator is not None
    frozen = _frozen(recipe, model)
    if not recipe.generator.couples:
        train, validation = _latent_sets(recipe, model, frozen, report)
        if train is None:
            raise DataError(f"{recipe.data.folder}: no clips in the train split")
        return GeneratorStage(recipe.generator, model, train, validation, frozen.codec)
    origin = origin_of(frozen.checkpoint, frozen.directory)
    couples = CoupleData(Path(recipe.generator.couples), origin)
    texts = {*couples.captions, *recipe.generator.sample_prompts}
    couples.encode(frozen.encoder, frozen.tokenize, texts)
    # Couples need no clips: without a folder there is nothing to validate on, and that is all.
    held = _latent_sets(recipe, model, frozen, report, ("val",)) if recipe.data.folder else [None]
    return GeneratorStage(recipe.generator, model, couples, held[0], frozen.codec)


def build_stage(recipe: Recipe, model: ModelConfig, report: Report) -> Stage:
    """The stage of a recipe with its data loaded."""
    if recipe.codec is not None:
        return CodecStage(recipe.codec, model, *_decoded(recipe, model.audio.sample_rate, report))
    if recipe.text_encoder is not None:
        return TextEncoderStage(recipe.text_encoder, model, Path(recipe.data.cache))
    if recipe.tagger is not None:
        return TaggerStage(recipe.tagger, *_decoded(recipe, recipe.tagger.network.mel.sample_rate, report))
    return _generator_stage(recipe, model, report)


def describe(recipe: Recipe, model: ModelConfig) -> dict[str, Any]:
    """What a recipe would train, without data and without allocating weights."""
    figures: dict[str, Any] = {"recipe": recipe.name, "stage": recipe.stage, "steps": recipe.loop.steps}
    if recipe.stage != "tagger":
        # The codec's constants need numbers; everything else is counted without allocating it.
        with torch.random.fork_rng(), torch.device("cpu" if recipe.stage == "codec" else "meta"):
            module = build_module(recipe.stage, model)
        figures["parameters"] = sum(weight.numel() for weight in module.parameters())
    return figures


def run_recipe(
    recipe: str | Path,
    overrides: list[str] | None = None,
    resume: bool = False,
    output: Path | None = None,
    dry_run: bool = False,
    on_progress: Callable[[Progress], Any] | None = None,
    on_preparation: Report | None = None,
) -> dict[str, Any]:
    """Train what a recipe describes and write it into the recipe's model checkpoint.

    Args:
        recipe: packaged name or TOML file.
        overrides: "key=value" strings.
        resume: go on from the newest checkpoint of the run, if there is one.
        output: run directory; "runs/NAME" if None.
        dry_run: check the recipe and count parameters only.
        on_progress: told about the loop.
        on_preparation: told (what, done, total) while data are decoded and encoded.

    Returns:
        What was trained and where it is.

    Raises:
        ConfigError, DataError, TrainingError: one line each.
    """
    settings = load_recipe(recipe, overrides)
    model = preset(settings.preset)
    figures = describe(settings, model)
    if dry_run:
        return figures
    directory = output or Path("runs") / settings.name
    has_run = (directory / "checkpoints").is_dir() and any((directory / "checkpoints").iterdir())
    if has_run and not resume:
        raise ConfigError(
            f"{directory} holds a run already; pass --resume to go on, or choose another --output"
        )
    stage = build_stage(settings, model, on_preparation or (lambda *_: None))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.json").write_text(json.dumps(to_dict(settings), indent=1) + "\n", encoding="utf-8")
    scalars = Scalars(directory / "tensorboard")

    def report(progress: Progress) -> None:
        scalars(progress)
        if on_progress is not None:
            on_progress(progress)

    trainer = Trainer(stage, settings.loop, directory, settings.digest(), report)
    try:
        if resume and trainer.resume():
            logger.info("resumed at step %d", trainer.step)
        trainer.train()
    finally:
        scalars.close()
    finished = trainer.step >= settings.loop.steps
    if finished:
        trainer.export(Path(settings.checkpoint))
    return {
        **figures,
        "step": trainer.step,
        "finished": finished,
        "run": str(directory),
        "checkpoint": settings.checkpoint,
    }
