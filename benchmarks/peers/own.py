"""Our own side of the comparison: the shipped bundle, and a large model with random weights."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.results import Block, OwnResult, PartResult
from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, MissingExtraError
from edge_tta.runtime.apart import answer, ask
from edge_tta.runtime.benchmark import MIN_RUNS
from edge_tta.runtime.measurement import PROMPT, measure_apart
from edge_tta.runtime.measurement import Job as MeasuringJob
from edge_tta.runtime.timings import Timings
from edge_tta.text import Tokenizer

LARGE = "edge-120m"
PRECISION = "int8"


@dataclass(frozen=True)
class Job:
    """What to do with a model of ours."""

    folder: str
    """Bundle to count, or to write if there is none."""
    config: str = ""
    """Preset of the bundle to write."""
    seconds: float = 10.0


@dataclass(frozen=True)
class Counts:
    """Arithmetic of a model's stages."""

    parts: tuple[PartResult, ...]


def prepare(folder: Path, config: str, seconds: float) -> Counts:
    """Write a bundle with random weights unless it is there, and count; in a process of its own.

    Args:
        folder: of the bundle.
        config: name of a preset, used if the bundle is not there.
        seconds: duration of the sound that is counted.
    """
    return ask(__name__, Job(str(folder), config, seconds), Counts, f"{config or folder.name}, preparing")


def runnable(bundle: Bundle) -> list[str]:
    """Variants in int8 that run here, found by making one sound with each."""
    found = []
    for name, variant in sorted(bundle.variants.items()):
        if variant.precision == PRECISION:
            try:
                measure_apart(MeasuringJob(str(bundle.root), name, 1, bundle.config.audio.min_seconds, 1, 1))
            except (BackendError, MissingExtraError):
                continue
            found.append(name)
    return found


def measure_own(bundle: Bundle, variant: str, threads: int, seconds: float) -> Block:
    """Sounds of one variant, in a process of its own."""
    job = MeasuringJob(str(bundle.root.resolve()), variant, threads, seconds, 1, MIN_RUNS)
    measured = measure_apart(job)
    runs = tuple(_stages(timing) for timing in measured.timings)
    return Block(runs, measured.load_seconds, measured.peak_rss_bytes, measured.contention)


def _stages(timing: Timings) -> dict[str, float]:
    names = ("tokenizer", "text_encoder", "generator", "decoder", "total")
    return {name: getattr(timing, name) for name in names}


def result(bundle: Bundle, variant: str, seconds: float, counts: Counts, blocks: list[Block]) -> OwnResult:
    """What was found of one variant."""
    audio = bundle.config.audio
    return OwnResult(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        variant=variant,
        weights="random" if bundle.manifest.provenance.checkpoint.startswith("seed") else "shipped",
        seconds=seconds,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        parts=counts.parts,
        blocks=tuple(blocks),
    )


def _work(job: Job) -> Counts:
    from benchmarks.peers.counts import count_own
    from export.random_weights import write_preset_bundle

    folder = Path(job.folder)
    if not (folder / "manifest.json").is_file():
        targets = ["onnx", *(["executorch"] if importlib.util.find_spec("executorch") else [])]
        write_preset_bundle(job.config, folder, targets, (PRECISION,))
    bundle = Bundle.open(folder)
    tokenizer = Tokenizer.from_bytes(bundle.tokenizer_bytes(), bundle.config.text_encoder.max_tokens)
    return Counts(count_own(bundle.config, job.seconds, len(tokenizer.encode(PROMPT).ids)))


if __name__ == "__main__":
    sys.exit(answer(Job, _work))
