"""What one machine makes of a bundle: every stage on the golden inputs, and a sound."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arm.executorch_stages import Runners, check_stages, executorch_variants
from benchmarks.arm.kit import CHECKOUT, Kit, core_requirements, installed
from benchmarks.arm.machine import HERE, Machine, this_machine, traced
from benchmarks.arm.steps import Tell
from edge_tta.bundle import Bundle

PROMPT, SECONDS, SEED = "rain on a tin roof", 1.0, 7
ONNX, EXECUTORCH = "ONNX Runtime", "ExecuTorch"
_MEASURING = (
    "executorch_stages.py",
    "instructions.py",
    "machine.py",
    "measure.py",
    "probe.py",
    "runner.cpp",
)


@dataclass(frozen=True)
class Job:
    """What is compared.

    Attributes:
        bundles: opened bundles.
        kit: emulator, Arm system and compilers.
        runners: the ExecuTorch runner for each machine.
        tell: told what is being done.
    """

    bundles: tuple[Bundle, ...]
    kit: Kit
    runners: Runners
    tell: Tell


def onnx_variants(bundle: Bundle) -> list[str]:
    """Names of the bundle's variants for ONNX Runtime."""
    return sorted(name for name, variant in bundle.variants.items() if variant.backend == "ort")


def sound_precisions(bundle: Bundle) -> list[str]:
    """Precisions in which ONNX Runtime makes a sound of the bundle; int8, what devices run, is first."""
    found = {bundle.variants[name].precision for name in onnx_variants(bundle)}
    return [precision for precision in ("int8", "fp32") if precision in found]


def tool_versions(kit: Kit, bundle: Bundle) -> dict[str, str]:
    """Versions of everything that has a part in a bundle's figures.

    Raises:
        EmulationError: something cannot be made or is not installed here.
    """
    found = dict(requirement.split("==") for requirement in core_requirements())
    found |= {"qemu": kit.emulator.version, "arm python": kit.python_of_root().name}
    if executorch_variants(bundle):
        found["executorch"] = installed("executorch")
    return found


def measure(job: Job, name: str, bundle: Bundle) -> dict[str, Any]:
    """A bundle on one machine; what an earlier run with the same code and tools measured is taken from the folder.

    Args:
        job: what is compared.
        name: ``HERE``, or QEMU's name of a core.
        bundle: one of the job's.

    Returns:
        architecture, python, features, noise_sha256, stages (bundle, runtime, variant, stage, snr_db,
        max_abs_error), instructions by runtime, and the folder of the sounds.

    Raises:
        EmulationError: a program is missing or fails.
    """
    key = {
        "machine": name,
        "versions": tool_versions(job.kit, bundle),
        "bundle": bundle.digest,
        "code": _code_digest(),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = job.kit.folder / "results" / digest
    file = folder / "record.json"
    if file.is_file():
        job.tell(f"{name}: {bundle.name} was measured before")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"stages": [], "instructions": {}, "sounds": str(folder)}
    with _on(name, job.kit) as (machine, _):
        record |= machine.probe()
    if onnx_variants(bundle):
        job.tell(f"{name}: {ONNX}, {bundle.name}")
        with _on(name, job.kit) as (machine, reached):
            stages = _onnx_stages(machine, bundle)
        _add(record, bundle, ONNX, stages, reached)
        precisions = sound_precisions(bundle)
        for precision in precisions if name == HERE else precisions[:1]:
            with _on(name, job.kit) as (machine, _):
                _make_sound(machine, bundle, precision, folder / f"{bundle.name}-{precision}.wav")
    if executorch_variants(bundle):
        job.tell(f"{name}: {EXECUTORCH}, {bundle.name}")
        with _on(name, job.kit) as (machine, reached):
            stages = check_stages(bundle, machine, job.runners)
        _add(record, bundle, EXECUTORCH, stages, reached)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record), encoding="utf-8")
    part.rename(file)
    return record


def _on(name: str, kit: Kit) -> AbstractContextManager[tuple[Machine, Counter[str]]]:
    """A machine, and on a core what it reaches while it is used."""
    return nullcontext((this_machine(), Counter())) if name == HERE else traced(name, kit)


def _add(
    record: dict[str, Any], bundle: Bundle, runtime: str, stages: list[dict[str, Any]], reached: Counter[str]
) -> None:
    record["stages"] += [{"bundle": bundle.name, "runtime": runtime, **stage} for stage in stages]
    record["instructions"][runtime] = dict(reached)


def _onnx_stages(machine: Machine, bundle: Bundle) -> list[dict[str, Any]]:
    chosen = [word for name in onnx_variants(bundle) for word in ("--variant", name)]
    numeric = machine.edge_tta("verify", str(bundle.root), "--numeric", *chosen)["numeric"]
    keys = ("variant", "stage", "snr_db", "max_abs_error")
    return [{key: stage[key] for key in keys} for stage in numeric]


def _make_sound(machine: Machine, bundle: Bundle, precision: str, target: Path) -> None:
    """A sound through ``edge-tta generate``, one thread."""
    settings = {"seconds": SECONDS, "seed": SEED, "threads": 1, "backend": "ort", "precision": precision}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    machine.edge_tta("generate", PROMPT, "--bundle", str(bundle.root), "-o", str(target), *words)


def _code_digest() -> str:
    """Of the code that makes the figures: those of other code are not taken over."""
    digest = hashlib.sha256()
    mine = [Path(__file__).with_name(name) for name in _MEASURING]
    for path in (*sorted((CHECKOUT / "edge_tta").rglob("*.py")), *mine):
        digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
