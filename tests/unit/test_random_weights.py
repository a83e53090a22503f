"""Bundles of presets with random weights."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import export.random_weights
from edge_tta.bundle import Bundle
from edge_tta.model.presets import preset
from export.random_weights import main
from export.tiny import tiny_checkpoint

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"


def test_float_weights_take_the_bytes_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny preset has a vocabulary of its own.
    monkeypatch.setattr(
        export.random_weights, "random_checkpoint", lambda config, tokenizer: tiny_checkpoint()
    )
    assert main(["edge-tiny", "--precision", "fp32", "-o", str(tmp_path / "bundle")]) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.config == preset("edge-tiny") and list(bundle.variants) == ["ort-fp32"]
    encoder = bundle.variants["ort-fp32"].stages["text_encoder"]
    tensors = onnx.load_from_string(bundle.read(encoder)).graph.initializer
    large = [
        tensor for tensor in tensors if len(tensor.dims) == 2 and tensor.dims[0] * tensor.dims[1] >= 1024
    ]
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.BFLOAT16}


@pytest.mark.parametrize("arguments", [["edge-9000m"], ["edge-tiny", "--target", "abacus"]])
def test_names_that_are_none_are_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-o", str(tmp_path / "bundle")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "bundle").exists()
