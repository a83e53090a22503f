"""Variants for Core ML: one package with the three stages as functions, checked by running its saved program."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tta.bundle.assemble import describe
from edge_tta.bundle.coreml_package import COMPANIONS, MODEL_FILE, PACKAGE_SUFFIX
from edge_tta.bundle.manifest import STAGES, Port, Variant
from edge_tta.config import config_digest
from edge_tta.model.scheme import Scheme
from export.coreml_package import multifunction_package, write_package
from export.coreml_stage import StageModel, convert_stage
from export.mil_interpreter import MilInterpreter
from export.recipe import VariantRecipe, check_label, quantization_of
from export.variant import (
    MAIN_OUTPUT,
    Arrays,
    ExportedVariant,
    ExportSource,
    calibrated,
    measure_parity,
    stage_file,
)
from export.wrappers import StageGraph, stage_graphs
from quantization.calibration import CalibrationSound, GraphModel, stage_inputs
from quantization.coreml import import_coremltools
from quantization.coreml_activations import input_ranges, static_inputs
from quantization.coreml_weights import check_shapes, compress_weights, plan_weights
from quantization.module_layers import module_layers
from quantization.recipe import QuantizationRecipe

PACKAGE = f"model{PACKAGE_SUFFIX}"


class _ModuleSession:
    """A stage's module, asked as a session of ONNX Runtime is."""

    def __init__(self, stage: StageGraph) -> None:
        self._stage = stage

    def get_inputs(self) -> Sequence[Port]:
        """Inputs with their ``name``, in order."""
        return self._stage.input_ports

    def run(self, outputs: Sequence[str] | None, inputs: Arrays) -> list[NDArray[Any]]:
        """Outputs by name, or all in order."""
        given = [torch.from_numpy(inputs[port.name]) for port in self._stage.input_ports]
        with torch.inference_mode():
            found = self._stage.module(*given)
        names = [port.name for port in self._stage.output_ports]
        values = dict(zip(names, found if isinstance(found, tuple) else (found,), strict=True))
        return [values[name].numpy() for name in (names if outputs is None else outputs)]


