"""Where the time of each stage goes, by type of operator, as ONNX Runtime's own profiling tells.

A session that is profiled is slower, so this is done in a process of its own: shares are of the profiled time, and what
a stage takes is what ``edge_tta.runtime.measurement`` says.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.errors import BackendError
from edge_tta.runtime.apart import answer, ask
from edge_tta.runtime.backend import model_of
from edge_tta.runtime.measurement import PROMPT, WARM_UP_RUNS, Job
from edge_tta.runtime.ort_backend import OrtBackend
from edge_tta.runtime.pipeline import TextToAudio, checked_threads
from edge_tta.runtime.request import GenerationRequest


@dataclass(frozen=True)
class OperatorProfile:
    """All nodes of one type in one stage."""

    operator: str
    """Type after ONNX Runtime's own rewriting, so that fused nodes have the name of the fusion."""
    provider: str
    """Execution provider that ran them."""
    count: int
    """Nodes run for one sound; a generator runs once a step."""
    seconds: float
    """For one sound, mean."""
    share: float
    """Of the stage's time; what is missing to 1 over all operators is time between nodes."""


@dataclass(frozen=True)
class StageProfile:
    """One stage."""

    seconds: float
    """Inside the session for one sound while it was profiled, mean: longer than it takes otherwise."""
    operators: tuple[OperatorProfile, ...]
    """The longest first."""


@dataclass(frozen=True)
class Profile:
    """All stages of one variant."""

    stages: dict[str, StageProfile]
    """By name; the tokenizer is no graph."""


def require_profiling(bundle: Bundle, variant: str) -> None:
    """Refuse a variant whose backend does not tell what its operators take.

    Raises:
        BackendError: names the variants that can be profiled.
    """
    described = bundle.variants.get(variant)
    if described is not None and described.backend != OrtBackend.name:
        able = sorted(name for name, item in bundle.variants.items() if item.backend == OrtBackend.name)
        there = f"; {', '.join(able)} can be profiled" if able else ""
        raise BackendError(
            f"{variant} cannot be profiled: {described.backend} does not tell what operators take{there}"
        )


def profile(job: Job) -> Profile:
    """Open a variant with profiling, warm up, make the sounds of a job.

    Raises:
        RequestError: the bundle does not make such sounds.
        BundleError, BackendError: as ``OrtBackend``; or its profile cannot be read.
    """
    request = GenerationRequest(PROMPT, seconds=job.seconds, steps=job.steps)
    opened = Bundle.open(job.bundle, verify=False)
    with tempfile.TemporaryDirectory() as folder:
        backend = OrtBackend(opened, job.variant, checked_threads(job.threads), profiles=Path(folder))
        with TextToAudio(model_of(opened)(backend)) as model:
            for _ in range(WARM_UP_RUNS + job.runs):
                model.generate(request)
            written = backend.end_profiling()
        stages = {
            stage: summarise(json.loads(written[stage].read_text(encoding="utf-8")), WARM_UP_RUNS, job.runs)
            for stage in STAGES
        }
    return Profile(stages)


def profile_apart(job: Job) -> Profile:
    """``profile`` in a fresh process.

    Raises:
        BackendError: the process died.
        EdgeTTAError: whatever ``profile`` raises.
    """
    return ask(__name__, job, Profile, job.variant)


def summarise(events: list[Mapping[str, Any]], left_out: int, sounds: int) -> StageProfile:
    """Operators of a stage by time.

    Args:
        events: what a session wrote: "model_run" for every run, "..._kernel_time" for every node; microseconds.
        left_out: sounds at the beginning that do not count.
        sounds: sounds that do; all ran the session equally often.

    Raises:
        BackendError: the events are not those of so many sounds.
    """
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])
    each, rest = divmod(len(runs), left_out + sounds)
    if not each or rest:
        raise BackendError(f"ort: the profile has {len(runs)} runs of a stage for {left_out + sounds} sounds")
    counted = runs[each * left_out :]
    total = max(1, sum(event["dur"] for event in counted))
    times: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        is_kernel = event["cat"] == "Node" and event["name"].endswith("_kernel_time")
        if is_kernel and event["ts"] >= counted[0]["ts"]:
            times[event["args"]["op_name"], event["args"]["provider"]].append(event["dur"])
    operators = [
        OperatorProfile(
            operator, provider, round(len(taken) / sounds), sum(taken) / sounds / 1e6, sum(taken) / total
        )
        for (operator, provider), taken in times.items()
    ]
    operators.sort(key=lambda item: (-item.seconds, item.operator, item.provider))
    return StageProfile(total / sounds / 1e6, tuple(operators))


if __name__ == "__main__":
    sys.exit(answer(Job, profile))
