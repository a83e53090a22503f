"""Stages to ONNX files: dynamic lengths, self-contained, the same bytes every time."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import torch
from numpy.typing import NDArray

from edge_tta.bundle.manifest import STAGES, Variant
from edge_tta.config import config_digest
from edge_tta.model.public_t5 import T5TextEncoder
from edge_tta.model.scheme import Scheme
from export.onnx_fusions import fuse
from export.recipe import VariantRecipe, check_label, quantization_of
from export.t5_encoder import check_t5_encoder, t5_encoder_graphs
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
from quantization.calibration import CalibrationSound, GraphModel, open_session, stage_inputs
from quantization.module_layers import helpers_of, module_layers
from quantization.onnx_stage import plan, plan_layers, quantize_onnx

OPSET = 20
"""Has Gelu and LayerNormalization as operators; attention is written out, which newer opsets would not change."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress on standard output and warns about packages that are not needed."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._dynamo", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class OnnxExporter:
    """Variants for ONNX Runtime: one file per stage; the float graphs are made once and shared.

    Args:
        source: what is exported.
    """

    def __init__(self, source: ExportSource) -> None:
        self._source = source
        self._stages = stage_graphs(source.parts, single_step=source.single_step)
        self._floats: dict[str, bytes] = {}
        self._public: dict[str, bytes] = {}
        """Text encoder by precision, if it is a public T5."""
        text_encoder = source.parts.text_encoder
        self._t5 = text_encoder if isinstance(text_encoder, T5TextEncoder) else None
        if self._t5 is not None:
            check_t5_encoder(self._t5)
        self._sounds: tuple[CalibrationSound, ...] = ()

    def check(self, recipe: VariantRecipe) -> None:
        """See ``VariantExporter``."""
        quantization = quantization_of(recipe)
        if quantization is None:
            return
        schemes = [Scheme("int8", "dynamic")] if self._t5 is not None else []
        for stage in self._quantized_stages():
            graph = self._stages[stage]
            layers = module_layers(graph.module, graph.inputs)
            schemes += plan_layers(stage, layers, quantization, helpers_of(graph.module)).values()
        check_label(recipe, schemes)

    def _quantized_stages(self) -> list[str]:
        """The stages that a recipe says something of: a public text encoder keeps optimum's int8."""
        return [stage for stage in STAGES if stage != "text_encoder" or self._t5 is None]

    def export(self, recipe: VariantRecipe) -> ExportedVariant:
        """See ``VariantExporter``; fp32, and int8 or int4 by a recipe for ONNX graphs."""
        quantization = quantization_of(recipe)
        if self._t5 is not None and not self._public:
            self._source.report("onnx: exporting and quantizing the public text encoder")
            self._public = t5_encoder_graphs(self._t5)
            self._floats["text_encoder"] = self._public["fp32"]
        for stage in STAGES:
            if stage not in self._floats:
                self._source.report(f"onnx: exporting {stage}")
                self._floats[stage] = export_onnx(self._stages[stage])
        graphs, recipes = self._floats, {}
        if quantization is not None:
            for stage in self._quantized_stages():
                # The graph tells more than the module: which products have a bias.
                plan(stage, onnx.load_from_string(graphs[stage]).graph, quantization)
            sounds = self._calibrate() if quantization.is_static else ()
            self._source.report(f"{recipe.name}: quantizing")
            recipes[quantization.name] = config_digest(quantization)
            graphs = {
                stage: quantize_onnx(stage, data, quantization, stage_inputs(sounds, stage))
                if stage in self._quantized_stages()
                else self._public["int8"]
                for stage, data in graphs.items()
            }
        graphs = {stage: store_in_bf16(data) for stage, data in graphs.items()}
        self._source.report(f"{recipe.name}: measuring parity")
        files = {stage: f"{recipe.name}/{stage}.onnx" for stage in STAGES}
        description = {
            "backend": recipe.backend,
            "precision": recipe.precision,
            "calibration": calibrated(self._source, quantization),
            "stages": {
                stage: stage_file(files[stage], graphs[stage], self._stages[stage]) for stage in STAGES
            },
            "parity_snr_db": measure_parity(
                self._source.golden, self._stages, lambda stage, inputs: _run(stage, graphs[stage], inputs)
            ),
        }
        return ExportedVariant(
            Variant.model_validate(description),
            {files[stage]: graphs[stage] for stage in STAGES},
            ("onnx", "onnxscript", "onnxruntime", *(("optimum", "transformers") if self._public else ())),
            recipes,
        )

    def _calibrate(self) -> tuple[CalibrationSound, ...]:
        """What the float graphs compute for the calibration requests; once for all variants."""
        if not self._sounds:
            self._source.report("onnx: calibrating")
            audio = self._source.parts.config.audio
            model = GraphModel(self._floats, audio, self._source.tokenizer)
            self._sounds = tuple(model.make(request) for request in self._source.calibration_requests)
        return self._sounds