class CoreMLExporter:
    """Variants for Core ML; the converted float stages are made once and shared.

    Args:
        source: what is exported.

    Raises:
        MissingExtraError: coremltools is absent.
    """

    def __init__(self, source: ExportSource) -> None:
        import_coremltools()
        self._source = source
        # Core ML has attention as an operator of its own.
        self._stages = stage_graphs(source.parts, explicit_attention=False, single_step=source.single_step)
        self._converted: dict[tuple[str, str, tuple[float, ...]], StageModel] = {}
        self._sounds: tuple[CalibrationSound, ...] = ()

    def check(self, recipe: VariantRecipe) -> None:
        """See ``VariantExporter``."""
        quantization = quantization_of(recipe)
        if quantization is None:
            return
        schemes: list[Scheme] = []
        for stage in STAGES:
            graph = self._stages[stage]
            layers = [
                layer for layer in module_layers(graph.module, graph.inputs) if layer.kind != "convolution"
            ]
            chosen = plan_weights(stage, layers, quantization)
            # The converter may turn fixed matrices; what is learnt lies in the program as it does in the module.
            learnt = dict(graph.module.named_parameters())
            where = f"recipe {quantization.name}"
            check_shapes([layer for layer in layers if layer.name in learnt], chosen, where)
            schemes += chosen.values()
        check_label(recipe, schemes)

    def export(self, recipe: VariantRecipe) -> ExportedVariant:
        """See ``VariantExporter``: fp32, fp16, and int8 or int4 by a recipe for Core ML."""
        quantization = quantization_of(recipe)
        models = {stage: self._model(stage, recipe, quantization) for stage in STAGES}
        self._source.report(f"{recipe.name}: writing the package")
        package = multifunction_package(models)
        self._source.report(f"{recipe.name}: measuring parity")
        files = {f"{recipe.name}/{PACKAGE}/{name}": data for name, data in package.items()}
        program = f"{recipe.name}/{PACKAGE}/{MODEL_FILE}"
        description = {
            "backend": recipe.backend,
            "precision": recipe.precision,
            "calibration": calibrated(self._source, quantization),
            "stages": {stage: stage_file(program, files[program], self._stages[stage]) for stage in STAGES},
            "companions": [
                describe(name, files[name])
                for name in (f"{recipe.name}/{PACKAGE}/{part}" for part in COMPANIONS)
            ],
            "parity_snr_db": self._parity(package),
        }
        return ExportedVariant(
            Variant.model_validate(description),
            files,
            ("coremltools",),
            {} if quantization is None else {quantization.name: config_digest(quantization)},
        )

    def _model(self, stage: str, recipe: VariantRecipe, quantization: QuantizationRecipe | None) -> Any:
        """A stage as ``coremltools.models.MLModel`` in the form a recipe asks for."""
        plain = converted = self._float_stage(stage, recipe)
        if quantization is None:
            return plain.model
        if any(scheme.activations == "static" for scheme in quantization.stage(stage).schemes()):
            # The layers are known once the weights are; then they are converted again with their inputs rounded.
            _, chosen = compress_weights(stage, plain.model, plain.weights, quantization)
            layers = [name for name, scheme in chosen.items() if scheme.activations == "static"]
            converted = self._rounded_stage(stage, recipe, layers)
        self._source.report(f"{recipe.name}: compressing {stage}")
        return compress_weights(stage, converted.model, converted.weights, quantization)[0]

    def _float_stage(self, stage: str, recipe: VariantRecipe) -> StageModel:
        precision: Literal["fp32", "fp16"] = "fp32" if recipe.precision == "fp32" else "fp16"
        key = stage, precision, recipe.seconds
        if key not in self._converted:
            self._source.report(f"coreml: converting {stage} to {precision}")
            self._converted[key] = convert_stage(self._stages[stage], precision, self._lengths(stage, recipe))
        return self._converted[key]

    def _rounded_stage(self, stage: str, recipe: VariantRecipe, layers: list[str]) -> StageModel:
        graph = self._stages[stage]
        sounds = self._calibrate()
        ports = [port.name for port in graph.input_ports]
        ranges = input_ranges(graph.module, ports, stage_inputs(sounds, stage), layers)
        self._source.report(f"{recipe.name}: converting {stage} with int8 inputs")
        with static_inputs(graph.module, ranges):
            return convert_stage(graph, "fp16", self._lengths(stage, recipe))

    def _lengths(self, stage: str, recipe: VariantRecipe) -> dict[str, tuple[int, ...]]:
        """Numbers of latent frames the recipe prepares for, where the stage has any."""
        if not recipe.seconds or "length" not in self._stages[stage].lengths:
            return {}
        audio = self._source.parts.config.audio
        return {"length": tuple(audio.latent_frames(seconds) for seconds in recipe.seconds)}

    def _calibrate(self) -> tuple[CalibrationSound, ...]:
        """What the float model computes for the calibration requests; once for all variants."""
        if not self._sounds:
            self._source.report("coreml: calibrating")
            audio = self._source.parts.config.audio
            sessions = {stage: _ModuleSession(graph) for stage, graph in self._stages.items()}
            model = GraphModel.of_sessions(sessions, audio, self._source.tokenizer)
            self._sounds = tuple(model.make(request) for request in self._source.calibration_requests)
        return self._sounds

    def _parity(self, package: Mapping[str, bytes]) -> dict[str, float]:
        """Of the saved program with every result rounded as declared: what a device can reach at best."""
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name) / PACKAGE
            write_package(directory, package)
            interpreter = MilInterpreter(directory, "declared")
        return measure_parity(
            self._source.golden, self._stages, lambda stage, inputs: run_stage(interpreter, stage, inputs)
        )


def run_stage(interpreter: MilInterpreter, stage: str, inputs: Arrays) -> NDArray[Any]:
    """Main output of a function of a package; whole numbers are given in 32 bits, as Core ML takes them."""
    given = {
        name: array.astype(np.int32) if array.dtype == np.int64 else array for name, array in inputs.items()
    }
    return interpreter.run(stage, given)[MAIN_OUTPUT[stage]]
