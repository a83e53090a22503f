"""A proposal becomes a recipe: a file that says exactly what was chosen, which the exporter takes."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tiny_data import write_checkpoint
from tiny_graphs import DYNAMIC, GATES, RECIPE, short, shorten_lists, tiny_graphs, tiny_judge, tiny_model
from typer.testing import CliRunner

import edge_tta.cli.main as command_line
from edge_tta.config import from_dict
from edge_tta.errors import DataError
from edge_tta.evaluate.gates import Gate
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from quantization.calibration import read_judgement, read_requests
from quantization.closeness import END_TO_END
from quantization.onnx_stage import plan
from quantization.proposal import proposal_comments, proposed_recipe, recipe_text, verify
from quantization.recipe import QuantizationRecipe, load_recipe
from quantization.sensitivity import Choice, LayerSensitivity, Sensitivity, StageSensitivity, candidates

BLOCKS = Scheme("int8", "dynamic", "block", 32)


def sweep_of(recipe: QuantizationRecipe, graphs: dict[str, bytes], kept: tuple[str, ...]) -> Sensitivity:
    """What a sweep that measured nothing would say."""
    stages = []
    for stage in graphs:
        if not recipe.stage(stage).is_float:
            names = candidates(stage, onnx.load_from_string(graphs[stage]).graph, recipe)
            layers = (LayerSensitivity(name, "", 1, 1, 50.0, 0.01, (0.1, 1.42, 0.2), "") for name in names)
            stages.append(StageSensitivity(stage, "", tuple(layers)))
    none = Choice((), 0, ())
    return Sensitivity(1, GATES, 0.8, tuple(stages), none, none, replace(none, kept_float=kept), (0.0,) * 3)


def test_a_proposal_is_a_recipe_for_exactly_the_layers_it_names() -> None:
    """Tables and finer schemes of the recipe are taken over, helper matrices stay float with their reason."""
    graphs = tiny_graphs()
    table = LayerRule("encoder.embedding.weight", "looked up", Scheme("int8"))
    finer = LayerRule("*modulation*", "finer", BLOCKS)
    base = replace(
        RECIPE,
        text_encoder=StageScheme(DYNAMIC, 64, (table,)),
        generator=replace(RECIPE.generator, layers=(*RECIPE.generator.layers, finer)),
        # Few enough that matrices of zeros and ones are large.
        decoder=replace(RECIPE.decoder, min_elements=32),
    )
    kept = ("encoder.layers.0.expand.weight", "generator.audio_in.linear.weight", "decoder.up.weight")
    made = proposed_recipe(base, graphs, sweep_of(base, graphs, kept))
    assert made.name == "test-proposed" and made.target == "onnx"
    assert proposed_recipe(made, graphs, sweep_of(made, graphs, kept)).name == "test-proposed"
    read = from_dict(QuantizationRecipe, tomllib.loads(recipe_text(made, ["one", "two"])))
    assert read == made
    for stage, graph in graphs.items():
        model = onnx.load_from_string(graph).graph
        wanted = {name: item for name, item in candidates(stage, model, base).items() if name not in kept}
        assert plan(stage, model, read) == wanted
    rules = {rule.pattern: rule for stage in graphs for rule in read.stage(stage).layers}
    assert rules["decoder.up.weight"].reason == "alone 142 % of what the gate 'Decoded' allows"
    assert rules["encoder.embedding.weight"] == table
    assert rules["generator.shared_modulation.weight"].scheme == BLOCKS
    # What the recipe kept float is quantized now, but for what no scheme fits.
    assert "generator.audio_out.linear.weight" not in rules and "decoder.dft.even.synthesis_sine" not in rules
    assert rules["decoder.excitation.even.to_bins"].reason == "0/1 matrix"


def test_a_stage_of_which_nothing_is_left_stays_float() -> None:
    graphs = tiny_graphs()
    names = tuple(candidates("generator", onnx.load_from_string(graphs["generator"]).graph, RECIPE))
    made = proposed_recipe(RECIPE, graphs, sweep_of(RECIPE, graphs, names))
    assert made.generator.is_float and not made.decoder.is_float
    assert "[generator]" not in recipe_text(made)


def test_words_and_schemes_survive_the_file() -> None:
    rule = LayerRule("a[[]0].*", 'a "quoted" \\ reason,\twith Ü and \x7f', BLOCKS)
    recipe = QuantizationRecipe("odd", "onnx", "words", decoder=StageScheme(DYNAMIC, 7, (rule,)))
    text = recipe_text(recipe)
    assert from_dict(QuantizationRecipe, tomllib.loads(text)) == recipe and not text.startswith("#")


def test_a_recipe_is_verified_on_other_sounds_than_it_is_calibrated_on() -> None:
    graphs, model = tiny_graphs(), tiny_model()
    static = replace(DYNAMIC, activations="static")
    rules = tuple(LayerRule(pattern, "biased") for pattern in ("*_in.*", "*modulation*"))
    recipe = replace(RECIPE, generator=StageScheme(static, 64, rules))
    calibration = [model.make(request) for request in short(read_requests(), 0, 1)]
    with pytest.raises(DataError, match="is calibrated on and judged on"):
        verify(recipe_text(recipe), graphs, tiny_judge(model, short(read_requests(), 1)), calibration, bytes)
    judge = tiny_judge(model, short(read_judgement(), 0, 1))
    found = verify(recipe_text(recipe), graphs, judge, calibration, lambda data: data[:1000])
    assert [item.seed for item in found.calibration] == [101, 102]
    assert [item.seed for item in found.judged] == [201, 202]
    assert (found.file_bytes, found.float_bytes) == (3000, 3000)
    latent, decoded, whole = found.gates
    assert latent.measured is not None and 20 < latent.measured < 80
    assert decoded.passed is False and whole.measured is not None and whole.measured > 0.01


def gate_file(path: Path, limit: float) -> Path:
    path.write_text(
        f'name = "test"\n[[gates]]\ntitle = "Whole"\nfigure = "{END_TO_END}"\nat_most = {limit}\n'
    )
    return path


def test_the_command_line_writes_a_recipe_that_the_exporter_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, base, file = tmp_path / "tiny", tmp_path / "base.toml", tmp_path / "mine.toml"
    write_checkpoint(checkpoint)
    base.write_text(recipe_text(RECIPE))
    made = shorten_lists(monkeypatch)
    words = [
        "quantize",
        "sensitivity",
        str(checkpoint),
        "-o",
        str(tmp_path / "report"),
        "--recipe",
        str(base),
    ]
    words += ["--stage", "decoder", "--gates", str(gate_file(tmp_path / "gates.toml", 0.02)), "--sounds", "2"]
    result = CliRunner().invoke(command_line.app, [*words, "--output-recipe", str(file), "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found, verification = document["found"], document["verification"]
    assert [stage["stage"] for stage in found["stages"]] == ["decoder"]
    everything, proposal = found["everything"]["gates"][0], found["proposal"]["gates"][0]
    assert everything["measured"] > 0.02 and proposal["measured"] <= 0.5 * 0.02
    assert found["proposal"]["kept_float"] and 0 < found["predicted"][0] < 0.02
    assert [item["seed"] for item in document["measured"]] == [101, 102] and not document["calibration"]
    assert [item["seed"] for item in verification["judged"]] == [201, 202]
    assert {request.seed for request in made} == {101, 102, 201, 202}
    assert 0 < verification["file_bytes"] < verification["float_bytes"]
    written = file.read_text()
    recipe = load_recipe(str(file))
    assert recipe.generator == RECIPE.generator and recipe.precision == "int8"
    floats = {rule.pattern for rule in recipe.decoder.layers if rule.scheme.is_float}
    assert set(found["proposal"]["kept_float"]) <= floats
    assert written.startswith("# Proposed for edge-tiny by\n#   edge-tta quantize sensitivity ")
    assert "# Whole (≤ 0.020): predicted 0.0" in written and ", verified 0.0" in written
    text = (tmp_path / "report" / "sensitivity.md").read_text()
    assert "in one measurement on seeds 201 to 202 of the judgement list" in text
    verdict = "pass" if verification["gates"][0]["passed"] else "fail"
    assert f", {verdict} |" in text and ("warning" in result.stderr) == (verdict == "fail")


def test_gates_that_leave_nothing_to_quantize_make_no_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, base, file = tmp_path / "tiny", tmp_path / "base.toml", tmp_path / "mine.toml"
    write_checkpoint(checkpoint)
    base.write_text(recipe_text(replace(RECIPE, generator=StageScheme())))
    shorten_lists(monkeypatch)
    words = [
        "quantize",
        "sensitivity",
        str(checkpoint),
        "-o",
        str(tmp_path / "report"),
        "--recipe",
        str(base),
    ]
    words += ["--gates", str(gate_file(tmp_path / "gates.toml", 1e-9)), "--sounds", "1", "--quiet"]
    result = CliRunner().invoke(command_line.app, [*words, "--output-recipe", str(file)])
    assert result.exit_code == 2 and "no layer can be quantized within the gates" in result.stderr
    assert not file.exists() and "Nothing of the proposal is quantized" in result.stdout


def test_comments_say_what_it_costs_and_what_is_missed() -> None:
    graphs, model = tiny_graphs(), tiny_model()
    judge = tiny_judge(model, short(read_judgement(), 0), [Gate("Whole", END_TO_END, at_most=0.001)])
    found = verify(recipe_text(RECIPE), graphs, judge, [], bytes)
    outcome = Choice(("a", "b"), 1_500_000, (replace(found.gates[0], measured=0.0008, passed=True),))
    swept = Sensitivity(
        4, judge.gates, 0.8, (), replace(outcome, saved_bytes=2_000_000), outcome, outcome, (0.0007,)
    )
    text = "\n".join(proposal_comments("edge-tiny", "the command", swept, found))
    assert "2 layers are float that could be quantized, which leaves about 1.50 of 2.00 MB saved." in text
    assert "Whole (≤ 0.001): predicted 0.001, measured 0.001, verified 0.0" in text and ", MISSED" in text
    assert "on the 4 sounds that it was chosen by" in text and "on 1 others" in text
