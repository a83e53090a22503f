"""Running a recipe: data, stage and loop put together."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edge_tta.config import ModelConfig, to_dict
from edge_tta.errors import ConfigError, DataError
from edge_tta.model.checkpoint import build_module, require_model
from edge_tta.model.presets import preset
from edge_tta.train.checkpoint import newest_plain_values
from edge_tta.train.clips import Report, decoded_clips
from edge_tta.train.couple_data import CoupleData, origin_of
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data_summary import DataSummary, summarise
from edge_tta.train.definition import Definition
from edge_tta.train.frozen import FrozenParts, load_frozen
from edge_tta.train.latent_sets import encode_captions, latent_sets
from edge_tta.train.loop import Trainer
from edge_tta.train.processes import Processes, is_main_process
from edge_tta.train.progress import Progress
from edge_tta.train.public_text import with_public_text
from edge_tta.train.recipes import Recipe, load_recipe
from edge_tta.train.stage import Stage
from edge_tta.train.stages.codec import CodecStage
from edge_tta.train.stages.envelope import EnvelopeStage
from edge_tta.train.stages.generator import GeneratorStage
from edge_tta.train.stages.tagger import TaggerStage
from edge_tta.train.stages.text_encoder import TextEncoderStage
from edge_tta.train.stages.wording import WordingStage
from edge_tta.train.track import Scalars
from edge_tta.train.wordings import WordingPool

logger = logging.getLogger(__name__)


def frozen_parts(recipe: Recipe, model: ModelConfig) -> FrozenParts:
    """Codec and text of a generator recipe, once start and teacher are known to be made for the same.

    Raises:
        ConfigError: a part is missing or does not fit.
        DataError: a folder of public weights is missing or damaged.
    """
    config = recipe.generator
    assert config is not None
    frozen = load_frozen(
        model,
        Path(recipe.checkpoint),
        Path(config.codec) if config.codec else None,
        config.public_text,
        Path(recipe.data.cache) / "text",
    )
    for directory in (config.start, "" if config.couples else config.teacher):
        if directory:
            frozen.require_text_of(Path(directory))
            frozen.require_latents_of(Path(directory))
    return frozen


def _generator_stage(recipe: Recipe, model: ModelConfig, report: Report) -> GeneratorStage:
    """The generator's stage on windows of real sound, or on stored couples."""
    assert recipe.generator is not None
    frozen = frozen_parts(recipe, model)
    if not recipe.generator.couples:
        train, validation = latent_sets(recipe, model, frozen, report)
        if train is None:
            raise DataError(f"{recipe.data.folder}: no clips in the train split")
        wordings = None
        if recipe.generator.text.active:
            labels = [label for record in train.records for label in record["labels"]]
            captioner = Captioner.load(recipe.data.captions)
            wordings = WordingPool(recipe.generator.text, captioner, labels, train, recipe.data.seed)
            encode_captions(train, wordings.captions, frozen, report)
        return GeneratorStage(recipe.generator, model, train, validation, frozen, wordings)
    couples = CoupleData(Path(recipe.generator.couples), origin_of(frozen.codec, frozen.text))
    encode_captions(couples, {*couples.captions, *recipe.generator.sample_prompts}, frozen, report)
    # Couples need no clips: without any there is nothing to validate on, and that is all.
    given = recipe.data.folder or recipe.data.latents
    held = latent_sets(recipe, model, frozen, report, ("val",)) if given else [None]
    return GeneratorStage(recipe.generator, model, couples, held[0], frozen)


def model_of(recipe: Recipe) -> ModelConfig:
    """The model a recipe trains a part of: its preset, told its texts by public networks where it has any.

    Raises:
        ConfigError: unknown preset, or public text without a T5.
        DataError: a folder of public weights cannot be read.
    """
    model = preset(recipe.preset)
    public = None if recipe.generator is None else recipe.generator.public_text
    return model if public is None else with_public_text(model, public)


def build_stage(recipe: Recipe, model: ModelConfig, report: Report) -> Stage:
    """The stage of a recipe with its data loaded."""
    if recipe.codec is not None:
        return CodecStage(recipe.codec, model, *decoded_clips(recipe.data, model.audio.sample_rate, report))
    if recipe.envelope is not None:
        decoded = decoded_clips(recipe.data, model.audio.sample_rate, report)
        return EnvelopeStage(recipe.envelope, model, *decoded, report)
    if recipe.text_encoder is not None:
        captioner = Captioner.load(recipe.data.captions)
        return TextEncoderStage(recipe.text_encoder, model, captioner, Path(recipe.data.cache))
    if recipe.text_wordings is not None:
        return WordingStage(recipe.text_wordings, model, Path(recipe.checkpoint))
    if recipe.tagger is not None:
        return TaggerStage(
            recipe.tagger, *decoded_clips(recipe.data, recipe.tagger.network.mel.sample_rate, report)
        )
    return _generator_stage(recipe, model, report)


