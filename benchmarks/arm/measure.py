"""What one machine makes of a bundle: every stage on many requests, and some sounds."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arm.cases import NUM_SOUNDS, SECONDS, float_bundle, make_cases, read_cases, write_cases
from benchmarks.arm.executorch_stages import Runners, check_stages, executorch_variants
from benchmarks.arm.kit import CHECKOUT, Kit, core_requirements, installed
from benchmarks.arm.machine import HERE, Machine, this_machine, traced
from benchmarks.arm.steps import Tell
from edge_tta.bundle import Bundle

ONNX, EXECUTORCH = "ONNX Runtime", "ExecuTorch"
_MEASURING = (
    "cases.py",
    "executorch_stages.py",
    "instructions.py",
    "machine.py",
    "measure.py",
    "probe.py",
    "runner.cpp",
    "stages.py",
)


@dataclass(frozen=True)
class Job:
    """What is compared.

    Attributes:
        bundles: opened bundles.
        kit: emulator, Arm system and compilers.
        runners: the ExecuTorch runner for each machine.
        prompts: the requests, see ``cases``.
        tell: told what is being done.
    """

    bundles: tuple[Bundle, ...]
    kit: Kit
    runners: Runners
    prompts: tuple[str, ...]
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
        architecture, python, features, noise_sha256, stages (bundle, runtime, variant, stage, requests, snr_db,
        max_abs_error), instructions by runtime, and the folder of the sounds.

    Raises:
        EmulationError: a program is missing or fails.
        RequestError: no bundle of the job has the float model.
    """
    source = float_bundle(bundle, job.bundles)
    key = {
        "machine": name,
        "versions": tool_versions(job.kit, bundle),
        "bundle": bundle.digest,
        "float": source.digest,
        "prompts": job.prompts,
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
    asked = _cases(job, source)
    if variants := onnx_variants(bundle):
        job.tell(f"{name}: {ONNX}, {bundle.name}")
        with _on(name, job.kit) as (machine, reached):
            stages = machine.onnx_stages(bundle.root, asked, variants)
        _add(record, bundle, ONNX, stages, reached)
        precisions = sound_precisions(bundle)
        for precision in precisions if name == HERE else precisions[:1]:
            job.tell(f"{name}: {precision} sounds, {bundle.name}")
            with _on(name, job.kit) as (machine, _):
                _make_sounds(machine, bundle, precision, job.prompts, folder)
    if executorch_variants(bundle):
        job.tell(f"{name}: {EXECUTORCH}, {bundle.name}")
        with _on(name, job.kit) as (machine, reached):
            stages = check_stages(bundle, machine, job.runners, read_cases(asked))
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


def _cases(job: Job, source: Bundle) -> Path:
    """File of the requests with the float model's answers, made here once."""
    key = json.dumps([source.digest, job.prompts, tool_versions(job.kit, source), _code_digest()])
    file = job.kit.folder / "cases" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_cases(make_cases(source, job.prompts), file)
    return file


def sound_files(record: Mapping[str, Any], bundle: Bundle, precision: str) -> list[Path]:
    """The sounds of a record in one precision, in the order of the prompts."""
    folder = Path(record["sounds"]) / f"{bundle.name}-{precision}"
    return sorted(folder.glob("*.wav"))


def _make_sounds(
    machine: Machine, bundle: Bundle, precision: str, prompts: Sequence[str], folder: Path
) -> None:
    """Sounds of the first prompts through ``edge-tta generate``, one thread."""
    target = folder / f"{bundle.name}-{precision}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    asked = folder / "prompts.txt"
    asked.write_text("\n".join(prompts[:NUM_SOUNDS]) + "\n", encoding="utf-8")
    settings = {"seconds": SECONDS, "threads": 1, "backend": "ort", "precision": precision, "file": asked}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    machine.edge_tta("generate", "--bundle", str(bundle.root), "-o", str(target), *words)


def _code_digest() -> str:
    """Of the code that makes the figures: those of other code are not taken over."""
    digest = hashlib.sha256()
    mine = [Path(__file__).with_name(name) for name in _MEASURING]
    for path in (*sorted((CHECKOUT / "edge_tta").rglob("*.py")), *mine):
        digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
