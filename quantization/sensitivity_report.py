"""What a sensitivity sweep says, as JSON, as a table to read and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_tta.errors import OutputError
from edge_tta.evaluate.bar_chart import Bar, BarGroup, write_bars
from edge_tta.files import write_file
from quantization.sensitivity import Choice, LayerSensitivity, StageSensitivity

SCHEMA = "sensitivity/1"
SHOWN_LAYERS = 12
"""Layers of a stage in the table, the most sensitive ones; all are in the picture and in the JSON."""


@dataclass(frozen=True)
class SensitivityReport:
    """A sweep over stages of one model."""

    model: str
    recipe: str
    sounds: int
    """Calibration sounds that were measured on."""
    stages: tuple[StageSensitivity, ...]


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
    write_bars(bar_groups(report), folder / "sensitivity.png", "dB")
    write_file(folder / "sensitivity.md", markdown(report, command).encode())
    write_file(folder / "sensitivity.json", to_json(report).encode())


def to_json(report: SensitivityReport) -> str:
    """Everything, with a schema name, one value a line."""
    return json.dumps({"schema": SCHEMA, **asdict(report)}, indent=1, allow_nan=False) + "\n"


def bar_groups(report: SensitivityReport) -> list[BarGroup]:
    """A group a stage, a bar a layer; layers that the proposal keeps float are marked."""
    groups = []
    for found in report.stages:
        bars = (
            Bar(_short(layer), layer.snr_db, layer.name in found.proposal.kept_float)
            for layer in found.layers
        )
        heading = (
            f"{found.stage}: signal to noise with this layer alone in {found.scheme}; marked: stays float"
        )
        groups.append(BarGroup(heading, tuple(bars)))
    return groups


def markdown(report: SensitivityReport, command: str) -> str:
    """A table of choices, and the most sensitive layers of every stage."""
    lines = [
        f"# Sensitivity of {report.model} to `{report.recipe}`",
        "",
        (
            f"One layer quantized at a time, on {report.sounds} calibration sounds. SNR is that of the stage's "
            f"output on its float inputs (token features, velocities, STFT magnitudes); log-mel is the distance of "
            f"the whole model's sound to the float model's in log10 (0.05 is 1 dB). The proposal keeps the fewest "
            f"bytes float that reach the target."
        ),
        "",
        f"    {command}",
        "",
        "| stage | choice | float layers | saves | SNR | log-mel |",
        "|---|---|---|---|---|---|",
    ]
    for found in report.stages:
        reached = f"proposal for {found.target_snr_db:g} dB"
        choices = (("everything", found.everything), ("recipe", found.recipe), (reached, found.proposal))
        lines += [_choice_row(found, name, choice) for name, choice in choices]
    lines += ["", "![SNR by layer](sensitivity.png)"]
    for found in report.stages:
        lines += ["", f"## {found.stage}, {found.scheme}", ""]
        lines += [
            "| layer | weights | SNR | log-mel | in the recipe | in the proposal |",
            "|---|---|---|---|---|---|",
        ]
        worst = sorted(found.layers, key=lambda layer: layer.snr_db)[:SHOWN_LAYERS]
        lines += [_layer_row(layer, found) for layer in worst]
        if len(found.layers) > len(worst):
            lines += [
                "",
                f"The other {len(found.layers) - len(worst)} layers have {worst[-1].snr_db:.1f} dB or more.",
            ]
    return "\n".join(lines) + "\n"


def _choice_row(found: StageSensitivity, name: str, choice: Choice) -> str:
    cells = (
        found.stage,
        name,
        f"{len(choice.kept_float)} of {len(found.layers)}",
        f"{choice.saved_bytes / 1e6:.2f} MB",
        f"{choice.snr_db:.1f} dB",
        f"{choice.log_mel_distance:.4f}",
    )
    return f"| {' | '.join(cells)} |"


def _layer_row(layer: LayerSensitivity, found: StageSensitivity) -> str:
    cells = (
        f"`{layer.name}`",
        f"{layer.elements}",
        f"{layer.snr_db:.1f} dB",
        f"{layer.log_mel_distance:.4f}",
        f"float: {layer.kept_because}" if layer.kept_because else layer.scheme,
        "float" if layer.name in found.proposal.kept_float else layer.scheme,
    )
    return f"| {' | '.join(cells)} |"


def _short(layer: LayerSensitivity) -> str:
    return layer.name.removesuffix(".weight").partition(".")[2] or layer.name
