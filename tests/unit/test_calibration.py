"""Calibration: a fixed list of requests, apart from every evaluation prompt, answered by the float model itself."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edge_tta.evaluate
from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.config import AudioSpec
from edge_tta.errors import DataError
from edge_tta.evaluate.suite import read_prompts
from edge_tta.text import Tokenizer, normalise
from quantization.calibration import (
    CalibrationRequest,
    GraphModel,
    activation_ranges,
    read_calibration,
    read_judgement,
    read_requests,
    require_disjoint,
    stage_inputs,
    within,
)
from quantization.ranges import CLIPPED_WEIGHT, See, find_ranges

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
HEADER = "prompt,seconds,guidance,steps,seed\n"


def float_model() -> GraphModel:
    bundle = Bundle.open(TINY)
    graphs = {stage: bundle.read(bundle.variants["ort-fp32"].stages[stage]) for stage in STAGES}
    tokenizer = Tokenizer(bundle.tokenizer_bytes(), bundle.config.text_encoder.max_tokens)
    return GraphModel(graphs, bundle.config.audio, tokenizer)


@pytest.mark.parametrize("read", [read_requests, read_judgement])
def test_no_prompt_of_the_toolchain_is_in_a_suite(
    read: Callable[[], tuple[CalibrationRequest, ...]],
) -> None:
    """Recipes are made by these, and validated by those."""
    prompts = {normalise(request.prompt) for request in read()}
    suites = sorted((Path(edge_tta.evaluate.__file__).parent / "prompts").glob("*.csv"))
    assert suites
    judged = {normalise(prompt.text) for suite in suites for prompt in read_prompts(suite)}
    assert len(judged) > 200 and prompts.isdisjoint(judged)


def test_nothing_is_judged_that_was_calibrated_on() -> None:
    calibration, judged = read_requests(), read_judgement()
    require_disjoint(calibration, judged)
    prompt = dataclasses.replace(judged[3], prompt=f"  {calibration[5].prompt.upper()} ")
    with pytest.raises(DataError, match=r"'  CITY SQUARE .* is calibrated on and judged on: the prompts"):
        require_disjoint(calibration, [*judged, prompt])
    noise = dataclasses.replace(judged[3], seed=calibration[5].seed)
    with pytest.raises(DataError, match="seed 106 is calibrated on and judged on: the noise must differ"):
        require_disjoint(calibration, [*judged, noise])


@pytest.mark.parametrize("read", [read_requests, read_judgement])
def test_the_packaged_requests_cover_lengths_scales_and_steps(
    read: Callable[[], tuple[CalibrationRequest, ...]],
) -> None:
    requests = read()
    assert len({request.prompt for request in requests}) == len(requests) >= 32
    assert len({request.seed for request in requests}) == len(requests)
    for part in (requests, requests[:12]):
        assert min(item.seconds for item in part) <= 0.5 and max(item.seconds for item in part) >= 12
        assert {2.0, 3.0, 4.0, 5.0} <= {item.guidance for item in part}
        assert {1} < {item.steps for item in part}


def test_requests_are_held_within_what_a_model_makes() -> None:
    audio = AudioSpec(min_seconds=1.0, max_seconds=6.0)
    requests = (CalibrationRequest("a", 0.5, 4.0, 8, 1), CalibrationRequest("b", 12.0, 4.0, 2, 2))
    held = within(requests, audio, max_steps=4)
    assert [(item.seconds, item.steps) for item in held] == [(1.0, 4), (6.0, 2)]
    assert [item.steps for item in within(requests, audio)] == [8, 2]


def test_stages_are_given_what_the_runtime_gives_them() -> None:
    """The same request through the runtime makes the same sound, and inputs repeat bit for bit."""
    request = CalibrationRequest("thunder and wind", 0.6, 2.5, 3, 11)
    model = float_model()
    first, second = model.make(request), model.make(request)
    for stage, runs in (("text_encoder", 1), ("generator", 3), ("decoder", 1)):
        assert len(first.inputs[stage]) == runs
        for left, right in zip(first.inputs[stage], second.inputs[stage], strict=True):
            assert left.keys() == right.keys()
            assert all(np.array_equal(left[name], right[name]) for name in left)
    assert [float(step["time"][0]) for step in first.inputs["generator"]] == pytest.approx([1, 2 / 3, 1 / 3])
    assert len(stage_inputs([first, second], "generator")) == 6
    with TextToAudio.open(TINY, precision="fp32", threads=1) as runtime:
        asked = GenerationRequest(request.prompt, seconds=0.6, guidance=2.5, steps=3, seed=11)
        sound = runtime.generate(asked).audio.samples
    # The runtime fades the ends, takes out an offset and scales down what is too loud.
    made = first.waveform[0, :, : sound.shape[1]]
    middle = slice(sound.shape[1] // 4, -sound.shape[1] // 4)
    left, right = made[0, middle], sound[0, middle]
    assert np.corrcoef(left, right)[0, 1] > 0.9999


def test_no_session_tells_anyone_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's telemetry is on until it is turned off, which the runtime does too."""
    turned_off: list[bool] = []
    monkeypatch.setattr("onnxruntime.disable_telemetry_events", lambda: turned_off.append(True))
    float_model()
    assert len(turned_off) == 3


