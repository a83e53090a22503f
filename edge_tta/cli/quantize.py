"""``edge-tta quantize``: what quantization recipes do to a checkpoint; ``edge-tta export`` writes their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tta.cli.options import Quiet

if TYPE_CHECKING:
    from edge_tta.config import ModelConfig
    from edge_tta.text import Tokenizer
    from quantization.calibration import CalibrationRequest

app = typer.Typer(
    help="Quantization recipes: list them, find sensitive layers, compare what they cost.",
    rich_markup_mode=None,
)
Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint folder with all parts.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")]
Sounds = Annotated[int, typer.Option(help="Sounds to measure on, the first of the list.", min=1)]
Threads = Annotated[int, typer.Option(help="Threads inside an operator.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.command("ls")
def list_all(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """List the packaged quantization recipes."""
    from edge_tta.cli.console import say, say_json
    from quantization.recipe import list_recipes

    recipes = list_recipes()
    if as_json:
        found = {
            name: {"target": item.target, "description": item.description} for name, item in recipes.items()
        }
        say_json({"schema": "quantization-recipes/1", "recipes": found})
        return
    for name, item in recipes.items():
        say(f"{name:24s} {item.target:12s} {item.description}")


@app.command("sensitivity")
def sensitivity(
    checkpoint: Checkpoint,
    output: Output,
    recipe: Annotated[str, typer.Option(help="Recipe for onnx, packaged or a TOML file.")] = "onnx-int8",
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="text_encoder, generator or decoder; all that the recipe quantizes by default. May be repeated."
        ),
    ] = None,
    gates: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of gates, as for validate; packaged ones by default.", show_default=False
        ),
    ] = None,
    allowance: Annotated[
        float, typer.Option(help="How much of every gate the proposal may use up, above 0, at most 1.")
    ] = 0.5,
    output_recipe: Annotated[
        Path | None,
        typer.Option(
            help="TOML file for the proposal, as a recipe that export --quantization takes.",
            show_default=False,
        ),
    ] = None,
    sounds: Sounds = 8,
    threads: Threads = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Quantize one layer at a time, propose by the gates which should stay float, and verify the proposal."""
    from dataclasses import asdict

    from edge_tta.bundle.manifest import STAGES
    from edge_tta.cli.console import note, say, say_json
    from edge_tta.cli.extras import require
    from edge_tta.cli.progress import shown_progress
    from edge_tta.errors import ConfigError, RequestError
    from edge_tta.evaluate.gates import load_gates
    from edge_tta.files import write_file
    from edge_tta.runtime.pipeline import checked_threads

    require("PIL", "eval", "drawing the report")
    _require_toolchain()
    from export.to_onnx import store_in_bf16
    from quantization.calibration import GraphModel, read_judgement, read_requests, within
    from quantization.closeness import GateJudge, judged_gates
    from quantization.proposal import proposal_comments, proposed_recipe, recipe_text, verify
    from quantization.recipe import load_recipe
    from quantization.sensitivity import sweep
    from quantization.sensitivity_report import SCHEMA, SensitivityReport, markdown, write_report

    settings = load_recipe(recipe)
    chosen = tuple(dict.fromkeys(stage or (name for name in STAGES if not settings.stage(name).is_float)))
    if settings.target != "onnx":
        raise ConfigError(
            f"recipe {settings.name} is for {settings.target}; layers are measured in onnx graphs"
        )
    for name in chosen:
        settings.stage(name)
    if not 0 < allowance <= 1:
        raise RequestError(f"allowance {allowance:g} is out of range: above 0, at most 1")
    limits = judged_gates(load_gates(gates).gates, settings.precision, str(gates or "gates.toml"))
    _check_recipe_file(output_recipe)
    listed, judged, threads = read_requests(), _first(read_judgement(), sounds), checked_threads(threads)
    measured = _first(listed, sounds)
    if settings.is_static and len(measured) == len(listed):
        raise RequestError(
            f"sounds {sounds} is out of range: static ranges need another one of the {len(listed)} in the list"
        )
    with shown_progress(quiet) as report:
        config, tokenizer, graphs = _graphs(checkpoint)
        model = GraphModel(graphs, config.audio, tokenizer, threads)
        listed, judged = within(listed, config.audio), within(judged, config.audio)
        measured = listed[:sounds]
        calibrated = [model.make(request) for request in listed] if settings.is_static else []
        found = sweep(
            chosen,
            graphs,
            settings,
            GateJudge(model, measured, limits, settings.precision),
            calibrated[sounds:],
            allowance,
            report,
        )
        proposal, verification = proposed_recipe(settings, graphs, found), None
        if any(not proposal.stage(name).is_float for name in STAGES):
            others = GateJudge(model, judged, limits, settings.precision)
            verification = verify(recipe_text(proposal), graphs, others, calibrated, store_in_bf16)
    asked = [("--stage", name) for name in stage or ()]
    asked += [("--gates", str(gates))] if gates is not None else []
    options = "".join(f" {option} {value}" for option, value in asked)
    command = (
        f"edge-tta quantize sensitivity {checkpoint} -o {output} --recipe {recipe} --sounds {sounds} "
        f"--allowance {allowance:g}{options}"
    )
    calibration = tuple(listed[sounds:]) if settings.is_static else ()
    document = SensitivityReport(
        config.name, settings.name, tuple(measured), calibration, found, verification
    )
    write_report(document, output, command)
    if output_recipe is not None and verification is not None:
        comments = proposal_comments(config.name, command, found, verification)
        write_file(output_recipe, recipe_text(proposal, comments).encode())
    if as_json:
        say_json({"schema": SCHEMA, **asdict(document)})
    else:
        say(markdown(document, command))
    if verification is None:
        raise ConfigError("no layer can be quantized within the gates: there is no recipe to propose")
    missed = [gate.title for gate in verification.gates if not gate.passed]
    if missed:
        note(
            f"edge-tta: warning: on other sounds the proposal misses {', '.join(missed)}; a lower --allowance keeps "
            f"more layers float"
        )


