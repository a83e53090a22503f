"""The result for people: lines on the terminal, a page and the JSON it is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.arm.instructions import FAMILIES
from benchmarks.markdown import table
from edge_tta.errors import OutputError

SHOWN_FEATURES = (
    "asimddp",
    "i8mm",
    "sve",
    "sve2",
    "sme",
    "sme2",
    "avx2",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
)
"""Processor features that decide which int8 kernels run."""
_KERNELS = (
    "Instructions in the code that was reached, counted once wherever they stand, not as often as they ran. Zero means "
    "that no such kernel was used."
)
_PROVEN = (
    "- The aarch64 builds load the bundle, verify it and compute every stage as near to the float model as the build "
    "here does, on the kernels of the table above. Noise is equal bit for bit."
)
_FAILED = (
    "- The aarch64 builds run. Some figures miss their gate, so that they compute the same is **not** shown."
)
_LIMITS = (
    "- QEMU computes what the architecture says; a fault of a real core, its compiler or its system is not seen.",
    "- Nothing about speed: emulated time says nothing about a device's.",
    "- Linux with glibc. Android's builds come from the same sources through another compiler and C library.",
)


def summary(found: Mapping[str, Any]) -> list[str]:
    """A line per core and stage."""
    lines = []
    for core in found["cores"]:
        features = ", ".join(_features(core["features"])) or "none of the int8 extensions"
        lines.append(
            f"{core['machine']} ({features})" + ("" if core["noise_is_equal"] else "  noise differs: FAILED")
        )
        for stage in core["stages"]:
            lines.append(
                f"  {stage['bundle']} {stage['variant']:16s} {stage['stage']:13s} {stage['snr_db']:6.1f} dB, "
                f"here {stage['here_snr_db']:6.1f}  {_verdict(stage)}"
            )
        for sound in core["sounds"]:
            lines.append(
                f"  {sound['bundle']} {sound['precision']} sounds: log-mel distance to {sound['against']} "
                f"{sound['log_mel_distance']:.4f}, here {sound['here_log_mel_distance']:.4f}  {_verdict(sound)}"
            )
    return lines


def write_report(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write arm.md and arm.json.

    Raises:
        OutputError: the folder cannot be written.
    """
    texts = {"arm.md": "\n".join(markdown(found)), "arm.json": json.dumps(found, indent=1) + "\n"}
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            part = folder / f".{name}.part"
            part.write_text(text, encoding="utf-8")
            paths.append(part.rename(folder / name))
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error.strerror or error}") from error
    return paths


def markdown(found: Mapping[str, Any]) -> list[str]:
    """The page, line by line."""
    versions, gates = found["versions"], found["gates"]
    tools = f"QEMU {versions['qemu']} (user mode), ONNX Runtime {versions['onnxruntime']}, NumPy {versions['numpy']}"
    if "executorch" in versions:
        tools += f", ExecuTorch {versions['executorch']}"
    here = ", ".join(_features(found["here"]["features"]))
    requests = found["requests"]
    verdict = "Passed" if found["passed"] else "**Failed**"
    opening = (
        f"{verdict}. Made by `python -m benchmarks.arm`; [how it works](../how-to/arm.md). The published aarch64 "
        f"wheels ran under emulation: {tools}. “Here” is the machine beside it: "
        f"{found['here']['architecture']} with {here}."
    )
    stages = (
        "Signal-to-noise ratio against the float model, dB: the text encoder over "
        f"{requests['prompts']} prompts, generator and decoder over {requests['sounds']} sounds of "
        f"{requests['seconds']:g} s. A core passes when it is at most {gates['stage_db']:g} dB below “here”; "
        "above 60 dB nothing more is asked for."
    )
    sound = (
        f"{requests['sounds']} prompts, {requests['seconds']:g} s each, through `edge-tta generate`. Mean log10-mel "
        f"distance (0.05 is 1 dB); a core passes when it is at most {gates['sound_log_mel']:g} above “here”."
    )
    proven = _PROVEN if found["passed"] else _FAILED
    return [
        *("# The runtime on Arm", "", opening, ""),
        *("## Stages", "", stages, "", *_stage_tables(found)),
        *("## Sounds", "", sound, "", *_sound_table(found)),
        *("## Which kernels ran", "", _KERNELS, "", *_instruction_table(found)),
        *("## What this proves, and what not", "", proven, *_LIMITS, ""),
    ]


def _stage_tables(found: Mapping[str, Any]) -> list[str]:
    lines = []
    cores = found["cores"]
    by_bundle = groupby(enumerate(cores[0]["stages"]), key=lambda entry: entry[1]["bundle"])
    for bundle, entries in by_bundle:
        rows = [
            [
                f"{stage['variant']} {stage['stage']}",
                f"{stage['here_snr_db']:.1f}",
                *(_marked(core["stages"][index], "snr_db", 1) for core in cores),
            ]
            for index, stage in entries
        ]
        lines += [f"`{bundle}`", "", *table(["stage", "here", *(core["machine"] for core in cores)], rows, 1)]
    return lines


def _sound_table(found: Mapping[str, Any]) -> list[str]:
    head = ["core", "bundle", "sounds", "to the float sounds", "here", "to the same sounds made here"]
    rows = [
        [
            core["machine"],
            f"`{sound['bundle']}`",
            sound["precision"],
            _marked(sound, "log_mel_distance", 4),
            f"{sound['here_log_mel_distance']:.4f}",
            f"{sound['between_machines']:.4f}",
        ]
        for core in found["cores"]
        for sound in core["sounds"]
    ]
    return table(head, rows, 3)


def _instruction_table(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            core["machine"],
            ", ".join(_features(core["features"])) or "–",
            f"`{bundle}`",
            runtime,
            *(str(reached.get(family, 0)) for family in FAMILIES),
        ]
        for core in found["cores"]
        for bundle, runtimes in core["instructions"].items()
        for runtime, reached in runtimes.items()
    ]
    return table(["core", "has", "bundle", "runtime", *FAMILIES], rows, 4)


def _features(features: list[str]) -> list[str]:
    return [name for name in SHOWN_FEATURES if name in features]


def _marked(part: Mapping[str, Any], key: str, digits: int) -> str:
    return f"{part[key]:.{digits}f}" + ("" if part["passed"] else " **failed**")


def _verdict(part: Mapping[str, Any]) -> str:
    return "ok" if part["passed"] else "FAILED"
