"""Stages to one ExecuTorch program: a method per stage, lowered to XNNPACK, dynamic lengths, float or int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from edge_tta.bundle.manifest import STAGES, Delegation, Variant
from edge_tta.config import config_digest
from edge_tta.model.scheme import Scheme
from edge_tta.model.text_encoder import TextEncoder
from edge_tta.runtime.et_program import EtProgram
from export.delegation import delegation_of
from export.recipe import VariantRecipe, check_label, quantization_of
from export.variant import MAIN_OUTPUT, Arrays, ExportedVariant, ExportSource, measure_parity, stage_file
from export.wrappers import ModelParts, StageGraph, stage_graphs
from export.xnnpack_decoder import XnnpackDecoder
from export.xnnpack_generator import XnnpackGenerator, XnnpackSingleStep
from export.xnnpack_partitioner import partitioner
from export.xnnpack_text_encoder import XnnpackTextEncoder
from quantization.executorch import LOGGERS, import_executorch, plan_linears, quantize_linears
from quantization.silence import silenced

PREFIXES = {"text_encoder": "encoder", "generator": "generator", "decoder": "decoder"}
"""What the weights of a stage are called by in quantization recipes."""


@dataclass(frozen=True)
class LoweredProgram:
    """A program and where its operators run."""

    data: bytes
    """The ``.pte`` file."""
    delegation: Mapping[str, Delegation]
    """By method."""


class ExecutorchExporter:
    """Variants for ExecuTorch through XNNPACK.

    Args:
        source: what is exported.

    Raises:
        MissingExtraError: executorch or torchao is absent.
    """

    def __init__(self, source: ExportSource) -> None:
        import_executorch()
        self._source = source
        self._stages = stage_graphs(source.parts, single_step=source.single_step)

    def check(self, recipe: VariantRecipe) -> None:
        """See ``VariantExporter``."""
        quantization = quantization_of(recipe)
        if quantization is None:
            return
        modules = xnnpack_modules(self._source.parts, self._source.single_step)
        schemes: list[Scheme] = []
        for stage, module in modules.items():
            schemes += plan_linears(stage, PREFIXES[stage], module, quantization).values()
        check_label(recipe, schemes)

    def export(self, recipe: VariantRecipe) -> ExportedVariant:
        """See ``VariantExporter``; fp32, and int8 or int4 by a recipe for ExecuTorch."""
        modules, recipes = xnnpack_modules(self._source.parts, self._source.single_step), {}
        quantization = quantization_of(recipe)
        if quantization is not None:
            recipes[quantization.name] = config_digest(quantization)
            with silenced(*LOGGERS):
                for stage, module in modules.items():
                    quantize_linears(stage, PREFIXES[stage], module, quantization)
        self._source.report(f"{recipe.name}: lowering {', '.join(STAGES)}")
        lowered = lower(modules, self._stages)
        self._source.report(f"{recipe.name}: measuring parity")
        file = f"{recipe.name}/model.pte"
        description = {
            "backend": recipe.backend,
            "precision": recipe.precision,
            "stages": {stage: stage_file(file, lowered.data, self._stages[stage]) for stage in STAGES},
            "delegation": lowered.delegation,
            "parity_snr_db": self._parity(lowered.data),
        }
        return ExportedVariant(
            Variant.model_validate(description), {file: lowered.data}, ("executorch", "torchao"), recipes
        )

    def _parity(self, data: bytes) -> dict[str, float]:
        program = EtProgram("the exported program", data)

        def run(stage: str, inputs: Arrays) -> NDArray[Any]:
            names = [port.name for port in self._stages[stage].output_ports]
            return program.run(stage, list(inputs.values()))[names.index(MAIN_OUTPUT[stage])]

        try:
            return measure_parity(self._source.golden, self._stages, run)
        finally:
            program.close()


def xnnpack_modules(parts: ModelParts, single_step: bool) -> dict[str, nn.Module]:
    """Fresh modules of all stages in XNNPACK's layout, with copies of the weights."""
    audio = parts.config.audio
    longest = audio.latent_frames(audio.max_seconds), parts.config.text_encoder.max_tokens
    generator = XnnpackSingleStep if single_step else XnnpackGenerator
    assert isinstance(parts.text_encoder, TextEncoder)  # exporter_of refuses a public T5
    return {
        "text_encoder": XnnpackTextEncoder(parts.text_encoder).eval(),
        "generator": generator(parts.generator, *longest).eval(),
        "decoder": XnnpackDecoder(parts.decoder).eval(),
    }


def lower(modules: Mapping[str, nn.Module], stages: Mapping[str, StageGraph]) -> LoweredProgram:
    """Lower modules to one program with a method each.

    Args:
        modules: modules in XNNPACK's layout by method.
        stages: example inputs and dynamic lengths by method.
    """
    import_executorch()
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with silenced(*LOGGERS), torch.no_grad():
        programs = {
            name: torch.export.export(
                module, stages[name].inputs, dynamic_shapes=stages[name].dynamic_shapes(), strict=False
            )
            for name, module in modules.items()
        }
        edge = to_edge_transform_and_lower(
            programs,
            partitioner={name: [partitioner()] for name in programs},
            # The check of the intermediate form knows no quantized operators.
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        found = {name: delegation_of(edge.exported_program(name).graph_module) for name in programs}
        data = bytes(edge.to_executorch().buffer)
    return LoweredProgram(data, found)