@app.command("compare")
def compare(
    checkpoint: Checkpoint,
    output: Output,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe for onnx, packaged or a TOML file; all packaged ones by default. May be repeated."
        ),
    ] = None,
    sounds: Sounds = 16,
    seconds: Annotated[float, typer.Option(help="Length of the sound that is timed.")] = 10.0,
    rounds: Annotated[int, typer.Option(help="How often it is timed.", min=1)] = 20,
    threads: Threads = 2,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare recipes with the float model: bytes, closeness on sounds that nothing was calibrated on, time."""
    from dataclasses import asdict

    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.progress import shown_progress
    from edge_tta.runtime.pipeline import checked_threads
    from edge_tta.runtime.request import GenerationRequest, check_seconds

    _require_toolchain()
    from edge_tta.model.checkpoint import read_config
    from export.to_onnx import store_in_bf16
    from quantization.calibration import (
        CalibrationRequest,
        GraphModel,
        read_judgement,
        read_requests,
        stage_inputs,
        within,
    )
    from quantization.comparison import FLOAT, SCHEMA, markdown, write_comparison
    from quantization.comparison import compare as measure
    from quantization.onnx_stage import quantize_onnx
    from quantization.recipe import list_recipes, load_recipe

    packaged = (name for name, item in list_recipes().items() if item.target == "onnx")
    recipes = [load_recipe(name) for name in recipe or packaged]
    # What is wrong is told before the graphs are exported, in the words of a generation.
    asked, threads = GenerationRequest("a waterfall in a gorge", seconds), checked_threads(threads)
    check_seconds(asked.seconds, read_config(checkpoint).audio, "checkpoint")
    judged = _first(read_judgement(), sounds)
    with shown_progress(quiet) as report:
        config, tokenizer, graphs = _graphs(checkpoint)
        model = GraphModel(graphs, config.audio, tokenizer, threads)
        calibration = within(read_requests(), config.audio) if any(r.is_static for r in recipes) else ()
        calibrated = [model.make(request) for request in calibration]
        variants = {FLOAT: {name: store_in_bf16(data) for name, data in graphs.items()}}
        for item in recipes:
            variants[item.name] = {
                name: store_in_bf16(quantize_onnx(name, data, item, stage_inputs(calibrated, name)))
                for name, data in graphs.items()
            }
        timed = CalibrationRequest(asked.prompt, asked.seconds, 4.0, 1, 0)
        judged = within(judged, config.audio)
        found = measure(config.name, variants, model, calibration, judged, timed, rounds, report)
    options = "".join(f" --recipe {name}" for name in recipe or ())
    command = (
        f"edge-tta quantize compare {checkpoint} -o {output}{options} --sounds {sounds} --seconds {seconds:g} "
        f"--rounds {rounds} --threads {threads}"
    )
    write_comparison(found, output, command)
    if as_json:
        say_json({"schema": SCHEMA, **asdict(found)})
    else:
        say(markdown(found, command))


def _first(requests: Sequence[CalibrationRequest], sounds: int) -> Sequence[CalibrationRequest]:
    """The first requests of a list, as many as are asked for."""
    from edge_tta.errors import RequestError

    if sounds > len(requests):
        raise RequestError(f"sounds {sounds} is out of range: the list has {len(requests)}")
    return requests[:sounds]


def _check_recipe_file(path: Path | None) -> None:
    """Refuse a file that could not be read or written later, before the work."""
    from edge_tta.errors import OutputError

    if path is not None and path.suffix != ".toml":
        raise OutputError(f"cannot write {path}: the name of a recipe's file ends in .toml")
    if path is not None and not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the directory {path.parent} does not exist")


def _require_toolchain() -> None:
    from edge_tta.cli.extras import require

    for package in ("torch", "onnx", "onnxscript"):
        require(package, "export", "quantizing")


def _graphs(checkpoint: Path) -> tuple[ModelConfig, Tokenizer, dict[str, bytes]]:
    """Configuration, tokenizer and float ONNX files of a checkpoint."""
    from edge_tta.model.checkpoint import load_model_checkpoint
    from edge_tta.text import Tokenizer
    from export.assemble import complete_parts
    from export.to_onnx import export_onnx
    from export.wrappers import stage_graphs

    parts, tokenizer = complete_parts(load_model_checkpoint(checkpoint))
    graphs = {name: export_onnx(stage) for name, stage in stage_graphs(parts).items()}
    return parts.config, Tokenizer(tokenizer, parts.config.text_encoder.max_tokens), graphs
