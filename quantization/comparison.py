"""What recipes cost and save: bytes, closeness to the float model and time, side by side in one run."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_tta.bundle.manifest import STAGES
from edge_tta.errors import OutputError
from edge_tta.files import write_file
from edge_tta.runtime.device import cpu_features, cpu_model
from quantization.calibration import (
    CalibrationRequest,
    CalibrationSound,
    GraphModel,
    open_session,
    require_disjoint,
    run_stage,
    stage_inputs,
)
from quantization.closeness import end_to_end_distance
from quantization.signal_to_noise import compared, decibels, noise_share

SCHEMA = "quantization/2"
FLOAT = "fp32"
"""Name of the variant that the others are compared with."""


@dataclass(frozen=True)
class StageFigures:
    """One stage of one variant."""

    bytes: int
    snr_db: float
    """As in a sensitivity sweep: token features, velocities, STFT magnitudes, on the float model's own inputs."""
    milliseconds: float
    """Median over rounds."""
    ratio: float
    """Median over rounds of its time over the float stage's in the same round."""


@dataclass(frozen=True)
class VariantFigures:
    """One variant."""

    name: str
    stages: Mapping[str, StageFigures]
    latent_snr_db: float
    """Of the clean latent of the whole model, all stages in this variant."""
    log_mel_distance: float
    """Of the finished sound to the float model's, log10, as in ``edge-tta validate``; 0.05 is 1 dB."""


@dataclass(frozen=True)
class Comparison:
    """Variants of one model, measured in turns."""

    model: str
    seconds: float
    """Length of the sound that was timed, one step."""
    threads: int
    rounds: int
    calibration: tuple[CalibrationRequest, ...]
    """What static ranges are of; empty where no variant has any."""
    judged: tuple[CalibrationRequest, ...]
    """What closeness was measured on: other prompts and other noise."""
    processor: str
    features: tuple[str, ...]
    load_average: float
    """Processes that wanted to run in the minute before timing ended, this one included; 0 where it is not told."""
    variants: tuple[VariantFigures, ...]


def compare(
    name: str,
    variants: Mapping[str, Mapping[str, bytes]],
    model: GraphModel,
    calibration: Sequence[CalibrationRequest],
    judged: Sequence[CalibrationRequest],
    timed: CalibrationRequest,
    rounds: int,
    on_progress: Callable[[str, int, int], Any] | None = None,
) -> Comparison:
    """Measure variants.

    Args:
        name: of the model.
        variants: ONNX files by stage by variant; "fp32" is one of them.
        model: the float model, with the threads to use.
        calibration: what the variants were calibrated on; empty if none was.
        judged: what closeness is measured on.
        timed: what is timed; one step.
        rounds: how often; in every round each variant runs once, so that load from outside meets all alike.
        on_progress: told (what, done, total).

    Raises:
        DataError: a prompt or seed is calibrated on and judged on.
    """
    require_disjoint(calibration, judged)
    report = on_progress or (lambda *_: None)
    sounds = []
    for number, request in enumerate(judged):
        sounds.append(model.make(request))
        report("float model", number + 1, len(judged))
    inputs = model.make(timed).inputs
    found = {}
    for number, (variant, graphs) in enumerate(variants.items()):
        found[variant] = _closeness(graphs, model, sounds)
        report(f"closeness of {variant}", number + 1, len(variants))
    times = _time(variants, inputs, model.threads, rounds, report)
    figures = []
    for variant, graphs in variants.items():
        stages = {}
        for stage in STAGES:
            own, floats = times[variant, stage], times[FLOAT, stage]
            ratio = statistics.median(a / b for a, b in zip(own, floats, strict=True))
            snr, milliseconds = found[variant][0][stage], 1000 * statistics.median(own)
            stages[stage] = StageFigures(len(graphs[stage]), snr, round(milliseconds, 3), round(ratio, 3))
        figures.append(VariantFigures(variant, stages, *found[variant][1:]))
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0
    return Comparison(
        name,
        timed.seconds,
        model.threads,
        rounds,
        tuple(calibration),
        tuple(judged),
        cpu_model(),
        cpu_features(),
        load,
        tuple(figures),
    )


