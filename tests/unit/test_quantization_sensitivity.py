"""Sensitivity sweeps and comparisons on the tiny model, and the greedy choice on layers with known noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_checkpoint
from tiny_graphs import RECIPE, short, shorten_lists, tiny_graphs, tiny_judge, tiny_model
from typer.testing import CliRunner

import edge_tta.cli.main as command_line
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.evaluate.bar_chart import Bar, BarGroup, draw_bars
from edge_tta.model.checkpoint import save_config
from edge_tta.model.presets import preset
from edge_tta.model.scheme import LayerRule, StageScheme
from quantization.calibration import GraphModel, read_judgement, read_requests
from quantization.closeness import GateJudge, share_used
from quantization.comparison import FLOAT, compare, write_comparison
from quantization.comparison import markdown as comparison_markdown
from quantization.onnx_stage import quantize_onnx
from quantization.proposal import Verification
from quantization.sensitivity import LayerSensitivity, Sensitivity, propose, sweep
from quantization.sensitivity_report import SensitivityReport, write_report
from quantization.signal_to_noise import decibels, noise_share


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    return tiny_graphs()


@pytest.fixture(scope="module")
def model() -> GraphModel:
    return tiny_model()


@pytest.fixture(scope="module")
def judge(model: GraphModel) -> GateJudge:
    """Three short sounds, one of them in several steps."""
    return tiny_judge(model, short(read_requests(), 0, 1, 6))


@pytest.fixture(scope="module")
def found(graphs: dict[str, bytes], judge: GateJudge) -> Sensitivity:
    """Two stages of the tiny model."""
    return sweep(("generator", "decoder"), graphs, RECIPE, judge, (), 0.8)


def layer(name: str, saved_bytes: int, *shares: float) -> LayerSensitivity:
    return LayerSensitivity(name, "int8", 1, saved_bytes, 0.0, 0.0, shares, "")


def decibels_below(snr_db: float) -> float:
    return float(10 ** (-snr_db / 20))


def test_the_proposal_keeps_the_gate_with_the_least_bytes() -> None:
    """Noise adds up; the large layer b is worse than a, but d and a together are cheaper to keep."""
    layers = [
        layer("a", 10, decibels_below(20)),
        layer("b", 1000, decibels_below(22)),
        layer("c", 5000, decibels_below(50)),
        layer("d", 10, decibels_below(22)),
        layer("e", 100, decibels_below(24)),
    ]

    def loads_of(kept: frozenset[str]) -> list[float]:
        return [sum(item.shares[0] ** 2 for item in layers if item.name not in kept)]

    assert propose(layers, loads_of, decibels_below(15)) == ()
    assert propose(layers, loads_of, decibels_below(19.5)) == ("a", "d")
    assert propose(layers, loads_of, decibels_below(200)) == ("a", "b", "c", "d", "e")
    for target in (17.0, 18.0, 19.0, 21.0, 24.0, 30.0):
        kept = frozenset(propose(layers, loads_of, decibels_below(target)))
        assert loads_of(kept)[0] <= 10 ** (-target / 10)
        # Nothing is kept for nothing.
        assert all(loads_of(kept - {name})[0] > 10 ** (-target / 10) for name in kept)


def test_noise_that_does_not_add_up_is_measured_not_believed() -> None:
    layers = [layer(name, size, decibels_below(30)) for name, size in (("a", 10), ("b", 20), ("c", 30))]
    # Together they are ten times as loud as alone.
    assert propose(layers, lambda kept: [0.01 * (3 - len(kept))], decibels_below(30)) == ("a", "b", "c")


def test_only_layers_that_use_up_a_missed_gate_stay_float() -> None:
    """By the first gate alone, such as a signal-to-noise ratio, "loud" would be the one to keep."""
    layers = [layer("loud", 10, 0.9, 0.01), layer("heard", 10, 0.1, 3.0), layer("neither", 10, 0.1, 0.0)]
    asked = []

    def loads_of(kept: frozenset[str], background: float = 0.0) -> list[float]:
        asked.append(kept)
        left = [item.shares for item in layers if item.name not in kept]
        return [sum(item[0] ** 2 for item in left), background + sum(item[1] ** 2 for item in left)]

    assert propose(layers, loads_of, 1.0) == ("heard",)
    assert asked == [frozenset(), frozenset({"heard"}), frozenset()]
    # What other stages do to a gate no layer here can mend: those that add to it are kept, and the search ends.
    assert propose(layers, lambda kept: loads_of(kept, 2.0), 1.0) == ("loud", "heard")


def test_noise_share_and_decibels() -> None:
    signal = np.array([3.0, 4.0], dtype=np.float32)
    assert noise_share(signal, signal * np.float32(1.1)) == pytest.approx(0.01, rel=1e-5)
    assert decibels(0.01) == 20.0 and decibels(0.0) == 200.0


def test_a_sweep_measures_each_layer_alone(
    graphs: dict[str, bytes], judge: GateJudge, found: Sensitivity
) -> None:
    generator, decoder = found.stages
    names = [item.name for item in generator.layers]
    assert len(names) == len(set(names)) > 10 and "generator.audio_out.linear.weight" in names
    (last,) = (item for item in generator.layers if item.kept_because)
    assert last.name == "generator.audio_out.linear.weight" and last.kept_because == "last layer"
    assert all(item.snr_db > 20 and item.log_mel_distance >= 0 for item in generator.layers)
    assert len({item.snr_db for item in generator.layers}) > 5
    assert all(item.saved_bytes > 0 for item in generator.layers)
    # Alone, a layer is what a recipe makes of it that keeps all others float.
    others = tuple(LayerRule(name, "others") for name in names if name != names[-2])
    alone = replace(RECIPE, generator=replace(RECIPE.generator, layers=others), decoder=StageScheme())
    figures = judge.measure({"generator": quantize_onnx("generator", graphs["generator"], alone)})
    assert generator.layers[-2].snr_db == pytest.approx(
        float(np.mean([one["generator.latent_snr_db"] for one in figures])), abs=0.01
    )
    assert generator.layers[-2].log_mel_distance == pytest.approx(
        float(np.mean([one["end_to_end.log_mel_distance"] for one in figures])), abs=1e-5
    )
    assert generator.layers[-2].shares == pytest.approx(judge.shares(judge.outcomes(figures)), abs=1e-5)
    # A layer uses up the gates of its own stage and of the whole.
    assert all(item.shares[1] == 0 and item.shares[0] > 0 for item in generator.layers)
    assert all(item.shares[0] == 0 and item.shares[1] > 0 for item in decoder.layers)
    helpers = {item.name for item in decoder.layers}
    assert "decoder.excitation.even.to_bins" not in helpers and "decoder.dft.even.synthesis_cosine" in helpers


def test_the_proposal_is_what_the_gates_judge(found: Sensitivity) -> None:
    generator, decoder = found.stages
    latent, decoded, whole = found.everything.gates
    assert latent.passed and not decoded.passed and not whole.passed
    # The recipe's exceptions were chosen by ear for another model: here they miss what few layers would keep.
    assert not found.recipe.gates[1].passed and "generator.audio_out.linear.weight" in found.recipe.kept_float
    assert all(outcome.passed for outcome in found.proposal.gates)
    kept = set(found.proposal.kept_float)
    worst = sorted(decoder.layers, key=lambda item: item.log_mel_distance, reverse=True)[: len(kept)]
    assert kept == {item.name for item in worst} and not kept & {item.name for item in generator.layers}
    assert found.everything.saved_bytes > found.proposal.saved_bytes > 0
    # Squares of shares add up, nearly, where differences are small.
    for gate, outcome, predicted in zip(found.gates, found.proposal.gates, found.predicted, strict=True):
        assert outcome.measured is not None
        ratio = share_used(gate, predicted) / share_used(gate, outcome.measured)
        assert 0.6 < ratio < 1.4 and share_used(gate, outcome.measured) <= 0.8


def test_stages_that_are_not_measured_are_as_the_recipe_makes_them(
    graphs: dict[str, bytes], judge: GateJudge, found: Sensitivity
) -> None:
    told: list[tuple[str, int, int]] = []
    one = sweep(("generator",), graphs, RECIPE, judge, (), 0.8, lambda *news: told.append(news))
    assert told[0][1:] == (1, len(one.stages[0].layers)) and told[-1][1:] == (1, 1)
    assert [stage.stage for stage in one.stages] == ["generator"]
    # The decoder's part in a gate is there whatever the generator keeps, and none of its layers can mend it.
    assert one.recipe.gates == found.recipe.gates
    assert one.recipe.gates[1].measured == one.proposal.gates[1].measured == one.everything.gates[1].measured
    assert not one.proposal.gates[2].passed
    assert one.predicted[1] == pytest.approx(one.recipe.gates[1].measured)
    with pytest.raises(ConfigError, match="leaves text_encoder in float"):
        sweep(("text_encoder",), graphs, RECIPE, judge, (), 0.8)
    with pytest.raises(DataError, match="is calibrated on and judged on"):
        sweep(("generator",), graphs, RECIPE, judge, judge.sounds[:1], 0.8)


def test_reports_are_complete_and_whole(judge: GateJudge, found: Sensitivity, tmp_path: Path) -> None:
    requests = tuple(sound.request for sound in judge.sounds)
    verification = Verification(
        (), tuple(short(read_judgement(), 0, 1)), 1_000_000, 2_000_000, found.proposal.gates
    )
    report = SensitivityReport("edge-tiny", "test", requests, (), found, verification)
    write_report(report, tmp_path / "report", "the command")
    document = json.loads((tmp_path / "report" / "sensitivity.json").read_text())
    assert document["schema"] == "sensitivity/2"
    layers = [item.name for stage in found.stages for item in stage.layers]
    assert [item["name"] for stage in document["found"]["stages"] for item in stage["layers"]] == layers
    text = (tmp_path / "report" / "sensitivity.md").read_text()
    assert "the command" in text and "float: DFT" in text and "| 1.00 of 2.00 MB stored |" in text
    row = next(line for line in text.splitlines() if line.startswith("| Decoded | ≤ 0.020 | 0.039 | 0.038 |"))
    assert row.endswith(", pass |") and "on seeds 101 to 107 of the calibration list" in text
    # By what a gate says, the worst first.
    rows = [line for line in text.splitlines() if line.startswith("| `decoder.")]
    assert "`decoder.up.weight`" in rows[0] and "235 %, Decoded" in rows[0]
    with Image.open(tmp_path / "report" / "sensitivity.png") as picture:
        assert picture.width == 900 and picture.height > 15 * len(layers)
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
    graphs: dict[str, bytes], model: GraphModel, tmp_path: Path
) -> None:
    small = {**graphs, "generator": quantize_onnx("generator", graphs["generator"], RECIPE)}
    calibration, judged = short(read_requests(), 0), short(read_judgement(), 0, 1)
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
    made = shorten_lists(monkeypatch)
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
    assert [item["seed"] for item in calibration] == list(range(101, 133))
    assert [item["seed"] for item in judged] == [201, 202]
    # The sound that is timed has seed 0.
    assert [request.seed for request in made] == [*range(101, 133), 201, 202, 0, 201, 202, 201, 202]


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
        (["sensitivity", str(tmp_path), "-o", "x", "--gates", str(tmp_path / "no.toml")], "cannot be read"),
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
        (
            ["sensitivity", "--recipe", "onnx-int8-static", "--sounds", "32"],
            "sounds 32 is out of range: static ranges need another one of the 32 in the list",
        ),
        (["sensitivity", "--allowance", "0"], "allowance 0 is out of range: above 0, at most 1"),
        (["sensitivity", "--allowance", "nan"], "allowance nan is out of range: above 0, at most 1"),
        (
            ["sensitivity", "--output-recipe", "mine.json"],
            "cannot write mine.json: the name of a recipe's file ends in .toml",
        ),
        (
            ["sensitivity", "--output-recipe", "nowhere/mine.toml"],
            "cannot write nowhere/mine.toml: the directory nowhere does not exist",
        ),
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
