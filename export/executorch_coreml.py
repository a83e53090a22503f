"""ExecuTorch programs whose methods Core ML runs whole: one delegate each, checked by running the packages inside.

For apps that use ExecuTorch already. The delegate's own conversion knows one precision for a whole graph, which would
ruin phases and norms; so it converts in float32 and a pass of ours halves what may be halved (``export.coreml_stage``).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from edge_tta.bundle.coreml_package import MODEL_FILE, PACKAGE_MANIFEST
from edge_tta.bundle.manifest import STAGES, Delegation, Variant
from export.coreml_package import normalised_model, package_manifest
from export.coreml_passes import pass_pipeline
from export.coreml_stage import export_program
from export.delegation import delegation_of
from export.mil_interpreter import MilInterpreter
from export.recipe import VariantRecipe
from export.variant import MAIN_OUTPUT, Arrays, ExportedVariant, ExportSource, measure_parity, stage_file
from export.wrappers import StageGraph, stage_graphs
from quantization.coreml import import_coremltools
from quantization.executorch import LOGGERS, import_executorch
from quantization.silence import silenced

PACKAGE = "model.mlpackage"
METADATA = "metadata.json"


@dataclass(frozen=True)
class CoreMLProgram:
    """A lowered program."""

    data: bytes
    """The ``.pte`` file."""
    delegation: Mapping[str, Delegation]
    """By method."""
    packages: Mapping[str, bytes]
    """What Core ML is handed for each method: a directory in ExecuTorch's flat form."""


class CoreMLDelegateExporter:
    """Variants for ExecuTorch through Core ML.

    Args:
        source: what is exported.

    Raises:
        MissingExtraError: executorch or coremltools is absent.
    """

    def __init__(self, source: ExportSource) -> None:
        import_executorch()
        import_coremltools()
        self._source = source
        self._stages = stage_graphs(source.parts, explicit_attention=False, single_step=source.single_step)

    def check(self, recipe: VariantRecipe) -> None:
        """See ``VariantExporter``; of fp16 and fp32 there is nothing to refuse."""

    def export(self, recipe: VariantRecipe) -> ExportedVariant:
        """See ``VariantExporter``; fp16 and fp32."""
        self._source.report(f"{recipe.name}: lowering {', '.join(STAGES)}")
        lowered = lower(self._stages, halves=recipe.precision == "fp16")
        self._source.report(f"{recipe.name}: measuring parity")
        file = f"{recipe.name}/model.pte"
        description = {
            "backend": recipe.backend,
            "precision": recipe.precision,
            "delegate": recipe.delegate,
            "stages": {stage: stage_file(file, lowered.data, self._stages[stage]) for stage in STAGES},
            "delegation": lowered.delegation,
            "parity_snr_db": self._parity(lowered.packages),
        }
        return ExportedVariant(
            Variant.model_validate(description), {file: lowered.data}, ("executorch", "coremltools")
        )

    def _parity(self, packages: Mapping[str, bytes]) -> dict[str, float]:
        def run(stage: str, inputs: Arrays) -> NDArray[Any]:
            with tempfile.TemporaryDirectory() as directory:
                interpreter = MilInterpreter(
                    unflattened(packages[stage], Path(directory)) / PACKAGE, "declared"
                )
                outputs = interpreter.run_in_order("main", inputs)
            names = [port.name for port in self._stages[stage].output_ports]
            return outputs[names.index(MAIN_OUTPUT[stage])]

        return measure_parity(self._source.golden, self._stages, run)


def lower(stages: Mapping[str, StageGraph], halves: bool) -> CoreMLProgram:
    """Lower stages to one program with a method each, for macOS 15 and iOS 18.

    Args:
        stages: with attention as one operator.
        halves: compute in halves where that suffices, else everything in float32.

    Raises:
        MissingExtraError: executorch or coremltools is absent.
    """
    import_executorch()
    coremltools = import_coremltools()
    with silenced(*LOGGERS):
        from executorch.backends.apple.coreml.compiler import CoreMLBackend
        from executorch.backends.apple.coreml.compiler.coreml_preprocess import (
            MULTIMETHOD_WEIGHT_SHARING_STRATEGY,
        )
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    programs = {name: export_program(stage) for name, stage in stages.items()}
    with silenced(*LOGGERS), torch.no_grad():
        specifications = CoreMLBackend.generate_compile_specs(
            minimum_deployment_target=coremltools.target.iOS18,
            compute_precision=coremltools.precision.FLOAT32,
            pass_names=list(pass_pipeline(halves).passes),
        )
        # The stages share no weights; a package for each keeps its bytes with the method.
        specifications.append(
            CoreMLBackend.generate_multimethod_weight_sharing_strategy_compile_spec(
                MULTIMETHOD_WEIGHT_SHARING_STRATEGY.DISABLED
            )
        )
        edge = to_edge_transform_and_lower(
            programs,
            partitioner={name: [CoreMLPartitioner(compile_specs=specifications)] for name in programs},
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        found, packages = {}, {}
        for name in programs:
            graph = edge.exported_program(name).graph_module
            found[name] = delegation_of(graph)
            for lowered in (
                value for part, value in graph.named_children() if part.startswith("lowered_module")
            ):
                packages[name] = reproducible(lowered.processed_bytes)
                lowered._processed_bytes = packages[name]
        data = bytes(edge.to_executorch().buffer)
    return CoreMLProgram(data, found, packages)


def unflattened(flat: bytes, directory: Path) -> Path:
    """Write a delegate's files below an empty directory; the one directory that they are in."""
    from executorch.backends.apple.coreml import executorchcoreml

    if not executorchcoreml.unflatten_directory_contents(flat, str(directory)):
        raise ValueError("not a flattened directory")
    (inside,) = directory.iterdir()
    return inside


def reproducible(flat: bytes) -> bytes:
    """A delegate's files without what differs from run to run: random identifiers, the day, a map for debuggers."""
    from executorch.backends.apple.coreml import executorchcoreml

    with tempfile.TemporaryDirectory() as name:
        directory = unflattened(flat, Path(name))
        package = directory / PACKAGE
        model = package / MODEL_FILE
        model.write_bytes(normalised_model(model.read_bytes()))
        (package / PACKAGE_MANIFEST).write_bytes(package_manifest())
        for debug in (package / "executorch_debug_handle_mapping.json", directory / "debug_info.json"):
            debug.unlink(missing_ok=True)
        digest = hashlib.sha256()
        for path in sorted(path for path in package.rglob("*") if path.is_file()):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        metadata = json.loads((directory / METADATA).read_text(encoding="utf-8"))
        # Devices keep compiled models under this name, so it must belong to the content.
        metadata["identifier"] = f"executorch_{uuid.uuid5(uuid.NAMESPACE_URL, digest.hexdigest())}"
        (directory / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
        return bytes(executorchcoreml.flatten_directory_contents(str(directory)))
