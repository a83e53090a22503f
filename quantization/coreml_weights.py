"""Weights of a Core ML program in fewer bits, by recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme
from quantization.coreml import LOGGERS, import_coremltools
from quantization.onnx_layers import Layer
from quantization.recipe import QuantizationRecipe
from quantization.silence import silenced

PALETTE_BITS = 4
MAX_PALETTE_ROUNDS = 50
_PRODUCTS = frozenset({"linear", "matmul"})
_TABLES = frozenset({"gather"})


def compress_weights(
    stage: str, model: Any, names: Mapping[str, str], recipe: QuantizationRecipe
) -> tuple[Any, dict[str, Scheme]]:
    """Compress the weights of one stage.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        model: ``coremltools.models.MLModel`` of the stage in halves.
        names: name of the weight in the module by name of the constant in the program, in float32.
        recipe: what to quantize, for the target "coreml".

    Returns:
        The compressed model, or ``model`` where the recipe leaves the stage in float, and the scheme of every
        compressed weight by its name.

    Raises:
        ConfigError: the recipe is for another target, matches no weight with one of its patterns, or compresses
            nothing in a stage it names.
    """
    where = f"recipe {recipe.name}"
    if recipe.target != "coreml":
        raise ConfigError(f"{where} is for {recipe.target}, not for coreml")
    coremltools = import_coremltools()
    with silenced(*LOGGERS):
        constants = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=0)
    weights: dict[str, Layer] = {}
    for constant, found in constants.items():
        name = names.get(constant.removesuffix("_to_fp16"))
        uses = {operation.op_type for operation in found.child_ops}
        if name is not None and found.val.ndim == 2 and uses & (_PRODUCTS | _TABLES):
            weights[constant] = Layer(name, "product" if uses & _PRODUCTS else "table", found.val.shape)
    schemes = plan_weights(stage, list(weights.values()), recipe)
    chosen = {constant: schemes[layer.name] for constant, layer in weights.items() if layer.name in schemes}
    if not chosen:
        return model, {}
    check_shapes([weights[constant] for constant in chosen], schemes, where)
    optimize = coremltools.optimize.coreml
    palettes = {
        constant: optimize.OpPalettizerConfig(
            mode="custom",
            lut_function=palette,
            granularity="per_grouped_channel",
            group_size=scheme.block_size,
            weight_threshold=0,
        )
        for constant, scheme in chosen.items()
        if scheme.weights == "palette4"
    }
    scales = {
        constant: optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype=scheme.weights,
            granularity=f"per_{scheme.granularity}",
            block_size=scheme.block_size or 32,
            weight_threshold=0,
        )
        for constant, scheme in chosen.items()
        if scheme.weights != "palette4"
    }
    with silenced(*LOGGERS):
        if palettes:
            model = optimize.palettize_weights(model, optimize.OptimizationConfig(op_name_configs=palettes))
        if scales:
            model = optimize.linear_quantize_weights(
                model, optimize.OptimizationConfig(op_name_configs=scales)
            )
    packed = _packed(model)
    for constant in chosen:
        if not any(name.startswith(constant) for name in packed):
            raise ConfigError(
                f"{where}: {weights[constant].name} of {stage} cannot be {chosen[constant]}: products that share it "
                "would need other scales; keep it float by a rule"
            )
    return model, schemes


def plan_weights(stage: str, layers: Sequence[Layer], recipe: QuantizationRecipe) -> dict[str, Scheme]:
    """Scheme of every weight that does not stay float, by its name.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        layers: matrices that the program multiplies by or looks up rows of.
        recipe: what to quantize, for the target "coreml".

    Raises:
        ConfigError: the recipe matches no weight with one of its patterns, or compresses nothing in a stage it names.
    """
    where, settings = f"recipe {recipe.name}", recipe.stage(stage)
    recipe.check_patterns(stage, [layer.name for layer in layers])
    if settings.is_float:
        return {}
    chosen = {}
    for layer in layers:
        # Tables are quantized by a rule alone.
        if layer.kind == "product" or settings.rule_of(layer.name) is not None:
            scheme = settings.scheme_of(layer.name, layer.elements)
            if not scheme.is_float:
                chosen[layer.name] = scheme
    if not chosen:
        raise ConfigError(
            f"{where}: no layer of {stage} would be quantized (min_elements {settings.min_elements})"
        )
    return chosen


def check_shapes(layers: Iterable[Layer], schemes: Mapping[str, Scheme], where: str) -> None:
    """Refuse blocks and groups that do not divide a weight: the library leaves it as it is, with a warning nobody sees.

    Args:
        layers: weights [outputs, inputs], or tables [rows, width].
        schemes: of those that do not stay float, by name.
        where: the recipe, for the message.

    Raises:
        ConfigError: names the weight.
    """
    for layer in layers:
        scheme = schemes.get(layer.name, Scheme())
        axis = {"block": 1, "group": 0}.get(scheme.granularity)
        if axis is not None and layer.shape[axis] % scheme.block_size:
            side = ("output channels", "inputs")[axis]
            raise ConfigError(
                f"{where}: {layer.name}: {scheme.granularity}s of {scheme.block_size} do not divide "
                f"{layer.shape[axis]} {side}"
            )


def _packed(model: Any) -> set[str]:
    """Names of the constants of a model that are unpacked while it is loaded."""
    (function,) = model.get_spec().mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return {
        output.name
        for operation in block.operations
        if operation.type.startswith("constexpr_")
        for output in operation.outputs
    }


def palette(weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Sixteen values for the weights of a group, and which of them each weight becomes.

    Lloyd's algorithm (Lloyd, "Least squares quantization in PCM", 1982) on the sorted weights, started from their
    quantiles: no random draw, so equal weights give equal palettes.

    Returns:
        Values [16] of the type of ``weight``, and indices [weights] in the order of ``weight.flatten()``.
    """
    flat = weight.astype(np.float64).reshape(-1)
    ordered = np.sort(flat)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    entries = 2**PALETTE_BITS
    values = np.quantile(ordered, (np.arange(entries) + 0.5) / entries)
    for _ in range(MAX_PALETTE_ROUNDS):
        edges = np.searchsorted(ordered, (values[1:] + values[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [ordered.size]])
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, values)
        if np.array_equal(moved, values):
            break
        values = moved
    table = values.astype(weight.dtype)
    # Rounded to the weights' own type, two entries may have changed places or become one.
    table.sort()
    middles = (table[1:].astype(np.float64) + table[:-1]) / 2
    return table, np.searchsorted(middles, flat).astype(np.uint8)
