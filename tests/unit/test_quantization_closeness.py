"""Figures and gates of quantized graphs: those of ``edge-tta validate``, whose definitions they must not leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_graphs import GATES, RECIPE, short, tiny_graphs, tiny_judge, tiny_model

from edge_tta.bundle.manifest import Generation
from edge_tta.errors import ConfigError
from edge_tta.evaluate.gates import Gate, load_gates
from edge_tta.evaluate.parity import Item, compare_clip, hear
from edge_tta.evaluate.rendition import render
from edge_tta.evaluate.suite import Prompt
from edge_tta.model.scheme import StageScheme
from edge_tta.runtime import GenerationRequest
from edge_tta.runtime.backend import LoadedModel, generator_inputs
from quantization.calibration import GraphModel, read_requests, run_stage
from quantization.closeness import (
    END_TO_END,
    IDENTICAL,
    MAGNITUDES,
    GateJudge,
    end_to_end_distance,
    judged_gates,
    measured_at,
    share_used,
)
from quantization.onnx_stage import quantize_onnx

ALL = replace(RECIPE, text_encoder=StageScheme(RECIPE.generator.scheme, 64))


class GraphBackend:
    """Graphs as a backend of the runtime."""

    name, precision, threads = "graphs", "int8", 1

    def __init__(self, model: GraphModel) -> None:
        self._sessions = model.sessions

    def text_encoder(self, ids: Any) -> Any:
        return tuple(run_stage(self._sessions["text_encoder"], {"ids": ids}))

    def generator(self, *arguments: Any) -> Any:
        return run_stage(self._sessions["generator"], generator_inputs(*arguments))[0]

    def decoder(self, latent: Any) -> Any:
        return run_stage(self._sessions["decoder"], {"latent": latent})[0]

    def close(self) -> None:
        pass


def loaded(model: GraphModel) -> LoadedModel:
    limits = Generation(default_guidance=3.0, min_guidance=0.0, max_guidance=9.0, max_steps=8)
    return LoadedModel("tiny", model.audio, model.tokenizer, limits, GraphBackend(model))


@pytest.fixture(scope="module")
def float_model() -> GraphModel:
    return tiny_model()


@pytest.fixture(scope="module")
def quantized() -> dict[str, bytes]:
    """Every stage in int8."""
    return {stage: quantize_onnx(stage, graph, ALL) for stage, graph in tiny_graphs().items()}


@pytest.fixture(scope="module")
def judge(float_model: GraphModel) -> GateJudge:
    """A sound of one step and one of four."""
    return tiny_judge(float_model, short(read_requests(), 1, 6))


def test_figures_are_those_of_validate(
    float_model: GraphModel, quantized: dict[str, bytes], judge: GateJudge
) -> None:
    other = float_model
    for stage, graph in quantized.items():
        other = other.with_stage(stage, graph)
    for sound, figures in zip(judge.sounds, judge.measure(quantized), strict=True):
        asked = sound.request
        request = GenerationRequest(asked.prompt, asked.seconds, asked.seed, asked.steps, asked.guidance)
        item = Item(Prompt(asked.prompt, (), "test"), request)
        reference = render(loaded(float_model), request)
        heard = hear(reference.audio, item.prompt, None)
        clip, _, made = compare_clip(item, reference, heard, loaded(other), None)
        expected = {
            "text_encoder.tokens_snr_db": clip.tokens_snr_db,
            "text_encoder.pooled_snr_db": clip.pooled_snr_db,
            "generator.latent_snr_db": clip.generator_snr_db,
            "decoder.log_mel_distance": clip.decoder_log_mel,
            END_TO_END: clip.log_mel,
        }
        assert {key: figures[key] for key in expected} == pytest.approx(expected, rel=1e-6)
        assert set(figures) == {*expected, MAGNITUDES} == set(IDENTICAL)
        assert 0.001 < clip.log_mel < 0.5 and 10 < clip.generator_snr_db < 80
        # The raw waveforms are further apart: validate compares finished sounds.
        assert made.audio.peak <= 1.0
        answer = other.make(asked)
        assert end_to_end_distance(sound, answer, float_model.audio) == pytest.approx(clip.log_mel, rel=1e-6)


def test_a_stage_is_measured_on_what_the_float_model_gave_it(
    float_model: GraphModel, quantized: dict[str, bytes], judge: GateJudge
) -> None:
    together = judge.measure(quantized)
    afresh = tiny_judge(float_model, [sound.request for sound in judge.sounds])
    assert afresh.measure({}) == [IDENTICAL, IDENTICAL]
    for stage, graph in quantized.items():
        alone = afresh.measure({stage: graph})
        own = [key for key in IDENTICAL if key.startswith(f"{stage}.")]
        assert own
        for figures, all_figures in zip(alone, together, strict=True):
            assert {key: figures[key] for key in own} == {key: all_figures[key] for key in own}
            others = set(IDENTICAL) - {*own, END_TO_END}
            assert {key: figures[key] for key in others} == {key: IDENTICAL[key] for key in others}
            assert 0 < figures[END_TO_END] != all_figures[END_TO_END]


def test_gates_are_judged_on_the_means_over_sounds(quantized: dict[str, bytes], judge: GateJudge) -> None:
    figures = judge.measure(quantized)
    outcomes = judge.outcomes(figures)
    means = [float(np.mean([one[gate.figure] for one in figures])) for gate in GATES]
    assert [outcome.measured for outcome in outcomes] == pytest.approx(means)
    assert [outcome.title for outcome in outcomes] == ["Latent", "Decoded", "Whole"]
    shares = judge.shares(outcomes)
    assert shares == pytest.approx([share_used(*pair) for pair in zip(GATES, means, strict=True)])
    assert [share <= 1 for share in shares] == [outcome.passed for outcome in outcomes]


def test_shares_are_amplitudes_of_what_a_gate_allows() -> None:
    ratio, distance = GATES[0], GATES[1]
    assert share_used(ratio, 45.0) == 1.0 and share_used(ratio, 65.0) == pytest.approx(0.1)
    assert share_used(ratio, 200.0) == 0.0 and measured_at(ratio, 0.0) == 200.0
    assert share_used(distance, 0.02) == 1.0 and share_used(distance, 0.005) == 0.25
    for gate in GATES:
        for share in (0.01, 0.8, 3.0):
            assert share_used(gate, measured_at(gate, share)) == pytest.approx(share)


def test_the_packaged_gates_judge_layers_by_what_can_be_measured_of_them() -> None:
    gates = load_gates().gates
    for precision, distance in (("int8", 0.03), ("int4", 0.06)):
        chosen = judged_gates(gates, precision, "gates.toml")
        assert {gate.figure for gate in chosen} == set(IDENTICAL) - {MAGNITUDES}
        (decoder,) = (gate for gate in chosen if gate.figure == "decoder.log_mel_distance")
        assert decoder.at_most == distance


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate("Label", "end_to_end.top5_change_points", at_least=-1.0), "no gate judges int8 by a figure"),
        (Gate("Half", END_TO_END, at_most=0.1, precisions=("fp16",)), "no gate judges int8 by a figure"),
        (Gate("Less", END_TO_END, at_least=0.1), "gate 'Less': at_most, above 0, is needed"),
        (Gate("None", END_TO_END, at_most=0.0), "gate 'None': at_most, above 0, is needed"),
        (Gate("More", "generator.latent_snr_db", at_most=20.0), "gate 'More': at_least is needed"),
    ],
)
def test_gates_that_no_layer_can_be_ranked_by_are_refused(gate: Gate, message: str) -> None:
    with pytest.raises(ConfigError, match=f"mine.toml: {message}"):
        judged_gates([gate], "int8", "mine.toml")
