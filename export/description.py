"""The manifest of an exported bundle, made twice: as a draft that is checked before the work, and when all is there."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from edge_tta.bundle.assemble import describe
from edge_tta.bundle.entries import INPUTS, OUTPUTS
from edge_tta.bundle.manifest import STAGES, Manifest, Provenance, Variant, first_reason
from edge_tta.config import ModelConfig, config_digest, to_dict
from edge_tta.errors import ConfigError
from export.bundle_text import BundleText
from export.recipe import ExportRecipe
from quantization.recipe import QuantizationRecipe


def describe_bundle(
    config: ModelConfig,
    text: BundleText,
    recipe: ExportRecipe,
    files: Mapping[str, bytes],
    variants: Mapping[str, Variant],
    provenance: Provenance,
) -> Manifest:
    """The manifest, not yet sealed.

    Args:
        config: of the model.
        text: what the bundle says about itself.
        recipe: what was exported.
        files: bytes by path; tokenizer, golden arrays, model card and attributions are described here.
        variants: entries by name.
        provenance: where all of it comes from.

    Raises:
        ValidationError: something that is not allowed in a manifest.
    """
    generation = (
        text.generation.model_copy(update={"max_steps": 1}) if recipe.single_step else text.generation
    )
    tokenizer = describe("tokenizer.model", files["tokenizer.model"]).model_dump()
    return Manifest.model_validate(
        {
            "schema_version": 1,
            "name": config.name,
            "version": text.version,
            "description": text.description,
            "licence": text.licence,
            "training_data": text.training_data,
            "config": to_dict(config),
            "config_digest": config.digest(),
            "tokenizer": {**tokenizer, "max_tokens": config.text_encoder.max_tokens},
            "variants": dict(variants),
            "generation": generation,
            "golden": describe("golden.npz", files["golden.npz"]),
            "model_card": describe("MODEL_CARD.md", files["MODEL_CARD.md"]),
            "attributions": describe("ATTRIBUTIONS.csv", files["ATTRIBUTIONS.csv"]),
            "provenance": provenance,
        }
    )


def check_description(
    config: ModelConfig,
    text: BundleText,
    recipe: ExportRecipe,
    files: Mapping[str, bytes],
    quantizations: Mapping[str, QuantizationRecipe],
) -> None:
    """Refuse, before anything is exported, names and texts that no manifest may have.

    Args:
        config: of the model.
        text: what the bundle is to say about itself.
        recipe: what is to be exported.
        files: tokenizer, model card and attributions by path.
        quantizations: quantization recipes by the name of their variant.

    Raises:
        ConfigError: names what is not allowed.
    """
    for name, data in files.items():
        if not data:
            raise ConfigError(f"{name} is empty; a bundle needs it")
    recipes = {"export": config_digest(recipe)}
    for name, quantization in quantizations.items():
        digest = config_digest(quantization)
        if recipes.setdefault(quantization.name, digest) != digest:
            raise ConfigError(
                f"{name}: another recipe is called {quantization.name} too, and provenance tells them apart by name"
            )
    try:
        provenance = Provenance(commit=text.commit, checkpoint=text.checkpoint, recipes=recipes)
        variants = {variant.name: _placeholder(variant.name) for variant in recipe.variants}
        describe_bundle(config, text, recipe, {**files, "golden.npz": b"later"}, variants, provenance)
    except ValidationError as error:
        raise ConfigError(f"no bundle can be made of this: {first_reason(error)}") from error


def _placeholder(name: str) -> Variant:
    """An entry of the variant with the names that it will have, and nothing else of it."""
    stages = {
        stage: {
            **describe(f"{stage}.onnx", b"later").model_dump(),
            "inputs": [{"name": port, "dtype": "float32", "shape": []} for port in sorted(INPUTS[stage])],
            "outputs": [{"name": port, "dtype": "float32", "shape": []} for port in OUTPUTS[stage]],
        }
        for stage in STAGES
    }
    return Variant.model_validate({"backend": "ort", "precision": "fp32", "stages": stages})
