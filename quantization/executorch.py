"""The packages of the ExecuTorch target, imported once and quietly, and int8 layers for XNNPACK by recipe."""

from __future__ import annotations

import logging

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
        ConfigError: see ``plan_linears``.
    """
    chosen = plan_linears(stage, prefix, module, recipe)
    layers = _linears(prefix, module)
    for name, scheme in chosen.items():
        _quantize(layers[name], scheme)
    return chosen


def plan_linears(stage: str, prefix: str, module: nn.Module, recipe: QuantizationRecipe) -> dict[str, Scheme]:
    """What ``quantize_linears`` would do.

    Raises:
        ConfigError: the recipe is for another target, matches no layer with one of its patterns, quantizes nothing in
            a stage it names, or asks for blocks that do not divide a layer's inputs.
    """
    where, settings = f"recipe {recipe.name}", recipe.stage(stage)
    if recipe.target != "executorch":
        raise ConfigError(f"{where} is for {recipe.target}, not for executorch")
    layers = _linears(prefix, module)
    recipe.check_patterns(stage, layers)
    if settings.is_float:
        return {}
    schemes = {name: settings.scheme_of(name, layer.weight.numel()) for name, layer in layers.items()}
    chosen = {name: scheme for name, scheme in schemes.items() if not scheme.is_float}
    for name, scheme in chosen.items():
        inputs = layers[name].in_features
        if scheme.granularity == "block" and inputs % scheme.block_size:
            raise ConfigError(f"{where}: {name}: blocks of {scheme.block_size} do not divide {inputs} inputs")
    if not chosen:
        raise ConfigError(
            f"{where}: no layer of {stage} would be quantized (min_elements {settings.min_elements})"
        )
    return chosen


def _linears(prefix: str, module: nn.Module) -> dict[str, nn.Linear]:
    """Linears by the name of their weight."""
    return {
        f"{prefix}.{name}.weight": layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    }


def _quantize(layer: nn.Linear, scheme: Scheme) -> None:
    """Replace the weight of one Linear by integers that XNNPACK multiplies."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    types = {"int8": torch.int8, "int4": getattr(torch, "int4")}  # noqa: B009 - not in torch's own stubs
    grouped = scheme.granularity == "block"
    quantize_(
        layer,
        Int8DynamicActivationIntxWeightConfig(
            weight_dtype=types[scheme.weights],
            weight_granularity=PerGroup(scheme.block_size) if grouped else PerAxis(0),
        ),
    )
