"""The parts of a peer, ready to run: eager modules, or ONNX files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.peers.systems import Arrays, Part, Peer

SEED = 2024


def build(part: Part) -> nn.Module:
    """A part with seeded random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = part.build().eval().requires_grad_(False)
    return module


class EagerEngine:
    """Modules in float32, run by torch as they are written.

    Args:
        peer: what to build.
        threads: threads inside one operator, for the whole process.
    """

    def __init__(self, peer: Peer, threads: int) -> None:
        torch.set_num_threads(threads)
        self._modules = {part.name: build(part) for part in peer.parts}

    def run(self, name: str, inputs: Arrays) -> list[NDArray[Any]]:
        """See ``Run``; inputs are passed in the order in which they are given."""
        with torch.inference_mode():
            found = self._modules[name](*(torch.from_numpy(array) for array in inputs.values()))
        outputs: tuple[Tensor, ...] = found if isinstance(found, tuple) else (found,)
        return [output.numpy() for output in outputs]


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session with the settings that large graphs of one shape are fastest with: ONNX Runtime's own defaults."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxEngine:
    """One ONNX file per part.

    Args:
        files: path by part.
        threads: threads inside one operator.
    """

    def __init__(self, files: Mapping[str, Path], threads: int) -> None:
        self._sessions = {name: open_session(path, threads) for name, path in files.items()}

    def run(self, name: str, inputs: Arrays) -> list[NDArray[Any]]:
        """See ``Run``."""
        outputs: list[NDArray[Any]] = self._sessions[name].run(None, inputs)
        return outputs


class Clock:
    """Runs parts of an engine and adds up the seconds each takes."""

    def __init__(self, engine: EagerEngine | OnnxEngine) -> None:
        self._engine = engine
        self.seconds: dict[str, float] = {}

    def run(self, name: str, inputs: Arrays) -> list[NDArray[Any]]:
        """See ``Run``."""
        started = time.perf_counter()
        outputs = self._engine.run(name, inputs)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        return outputs


def make_sound(
    peer: Peer, engine: EagerEngine | OnnxEngine, seed: int = 0
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """One sound [1, channels, samples] and the seconds of every part; "total" counts what is between them too."""
    clock, started = Clock(engine), time.perf_counter()
    waveform = peer.make(clock.run, np.random.default_rng(seed))
    return waveform, {**clock.seconds, "total": time.perf_counter() - started}