def test_ranges_are_those_of_every_input() -> None:
    node = helper.make_node("Mul", ["x", "x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "z")]
    graph = helper.make_graph(node, "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    inputs = [{"x": np.array(row, dtype=np.float32)} for row in ([1, -3], [2, 0.5])]
    ranges = activation_ranges(model.SerializeToString(), ["x", "y", "z"], inputs)
    # So few values are spread too wide for clipping to pay; 0 always has a value of its own.
    assert ranges == {"x": (-3.0, 2.0), "y": (0.0, 9.0), "z": (-9.0, 0.0)}


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as eight bits between two ends hold them."""
    step = (high - low) / 255
    return low + step * np.clip(np.round((values - low) / step), 0, 255)


def test_few_large_values_are_clipped_where_that_errs_less() -> None:
    values = np.random.default_rng(0).laplace(size=2_000_000)
    values[values < -5] = -5
    shown = []

    def run(see: See) -> None:
        for part in np.split(values, 10):
            see("x", part)
            shown.append(len(part))

    (low, high) = find_ranges(run)["x"]
    assert len(shown) == 20, "once for the extremes, once for the spread"
    assert low == pytest.approx(-5, abs=0.3) and 6 < high < 0.85 * values.max()

    def error(low: float, high: float) -> float:
        found = np.square(rounded(values, low, high) - values)
        return float(found.sum() + (CLIPPED_WEIGHT - 1) * found[(values < low) | (values > high)].sum())

    chosen = error(low, high)
    assert chosen < 0.9 * error(values.min(), values.max())
    for other in ((low, 0.8 * high), (low, 1.2 * high), (0.7 * low, high)):
        assert chosen < error(*other) * 1.001


def test_a_tensor_that_is_always_zero_has_an_empty_range() -> None:
    assert find_ranges(lambda see: see("x", np.zeros(3))) == {"x": (0.0, 0.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,suite\na,b\n", "columns must be prompt and any of seconds, guidance, steps, seed, got label"),
        ("prompt,second\na,1\n", "columns must be prompt"),
        (HEADER, "no request"),
        (HEADER + "a,long,4,1,1\n", ":2: no calibration request"),
        (HEADER + "a,1,4,1\n", ":2: 5 cells are needed"),
        ("prompt\na dog\nwind, rain\n", ":3: 1 cells are needed; quote a prompt that holds a comma"),
        (HEADER + ",1,4,1,1\n", ":2: .*prompt is empty"),
        (HEADER + "a + b,1,4,1,1\n", "names several sounds"),
        (HEADER + "a,inf,4,1,1\n", "seconds"),
        (HEADER + "a,1,nan,1,1\n", "guidance"),
        (HEADER + "a,1,4,0,1\n", "steps 0 is out of range"),
        (HEADER + "a,1,4,1,-1\n", "seed -1 is out of range"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_requests(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_requests(tmp_path / "none.csv")


def test_an_own_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(HEADER + "a gong,2.5,3,2,9\n")
    found = read_calibration(path)
    assert found.requests == read_requests(path) == (CalibrationRequest("a gong", 2.5, 3.0, 2, 9),)
    assert dataclasses.asdict(found.requests[0])["seed"] == 9
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len({found.sha256, read_calibration().sha256}) == 2


def test_prompts_alone_take_the_packaged_settings_in_turn(tmp_path: Path) -> None:
    """A list to evaluate with, or one a line: lengths, scales and steps come from our own, no seed comes twice."""
    packaged = read_requests()
    prompts = [f"sound {number}" for number in range(len(packaged) + 3)]
    lines, table = tmp_path / "prompts.txt", tmp_path / "suite.csv"
    lines.write_text("\ufeff# ours\n\n" + "".join(f"{prompt}\n" for prompt in prompts))
    table.write_text("label,prompt,suite\n" + "".join(f"dog,{prompt},plain\n" for prompt in prompts))
    found = read_requests(lines)
    assert found == read_requests(table) and [item.prompt for item in found] == prompts
    assert found[4] == dataclasses.replace(packaged[4], prompt="sound 4")
    again = found[len(packaged)]
    assert (again.seconds, again.guidance, again.steps) == (
        packaged[0].seconds,
        packaged[0].guidance,
        packaged[0].steps,
    )
    assert len({item.seed for item in found}) == len(found)
    table.write_text("prompt,seconds\na gong,2.5\n")
    assert read_requests(table) == (dataclasses.replace(packaged[0], prompt="a gong", seconds=2.5),)
    lines.write_text("rain\n\0\n")
    with pytest.raises(DataError, match=r"prompts\.txt:2: no calibration request \(prompt"):
        read_requests(lines)
