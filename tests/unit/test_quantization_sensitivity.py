"""Sensitivity sweeps and comparisons on the tiny model, and the greedy choice on layers with known noise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_checkpoint
from typer.testing import CliRunner

import edge_tta.cli.main as command_line
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.evaluate.bar_chart import Bar, BarGroup, draw_bars
from edge_tta.model.checkpoint import save_config
from edge_tta.model.presets import preset
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from edge_tta.text import Tokenizer
from quantization.calibration import (
    CalibrationRequest,
    CalibrationSound,
    GraphModel,
    read_judgement,
    read_requests,
)
from quantization.comparison import FLOAT, compare, write_comparison
from quantization.comparison import markdown as comparison_markdown
from quantization.onnx_stage import quantize_onnx
from quantization.recipe import QuantizationRecipe
from quantization.sensitivity import LayerSensitivity, propose, sweep
from quantization.sensitivity_report import SensitivityReport, write_report
from quantization.signal_to_noise import decibels, noise_share

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
DYNAMIC = Scheme("int8", "dynamic", reduce_range=True)
LAST = LayerRule("generator.audio_out.*", "last layer")
GENERATOR = StageScheme(DYNAMIC, 64, (LAST,))
DECODER = StageScheme(
    DYNAMIC, 64, (LayerRule("decoder.dft.*", "DFT"), LayerRule("decoder.excitation.*", "0/1 matrix"))
)
RECIPE = QuantizationRecipe("test", "onnx", generator=GENERATOR, decoder=DECODER)


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    bundle = Bundle.open(TINY)
    return {stage: bundle.read(bundle.variants["ort-fp32"].stages[stage]) for stage in STAGES}


@pytest.fixture(scope="module")
def model(graphs: dict[str, bytes]) -> GraphModel:
    bundle = Bundle.open(TINY)
    tokenizer = Tokenizer(bundle.tokenizer_bytes(), bundle.config.text_encoder.max_tokens)
    return GraphModel(graphs, bundle.config.audio, tokenizer)


@pytest.fixture(scope="module")
def sounds(model: GraphModel) -> list[CalibrationSound]:
    """Three short sounds, one of them in several steps."""
    requests = [replace(item, seconds=0.5) for item in read_requests()[:7]]
    return [model.make(request) for request in (requests[0], requests[1], requests[6])]


def layer(name: str, snr_db: float, saved_bytes: int) -> LayerSensitivity:
    return LayerSensitivity(name, "int8", 1, saved_bytes, snr_db, 0.0, "")


def test_the_proposal_meets_the_target_with_the_least_bytes() -> None:
    """Noise adds up; the large layer b is worse than a, but d and a together are cheaper to keep."""
    layers = [
        layer("a", 20.0, 10),
        layer("b", 22.0, 1000),
        layer("c", 50.0, 5000),
        layer("d", 22.0, 10),
        layer("e", 24.0, 100),
    ]
    power = {item.name: 10 ** (-item.snr_db / 10) for item in layers}
    asked = []

    def noise_of(kept: frozenset[str]) -> float:
        asked.append(kept)
        return sum(value for name, value in power.items() if name not in kept)

    assert propose(layers, noise_of, 15.0) == ()
    assert propose(layers, noise_of, 19.5) == ("a", "d")
    assert propose(layers, noise_of, 200.0) == ("a", "b", "c", "d", "e")
    for target in (17.0, 18.0, 19.0, 21.0, 24.0, 30.0):
        kept = frozenset(propose(layers, noise_of, target))
        assert noise_of(kept) <= 10 ** (-target / 10)
        # Nothing is kept for nothing.
        assert all(noise_of(kept - {name}) > 10 ** (-target / 10) for name in kept)


def test_noise_that_does_not_add_up_is_measured_not_believed() -> None:
    layers = [layer("a", 30.0, 10), layer("b", 30.0, 20), layer("c", 30.0, 30)]
    # Together they are ten times as loud as alone.
    assert propose(layers, lambda kept: 0.01 * (3 - len(kept)), 30.0) == ("a", "b", "c")


def test_noise_share_and_decibels() -> None:
    signal = np.array([3.0, 4.0], dtype=np.float32)
    assert noise_share(signal, signal * np.float32(1.1)) == pytest.approx(0.01, rel=1e-5)
    assert decibels(0.01) == 20.0 and decibels(0.0) == 200.0


def test_a_sweep_measures_each_layer_alone(
    graphs: dict[str, bytes], model: GraphModel, sounds: list[CalibrationSound]
) -> None:
    told: list[tuple[str, int, int]] = []
    found = sweep(
        "generator", graphs["generator"], RECIPE, model, sounds, 45.0, lambda *news: told.append(news)
    )
    assert told[0][1:] == (1, len(found.layers)) and told[-1][1:] == (1, 1)
    names = [item.name for item in found.layers]
    assert len(names) == len(set(names)) > 10 and "generator.audio_out.linear.weight" in names
    (last,) = (item for item in found.layers if item.kept_because)
    assert last.name == "generator.audio_out.linear.weight" and last.kept_because == "last layer"
    assert all(item.snr_db > 20 and item.log_mel_distance >= 0 for item in found.layers)
    assert len({item.snr_db for item in found.layers}) > 5
    assert all(item.saved_bytes > 0 for item in found.layers)
    # Alone, a layer is what a recipe makes of it that keeps all others float.
    others = tuple(LayerRule(name, "others") for name in names if name != names[-2])
    alone = QuantizationRecipe("alone", "onnx", generator=replace(GENERATOR, layers=others))
    made = model.with_stage("generator", quantize_onnx("generator", graphs["generator"], alone))
    given = [step for sound in sounds for step in sound.inputs["generator"]]
    shares = [
        noise_share(*(one.sessions["generator"].run(None, step)[0] for one in (model, made)))
        for step in given
    ]
    assert found.layers[-2].snr_db == pytest.approx(decibels(float(np.mean(shares))), abs=0.02)
    # Noise of everything is about the sum of all, and less of it is left with less quantized.
    total = -10 * math.log10(sum(10 ** (-item.snr_db / 10) for item in found.layers))
    assert found.everything.snr_db == pytest.approx(total, abs=3)
    assert found.everything.snr_db < found.recipe.snr_db < found.proposal.snr_db >= 45.0
    assert found.recipe.kept_float == (last.name,)
    assert found.proposal.saved_bytes < found.recipe.saved_bytes < found.everything.saved_bytes


def test_the_decoder_is_judged_by_magnitudes_and_helpers_are_no_candidates(
    graphs: dict[str, bytes], model: GraphModel, sounds: list[CalibrationSound]
) -> None:
    found = sweep("decoder", graphs["decoder"], RECIPE, model, sounds[:1], 20.0)
    names = {item.name for item in found.layers}
    assert "decoder.excitation.even.to_bins" not in names and "decoder.dft.even.synthesis_cosine" in names
    assert found.proposal.snr_db >= 20.0
    with pytest.raises(ConfigError, match="leaves text_encoder in float"):
        sweep("text_encoder", graphs["text_encoder"], RECIPE, model, sounds[:1], 20.0)


def test_reports_are_complete_and_whole(
    graphs: dict[str, bytes], model: GraphModel, sounds: list[CalibrationSound], tmp_path: Path
) -> None:
    found = sweep("decoder", graphs["decoder"], RECIPE, model, sounds[:1], 20.0)
    report = SensitivityReport("edge-tiny", "test", 1, (found,))
    write_report(report, tmp_path / "report", "the command")
    document = json.loads((tmp_path / "report" / "sensitivity.json").read_text())
    assert document["schema"] == "sensitivity/1"
    assert [item["name"] for item in document["stages"][0]["layers"]] == [item.name for item in found.layers]
    text = (tmp_path / "report" / "sensitivity.md").read_text()
    assert "the command" in text and "float: DFT" in text and "| decoder | proposal for 20 dB |" in text
    with Image.open(tmp_path / "report" / "sensitivity.png") as picture:
        assert picture.width == 900 and picture.height > 15 * len(found.layers)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make"):
        write_report(report, tmp_path / "file" / "report", "")


def test_bars_are_as_long_as_their_values() -> None:
    picture = draw_bars(
        [BarGroup("a", (Bar("one", 10.0), Bar("two", 20.0, True), Bar("none", -1.0)))], "dB", 15.0
    )
    rows: dict[tuple[int, ...], int] = {}
    for colour in ((60, 110, 170), (225, 150, 60)):
        where = np.argwhere((np.asarray(picture) == colour).all(axis=-1))
        rows[colour] = int(np.ptp(where[:, 1]))
    plain, marked = rows.values()
    assert marked == pytest.approx(2 * plain, abs=3)
    assert (np.asarray(picture) == (190, 40, 40)).all(axis=-1).any()
    with pytest.raises(DataError, match="at least one bar"):
        draw_bars([BarGroup("empty", ())], "dB")


def test_a_comparison_measures_all_variants_alike(
    graphs: dict[str, bytes], model: GraphModel, sounds: list[CalibrationSound], tmp_path: Path
) -> None:
    small = {**graphs, "generator": quantize_onnx("generator", graphs["generator"], RECIPE)}
    calibration = [sound.request for sound in sounds[:1]]
    judged = [replace(item, seconds=0.5) for item in read_judgement()[:2]]
    variants = {FLOAT: graphs, "test": small}
    with pytest.raises(DataError, match="is calibrated on and judged on"):
        compare("edge-tiny", variants, model, calibration, calibration, judged[0], 3)
    found = compare("edge-tiny", variants, model, calibration, judged, judged[0], 3)
    floats, test = found.variants
    assert [variant.name for variant in found.variants] == [FLOAT, "test"]
    for stage, own in floats.stages.items():
        assert own.bytes == len(graphs[stage]) and own.ratio == 1.0 and own.milliseconds > 0
        assert own.snr_db == 200.0
    assert floats.log_mel_distance == 0.0 and floats.latent_snr_db == 200.0
    assert test.stages["decoder"].snr_db == 200.0 and 20 < test.stages["generator"].snr_db < 80
    assert 0 < test.log_mel_distance < 0.2 and 10 < test.latent_snr_db < 80
    assert test.stages["generator"].bytes == len(small["generator"]) < floats.stages["generator"].bytes
    write_comparison(found, tmp_path, "the command")
    document = json.loads((tmp_path / "quantization.json").read_text())
    assert document["schema"] == "quantization/2" and document["variants"][1]["name"] == "test"
    assert [item["seed"] for item in document["judged"]] == [201, 202]
    assert [item["seed"] for item in document["calibration"]] == [101]
    text = (tmp_path / "quantization.md").read_text()
    assert text == comparison_markdown(found, "the command")
    assert "Judged on: a goat bleating in a stable (0.5 s, guidance 4, steps 1, seed 201); surf" in text
    assert "Calibrated on: a dog growling behind a fence (0.5 s, guidance 4, steps 1, seed 101)." in text
    assert "Calibrated on" not in comparison_markdown(replace(found, calibration=()), "the command")


def test_the_comparison_of_a_static_recipe_judges_other_sounds_than_it_calibrates_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, recipe = tmp_path / "tiny", tmp_path / "static.toml"
    write_checkpoint(checkpoint)
    recipe.write_text(
        'name = "static"\ntarget = "onnx"\n[generator]\nmin_elements = 64\n'
        'scheme = { weights = "int8", activations = "static", reduce_range = true }\n'
        '[[generator.layers]]\npattern = "*_in.*"\nreason = "with a bias"\n'
        '[[generator.layers]]\npattern = "*modulation*"\nreason = "with a bias"\n'
    )
    made: list[CalibrationRequest] = []
    answer = GraphModel.make

    def watched(model: GraphModel, request: CalibrationRequest) -> CalibrationSound:
        made.append(request)
        return answer(model, replace(request, seconds=0.5, steps=1))

    monkeypatch.setattr(GraphModel, "make", watched)
    command = [
        "quantize",
        "compare",
        str(checkpoint),
        "-o",
        str(tmp_path / "report"),
        "--recipe",
        str(recipe),
    ]
    result = CliRunner().invoke(
        command_line.app,
        [*command, "--sounds", "2", "--seconds", "0.5", "--rounds", "1", "--json", "--quiet"],
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    calibration, judged = document["calibration"], document["judged"]
    assert [item["prompt"] for item in calibration] == [item.prompt for item in read_requests()]
    assert [item["prompt"] for item in judged] == [item.prompt for item in read_judgement()[:2]]
    asked = {request.prompt for request in made}
    assert asked == {item["prompt"] for item in [*calibration, *judged]} | {"a waterfall in a gorge"}


def test_the_command_line_lists_recipes_and_says_what_is_wrong(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(command_line.app, ["quantize", "ls", "--json"])
    recipes = json.loads(listed.stdout)["recipes"]
    assert recipes["onnx-int8"]["target"] == "onnx" and all(item["description"] for item in recipes.values())
    assert "onnx-int4" in runner.invoke(command_line.app, ["quantize", "ls"]).stdout
    for arguments, message in (
        (["sensitivity", str(tmp_path), "-o", "x", "--recipe", "nothing"], "unknown quantization recipe"),
        (["sensitivity", str(tmp_path), "-o", "x", "--stage", "codec"], "unknown stage 'codec'"),
        (["sensitivity", str(tmp_path), "-o", "x", "--quiet"], "config.json"),
        (["sensitivity", str(tmp_path), "-o", "x", "--target-snr", "loud"], "target-snr 'loud' is neither"),
        (["sensitivity", str(tmp_path), "-o", "x", "--target-snr", "codec=3"], "target-snr 'codec=3'"),
        (["compare", str(tmp_path), "-o", "x", "--recipe", "nothing"], "unknown quantization recipe"),
    ):
        refused = runner.invoke(command_line.app, ["quantize", *arguments])
        assert refused.exit_code == 2 and message in refused.stderr, refused.output
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--seconds", "99"], "seconds 99 is out of range: this checkpoint makes 0.5 to 12 s"),
        (["compare", "--seconds", "0.2"], "seconds 0.2 is out of range: this checkpoint makes 0.5 to 12 s"),
        (["compare", "--seconds", "nan"], "seconds must be a finite number, got nan"),
        (["compare", "--seconds", "inf"], "seconds must be a finite number, got inf"),
        (["compare", "--seconds", "-3"], "seconds -3 is out of range: it must be above 0"),
        (["compare", "--threads", "65"], "threads 65 is out of range: allowed are 1 to 64"),
        (["compare", "--sounds", "33"], "sounds 33 is out of range: the list has 32"),
        (["sensitivity", "--threads", "65"], "threads 65 is out of range: allowed are 1 to 64"),
        (["sensitivity", "--sounds", "33"], "sounds 33 is out of range: the list has 32"),
    ],
)
def test_what_no_generation_would_take_is_refused_before_the_work(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """The folder holds a configuration and no weights: whatever came later would fail otherwise."""
    save_config(tmp_path, preset("edge-tiny"))
    verb, *options = arguments
    refused = CliRunner().invoke(command_line.app, ["quantize", verb, str(tmp_path), "-o", "x", *options])
    assert refused.exit_code == 2 and refused.stderr == f"edge-tta: {message}\n", refused.output
