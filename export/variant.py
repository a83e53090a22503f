"""The seam between a bundle and its targets: what an exporter is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle.assemble import describe
from edge_tta.bundle.manifest import STAGES, Calibration, StageFile, Variant
from edge_tta.errors import ConfigError
from edge_tta.model.public_t5 import T5TextEncoder
from edge_tta.runtime.golden import signal_to_noise_db
from edge_tta.text import Tokenizer
from export.recipe import VariantRecipe
from export.wrappers import ModelParts, StageGraph
from quantization.calibration import CalibrationList, CalibrationRequest, within
from quantization.recipe import QuantizationRecipe

Arrays = dict[str, NDArray[Any]]
MAIN_OUTPUT = {"text_encoder": "tokens", "generator": "velocity", "decoder": "waveform"}
"""The output of a stage that its parity is measured on."""


@dataclass(frozen=True)
class ExportSource:
    """What every variant of a bundle is made from."""

    parts: ModelParts
    tokenizer: Tokenizer
    golden: Arrays
    """Inputs and eager float outputs of every stage; see ``export.golden``."""
    single_step: bool
    """Whether the generator is folded for one step; see ``ExportRecipe``."""
    report: Callable[[str], Any]
    """Told what is being done."""
    calibration: CalibrationList
    """What the float model answers where a recipe has static ranges."""

    @property
    def calibration_requests(self) -> tuple[CalibrationRequest, ...]:
        """Its requests, held within what the model makes."""
        limit = 1 if self.single_step else None
        return within(self.calibration.requests, self.parts.config.audio, limit)


@dataclass(frozen=True)
class ExportedVariant:
    """A variant ready to be put into a bundle."""

    entry: Variant
    """Manifest entry; describes every file."""
    files: Mapping[str, bytes]
    """Bytes by path in the bundle, below a directory with the variant's name."""
    tools: tuple[str, ...]
    """Distributions that wrote the files."""
    recipes: Mapping[str, str] = field(default_factory=dict)
    """Digest by name of every quantization recipe that had a part in them."""


class VariantExporter(Protocol):
    """One target. An exporter lives for one bundle, so it may keep what its variants share."""

    def check(self, recipe: VariantRecipe) -> None:
        """Refuse, in seconds, what the model's modules tell of a variant that cannot be made.

        Raises:
            ConfigError: the settings cannot work on this target or on this model; the message says why.
        """
        ...

    def export(self, recipe: VariantRecipe) -> ExportedVariant:
        """Make one variant that has been checked.

        Raises:
            ConfigError: what only the graphs tell of settings that cannot work.
            MissingExtraError: a package the target needs is absent.
        """
        ...


def exporter_of(recipe: VariantRecipe, source: ExportSource) -> VariantExporter:
    """Exporter for a variant's backend and delegate; its packages are imported only now.

    Raises:
        ConfigError: the text encoder is a public T5 and the backend is not ONNX Runtime.
        MissingExtraError: a package the target needs is absent.
    """
    backend = recipe.backend
    if backend != "ort" and isinstance(source.parts.text_encoder, T5TextEncoder):
        raise ConfigError(f"a public T5 is exported for ONNX Runtime only, not for {backend}")
    if backend == "ort":
        from export.to_onnx import OnnxExporter

        return OnnxExporter(source)
    if backend == "executorch" and recipe.delegate == "coreml":
        from export.executorch_coreml import CoreMLDelegateExporter

        return CoreMLDelegateExporter(source)
    if backend == "executorch":
        from export.to_executorch import ExecutorchExporter

        return ExecutorchExporter(source)
    if backend == "coreml":
        from export.to_coreml import CoreMLExporter

        return CoreMLExporter(source)
    raise ConfigError(f"no exporter for backend '{backend}'")


def stage_file(name: str, data: bytes, stage: StageGraph) -> StageFile:
    """Manifest entry of a stage in a file."""
    described = describe(name, data).model_dump()
    return StageFile(**described, inputs=list(stage.input_ports), outputs=list(stage.output_ports))


def calibrated(source: ExportSource, quantization: QuantizationRecipe | None) -> Calibration | None:
    """What a variant's manifest entry says of its calibration; None where its recipe has no static ranges."""
    if quantization is None or not quantization.is_static:
        return None
    return Calibration(sha256=source.calibration.sha256, requests=len(source.calibration.requests))


def stage_inputs(golden: Arrays) -> dict[str, Arrays]:
    """The golden inputs of each stage; every stage gets the float model's own input."""
    text = {name: golden[name] for name in ("tokens", "pooled")}
    scalars = {name: golden[name] for name in ("time", "duration", "seconds", "guidance")}
    return {
        "text_encoder": {"ids": golden["ids"]},
        "generator": {"latent": golden["noise"], **scalars, **text},
        "decoder": {"latent": golden["latent"]},
    }


def measure_parity(
    golden: Arrays, stages: Mapping[str, StageGraph], run: Callable[[str, Arrays], NDArray[Any]]
) -> dict[str, float]:
    """Signal-to-noise ratio of every stage against the golden outputs, dB, rounded to 0.1.

    Args:
        golden: golden inputs and outputs.
        stages: the exported stages; each is given the inputs it has, in their order.
        run: runs the exported file of a stage on inputs by name and returns its main output.
    """
    parity = {}
    for stage in STAGES:
        given = stage_inputs(golden)[stage]
        inputs = {port.name: np.ascontiguousarray(given[port.name]) for port in stages[stage].input_ports}
        parity[stage] = round(signal_to_noise_db(golden[MAIN_OUTPUT[stage]], run(stage, inputs)), 1)
    return parity