def describe(recipe: Recipe, model: ModelConfig) -> dict[str, Any]:
    """What a recipe would train, without data and without allocating weights."""
    figures: dict[str, Any] = {"recipe": recipe.name, "stage": recipe.stage, "steps": recipe.loop.steps}
    if recipe.part is not None:
        # The codec's constants need numbers; everything else is counted without allocating it.
        with torch.random.fork_rng(), torch.device("cpu" if recipe.part == "codec" else "meta"):
            module = build_module(recipe.part, model)
        figures["parameters"] = sum(weight.numel() for weight in module.parameters())
    return figures


def _open_run(directory: Path, recipe: Recipe, data: DataSummary | None) -> Scalars:
    """A run's directory with its recipe and what it learns from, and its scalars."""
    directory.mkdir(parents=True, exist_ok=True)
    records = {"recipe": to_dict(recipe), **({} if data is None else {"data": data.plain()})}
    for name, plain in records.items():
        (directory / f"{name}.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return Scalars(directory / "tensorboard")


def run_recipe(
    recipe: str | Path,
    overrides: list[str] | None = None,
    resume: bool = False,
    output: Path | None = None,
    dry_run: bool = False,
    on_progress: Callable[[Progress], Any] | None = None,
    on_preparation: Report | None = None,
    on_data: Callable[[DataSummary], Any] | None = None,
) -> dict[str, Any]:
    """Train what a recipe describes and write it into the recipe's model checkpoint.

    Of the processes that torchrun started, the main one prepares the data before the others and alone writes the run
    and the model.

    Args:
        recipe: packaged name or TOML file.
        overrides: "key=value" strings.
        resume: go on from the newest checkpoint of the run, if there is one.
        output: run directory; "runs/NAME" if None.
        dry_run: check the recipe, count parameters and open the data only.
        on_progress: told about the loop, in the main process.
        on_preparation: told (what, done, total) while data are opened, decoded and encoded, in the main process.
        on_data: told what is learnt from before anything is decoded, in the main process; not where a recipe that is
            not run yet names no data.

    Returns:
        What was trained, from what, and where it is.

    Raises:
        ConfigError, DataError, TrainingError: one line each.
    """
    settings = load_recipe(recipe, overrides)
    model = model_of(settings)
    figures = describe(settings, model)
    tell = on_preparation if on_preparation is not None and is_main_process() else (lambda *_: None)

    def look_at_data() -> DataSummary | None:
        data = summarise(settings, tell)
        figures["data"] = None if data is None else data.plain()
        if data is not None and on_data is not None:
            on_data(data)
        return data

    if dry_run:
        look_at_data()
        return figures
    if settings.part is not None:
        require_model(Path(settings.checkpoint), model)
    directory = output or Path("runs") / settings.name
    has_run = (directory / "checkpoints").is_dir() and any((directory / "checkpoints").iterdir())
    if has_run and not resume:
        raise ConfigError(
            f"{directory} holds a run already; pass --resume to go on, or choose another --output"
        )
    if stored := newest_plain_values(directory / "checkpoints") if has_run else None:
        # Before data are prepared for settings that are refused.
        Definition(settings.settings()).require_settings(stored, directory)
    processes = Processes(settings.loop.device)
    # The others find decoded clips, latents and text features in the cache.
    with processes.main_first():
        data = look_at_data() if processes.is_main else None
        stage = build_stage(settings, model, tell)
    scalars: Scalars | None = None

    def report(progress: Progress) -> None:
        if scalars is not None:
            scalars(progress)
        if on_progress is not None:
            on_progress(progress)

    trainer = Trainer(stage, settings.loop, directory, settings.settings(), report, processes)
    try:
        if resume and trainer.resume():
            logger.info("resumed at step %d", trainer.step)
        # Not before: a run of another recipe that is refused keeps its own on record.
        scalars = _open_run(directory, settings, data) if processes.is_main else None
        trainer.train()
    finally:
        if scalars is not None:
            scalars.close()
    finished = trainer.step >= settings.loop.steps
    # Nobody returns before the checkpoint is there.
    with processes.main_first():
        if finished and processes.is_main:
            trainer.export(Path(settings.checkpoint))
    return {
        **figures,
        "step": trainer.step,
        "finished": finished,
        "stopped_by": trainer.stopped_by,
        "run": str(directory),
        "checkpoint": settings.checkpoint,
    }
