"""A checkpoint becomes a bundle: every variant of a recipe, golden vectors, card and attributions."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import check_target, write_bundle
from edge_tta.bundle.entries import MAX_PARTS, MIN_PART_BYTES
from edge_tta.bundle.manifest import Provenance, Variant
from edge_tta.config import config_digest
from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import ModelCheckpoint
from edge_tta.text import Tokenizer
from export.bundle_text import BundleText
from export.description import check_description, describe_bundle
from export.golden import archive, golden_arrays, golden_frames
from export.recipe import ExportRecipe, check_quantizations
from export.temporary import own_temporary_folder
from export.variant import ExportSource, VariantExporter, exporter_of
from export.wrappers import ModelParts, stage_graphs
from quantization.calibration import CalibrationList, read_calibration
from quantization.module_layers import module_layers


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
        BundleError: something that is no bundle is at ``target``.
        ConfigError: a part is missing, or a recipe, ``text``, ``max_file_bytes`` or ``calibration`` does not fit.
        MissingExtraError: a target needs a package that is absent.
        OutputError: the bundle cannot be written.
    """
    # Whatever can be refused is refused first, in the order of what it costs: not after an hour of work.
    check_target(target)
    if max_file_bytes is not None and max_file_bytes < MIN_PART_BYTES:
        raise ConfigError(f"files of {max_file_bytes} bytes are too small, the least is {MIN_PART_BYTES}")
    quantizations = check_quantizations(recipe, calibrates=calibration is not None)
    parts, tokenizer_bytes = complete_parts(checkpoint)
    config = parts.config
    tokenizer = Tokenizer(tokenizer_bytes, config.text_encoder.max_tokens)
    if tokenizer.vocab_size > config.text_encoder.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the model {config.text_encoder.vocab_size}"
        )
    frames = golden_frames(recipe, config.audio)
    files = {
        "tokenizer.model": tokenizer_bytes,
        "MODEL_CARD.md": text.model_card.encode(),
        "ATTRIBUTIONS.csv": text.attributions.encode(),
    }
    check_description(config, text, recipe, files, quantizations)
    if max_file_bytes is not None:
        check_sizes(recipe, parts, max_file_bytes)
    report = on_progress or (lambda _: None)
    golden = golden_arrays(parts, tokenizer, frames)
    source = ExportSource(
        parts, tokenizer, golden, recipe.single_step, report, calibration or read_calibration()
    )
    exporters: dict[tuple[str, str], VariantExporter] = {}
    for variant in recipe.variants:
        if variant.target not in exporters:
            exporters[variant.target] = exporter_of(variant, source)
    for variant in recipe.variants:
        exporters[variant.target].check(variant)
    entries: dict[str, Variant] = {}
    recipes, tools = {"export": config_digest(recipe)}, {"torch"}
    with own_temporary_folder():
        for variant in recipe.variants:
            report(f"{variant.name}: starting")
            made = exporters[variant.target].export(variant)
            entries[variant.name] = in_parts(made.entry, max_file_bytes, report)
            files |= made.files
            recipes |= made.recipes
            tools |= set(made.tools)
    files["golden.npz"] = archive(source.golden)
    provenance = Provenance(
        commit=text.commit,
        checkpoint=text.checkpoint,
        recipes=recipes,
        tools={name: version(name) for name in sorted(tools)},
    )
    manifest = describe_bundle(config, text, recipe, files, entries, provenance)
    report("writing")
    return write_bundle(target, manifest, files)


def in_parts(variant: Variant, max_file_bytes: int | None, report: Callable[[str], Any]) -> Variant:
    """The entry of a variant whose graphs are stored in files of at most so many bytes; Core ML's stay whole.

    Raises:
        ConfigError: a graph would have to be in more parts than a bundle may have.
    """
    large = {entry.file for entry in variant.files() if max_file_bytes and entry.bytes > max_file_bytes}
    if large and variant.backend == "coreml":
        report(f"{min(large)} is larger than was asked for: a Core ML package cannot be stored in parts")
        return variant
    if max_file_bytes is not None:
        for stage in variant.stages.values():
            _check_parts(stage.file, stage.bytes, max_file_bytes)
    stages = {
        name: stage.model_copy(update={"part_bytes": max_file_bytes}) if stage.file in large else stage
        for name, stage in variant.stages.items()
    }
    return variant.model_copy(update={"stages": stages})


def check_sizes(recipe: ExportRecipe, parts: ModelParts, max_file_bytes: int) -> None:
    """Refuse a limit so small that the bare weights of a variant's graph would need more parts than a bundle may have.

    Raises:
        ConfigError: see ``in_parts``, which knows all bytes of the graph.
    """
    graphs = stage_graphs(parts, single_step=recipe.single_step).values()
    weights = [sum(layer.elements for layer in module_layers(graph.module, graph.inputs)) for graph in graphs]
    for variant in recipe.variants:
        if variant.backend != "coreml":
            bits = {"int4": 4, "int8": 8}.get(variant.precision, 16)
            least = (sum(weights) if variant.backend == "executorch" else max(weights)) * bits // 8
            _check_parts(f"the largest graph of {variant.name}", least, max_file_bytes)


def _check_parts(name: str, size: int, max_file_bytes: int) -> None:
    if size > MAX_PARTS * max_file_bytes:
        raise ConfigError(
            f"{name} has at least {size} bytes, more than {MAX_PARTS} parts of {max_file_bytes}; "
            f"allow files of {-(-size // (MAX_PARTS * 2**20))} MiB or more"
        )


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
