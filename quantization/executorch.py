"""The packages of the ExecuTorch target, imported once and quietly, and int8 layers for XNNPACK by recipe."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase

from torch import nn

from edge_tta.errors import ConfigError, MissingExtraError
from edge_tta.model.scheme import Scheme
from quantization.recipe import QuantizationRecipe
from quantization.silence import silenced

LOGGERS = ("executorch", "torchao", "torch.utils._pytree")


def import_executorch() -> None:
    """Import what lowers and quantizes; both print at import, and one configures logging for the whole process.

    Raises:
        MissingExtraError: they are not installed.
    """
    handlers = list(logging.root.handlers)
    try:
        with silenced(*LOGGERS):
            import executorch.backends.xnnpack.partition.xnnpack_partitioner
            import executorch.devtools.backend_debug
            import executorch.exir  # noqa: F401
            import torchao.quantization  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("executorch", "the ExecuTorch target") from error
    finally:
        logging.root.handlers[:] = handlers


def quantize_linears(
    stage: str, prefix: str, module: nn.Module, recipe: QuantizationRecipe
) -> dict[str, Scheme]:
    """Quantize the Linears of one stage in place: integer weights, int8 activations with a scale per token.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        prefix: what the module's weights are called by in recipes, such as "generator".
        module: the stage in a layout whose helpers are no Linears.
        recipe: what to quantize, for the target "executorch".

    Returns:
        Scheme of every quantized layer by the name of its weight.

    Raises:
        ConfigError: the recipe is for another target, matches no layer with one of its patterns, quantizes nothing in
            a stage it names, or asks for a scheme there is no kernel for.
    """
    where, settings = f"recipe {recipe.name}", recipe.stage(stage)
    if recipe.target != "executorch":
        raise ConfigError(f"{where} is for {recipe.target}, not for executorch")
    layers = {
        f"{prefix}.{name}.weight": layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    }
    for rule in settings.layers:
        if not any(fnmatchcase(name, rule.pattern) for name in layers):
            raise ConfigError(f"{where}: '{rule.pattern}' matches no layer of {stage}")
    if settings.is_float:
        return {}
    chosen = {}
    for name, layer in layers.items():
        scheme = settings.scheme_of(name, layer.weight.numel())
        if not scheme.is_float:
            _quantize(layer, scheme, f"{where}: {name}")
            chosen[name] = scheme
    if not chosen:
        raise ConfigError(
            f"{where}: no layer of {stage} would be quantized (min_elements {settings.min_elements})"
        )
    return chosen


def _quantize(layer: nn.Linear, scheme: Scheme, where: str) -> None:
    """Replace the weight of one Linear by integers that XNNPACK multiplies."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    types = {"int8": torch.int8, "int4": getattr(torch, "int4")}  # noqa: B009 - not in torch's own stubs
    if scheme.weights not in types or scheme.activations != "dynamic" or scheme.granularity == "tensor":
        raise ConfigError(
            f"{where}: XNNPACK has kernels for int8 and int4 weights per channel or block with dynamic inputs, not for "
            f"{scheme}"
        )
    if scheme.reduce_range:
        raise ConfigError(
            f"{where}: reduce_range only costs precision, XNNPACK's sums of products cannot saturate"
        )
    grouped = scheme.granularity == "block"
    if grouped and layer.in_features % scheme.block_size:
        raise ConfigError(f"{where}: blocks of {scheme.block_size} do not divide {layer.in_features} inputs")
    quantize_(
        layer,
        Int8DynamicActivationIntxWeightConfig(
            weight_dtype=types[scheme.weights],
            weight_granularity=PerGroup(scheme.block_size) if grouped else PerAxis(0),
        ),
    )