def _closeness(
    graphs: Mapping[str, bytes], model: GraphModel, sounds: Sequence[CalibrationSound]
) -> tuple[dict[str, float], float, float]:
    """SNR by stage, SNR of the latent and log-mel distance of the whole model."""
    other = model
    stages = {}
    for stage in STAGES:
        other = other.with_stage(stage, graphs[stage])
        shares = [
            noise_share(
                compared(stage, run_stage(model.sessions[stage], given)[0]),
                compared(stage, run_stage(other.sessions[stage], given)[0]),
            )
            for given in stage_inputs(sounds, stage)
        ]
        stages[stage] = decibels(float(np.mean(shares)))
    latents, distances = [], []
    for sound in sounds:
        made = other.make(sound.request)
        latents.append(noise_share(sound.latent, made.latent))
        distances.append(end_to_end_distance(sound, made, model.audio))
    return stages, decibels(float(np.mean(latents))), round(float(np.mean(distances)), 5)


def _time(
    variants: Mapping[str, Mapping[str, bytes]],
    inputs: Mapping[str, Any],
    threads: int,
    rounds: int,
    report: Callable[[str, int, int], Any],
) -> dict[tuple[str, str], list[float]]:
    """Seconds of every round by variant and stage; two rounds before the first are not counted."""
    times: dict[tuple[str, str], list[float]] = {}
    for stage in STAGES:
        sessions = {name: open_session(graphs[stage], threads) for name, graphs in variants.items()}
        for turn in range(-2, rounds):
            for name, session in sessions.items():
                started = time.perf_counter()
                run_stage(session, inputs[stage][0])
                if turn >= 0:
                    times.setdefault((name, stage), []).append(time.perf_counter() - started)
            report(f"timing {stage}", turn + 3, rounds + 2)
    return times


def write_comparison(found: Comparison, folder: Path, command: str) -> None:
    """Write ``quantization.json`` and ``quantization.md``.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror or error}") from error
    write_file(folder / "quantization.md", markdown(found, command).encode())
    write_file(folder / "quantization.json", to_json(found).encode())


def to_json(found: Comparison) -> str:
    """Everything, with a schema name, one value a line."""
    return json.dumps({"schema": SCHEMA, **asdict(found)}, indent=1, allow_nan=False) + "\n"


def markdown(found: Comparison, command: str) -> str:
    """Two tables: the whole model, and every stage."""
    features = ", ".join(found.features) or "unknown features"
    lines = [
        f"# Quantization of {found.model}",
        "",
        (
            f"Times: one sound of {found.seconds:g} s in one step, {found.threads} threads, median of {found.rounds} "
            f"rounds in which every variant runs once; {found.processor} ({features}), load average "
            f"{found.load_average:g}. The ratio to fp32 is the median of the ratios within a round. Closeness: "
            f"{len(found.judged)} sounds that nothing was calibrated on, against fp32 with the same noise; SNR of a "
            f"stage on the float model's inputs (token features, velocities, STFT magnitudes), of the latent and "
            f"log-mel with all stages in the variant (log10, 0.05 is 1 dB). {_calibrated(found)}"
        ),
        "",
        f"    {command}",
        "",
        "| variant | MB | ms | ratio to fp32 | latent SNR | log-mel |",
        "|---|---|---|---|---|---|",
    ]
    floats = next(variant for variant in found.variants if variant.name == FLOAT)
    base = sum(stage.milliseconds for stage in floats.stages.values())
    for variant in found.variants:
        size = sum(stage.bytes for stage in variant.stages.values()) / 1e6
        total = sum(stage.milliseconds for stage in variant.stages.values())
        cells = [variant.name, f"{size:.1f}", f"{total:.1f}", f"{total / base:.2f}"]
        close = (f"{variant.latent_snr_db:.1f} dB", f"{variant.log_mel_distance:.4f}")
        lines.append(f"| {' | '.join([*cells, *(close if variant is not floats else ('', ''))])} |")
    lines += ["", "| stage | variant | MB | SNR | ms | ratio to fp32 |", "|---|---|---|---|---|---|"]
    for stage in STAGES:
        for variant in found.variants:
            own = variant.stages[stage]
            snr = "" if variant is floats else f"{own.snr_db:.1f} dB"
            cells = [stage, variant.name, f"{own.bytes / 1e6:.2f}", snr]
            lines.append(f"| {' | '.join([*cells, f'{own.milliseconds:.1f}', f'{own.ratio:.2f}'])} |")
    for what, requests in (("Judged on", found.judged), ("Calibrated on", found.calibration)):
        if requests:
            listed = "; ".join(
                f"{item.prompt} ({item.seconds:g} s, guidance {item.guidance:g}, steps {item.steps}, seed {item.seed})"
                for item in requests
            )
            lines += ["", f"{what}: {listed}."]
    return "\n".join(lines) + "\n"


def _calibrated(found: Comparison) -> str:
    if not found.calibration:
        return "No variant is calibrated."
    return f"Static ranges are of {len(found.calibration)} sounds with other prompts and noise."
