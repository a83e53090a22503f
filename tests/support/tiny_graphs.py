"""The tiny model as float graphs, and recipes and gates that do something to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.evaluate.gates import Gate
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from edge_tta.text import Tokenizer
from quantization import calibration
from quantization.calibration import CalibrationRequest, CalibrationSound, GraphModel
from quantization.closeness import END_TO_END, GateJudge
from quantization.recipe import QuantizationRecipe

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
DYNAMIC = Scheme("int8", "dynamic", reduce_range=True)
LAST = LayerRule("generator.audio_out.*", "last layer")
RECIPE = QuantizationRecipe(
    "test",
    "onnx",
    generator=StageScheme(DYNAMIC, 64, (LAST,)),
    decoder=StageScheme(
        DYNAMIC, 64, (LayerRule("decoder.dft.*", "DFT"), LayerRule("decoder.excitation.*", "0/1 matrix"))
    ),
)
GATES = (
    Gate("Latent", "generator.latent_snr_db", at_least=45.0),
    Gate("Decoded", "decoder.log_mel_distance", at_most=0.02),
    Gate("Whole", END_TO_END, at_most=0.03),
)


def tiny_graphs() -> dict[str, bytes]:
    """Float ONNX files by stage."""
    bundle = Bundle.open(TINY)
    return {stage: bundle.read(bundle.variants["ort-fp32"].stages[stage]) for stage in STAGES}


def tiny_model() -> GraphModel:
    """The float model."""
    bundle = Bundle.open(TINY)
    tokenizer = Tokenizer(bundle.tokenizer_bytes(), bundle.config.text_encoder.max_tokens)
    return GraphModel(tiny_graphs(), bundle.config.audio, tokenizer)


def short(requests: Sequence[CalibrationRequest], *places: int) -> list[CalibrationRequest]:
    """Some of the requests, as short as a sound may be."""
    return [replace(requests[place], seconds=0.5) for place in places]


def tiny_judge(
    model: GraphModel, requests: Sequence[CalibrationRequest], gates: Sequence[Gate] = GATES
) -> GateJudge:
    """The float model's sounds, and gates for int8."""
    return GateJudge(model, requests, gates, "int8")


def shorten_lists(monkeypatch: pytest.MonkeyPatch) -> list[CalibrationRequest]:
    """Make the packaged sounds as short as may be, in one step; the result lists all that models are asked for."""
    made: list[CalibrationRequest] = []
    answer = GraphModel.make

    def watched(model: GraphModel, request: CalibrationRequest) -> CalibrationSound:
        made.append(request)
        return answer(model, request)

    monkeypatch.setattr(GraphModel, "make", watched)
    lists = {"read_requests": calibration.read_requests(), "read_judgement": calibration.read_judgement()}
    for name, requests in lists.items():
        listed = tuple(replace(item, seconds=0.5, steps=1) for item in requests)
        monkeypatch.setattr(calibration, name, lambda listed=listed: listed)
    return made
