"""ONNX Runtime on the CPU, from verified bytes, with settings for sounds of changing length."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES, StageFile
from edge_tta.errors import BackendError
from edge_tta.runtime.backend import Floats, generator_inputs
from edge_tta.runtime.failures import first_line
from edge_tta.runtime.imports import import_failures
from edge_tta.runtime.memory import give_back_freed_memory
from edge_tta.runtime.onnx_weights import WEIGHTS, graph_without_weights

_PROVIDERS = ["CPUExecutionProvider"]

# Session creation is not thread-safe in ONNX Runtime (its issue 27089); running a session is.
_CREATION = threading.Lock()


class OrtBackend:
    """One variant of a bundle in ONNX Runtime.

    Args:
        bundle: opened bundle.
        variant: name of one of its variants.
        threads: threads inside one operator.
        profiles: existing folder for ONNX Runtime's record of every operator, which takes time; None for no record.

    Raises:
        BackendError: onnxruntime is not installed, cannot be imported or refuses a graph, or a graph has other inputs
            or outputs than the manifest says.
        BundleError: a file is damaged.
    """

    name = "ort"

    def __init__(self, bundle: Bundle, variant: str, threads: int, profiles: Path | None = None) -> None:
        onnxruntime = _import_onnxruntime()
        described = bundle.variants[variant]
        self.precision: str = described.precision
        self.threads = threads
        self._sessions: dict[str, Any] = {}
        # The largest first: its file and its packed weights are there at once, and then nothing else is yet.
        for stage, entry in sorted(described.stages.items(), key=lambda item: -item[1].bytes):
            profile = None if profiles is None else profiles / stage
            session = _open_stage(onnxruntime, bundle, stage, entry, threads, profile)
            give_back_freed_memory()
            _check_interface(session, stage, entry)
            self._sessions[stage] = session
        assert set(self._sessions) == set(STAGES)

    def _run(self, stage: str, inputs: dict[str, NDArray[Any]]) -> list[Floats]:
        session = self._sessions.get(stage)
        if session is None:
            raise BackendError("ort: the backend is closed")
        # A graph that is folded for one step asks for fewer inputs than the stage has.
        wanted = {port.name: inputs[port.name] for port in session.get_inputs()}
        outputs: list[Floats] = session.run(None, wanted)
        return outputs

    def text_encoder(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See ``Backend``."""
        tokens, pooled = self._run("text_encoder", {"ids": np.ascontiguousarray(ids, dtype=np.int64)})
        return tokens, pooled

    def generator(
        self,
        latent: Floats,
        time: float,
        duration: float,
        text: tuple[Floats, Floats],
        seconds: float,
        guidance: float,
    ) -> Floats:
        """See ``Backend``."""
        inputs = generator_inputs(latent, time, duration, text, seconds, guidance)
        return self._run("generator", inputs)[0]

    def decoder(self, latent: Floats) -> Floats:
        """See ``Backend``."""
        return self._run("decoder", {"latent": np.ascontiguousarray(latent, dtype=np.float32)})[0]

    def end_profiling(self) -> dict[str, Path]:
        """Stop the record of operators; its JSON file by stage. For a backend that was given a folder."""
        return {stage: Path(session.end_profiling()) for stage, session in self._sessions.items()}

    def close(self) -> None:
        """See ``Backend``."""
        self._sessions.clear()
        give_back_freed_memory()


def check_onnxruntime(bundle: Bundle | None) -> None:
    """Import ONNX Runtime and open the smallest graph a bundle has for it: tens of milliseconds.

    Args:
        bundle: opened bundle; without one, or if it has nothing for ONNX Runtime, only the import is tried.

    Raises:
        BackendError: onnxruntime is not installed, cannot be imported or refuses the graph.
        BundleError: the file is damaged.
    """
    onnxruntime = _import_onnxruntime()
    stages = [
        (entry.bytes, stage, entry)
        for variant in (bundle.variants.values() if bundle is not None else ())
        if variant.backend == "ort"
        for stage, entry in variant.stages.items()
    ]
    if bundle is not None and stages:
        _, stage, entry = min(stages, key=lambda found: found[0])
        _open_stage(onnxruntime, bundle, stage, entry, threads=1)


def _import_onnxruntime() -> Any:
    absent = BackendError("onnxruntime is not installed: pip install onnxruntime")
    with import_failures("ort", ("onnxruntime",), absent):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
    return onnxruntime


def _open_stage(
    onnxruntime: Any,
    bundle: Bundle,
    stage: str,
    entry: StageFile,
    threads: int,
    profile: Path | None = None,
) -> Any:
    """A session of a stage's verified file, whose bytes are given back."""
    data = bundle.read(entry)
    try:
        return _session(onnxruntime, data, threads, profile)
    except Exception as error:  # ONNX Runtime raises its own C++ exception types
        raise BackendError(f"ort: {stage} ({entry.file}) was refused: {first_line(error)}") from error


def _session(onnxruntime: Any, data: bytes, threads: int, profile: Path | None) -> Any:
    """A session of a verified file, which is not needed afterwards."""
    options = _session_options(onnxruntime, threads)
    if profile is not None:
        options.enable_profiling = True
        # The beginning of the file's name, to which the time is added.
        options.profile_file_prefix = str(profile)
    graph = data
    # Older releases read whole files only.
    if hasattr(options, "add_external_initializers_from_files_in_memory"):
        graph = graph_without_weights(data)
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [data], [len(data)])
    with _CREATION:
        return onnxruntime.InferenceSession(graph, options, providers=_PROVIDERS)


def _session_options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # What goes wrong arrives as an exception; the library's own copy on standard error would be a second line.
    options.log_severity_level = 4
    # Patterns keep buffers for every length seen. The arena keeps the largest, and without it every buffer is fresh
    # memory that the system hands out page by page; docs/concepts/runtime.md has both measurements.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = True
    # Idle threads that spin would take the cores of the app around us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _check_interface(session: Any, stage: str, entry: StageFile) -> None:
    if session.get_providers() != _PROVIDERS:
        raise BackendError(
            f"ort: {stage} ({entry.file}) runs on {session.get_providers()}, not on {_PROVIDERS}"
        )
    for kind, found, described in (
        ("inputs", session.get_inputs(), entry.inputs),
        ("outputs", session.get_outputs(), entry.outputs),
    ):
        actual, expected = {port.name for port in found}, {port.name for port in described}
        if actual != expected or (
            kind == "outputs" and [p.name for p in found] != [p.name for p in described]
        ):
            raise BackendError(
                f"ort: {stage} ({entry.file}) has the {kind} {', '.join(sorted(actual))}; "
                f"the manifest says {', '.join(sorted(expected))}"
            )
