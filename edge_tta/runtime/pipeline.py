"""Prompt to sound: tokenizer, text encoder, generator and decoder of one model on one backend."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

from edge_tta.audio import Audio
from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, Cancelled, ConfigError, MissingExtraError, RequestError
from edge_tta.noise import gaussian_noise
from edge_tta.runtime.backend import Floats, LoadedModel, check_compute_units, load_bundle
from edge_tta.runtime.failures import check_finite, stage_failures
from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.imports import import_failures
from edge_tta.runtime.request import (
    GenerationRequest,
    GenerationResult,
    Progress,
    StageName,
    check_limits,
    whole_number,
)
from edge_tta.runtime.sampler import ping_pong, sample
from edge_tta.runtime.timings import Stopwatch

logger = logging.getLogger(__name__)

OnProgress = Callable[[Progress], bool | None]

MAX_THREADS = 64
MAX_DEFAULT_THREADS = 4


def default_threads() -> int:
    """Threads used when none are asked for: the usable cores, at most four."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_DEFAULT_THREADS)


def checked_threads(threads: int | None) -> int:
    """Threads to use when ``threads`` are asked for; None for the default.

    Raises:
        RequestError: no whole number, or out of range.
    """
    return default_threads() if threads is None else whole_number("threads", threads, 1, MAX_THREADS)


class _Call:
    """One call of ``generate`` or ``generate_many``."""

    def __init__(self, requests: list[GenerationRequest], on_progress: OnProgress | None) -> None:
        self.requests, self.on_progress = requests, on_progress
        self.cancelled = threading.Event()
        self.stages = sum(3 + request.steps for request in requests)
        self.stages_done = 0


