"""Export recipes: which variants a bundle gets, each the model for one backend in one precision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme
from quantization.recipe import QuantizationRecipe, load_recipe, precision_of, read_recipe

Backend = Literal["ort", "executorch", "coreml"]
PRECISIONS = {
    ("ort", "xnnpack"): ("fp32", "int8", "int4"),
    ("executorch", "xnnpack"): ("fp32", "int8", "int4"),
    ("executorch", "coreml"): ("fp32", "fp16"),
    ("coreml", "xnnpack"): ("fp32", "fp16", "int8", "int4"),
}
"""What is made for a backend and delegate. Halves are slower than float32 on CPUs without such arithmetic; ExecuTorch's
Core ML delegate compresses all weights or none, and some must stay float."""


@dataclass(frozen=True)
class VariantRecipe:
    """Settings of one variant."""

    backend: Backend
    precision: Literal["fp32", "fp16", "int8", "int4"]
    """What users choose by. "fp32", "fp16": nothing is quantized, the model computes in float32, or in halves where
    those suffice; "int8", "int4": see ``quantization.recipe.precision_of``."""
    quantization: str | None = None
    """Quantization recipe, packaged or a TOML file; needed for int8 and int4, and for nothing else."""
    delegate: Literal["xnnpack", "coreml"] = "xnnpack"
    """What an ExecuTorch program hands its work to; means nothing for other backends."""
    seconds: tuple[float, ...] = ()
    """The only durations a Core ML variant is made for, so that a device can prepare each; empty for any duration."""
    label: str = ""
    """End of the variant's name where the precision does not tell variants apart."""

    def __post_init__(self) -> None:
        if self.delegate != "xnnpack" and self.backend != "executorch":
            raise ConfigError(f"{self.name} has no delegate")
        if self.seconds and self.backend != "coreml":
            raise ConfigError(f"{self.name} takes any duration; only Core ML variants are made for some")
        made = PRECISIONS[self.target]
        if self.precision not in made:
            through = f" through {self.delegate}" if self.backend == "executorch" else ""
            raise ConfigError(
                f"{self.name}: for {self.backend}{through} there are {', '.join(made)}, not {self.precision}"
            )
        if (self.precision in ("int8", "int4")) != (self.quantization is not None):
            wanted = "needs" if self.quantization is None else "has no use for"
            raise ConfigError(f"{self.name} {wanted} a quantization recipe")

    @property
    def target(self) -> tuple[str, str]:
        """Backend and delegate: variants that agree in them are made by one exporter."""
        return self.backend, self.delegate

    @property
    def name(self) -> str:
        """Name of the variant and of its directory in the bundle."""
        runtime = f"et-{self.delegate}" if self.backend == "executorch" else self.backend
        return f"{runtime}-{self.label or self.precision}"


