"""The verdict: is every stage as near to the float model on Arm as it is here.

Outputs of two processors are not compared with each other: int8 kernels of different make round differently, and are
equally far from the float model. What must agree is that distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from benchmarks.arm.cases import NUM_SOUNDS, SECONDS
from benchmarks.arm.errors import EmulationError
from benchmarks.arm.executorch_stages import executorch_variants
from benchmarks.arm.machine import HERE
from benchmarks.arm.measure import (
    EXECUTORCH,
    ONNX,
    Job,
    measure,
    onnx_variants,
    sound_files,
    sound_precisions,
    tool_versions,
)
from edge_tta.bundle import Bundle
from edge_tta.errors import RequestError
from edge_tta.evaluate.spectral import log_mel_distance
from edge_tta.runtime.golden import MAX_DEMANDED_DB

GATE_DB = 0.5
"""How far below this machine's signal-to-noise ratio a core's may lie."""
SOUND_GATE = 0.025
"""How far above this machine's the mean log10-mel distance of its sounds to the float ones may lie: 0.5 dB."""


def compare(job: Job, cores: Mapping[str, str]) -> dict[str, Any]:
    """Measure this machine and every core, and judge the cores.

    Args:
        job: what is compared.
        cores: QEMU's names of the cores, each with a description.

    Returns:
        The document that is written as JSON (docs/how-to/arm.md describes it).

    Raises:
        RequestError: a bundle has nothing that can be compared, or nothing to compare with.
        EmulationError: a program is missing or fails.
    """
    for bundle in job.bundles:
        if not onnx_variants(bundle) and not executorch_variants(bundle):
            raise RequestError(f"{bundle.name} has no variant for {ONNX} or for {EXECUTORCH} with XNNPACK")
    here = {bundle.name: measure(job, HERE, bundle) for bundle in job.bundles}
    judged = []
    for core, note in cores.items():
        parts = [judge(measure(job, core, bundle), here[bundle.name], bundle) for bundle in job.bundles]
        judged.append({"machine": core, "note": note, **join(parts)})
    versions: dict[str, str] = {}
    for bundle in job.bundles:
        versions |= tool_versions(job.kit, bundle)
    first = here[job.bundles[0].name]
    return {
        "schema": "arm-parity/1",
        "gates": {"stage_db": GATE_DB, "sound_log_mel": SOUND_GATE},
        "requests": {"prompts": len(job.prompts), "sounds": NUM_SOUNDS, "seconds": SECONDS},
        "versions": versions,
        "here": {key: first[key] for key in ("architecture", "python", "features")},
        "cores": judged,
        "passed": all(core["passed"] for core in judged),
    }


def judge(record: Mapping[str, Any], here: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """A bundle's record of a core with this machine's figures beside its own, and verdicts."""
    reference = {(stage["variant"], stage["stage"]): stage["snr_db"] for stage in here["stages"]}
    stages = [stage_verdict(stage, reference[stage["variant"], stage["stage"]]) for stage in record["stages"]]
    sounds = [sound_verdict(record, here, bundle)] if sound_precisions(bundle) else []
    noise = record["noise_sha256"] == here["noise_sha256"]
    return {
        **{key: record[key] for key in ("architecture", "python", "features")},
        "instructions": {bundle.name: record["instructions"]},
        "noise_is_equal": noise,
        "stages": stages,
        "sounds": sounds,
        "passed": noise and all(part["passed"] for part in (*stages, *sounds)),
    }


def join(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One core's verdicts on several bundles as one."""
    return {
        **parts[0],
        "instructions": {name: reached for part in parts for name, reached in part["instructions"].items()},
        "noise_is_equal": all(part["noise_is_equal"] for part in parts),
        "stages": [stage for part in parts for stage in part["stages"]],
        "sounds": [sound for part in parts for sound in part["sounds"]],
        "passed": all(part["passed"] for part in parts),
    }


def stage_verdict(stage: Mapping[str, Any], here_db: float) -> dict[str, Any]:
    """A stage with this machine's figure. Above 60 dB nothing more is asked for: processors round differently."""
    required = min(here_db, MAX_DEMANDED_DB) - GATE_DB
    return {**stage, "here_snr_db": here_db, "passed": stage["snr_db"] >= required}


def sound_verdict(record: Mapping[str, Any], here: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """Mean log10-mel distances of the core's sounds to this machine's in the same precision and in the best there is.

    The second, beside this machine's own, is what is judged: a different rounding turns into a different phase, which
    is not heard, and into a different spectrum, which is. A single sound says little: if it peaks above full
    scale, its highest sample sets its level, and that one sample moves with every rounding.
    """
    precisions = sound_precisions(bundle)
    made, best = precisions[0], precisions[-1]

    def distance(first: Sequence[Path], second: Sequence[Path]) -> float:
        return sum(_log_mel_distance(*pair) for pair in zip(first, second, strict=True)) / len(first)

    wanted = sound_files(here, bundle, best)
    core, own = sound_files(record, bundle, made), sound_files(here, bundle, made)
    if not len(core) == len(own) == len(wanted) > 0:
        raise EmulationError(f"{bundle.name}: {len(core)} sounds on the core, {len(own)} here; begin again")
    on_core, on_here = distance(wanted, core), distance(wanted, own)
    return {
        "bundle": bundle.name,
        "precision": made,
        "against": best,
        "sounds": len(core),
        "log_mel_distance": on_core,
        "here_log_mel_distance": on_here,
        "between_machines": distance(own, core),
        "passed": on_core <= on_here + SOUND_GATE,
    }


def _log_mel_distance(first: Path, second: Path) -> float:
    views = [soundfile.read(path, dtype="float32", always_2d=True) for path in (first, second)]
    return log_mel_distance(views[0][0].T, views[1][0].T, views[0][1])
