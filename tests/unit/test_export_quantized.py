"""Quantized variants of one bundle: each from its recipe, calibrated where it must be, and heard."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch

import export.to_onnx
from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES, Calibration, Generation, Port
from edge_tta.errors import ConfigError
from export.assemble import export_bundle, in_parts
from export.bundle_text import BundleText
from export.recipe import ExportRecipe, VariantRecipe
from export.tiny import tiny_checkpoint
from export.to_onnx import export_onnx
from export.wrappers import StageGraph
from quantization.calibration import (
    CalibrationRequest,
    CalibrationSound,
    GraphModel,
    open_session,
    read_calibration,
)

TEXT = BundleText(
    version="1.0.0",
    description="Random weights.",
    licence="Apache-2.0",
    training_data="None.",
    model_card="# Test\n",
    attributions="id\n",
    commit="",
    checkpoint="seed 2024",
    generation=Generation(default_guidance=3.0, min_guidance=1.0, max_guidance=5.0, max_steps=8),
)
RULES = {
    "generator": ("*_in.*", "*modulation*", "generator.audio_out.*"),
    "decoder": ("decoder.excitation.*", "decoder.dft.*"),
}


def write_recipe(folder: Path, name: str, scheme: str) -> str:
    lines = [f'name = "{name}"', 'target = "onnx"']
    for stage in STAGES:
        lines += [f"[{stage}]", f"scheme = {{ {scheme} }}", "min_elements = 64"]
        for pattern in RULES.get(stage, ()):
            lines += [
                f"[[{stage}.layers]]",
                f'pattern = "{pattern}"',
                'reason = "as in the packaged recipes"',
            ]
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_every_precision_becomes_a_variant_that_sounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[CalibrationRequest] = []
    make = GraphModel.make

    def counted(model: GraphModel, request: CalibrationRequest) -> CalibrationSound:
        asked.append(request)
        return make(model, request)

    monkeypatch.setattr(GraphModel, "make", counted)
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,seconds,steps\na dog growling,0.5,2\nsteady rain,0.6,2\n")
    few = read_calibration(prompts)
    dynamic = write_recipe(
        tmp_path, "dynamic", 'weights = "int8", activations = "dynamic", reduce_range = true'
    )
    static = write_recipe(tmp_path, "static", 'weights = "int8", activations = "static", reduce_range = true')
    four = write_recipe(
        tmp_path, "four", 'weights = "int4", activations = "dynamic", granularity = "block", block_size = 32'
    )
    variants = (
        VariantRecipe("ort", "fp32"),
        VariantRecipe("ort", "int8", dynamic),
        VariantRecipe("ort", "int8", static, label="int8-static"),
        VariantRecipe("ort", "int4", four),
    )
    recipe = ExportRecipe("test", variants)
    export_bundle(tiny_checkpoint(), tmp_path / "bundle", TEXT, recipe, calibration=few)
    bundle = Bundle.open(tmp_path / "bundle")
    assert set(bundle.variants) == {"ort-fp32", "ort-int8", "ort-int8-static", "ort-int4"}
    assert {"dynamic", "static", "four"} < set(bundle.manifest.provenance.recipes)
    # Calibration is made once, by the list that was given, and only for the variant that needs it.
    assert tuple(asked) == few.requests
    recorded = {name: variant.calibration for name, variant in bundle.variants.items() if variant.calibration}
    assert recorded == {"ort-int8-static": Calibration(sha256=few.sha256, requests=2)}
    parity = {name: variant.parity_snr_db["generator"] for name, variant in bundle.variants.items()}
    assert parity["ort-fp32"] > 80 and 25 < parity["ort-int8"] < 80 and 25 < parity["ort-int8-static"] < 80
    for precision in ("int8", "int4"):
        with TextToAudio.open(tmp_path / "bundle", precision=precision, threads=1) as model:
            result = model.generate(GenerationRequest("rain on a roof", seconds=0.5, seed=3))
            assert result.precision == precision and result.audio.frames == 22050


def test_a_refused_recipe_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("work was begun")

    monkeypatch.setattr(export.to_onnx, "export_onnx", never)
    wrong = write_recipe(tmp_path, "wrong", 'weights = "uint8", activations = "dynamic"')
    variants = (VariantRecipe("ort", "fp32"), VariantRecipe("ort", "int8", wrong))
    with pytest.raises(ConfigError, match=r"wrong\.toml: .*half as fast"):
        export_bundle(tiny_checkpoint(), tmp_path / "bundle", TEXT, ExportRecipe("test", variants))
    assert not (tmp_path / "bundle").exists()


def test_a_list_that_would_calibrate_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.to_onnx, "export_onnx", None)
    recipe = ExportRecipe("test", (VariantRecipe("ort", "fp32"), VariantRecipe("ort", "int8", "onnx-int8")))
    with pytest.raises(ConfigError, match=r"such as onnx-int8-static; ort-fp32, ort-int8 have none$"):
        export_bundle(tiny_checkpoint(), tmp_path / "b", TEXT, recipe, calibration=read_calibration())
    assert list(tmp_path.iterdir()) == []


def test_large_graphs_are_stored_in_parts(tmp_path: Path) -> None:
    recipe = ExportRecipe("test", (VariantRecipe("ort", "fp32"),))
    with pytest.raises(ConfigError, match="too small"):
        export_bundle(tiny_checkpoint(), tmp_path / "crumbs", TEXT, recipe, max_file_bytes=1000)
    parted = export_bundle(tiny_checkpoint(), tmp_path / "parted", TEXT, recipe, max_file_bytes=30_000)
    sizes = [path.stat().st_size for path in (tmp_path / "parted").rglob("*.onnx*")]
    # The text encoder's 15 kB stay one file.
    assert max(sizes) == 30_000 and len(sizes) == 5
    assert sum(sizes) == parted.variants["ort-fp32"].size()


def test_a_core_ml_package_stays_whole() -> None:
    told: list[str] = []
    whole = Bundle.open(Path(__file__).parents[1] / "golden" / "edge-tiny").variants["ort-fp32"]
    package = whole.model_copy(update={"backend": "coreml"})
    assert in_parts(package, 20_000, told.append) is package
    assert len(told) == 1 and "Core ML package cannot be stored in parts" in told[0]
    assert in_parts(whole, None, told.append) == whole and len(told) == 1


def test_floors_under_roots_are_in_the_graph() -> None:
    """The exporter takes a sum with a tiny constant for the other summand, and the root of nothing is divided by."""
    model = onnx.load(Path(__file__).parents[1] / "golden/edge-tiny/ort-fp32/decoder.onnx")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    floors = [
        float(constants[name])
        for node in model.graph.node
        if node.op_type in ("Clip", "Max")
        for name in node.input
        if name in constants and constants[name].size == 1
    ]
    # Of arctangents, of the power of even and of odd bins, and of the shares of tone, transient and noise.
    expected = [1e-30] * 3 + [1e-14] * 2 + [1e-8] * 3
    assert sorted(floor for floor in floors if floor > 0)[:8] == pytest.approx(expected, rel=1e-5, abs=0)


def test_arctangents_are_written_without_choices() -> None:
    class Angle(torch.nn.Module):
        def forward(self, pair: torch.Tensor) -> torch.Tensor:
            return torch.atan2(pair[0], pair[1])

    angle = torch.linspace(-math.pi, math.pi, 2001, dtype=torch.float64)[1:-1]
    pair = torch.stack([torch.sin(angle), torch.cos(angle)]).float()
    stage = StageGraph(
        Angle(),
        (pair,),
        (Port(name="pair", dtype="float32", shape=list(pair.shape)),),
        (Port(name="angle", dtype="float32", shape=[len(angle)]),),
        {},
    )
    data = export_onnx(stage)
    assert not {node.op_type for node in onnx.load_from_string(data).graph.node} & {
        "Where",
        "IsNaN",
        "Greater",
    }
    made = open_session(data).run(None, {"pair": pair.numpy()})[0]
    # The error grows towards the negative axis, as 1e-7 over the distance.
    np.testing.assert_allclose(made, angle, atol=2e-4)
    np.testing.assert_allclose(made[200:-200], angle[200:-200], atol=2e-6)