class TextToAudio:
    """A model ready to generate. Use ``open``; works as a context manager.

    One object may be shared by threads: sounds are made one after the other. ``cancel`` and ``close`` may be called
    from any thread at any time, also from ``on_progress``.
    """

    def __init__(self, model: LoadedModel, load_seconds: float = 0.0) -> None:
        self._model = model
        self._load_seconds = load_seconds
        # Re-entrant, so that on_progress may close the pipeline it is called from.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._calls: set[_Call] = set()

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        backend: str = "auto",
        precision: str = "int8",
        threads: int | None = None,
        compute_units: str = "all",
    ) -> TextToAudio:
        """Open a bundle on a backend.

        Args:
            bundle: opened bundle, directory, or name of a shipped bundle; None for the default one. For the eager
                backend the directory of a model checkpoint.
            backend: "ort", "executorch", "coreml" (macOS), "eager" (torch, fp32), or "auto" for the best one there is.
                An explicit backend never falls back to another.
            precision: "int8", "fp32" or another that the bundle has.
            threads: threads per stage, 1 to 64; None for the usable cores, at most four.
            compute_units: what Core ML may run on: "all", "cpu", "cpu+gpu" or "cpu+neural-engine".

        Raises:
            BundleError: the bundle is unknown, or one of the files that are used is damaged.
            BackendError: the bundle has no such variant, the backend refuses it, or the compute units are unknown.
            MissingExtraError: the backend's package is not installed.
            ConfigError: the checkpoint for the eager backend is incomplete or damaged.
            RequestError: threads are no whole number, or out of range.
        """
        started = time.perf_counter()
        count = checked_threads(threads)
        check_compute_units(compute_units)
        if backend == "eager":
            model = _load_eager(bundle, precision, count)
        else:
            # Each file that is used is hashed as it is read, so there is no need to read the whole bundle before.
            opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, verify=False)
            model = load_bundle(opened, backend, precision, count, compute_units)
        if backend == "auto":
            logger.info("backend auto chose %s", model.backend.name)
        return cls(model, time.perf_counter() - started)

    @property
    def model(self) -> LoadedModel:
        """The open model: name, audio format, limits of requests, backend."""
        return self._model

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def generate(
        self, request: GenerationRequest | str, *, on_progress: OnProgress | None = None
    ) -> GenerationResult:
        """Make one sound.

        Args:
            request: what to make; a bare prompt takes all defaults.
            on_progress: called before every stage and every step; returning False cancels.

        Raises:
            RequestError: no request, or one that cannot be served; the message names field, value and range.
            BackendError: a stage failed (the message names it), or the pipeline is or was closed.
            Cancelled: ``on_progress`` or ``cancel`` asked to stop.
        """
        if isinstance(request, (list, tuple)):
            raise RequestError(f"generate makes one sound, got a {type(request).__name__}; use generate_many")
        request = _as_request(request)
        if request.count != 1:
            raise RequestError(f"count {request.count}: generate makes one sound; use generate_many")
        return next(self.generate_many(request, on_progress=on_progress))

    def generate_many(
        self,
        requests: GenerationRequest | str | Iterable[GenerationRequest | str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[GenerationResult]:
        """Make all sounds of one or several requests, each when the iterator is asked for it.

        Variation i of a request is made with seed + i and equals the single call with that seed, bit for bit. All
        requests are checked before the first sound is made.

        Args:
            requests: a request or bare prompt, or any number of them.
            on_progress: as in ``generate``; cancelling ends the iterator with ``Cancelled``.

        Raises:
            RequestError, BackendError, Cancelled: as in ``generate``.
        """
        if on_progress is not None and not callable(on_progress):
            raise RequestError(f"on_progress must be a function, got {type(on_progress).__name__}")
        several = requests if _is_many(requests) else [requests]
        singles = []
        for request in map(_as_request, several):
            check_limits(request, self._model.audio, self._model.generation)
            singles += [
                dataclasses.replace(request, seed=request.seed + i, count=1) for i in range(request.count)
            ]
        return self._make_all(_Call(singles, on_progress))

    def cancel(self) -> None:
        """Stop all calls under way before their next stage; they raise ``Cancelled``. Later calls are not touched."""
        for call in list(self._calls):
            call.cancelled.set()

    def warmup(self) -> None:
        """Make one shortest sound and throw it away, so that the first request is as fast as the next."""
        self.generate(GenerationRequest("warm up", seconds=self._model.audio.min_seconds))

    def close(self) -> None:
        """Give memory back. Calls under way stop before their next stage with ``BackendError``. Twice is fine."""
        self._closed.set()
        with self._lock:
            self._model.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_all(self, call: _Call) -> Iterator[GenerationResult]:
        self._calls.add(call)
        try:
            for item in range(len(call.requests)):
                with self._lock:
                    result = self._make(call, item)
                yield result
        finally:
            self._calls.discard(call)

    def _before(self, call: _Call, item: int, stage: StageName) -> None:
        """Report progress and give way to ``close`` and ``cancel``."""
        stop = False
        if call.on_progress is not None and not self._closed.is_set():
            fraction = call.stages_done / call.stages
            stop = call.on_progress(Progress(stage, fraction, item, len(call.requests))) is False
        if self._closed.is_set():
            raise BackendError("the pipeline is closed; open it again")
        if stop or call.cancelled.is_set():
            raise Cancelled(f"cancelled before {stage}")
        call.stages_done += 1

    def _make(self, call: _Call, item: int) -> GenerationResult:
        watch = Stopwatch()
        request, model, backend = call.requests[item], self._model, self._model.backend
        guidance = model.generation.default_guidance if request.guidance is None else request.guidance
        warnings: list[str] = []

        self._before(call, item, "tokenizer")
        with watch.stage("tokenizer"):
            prompt = model.tokenizer.encode(request.prompt)
        if prompt.dropped:
            warnings.append(
                f"the prompt is too long: its last {prompt.dropped} tokens were left out "
                f"(limit {model.tokenizer.max_tokens})"
            )

        self._before(call, item, "text_encoder")
        with watch.stage("text_encoder"), stage_failures(backend, "text_encoder"):
            text = backend.text_encoder(prompt.ids[None])
            for features in text:
                check_finite(features, backend, "text_encoder")

        def velocity(latent: Floats, now: float, duration: float) -> Floats:
            with watch.stage("generator"), stage_failures(backend, "generator"):
                found = backend.generator(latent, now, duration, text, request.seconds, guidance)
                if found.shape != latent.shape:
                    raise BackendError(f"{backend.name}: generator made {found.shape} of {latent.shape}")
                check_finite(found, backend, "generator")
            return found

        def draw(stream: int = 0) -> Floats:
            with watch.stage("generator"):
                frames = model.audio.latent_frames(request.seconds)
                return gaussian_noise(request.seed, (frames, model.audio.latent_channels), stream)[None]

        def before_step(_: int) -> None:
            self._before(call, item, "generator")

        if model.generation.sampler == "ping-pong":
            # A stream of the seed's noise for every step.
            latent = ping_pong(velocity, draw(), request.steps, draw, before_step)
        else:
            latent = sample(velocity, draw(), request.steps, before_step)

        self._before(call, item, "decoder")
        with watch.stage("decoder"), stage_failures(backend, "decoder"):
            waveform = backend.decoder(latent)
            count = model.audio.num_samples(request.seconds)
            if waveform.ndim != 3 or waveform.shape[1] != model.audio.channels or waveform.shape[2] < count:
                raise BackendError(
                    f"{backend.name}: decoder made {waveform.shape}, expected (1, {model.audio.channels}, >= {count})"
                )
            check_finite(waveform, backend, "decoder")
            samples, remarks = finish_waveform(waveform[0], count, model.audio.sample_rate)
        return GenerationResult(
            audio=Audio(samples, model.audio.sample_rate),
            request=request,
            guidance=guidance,
            timings=watch.timings(self._load_seconds),
            bundle=model.name,
            backend=backend.name,
            precision=backend.precision,
            threads=backend.threads,
            warnings=(*warnings, *remarks),
        )


def _is_many(requests: object) -> bool:
    """Whether to go through requests one by one; the keys of a mapping would be no prompts."""
    return isinstance(requests, Iterable) and not isinstance(requests, (str, bytes, Mapping))


def _as_request(given: object) -> GenerationRequest:
    if isinstance(given, GenerationRequest):
        return given
    if isinstance(given, str):
        return GenerationRequest(given)
    raise RequestError(f"a request is a GenerationRequest or a prompt, got {type(given).__name__}")


def _load_eager(source: Bundle | str | os.PathLike[str] | None, precision: str, threads: int) -> LoadedModel:
    if precision != "fp32":
        raise BackendError(f"backend eager runs fp32, not {precision}")
    if source is None or isinstance(source, Bundle):
        raise BackendError("backend eager runs a model checkpoint: give its directory in place of a bundle")
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError(f"a checkpoint is a directory, got {type(source).__name__}")
    absent = MissingExtraError("train", "the eager backend")
    with import_failures("eager", ("torch", "safetensors"), absent):
        from edge_tta.runtime.eager_backend import load_checkpoint

    return load_checkpoint(source, threads)