@dataclass(frozen=True)
class ExportRecipe:
    """What to export."""

    name: str
    variants: tuple[VariantRecipe, ...]
    single_step: bool = False
    """Fold what depends only on time and duration for one step from t = 1 to r = 0; the bundle then takes one step."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if not names:
            raise ConfigError("no variants")
        if len(set(names)) != len(names):
            raise ConfigError(f"a variant appears twice: {', '.join(names)}")


def load_export_recipe(name: str) -> ExportRecipe:
    """A packaged recipe by name, or a TOML file.

    Raises:
        ConfigError: unknown name or malformed file.
    """
    return read_recipe(ExportRecipe, "export", name)


def quantization_of(variant: VariantRecipe) -> QuantizationRecipe | None:
    """The quantization recipe of a variant; None for one in float.

    Raises:
        ConfigError: unknown name, malformed file, or a recipe for another runtime or another precision than the
            variant's label.
    """
    if variant.quantization is None:
        return None
    recipe = load_recipe(variant.quantization)
    target = "onnx" if variant.backend == "ort" else variant.backend
    if recipe.target != target:
        raise ConfigError(f"{variant.name}: recipe {recipe.name} is for {recipe.target}, not for {target}")
    if recipe.precision != variant.precision:
        raise ConfigError(
            f"{variant.name} is labelled {variant.precision}, but recipe {recipe.name} makes {recipe.precision} of it: "
            f"the label says the fewest bits of a quantized weight"
        )
    return recipe


def check_quantizations(recipe: ExportRecipe, calibrates: bool) -> dict[str, QuantizationRecipe]:
    """The quantization recipes of the variants that have one, by the variant's name.

    Args:
        recipe: what is to be exported.
        calibrates: whether a list of calibration requests was given.

    Raises:
        ConfigError: see ``quantization_of``; or there is a list, and no recipe has static ranges.
    """
    pairs = [(variant.name, quantization_of(variant)) for variant in recipe.variants]
    found = {name: quantization for name, quantization in pairs if quantization is not None}
    if calibrates and not any(quantization.is_static for quantization in found.values()):
        names = ", ".join(variant.name for variant in recipe.variants)
        raise ConfigError(
            f"a calibration list is for recipes with static ranges, such as onnx-int8-static; {names} have none"
        )
    return found


def check_label(variant: VariantRecipe, schemes: Iterable[Scheme]) -> None:
    """Refuse a variant whose layers, as the model has them, are in another precision than it is labelled.

    Args:
        variant: with a quantization recipe, whose schemes ``quantization_of`` has held against the label.
        schemes: of all quantized layers of all stages.

    Raises:
        ConfigError: the recipe's four-bit schemes reach no layer.
    """
    found = precision_of(schemes)
    if found != variant.precision:
        raise ConfigError(
            f"{variant.name} is labelled {variant.precision}, but recipe {variant.quantization} puts no weight of this "
            f"model into four bits; it makes {found or 'float'}"
        )


def recipe_by_quantization(names: Sequence[str], float_beside: bool = False) -> ExportRecipe:
    """Variants by quantization recipes, each for the runtime that its recipe is for.

    Args:
        names: packaged quantization recipes, or TOML files; at least one.
        float_beside: add the float variant of each runtime, to hold them against on the device.

    Raises:
        ConfigError: unknown name, malformed file, or a recipe that quantizes nothing.
    """
    variants = []
    for name in names:
        quantization = load_recipe(name)
        backend: Backend = "ort" if quantization.target == "onnx" else quantization.target
        label = quantization.name.removeprefix(f"{quantization.target}-")
        variants.append(VariantRecipe(backend, quantization.precision, name, label=label))
    if float_beside:
        for backend in dict.fromkeys(variant.backend for variant in variants):
            variants.append(VariantRecipe(backend, "fp16" if backend == "coreml" else "fp32"))
    return ExportRecipe("+".join(load_recipe(name).name for name in names), tuple(variants))


def join_recipes(
    recipes: Sequence[ExportRecipe],
    precisions: Collection[str] | None = None,
    single_step: bool | None = None,
) -> ExportRecipe:
    """One recipe with the variants of several.

    Args:
        recipes: at least one.
        precisions: keep only variants in these; None keeps all.
        single_step: overrides what the recipes say.

    Raises:
        ConfigError: the recipes disagree about ``single_step``, name a variant twice, or nothing is left.
    """
    if single_step is not None:
        recipes = [replace(recipe, single_step=single_step) for recipe in recipes]
    if len({recipe.single_step for recipe in recipes}) != 1:
        raise ConfigError("the recipes disagree about single_step; a bundle has one limit of steps")
    chosen = [
        variant
        for recipe in recipes
        for variant in recipe.variants
        if precisions is None or variant.precision in precisions
    ]
    name = "+".join(recipe.name for recipe in recipes)
    if not chosen:
        raise ConfigError(f"{name} has no variant in {', '.join(sorted(precisions or ()))}")
    return ExportRecipe(name, tuple(chosen), recipes[0].single_step)
