"""A checkpoint becomes a bundle: every variant of a recipe, golden vectors, card and attributions."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import describe, write_bundle
from edge_tta.bundle.entries import MIN_PART_BYTES
from edge_tta.bundle.manifest import Manifest, Provenance, TokenizerFile, Variant
from edge_tta.config import config_digest, to_dict
from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import ModelCheckpoint
from edge_tta.text import Tokenizer
from export.bundle_text import BundleText
from export.golden import archive, golden_arrays, golden_frames
from export.recipe import ExportRecipe, quantization_of
from export.variant import ExportedVariant, ExportSource, VariantExporter, exporter_of
from export.wrappers import ModelParts
from quantization.calibration import CalibrationList, read_calibration


def export_bundle(
    checkpoint: ModelCheckpoint,
    target: Path,
    text: BundleText,
    recipe: ExportRecipe,
    on_progress: Callable[[str], Any] | None = None,
    max_file_bytes: int | None = None,
    calibration: CalibrationList | None = None,
) -> Bundle:
    """Export a complete checkpoint and write the bundle.

    Args:
        checkpoint: all parts and the tokenizer.
        target: bundle directory.
        text: what the bundle says about itself.
        recipe: variants to include; several targets are joined by ``export.recipe.join_recipes``.
        on_progress: told what is being done.
        max_file_bytes: larger graphs are stored in parts of this size; None for one file each.
        calibration: requests to find static ranges on; None for the packaged ones.

    Raises:
        ConfigError: a part is missing, or a recipe, ``max_file_bytes`` or ``calibration`` does not fit.
        MissingExtraError: a target needs a package that is absent.
        OutputError: the bundle cannot be written.
    """
    if max_file_bytes is not None and max_file_bytes < MIN_PART_BYTES:
        raise ConfigError(f"files of {max_file_bytes} bytes are too small, the least is {MIN_PART_BYTES}")
    quantizations = [quantization_of(variant) for variant in recipe.variants]
    if calibration is not None and not any(found is not None and found.is_static for found in quantizations):
        names = ", ".join(variant.name for variant in recipe.variants)
        raise ConfigError(
            f"a calibration list is for recipes with static ranges, such as onnx-int8-static; {names} have none"
        )
    parts, tokenizer_bytes = complete_parts(checkpoint)
    config = parts.config
    tokenizer = Tokenizer(tokenizer_bytes, config.text_encoder.max_tokens)
    if tokenizer.vocab_size > config.text_encoder.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the model {config.text_encoder.vocab_size}"
        )
    report = on_progress or (lambda _: None)
    golden = golden_arrays(parts, tokenizer, golden_frames(recipe, config.audio))
    source = ExportSource(
        parts, tokenizer, golden, recipe.single_step, report, calibration or read_calibration()
    )
    # All exporters first: what is missing is told before an hour of work, not after it.
    exporters: dict[tuple[str, str], VariantExporter] = {}
    for variant in recipe.variants:
        if variant.target not in exporters:
            exporters[variant.target] = exporter_of(variant, source)
    made: dict[str, ExportedVariant] = {}
    for variant in recipe.variants:
        report(f"{variant.name}: starting")
        made[variant.name] = exporters[variant.target].export(variant)
    files = {name: data for variant in made.values() for name, data in variant.files.items()}
    files["tokenizer.model"] = tokenizer_bytes
    files["golden.npz"] = archive(source.golden)
    files["MODEL_CARD.md"] = text.model_card.encode()
    files["ATTRIBUTIONS.csv"] = text.attributions.encode()
    generation = (
        text.generation.model_copy(update={"max_steps": 1}) if recipe.single_step else text.generation
    )
    manifest = Manifest(
        schema_version=1,
        name=config.name,
        version=text.version,
        description=text.description,
        licence=text.licence,
        training_data=text.training_data,
        config=to_dict(config),
        config_digest=config.digest(),
        tokenizer=TokenizerFile(
            **describe("tokenizer.model", tokenizer_bytes).model_dump(),
            max_tokens=config.text_encoder.max_tokens,
        ),
        variants={name: in_parts(variant.entry, max_file_bytes, report) for name, variant in made.items()},
        generation=generation,
        golden=describe("golden.npz", files["golden.npz"]),
        model_card=describe("MODEL_CARD.md", files["MODEL_CARD.md"]),
        attributions=describe("ATTRIBUTIONS.csv", files["ATTRIBUTIONS.csv"]),
        provenance=_provenance(text, recipe, made),
    )
    report("writing")
    return write_bundle(target, manifest, files)


def in_parts(variant: Variant, max_file_bytes: int | None, report: Callable[[str], Any]) -> Variant:
    """The entry of a variant whose graphs are stored in files of at most so many bytes; Core ML's stay whole."""
    large = {entry.file for entry in variant.files() if max_file_bytes and entry.bytes > max_file_bytes}
    if large and variant.backend == "coreml":
        report(f"{min(large)} is larger than was asked for: a Core ML package cannot be stored in parts")
        return variant
    stages = {
        name: stage.model_copy(update={"part_bytes": max_file_bytes}) if stage.file in large else stage
        for name, stage in variant.stages.items()
    }
    return variant.model_copy(update={"stages": stages})


def complete_parts(checkpoint: ModelCheckpoint) -> tuple[ModelParts, bytes]:
    """Parts and tokenizer of a checkpoint.

    Raises:
        ConfigError: one of them is missing.
    """
    text_encoder, generator, codec = checkpoint.text_encoder, checkpoint.generator, checkpoint.codec
    if text_encoder is None or generator is None or codec is None or checkpoint.tokenizer is None:
        raise ConfigError(
            "the checkpoint is incomplete: text_encoder, generator, codec and tokenizer.model are needed"
        )
    return ModelParts(checkpoint.config, text_encoder, generator, codec.decoder), checkpoint.tokenizer


def _provenance(text: BundleText, recipe: ExportRecipe, made: dict[str, ExportedVariant]) -> Provenance:
    recipes = {"export": config_digest(recipe)}
    tools = {"torch"}
    for variant in made.values():
        recipes |= variant.recipes
        tools |= set(variant.tools)
    return Provenance(
        commit=text.commit,
        checkpoint=text.checkpoint,
        recipes=recipes,
        tools={name: version(name) for name in sorted(tools)},
    )
