"""What a sensitivity sweep says, as JSON, as tables to read and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_tta.errors import OutputError
from edge_tta.evaluate.bar_chart import Bar, BarGroup, write_bars
from edge_tta.evaluate.gates import Gate
from edge_tta.evaluate.parity_text import figure_number, limit_text, measured_text, verdict
from edge_tta.files import write_file
from quantization.calibration import CalibrationRequest
from quantization.proposal import Verification
from quantization.sensitivity import LayerSensitivity, Sensitivity

SCHEMA = "sensitivity/2"
SHOWN_LAYERS = 12
"""Layers of a stage in the table, the most sensitive ones; all are in the picture and in the JSON."""


@dataclass(frozen=True)
class SensitivityReport:
    """A sweep over stages of one model, and the recipe that follows from it."""

    model: str
    recipe: str
    measured: tuple[CalibrationRequest, ...]
    """Sounds that layers and choices were measured on."""
    calibration: tuple[CalibrationRequest, ...]
    """What static ranges were of meanwhile; empty where there are none."""
    found: Sensitivity
    verification: Verification | None
    """None where the proposal quantizes nothing."""


def write_report(report: SensitivityReport, folder: Path, command: str) -> None:
    """Write ``sensitivity.json``, ``sensitivity.md`` and ``sensitivity.png``.

    Args:
        report: what was found.
        folder: made if it is not there.
        command: how to make it again.

    Raises:
        OutputError: the folder or a file cannot be written.
        MissingExtraError: Pillow is not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror or error}") from error
    write_bars(bar_groups(report.found), folder / "sensitivity.png", "%")
    write_file(folder / "sensitivity.md", markdown(report, command).encode())
    write_file(folder / "sensitivity.json", to_json(report).encode())


def to_json(report: SensitivityReport) -> str:
    """Everything, with a schema name, one value a line."""
    return json.dumps({"schema": SCHEMA, **asdict(report)}, indent=1, allow_nan=False) + "\n"


def bar_groups(found: Sensitivity) -> list[BarGroup]:
    """A group a stage, a bar a layer; layers that the proposal keeps float are marked."""
    groups = []
    for stage in found.stages:
        bars = (
            Bar(_short(layer), 100 * max(layer.shares), layer.name in found.proposal.kept_float)
            for layer in stage.layers
        )
        heading = f"{stage.stage}: share of a gate that this layer alone uses up in {stage.scheme}; marked: stays float"
        groups.append(BarGroup(heading, tuple(bars)))
    return groups


def markdown(report: SensitivityReport, command: str) -> str:
    """A table of choices, and the most sensitive layers of every stage."""
    found = report.found
    lines = [
        f"# Sensitivity of {report.model} to `{report.recipe}`",
        "",
        (
            f"One layer quantized at a time, on {found.sounds} sounds. SNR is that of the stage's output (token "
            f"features, latent, STFT magnitudes), log-mel the distance of the finished sound to the float model's in "
            f"log10 (0.05 is 1 dB), both as in `edge-tta validate`. A layer's share is how much of a gate it uses up "
            f"alone: the amplitude of its difference over the one that the gate allows. The proposal keeps the fewest "
            f"bytes float with which every gate has at most {100 * found.allowance:.0f} % used up."
        ),
        "",
        f"    {command}",
        "",
        *_choices(report),
        "",
        _sounds(report),
        "",
        "![Share of a gate by layer](sensitivity.png)",
    ]
    for stage in found.stages:
        lines += ["", f"## {stage.stage}, {stage.scheme}", ""]
        lines += [
            "| layer | weights | SNR | log-mel | share of a gate | in the recipe | in the proposal |",
            "|---|---|---|---|---|---|---|",
        ]
        ranked = sorted(stage.layers, key=lambda layer: max(layer.shares), reverse=True)
        worst = ranked[:SHOWN_LAYERS]
        lines += [_layer_row(layer, found) for layer in worst]
        if len(ranked) > len(worst):
            most = 100 * max(ranked[len(worst)].shares)
            lines += [
                "",
                f"The other {len(ranked) - len(worst)} layers use up {most:.0f} % of a gate or less.",
            ]
    return "\n".join(lines) + "\n"


def _choices(report: SensitivityReport) -> list[str]:
    """Everything, the recipe and the proposal: what they save, and every gate."""
    found, checked = report.found, report.verification
    choices = (found.everything, found.recipe, found.proposal)
    layers = sum(len(stage.layers) for stage in found.stages)
    floats = [f"{len(choice.kept_float)} of {layers}" for choice in choices]
    saved = [f"{choice.saved_bytes / 1e6:.2f} MB" for choice in choices]
    stored = (
        ""
        if checked is None
        else f"{checked.file_bytes / 1e6:.2f} of {checked.float_bytes / 1e6:.2f} MB stored"
    )
    rows = [
        ["", "limit", "everything", "recipe", "proposal, predicted", "proposal", "proposal, verified"],
        ["---"] * 7,
        ["float layers", "", *floats[:2], "", floats[2], ""],
        ["saves, about", "", *saved[:2], "", saved[2], stored],
    ]
    for place, gate in enumerate(found.gates):
        everything, recipe, proposal = (choice.gates[place] for choice in choices)
        rows.append(
            [
                gate.title,
                limit_text(everything),
                measured_text(everything),
                measured_text(recipe),
                figure_number(gate.figure, found.predicted[place]),
                measured_text(proposal),
                ""
                if checked is None
                else f"{measured_text(checked.gates[place])}, {verdict(checked.gates[place])}",
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def _sounds(report: SensitivityReport) -> str:
    text = f"Layers and choices are measured on seeds {_seeds(report.measured)} of the calibration list"
    if report.calibration:
        text += f", with static ranges of seeds {_seeds(report.calibration)}"
    if report.verification is None:
        return f"{text}. Nothing of the proposal is quantized."
    text += (
        f". Verified is the whole proposed recipe, made as `edge-tta export` makes it, in one measurement on seeds "
        f"{_seeds(report.verification.judged)} of the judgement list: other prompts and noise"
    )
    if report.verification.calibration:
        text += f", ranges of seeds {_seeds(report.verification.calibration)} of the calibration list"
    return f"{text}. Fréchet distance and adherence are left to `edge-tta validate`."


def _seeds(requests: Sequence[CalibrationRequest]) -> str:
    seeds = sorted(request.seed for request in requests)
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])


def _layer_row(layer: LayerSensitivity, found: Sensitivity) -> str:
    cells = (
        f"`{layer.name}`",
        f"{layer.elements}",
        f"{layer.snr_db:.1f} dB",
        f"{layer.log_mel_distance:.4f}",
        _share(layer, found.gates),
        f"float: {layer.kept_because}" if layer.kept_because else layer.scheme,
        "float" if layer.name in found.proposal.kept_float else layer.scheme,
    )
    return f"| {' | '.join(cells)} |"


def _share(layer: LayerSensitivity, gates: Sequence[Gate]) -> str:
    share, gate = max(zip(layer.shares, gates, strict=True), key=lambda pair: pair[0])
    return f"{100 * share:.0f} %, {gate.title}"


def _short(layer: LayerSensitivity) -> str:
    return layer.name.removesuffix(".weight").partition(".")[2] or layer.name
