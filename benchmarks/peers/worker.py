"""One piece of a comparison in a process of its own, so that memory is given back between the pieces."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.results import Block, Candidate
from benchmarks.peers.systems import Arrays, Peer, peer
from edge_tta.runtime.apart import answer, ask
from edge_tta.runtime.contention import ContentionMeter
from edge_tta.runtime.golden import signal_to_noise_db
from edge_tta.runtime.memory import peak_rss_bytes

TRIES = 3
"""Timed calls of every form of a part, after one that does not count."""


@dataclass(frozen=True)
class Job:
    """What to do."""

    kind: Literal["eager", "onnx", "forms"]
    peer: str
    tiny: bool
    threads: int
    runs: int = 0
    """Timed sounds, after one that does not count."""
    part: str = ""
    """Whose forms to make and to try."""
    folder: str = ""
    """Where they go."""
    files: dict[str, str] = field(default_factory=dict)
    """Chosen form of every part."""


@dataclass(frozen=True)
class Forms:
    """Forms of a part and the name of the fastest one's file."""

    candidates: tuple[Candidate, ...]
    chosen: str
    file: str


def run_block(job: Job) -> Block:
    """Sounds of a peer by one engine; see ``Job``."""
    return ask(__name__, job, Block, f"{job.peer}, {job.kind}")


def try_forms(job: Job) -> Forms:
    """Export, quantize and time the forms of a part; see ``Job``."""
    return ask(__name__, job, Forms, f"{job.peer}, {job.part}")


def _block(job: Job) -> Block:
    # Each engine imports only what it needs, so that its memory is its own.
    from benchmarks.peers.engines import EagerEngine, OnnxEngine, make_sound

    system = peer(job.peer, job.tiny)
    started = time.perf_counter()
    engine = (
        EagerEngine(system, job.threads)
        if job.kind == "eager"
        else OnnxEngine({name: Path(path) for name, path in job.files.items()}, job.threads)
    )
    load = time.perf_counter() - started
    waveform, _ = make_sound(system, engine)
    _check(system, waveform)
    meter = ContentionMeter()
    runs = tuple(make_sound(system, engine, seed)[1] for seed in range(1, job.runs + 1))
    return Block(runs, load, peak_rss_bytes(), meter.stop())


def _check(system: Peer, waveform: NDArray[np.float32]) -> None:
    """A network that makes nothing would be measured for nothing."""
    samples = round(system.seconds * system.sample_rate)
    assert waveform.shape == (1, system.channels, samples), waveform.shape
    assert np.isfinite(waveform).all() and waveform.std() > 0, "the waveform is silent or not finite"


def _forms(job: Job) -> Forms:
    from benchmarks.peers.graphs import example, write_graphs

    part = peer(job.peer, job.tiny).part(job.part)
    inputs = example(part)
    tried: list[tuple[Candidate, Path]] = []
    reference: NDArray[np.float32] | None = None
    for name, path in write_graphs(part, Path(job.folder)):
        gc.collect()
        output, seconds = _time(path, inputs, job.threads)
        snr = None if reference is None else signal_to_noise_db(reference, output)
        reference = output if reference is None else reference
        tried.append((Candidate(name, path.stat().st_size, tuple(seconds), snr), path))
    chosen, path = min(tried, key=lambda pair: pair[0].best)
    return Forms(tuple(candidate for candidate, _ in tried), chosen.name, str(path))


def _time(path: Path, inputs: Arrays, threads: int) -> tuple[NDArray[np.float32], Sequence[float]]:
    """First output of a graph, and seconds of the timed calls."""
    from benchmarks.peers.engines import open_session

    session = open_session(path, threads)
    output: NDArray[np.float32] = session.run(None, inputs)[0]
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - started)
    return output, seconds


def work(job: Job) -> Block | Forms:
    """Do a job."""
    return _forms(job) if job.kind == "forms" else _block(job)


if __name__ == "__main__":
    sys.exit(answer(Job, work))
