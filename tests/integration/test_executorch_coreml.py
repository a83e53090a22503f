"""The tiny model lowered to ExecuTorch through Core ML: whole methods, checked by running the packages inside."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("coremltools")
pytest.importorskip("executorch")
import torch

from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, ConfigError
from edge_tta.runtime.backend import choose_variant, load_variant, unavailable
from edge_tta.runtime.golden import signal_to_noise_db
from export.assemble import complete_parts
from export.executorch_coreml import CoreMLDelegateExporter, CoreMLProgram, lower, unflattened
from export.golden import golden_arrays
from export.mil_interpreter import MilInterpreter
from export.recipe import VariantRecipe
from export.tiny import tiny_checkpoint
from export.variant import ExportSource
from export.wrappers import StageGraph, stage_graphs
from quantization.calibration import read_calibration

STAGES = ("text_encoder", "generator", "decoder")


@pytest.fixture(scope="module")
def stages() -> dict[str, StageGraph]:
    return stage_graphs(complete_parts(tiny_checkpoint())[0], explicit_attention=False)


@pytest.fixture(scope="module")
def lowered(stages: dict[str, StageGraph]) -> CoreMLProgram:
    return lower(stages, halves=True)


@pytest.mark.parametrize("stage", STAGES)
def test_every_node_is_in_one_delegate(lowered: CoreMLProgram, stage: str) -> None:
    found = lowered.delegation[stage]
    assert (found.subgraphs, found.portable) == (1, {}) and sum(found.delegated.values()) > 10
    # The classifications of operators differ between releases; that a stage multiplies does not.
    assert any("linear" in name or "mm" in name for name in found.delegated)


@pytest.mark.parametrize("stage", ["text_encoder", "generator"])
def test_what_core_ml_is_handed_computes_the_stage(
    lowered: CoreMLProgram, stages: dict[str, StageGraph], stage: str, tmp_path: Path
) -> None:
    package = unflattened(lowered.packages[stage], tmp_path) / "model.mlpackage"
    inputs, ports = stages[stage].inputs, stages[stage].input_ports
    with torch.no_grad():
        expected = stages[stage].module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    # The delegate's package has the inputs in an order of its own.
    given = {port.name: value.numpy() for port, value in zip(ports, inputs, strict=True)}
    found = MilInterpreter(package, "declared").run_in_order("main", given)
    for value, array in zip(expected, found, strict=True):
        assert signal_to_noise_db(value.numpy(), array) > 50


def test_halves_are_kept_from_phases(lowered: CoreMLProgram, tmp_path: Path) -> None:
    """The delegate's own conversion would halve everything."""
    package = unflattened(lowered.packages["decoder"], tmp_path) / "model.mlpackage"
    (function,) = MilInterpreter(package).functions.values()
    types = {(operation.type, operation.outputs[0].dtype) for operation in function.operations}
    assert ("cumsum", "FLOAT32") in types and ("linear", "FLOAT16") in types
    assert not {("cumsum", "FLOAT16"), ("cos", "FLOAT16"), ("linear", "FLOAT32")} & types


def test_the_same_weights_give_the_same_bytes(stages: dict[str, StageGraph], lowered: CoreMLProgram) -> None:
    text = {"text_encoder": stages["text_encoder"]}
    first, second = lower(text, halves=True), lower(text, halves=True)
    assert first.data == second.data
    assert first.packages["text_encoder"] == lowered.packages["text_encoder"]


def test_other_precisions_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"et-coreml-int8: for executorch through coreml there are fp32, fp16"
    ):
        VariantRecipe("executorch", "int8", "coreml-int8", delegate="coreml")


def test_a_variant_of_a_bundle_says_off_a_mac_that_it_needs_one(
    lowered: CoreMLProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from edge_tta.bundle.assemble import write_bundle
    from edge_tta.text import Tokenizer
    from export import executorch_coreml

    checkpoint = tiny_checkpoint()
    parts, tokenizer = complete_parts(checkpoint)
    golden = golden_arrays(parts, Tokenizer(tokenizer, parts.config.text_encoder.max_tokens))
    source = ExportSource(parts, None, golden, False, lambda _: None, read_calibration())  # type: ignore[arg-type]
    monkeypatch.setattr(executorch_coreml, "lower", lambda *_, **__: lowered)
    made = CoreMLDelegateExporter(source).export(VariantRecipe("executorch", "fp16", delegate="coreml"))
    assert made.entry.delegation == lowered.delegation
    assert made.entry.delegate == "coreml" and made.entry.parity_snr_db["generator"] > 50
    tiny = Bundle.open(Path(__file__).parents[1] / "golden" / "edge-tiny")
    files = {entry.file: tiny.read(entry) for entry in tiny.manifest.files()} | dict(made.files)
    variants = {**tiny.manifest.variants, "et-coreml-fp16": made.entry}
    bundle = write_bundle(tmp_path / "bundle", tiny.manifest.model_copy(update={"variants": variants}), files)
    assert choose_variant(bundle, "executorch", "fp16") == "et-coreml-fp16"
    reason = unavailable(bundle.variants["et-coreml-fp16"])
    assert reason is not None and reason.startswith("coreml: Core ML is a part of macOS 15 and later")
    with pytest.raises(BackendError, match="Core ML is a part of macOS 15 and later, and this is") as caught:
        load_variant(bundle, "et-coreml-fp16", 1)
    assert caught.value.exit_code == 4
