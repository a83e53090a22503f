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
        typer.Option(help="text_encoder, generator or decoder; all by default. May be repeated."),
    ] = None,
    target_snr: Annotated[
        list[str] | None,
        typer.Option(
            help="Signal-to-noise ratio that the proposed exceptions must reach, dB, of all stages or of one as in "
            "decoder=20; 30, and 15 for the decoder's magnitudes. May be repeated."
        ),
    ] = None,
    sounds: Sounds = 8,
    threads: Threads = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Quantize one layer at a time and propose which should stay float."""
    from dataclasses import asdict

    from edge_tta.bundle.manifest import STAGES
    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.extras import require
    from edge_tta.cli.progress import shown_progress
    from edge_tta.errors import ConfigError
    from edge_tta.runtime.pipeline import checked_threads

    require("PIL", "eval", "drawing the report")
    _require_toolchain()
    from quantization.calibration import GraphModel, read_requests, within
    from quantization.recipe import load_recipe
    from quantization.sensitivity import sweep
    from quantization.sensitivity_report import SCHEMA, SensitivityReport, markdown, write_report

    settings = load_recipe(recipe)
    chosen = tuple(stage or (name for name in STAGES if not settings.stage(name).is_float))
    if settings.target != "onnx":
        raise ConfigError(
            f"recipe {settings.name} is for {settings.target}; layers are measured in onnx graphs"
        )
    for name in chosen:
        settings.stage(name)
    targets = _targets(target_snr or ())
    requests, threads = _first(read_requests(), sounds), checked_threads(threads)
    with shown_progress(quiet) as report:
        config, tokenizer, graphs = _graphs(checkpoint)
        model = GraphModel(graphs, config.audio, tokenizer, threads)
        made = [model.make(request) for request in within(requests, config.audio)]
        found = tuple(
            sweep(name, graphs[name], settings, model, made, targets[name], report) for name in chosen
        )
    document = SensitivityReport(config.name, settings.name, len(made), found)
    asked = [("--stage", name) for name in stage or ()] + [
        ("--target-snr", item) for item in target_snr or ()
    ]
    options = "".join(f" {option} {value}" for option, value in asked)
    command = (
        f"edge-tta quantize sensitivity {checkpoint} -o {output} --recipe {recipe} --sounds {sounds}{options}"
    )
    write_report(document, output, command)
    if as_json:
        say_json({"schema": SCHEMA, **asdict(document)})
    else:
        say(markdown(document, command))


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


def _targets(given: Sequence[str]) -> dict[str, float]:
    """Target of every stage, dB."""
    from edge_tta.bundle.manifest import STAGES
    from edge_tta.errors import ConfigError

    targets = {"text_encoder": 30.0, "generator": 30.0, "decoder": 15.0}
    for item in given:
        name, separator, text = item.rpartition("=")
        stages = [name] if separator else list(STAGES)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value < 200 or not set(stages) <= set(STAGES):
            raise ConfigError(f"target-snr '{item}' is neither a number of dB nor STAGE=dB")
        targets.update(dict.fromkeys(stages, value))
    return targets


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
