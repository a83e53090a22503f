"""Calibration: what every stage of a model is given when the float model answers a fixed list of requests.

The packaged list (``prompts/calibration.csv``) names prompt, seconds, guidance, steps and seed of each request, so the
arrays are a function of the model alone. None of its prompts is in a suite that models are judged by, and a second list
(``prompts/judgement.csv``) has other prompts and noise, for what is measured while a recipe is made.
"""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Protocol

import numpy as np
import onnx
import onnx.helper
import onnxruntime
from numpy.typing import NDArray

from edge_tta.bundle.manifest import STAGES
from edge_tta.config import AudioSpec
from edge_tta.errors import DataError
from edge_tta.noise import gaussian_noise
from edge_tta.runtime.sampler import sample
from edge_tta.text import Tokenizer, normalise
from quantization.ranges import See, find_ranges

Arrays = dict[str, NDArray[Any]]
COLUMNS = ("prompt", "seconds", "guidance", "steps", "seed")


@dataclass(frozen=True)
class CalibrationRequest:
    """One sound that the float model makes."""

    prompt: str
    seconds: float
    guidance: float
    steps: int
    seed: int


@dataclass(frozen=True)
class CalibrationSound:
    """What a model computed for a request: inputs of every stage, and the sound."""

    request: CalibrationRequest
    inputs: Mapping[str, tuple[Arrays, ...]]
    """Inputs by name, by stage; a tuple as long as the stage has run: the generator runs once a step."""
    waveform: NDArray[np.float32]
    """float32 [1, channels, samples]."""

    @property
    def text(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Token features [1, T, D] and sentence vector [1, D]."""
        given = self.inputs["generator"][0]
        return given["tokens"], given["pooled"]

    @property
    def latent(self) -> NDArray[np.float32]:
        """What the decoder was given, [1, L, C]."""
        found: NDArray[np.float32] = self.inputs["decoder"][0]["latent"]
        return found


def read_requests(path: Traversable | None = None) -> tuple[CalibrationRequest, ...]:
    """The packaged requests for calibration, or those of a CSV with the same columns.

    Raises:
        DataError: the file cannot be read, or a row is incomplete or out of range.
    """
    source = path or _packaged("calibration.csv")
    requests = []
    try:
        reader = csv.DictReader(source.read_text(encoding="utf-8").splitlines())
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{source}: the columns must be {', '.join(COLUMNS)}")
        for number, row in enumerate(reader, start=2):
            try:
                requests.append(_request(row))
            except (AttributeError, TypeError, ValueError) as error:
                raise DataError(f"{source}:{number}: no calibration request ({error})") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: cannot be read ({error})") from error
    if not requests:
        raise DataError(f"{source}: no request")
    return tuple(requests)


def read_judgement() -> tuple[CalibrationRequest, ...]:
    """The packaged requests that quantized graphs are judged on: no prompt and no seed of them is calibrated on."""
    return read_requests(_packaged("judgement.csv"))


def require_disjoint(calibration: Sequence[CalibrationRequest], judged: Sequence[CalibrationRequest]) -> None:
    """Refuse to judge on what was calibrated on, which would flatter whatever is fixed by calibration.

    Raises:
        DataError: names a prompt or seed that both have.
    """
    prompts = {normalise(item.prompt) for item in calibration}
    seeds = {item.seed for item in calibration}
    for item in judged:
        if normalise(item.prompt) in prompts:
            raise DataError(f"'{item.prompt[:80]}' is calibrated on and judged on: the prompts must differ")
        if item.seed in seeds:
            raise DataError(f"seed {item.seed} is calibrated on and judged on: the noise must differ")


def _packaged(name: str) -> Traversable:
    return resources.files("quantization").joinpath("prompts", name)


def _request(row: Mapping[str, str]) -> CalibrationRequest:
    request = CalibrationRequest(
        row["prompt"].strip(),
        float(row["seconds"]),
        float(row["guidance"]),
        int(row["steps"]),
        int(row["seed"]),
    )
    if not request.prompt or not (math.isfinite(request.guidance) and 0 < request.seconds < math.inf):
        raise ValueError("prompt, seconds above 0 and a finite guidance are needed")
    if request.steps < 1 or request.seed < 0:
        raise ValueError("steps must be at least 1, seed must not be negative")
    return request


def within(
    requests: Sequence[CalibrationRequest], audio: AudioSpec, max_steps: int | None = None
) -> tuple[CalibrationRequest, ...]:
    """Requests with durations, and steps if there is a limit, held within what a model makes."""
    low, high = audio.min_seconds, audio.max_seconds
    return tuple(
        replace(
            item,
            seconds=min(max(item.seconds, low), high),
            steps=item.steps if max_steps is None else min(item.steps, max_steps),
        )
        for item in requests
    )


class Session(Protocol):
    """What is asked of a stage: ONNX Runtime's session, or something that answers as it does."""

    def get_inputs(self) -> Sequence[Any]:
        """Inputs with their ``name``, in order."""
        ...

    def run(self, outputs: Sequence[str] | None, inputs: Arrays) -> list[Any]:
        """Outputs by name, or all in order."""
        ...


class GraphModel:
    """The three stages as ONNX graphs in ONNX Runtime.

    Args:
        graphs: ONNX files by stage.
        audio: what a latent frame lasts.
        tokenizer: of the model.
        threads: threads inside an operator.
    """

    def __init__(
        self, graphs: Mapping[str, bytes], audio: AudioSpec, tokenizer: Tokenizer, threads: int = 1
    ) -> None:
        self.audio, self.tokenizer, self.threads = audio, tokenizer, threads
        self.sessions: dict[str, Session] = {stage: open_session(graphs[stage], threads) for stage in STAGES}

    @classmethod
    def of_sessions(
        cls, sessions: Mapping[str, Session], audio: AudioSpec, tokenizer: Tokenizer
    ) -> GraphModel:
        """A model of stages that are not ONNX graphs."""
        model = cls.__new__(cls)
        model.audio, model.tokenizer, model.threads = audio, tokenizer, 1
        model.sessions = dict(sessions)
        return model

    def with_stage(self, stage: str, graph: bytes) -> GraphModel:
        """The same model with another graph for one stage; the others are shared."""
        return self.with_sessions({stage: open_session(graph, self.threads)})

    def with_sessions(self, sessions: Mapping[str, Session]) -> GraphModel:
        """The same model with other sessions for some stages; the others are shared."""
        other = copy.copy(self)
        other.sessions = {**self.sessions, **sessions}
        return other

    def make(self, request: CalibrationRequest) -> CalibrationSound:
        """Let the model answer a request and keep what its stages are given."""
        ids: Arrays = {"ids": self.tokenizer.encode(request.prompt).ids[None]}
        tokens, pooled = run_stage(self.sessions["text_encoder"], ids)
        condition = {
            "tokens": tokens,
            "pooled": pooled,
            "seconds": _scalar(request.seconds),
            "guidance": _scalar(request.guidance),
        }
        steps: list[Arrays] = []

        def velocity(latent: NDArray[np.float32], time: float, duration: float) -> NDArray[np.float32]:
            given = {"latent": latent, "time": _scalar(time), "duration": _scalar(duration), **condition}
            steps.append(given)
            found: NDArray[np.float32] = run_stage(self.sessions["generator"], given)[0]
            return found

        frames = self.audio.latent_frames(request.seconds)
        noise = gaussian_noise(request.seed, (frames, self.audio.latent_channels))[None]
        latent: Arrays = {"latent": sample(velocity, noise, request.steps)}
        waveform = run_stage(self.sessions["decoder"], latent)[0]
        inputs = {"text_encoder": (ids,), "generator": tuple(steps), "decoder": (latent,)}
        return CalibrationSound(request, inputs, waveform)


def stage_inputs(sounds: Sequence[CalibrationSound], stage: str) -> list[Arrays]:
    """All inputs that a stage was given."""
    return [given for sound in sounds for given in sound.inputs[stage]]


def activation_ranges(
    model: bytes, tensors: Sequence[str], inputs: Sequence[Arrays]
) -> dict[str, tuple[float, float]]:
    """Ranges in which tensors inside a float graph are best rounded to eight bits, over all inputs, by name."""
    proto = onnx.load_from_string(model)
    known = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    for name in tensors:
        if name not in known:
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = open_session(proto.SerializeToString())
    inner = [name for name in tensors if name not in {value.name for value in proto.graph.input}]

    def run(see: See) -> None:
        for given in inputs:
            found = dict(zip(inner, run_stage(session, given, inner) if inner else [], strict=True))
            for name in tensors:
                see(name, found[name] if name in found else given[name])

    return find_ranges(run)


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_stage(
    session: Session, inputs: Arrays, outputs: Sequence[str] | None = None
) -> list[NDArray[np.float32]]:
    """Outputs of a stage, of what it asks for among ``inputs``: a graph folded for one step asks for less."""
    wanted = {port.name: inputs[port.name] for port in session.get_inputs()}
    found: list[NDArray[np.float32]] = session.run(None if outputs is None else list(outputs), wanted)
    return found


def _scalar(value: float) -> NDArray[np.float32]:
    return np.array([value], dtype=np.float32)