def _run(stage: str, model: bytes, inputs: Arrays) -> NDArray[Any]:
    output: NDArray[Any] = open_session(model).run([MAIN_OUTPUT[stage]], inputs)[0]
    return output


def export_onnx(stage: StageGraph) -> bytes:
    """One stage as an ONNX file in memory.

    Everything that differs from run to run or names the exporting machine (stack traces, doc strings, metadata,
    producer) is removed, so equal weights give equal bytes.
    """
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            stage.module,
            stage.inputs,
            dynamo=True,
            dynamic_shapes=stage.dynamic_shapes(),
            input_names=[port.name for port in stage.input_ports],
            output_names=[port.name for port in stage.output_ports],
            opset_version=OPSET,
            custom_translation_table={torch.ops.aten.atan2.default: _arctangent},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_weights(model, stage.module)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    fuse(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _arctangent(y: Any, x: Any) -> Any:
    """atan2 as twice the angle of half the arc, which needs no choice between quadrants.

    The exporter's own has nine of them, and ONNX Runtime makes each in one thread. Off by 1e-7 over the distance to
    the negative axis, and 0 in place of pi on it, where no network's output lies.
    """
    from onnxscript import opset18 as op

    length = op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y)))
    beside = op.Max(op.Add(length, x), op.Constant(value_float=1e-30))
    return op.Mul(op.Atan(op.Div(y, beside)), op.Constant(value_float=2.0))


def _name_weights(model: onnx.ModelProto, module: torch.nn.Module) -> None:
    """Give weights that the exporter transposed and renamed the name of their parameter back."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    by_content: dict[tuple[tuple[int, ...], bytes], str] = {}
    for name, value in tensors.items():
        array = value.detach().cpu().numpy()
        forms = (array, array.T) if array.ndim == 2 else (array,)
        for form in forms:
            by_content.setdefault((form.shape, np.ascontiguousarray(form).tobytes()), name)
    taken = {tensor.name for tensor in model.graph.initializer}
    renamed: dict[str, str] = {}
    for tensor in model.graph.initializer:
        if tensor.name in tensors or int(np.prod(tensor.dims)) < 16:
            continue
        array = onnx.numpy_helper.to_array(tensor)
        known = by_content.get((array.shape, array.tobytes()))
        if known is not None and known not in taken:
            renamed[tensor.name] = known
            taken.add(known)
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)


def _strip(model: onnx.ModelProto) -> None:
    """Remove everything that is not computation."""
    model.producer_name, model.producer_version, model.doc_string = "edge_tta", "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "graph", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}
    for index, tensor in enumerate(graph.initializer):
        names.setdefault(tensor.name, tensor.name if "." in tensor.name else f"w{index}")
        tensor.doc_string = ""
    count = 0
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for output in node.output:
            if names.setdefault(output, f"v{count}") == f"v{count}":
                count += 1
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for index, node in enumerate(graph.node):
        # Quantization chooses matrix products by node; the others need no name.
        node.name = f"{node.op_type.lower()}{index}" if node.op_type in ("MatMul", "Gemm") else ""
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
        for position, name in enumerate(node.output):
            node.output[position] = names.get(name, name)
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]


def store_in_bf16(model: bytes) -> bytes:
    """Store float32 weights that bf16 holds exactly as bf16, followed by a Cast: half the bytes, the same numbers.

    Checkpoints are bf16, so this loses nothing. ONNX Runtime folds the casts when it loads the file and computes in
    float32 as before.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < 1024:
            continue
        bits = onnx.numpy_helper.to_array(tensor).astype(np.float32).view(np.uint32)
        if (bits & 0xFFFF).any():
            continue
        name = tensor.name
        stored = onnx.TensorProto(name=f"{name}.bf16", data_type=onnx.TensorProto.BFLOAT16, dims=tensor.dims)
        stored.raw_data = (bits >> 16).astype("<u2").tobytes()
        tensor.CopyFrom(stored)
        casts.append(onnx.helper.make_node("Cast", [f"{name}.bf16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))
