"""Prompt to sound: tokenizer, text encoder, generator and decoder of one model on one backend."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from edge_tta.audio import Audio
from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, RequestError
from edge_tta.noise import gaussian_noise
from edge_tta.runtime.backend import (
    Floats,
    LoadedModel,
    check_compute_units,
    load_bundle,
    package_versions,
)
from edge_tta.runtime.calls import Call, OnProgress
from edge_tta.runtime.eager import load_eager
from edge_tta.runtime.failures import check_finite, stage_failures
from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.layers import Layer, mix_layers
from edge_tta.runtime.request import (
    MAX_STEPS,
    GenerationRequest,
    GenerationResult,
    StageName,
    as_request,
    as_requests,
    check_limits,
    whole_number,
)
from edge_tta.runtime.sampler import ping_pong, sample
from edge_tta.runtime.turns import Turns

logger = logging.getLogger(__name__)

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


class TextToAudio:
    """A model ready to generate. Use ``open``; works as a context manager.

    One object may be shared by threads: one stage runs at a time, and calls take turns. ``cancel`` and ``close`` may be
    called from any thread at any time, also from ``on_progress``.
    """

    def __init__(self, model: LoadedModel, load_seconds: float = 0.0) -> None:
        self._model = model
        self._load_seconds = load_seconds
        self._versions = package_versions(model.backend.name)
        self._turns = Turns()
        self._closed = threading.Event()
        self._calls: set[Call] = set()

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
            model = load_eager(bundle, precision, count)
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
            on_progress: called before every stage and every step, now and then while another call has its turn, and
                with fraction 1.0 at the end; returning False before the end cancels.

        Raises:
            RequestError: no request, or one that cannot be served; the message names field, value and range.
            BackendError: a stage failed (the message names it), or the pipeline is or was closed.
            Cancelled: ``on_progress`` or ``cancel`` asked to stop.
        """
        if isinstance(request, (list, tuple)):
            raise RequestError(f"generate makes one sound, got a {type(request).__name__}; use generate_many")
        request = as_request(request)
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
        singles = []
        for request in as_requests(requests):
            check_limits(request, self._model.audio, self._model.generation)
            singles += [
                dataclasses.replace(request, seed=request.seed + i, count=1) for i in range(request.count)
            ]
        return self._make_all(Call(singles, on_progress))

    def cancel(self) -> None:
        """Stop all calls under way before their next stage; they raise ``Cancelled``. Later calls are not touched."""
        for call in list(self._calls):
            call.cancel()

    def warmup(self) -> None:
        """Make one shortest sound and throw it away, so that the first request is as fast as the next."""
        self.generate(GenerationRequest("warm up", seconds=self._model.audio.min_seconds))

    def close(self) -> None:
        """Give memory back. Calls under way stop before their next stage with ``BackendError``. Twice is fine."""
        self._closed.set()
        # The stage that runs is waited for; calls that wait would only be refused.
        with self._turns.taken(first=True):
            self._model.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_all(self, call: Call) -> Iterator[GenerationResult]:
        self._calls.add(call)
        try:
            last = len(call.requests) - 1
            for item in range(last + 1):
                result = self._make(call, item)
                if item == last:
                    call.finish()
                yield result
        finally:
            self._calls.discard(call)

    @contextmanager
    def _stage(self, call: Call, stage: StageName) -> Iterator[None]:
        """Run a stage in a block: the caller is asked, other calls have their turns, only then its time begins.

        Nothing is locked while the caller's function runs, which may wait for other threads that use the pipeline.
        """

        def ask() -> None:
            if not self._closed.is_set():
                call.report(stage)
            give_way()

        def give_way() -> None:
            if self._closed.is_set():
                raise BackendError("the pipeline is closed; open it again")
            call.check(stage)

        with ExitStack() as turn:
            with call.watch.paused():
                ask()
                turn.enter_context(self._turns.taken(ask))
            give_way()
            with call.watch.stage(stage), stage_failures(self._model.backend, stage):
                yield
            call.done()

    def _make(self, call: Call, item: int) -> GenerationResult:
        request, model, backend = call.begin(item), self._model, self._model.backend
        guidance = model.generation.default_guidance if request.guidance is None else request.guidance
        layers = request.layers
        waveforms: list[Floats] = []
        warnings: list[str] = []
        for number, layer in enumerate(layers):
            waveform, found = self._waveform(call, request, guidance, layer, number)
            waveforms.append(waveform)
            warnings += [f'"{layer.prompt}": {warning}' for warning in found] if len(layers) > 1 else found
        with call.watch.stage("decoder"), stage_failures(backend, "decoder"):
            mixture = mix_layers(waveforms, layers)
            finished = finish_waveform(mixture, mixture.shape[1], model.audio.sample_rate)
        return GenerationResult(
            audio=Audio(finished.samples, model.audio.sample_rate),
            request=request,
            guidance=guidance,
            timings=call.watch.timings(self._load_seconds),
            bundle=model.name,
            backend=backend.name,
            precision=backend.precision,
            threads=backend.threads,
            warnings=(*warnings, *finished.warnings),
            gain=finished.gain,
            versions=self._versions,
        )

    def _waveform(
        self, call: Call, request: GenerationRequest, guidance: float, layer: Layer, number: int
    ) -> tuple[Floats, tuple[str, ...]]:
        """One sound of a request as the decoder makes it, [channels, frames], and what is to be said of its prompt."""
        model, backend = self._model, self._model.backend

        with self._stage(call, "tokenizer"):
            prompt = model.tokenizer.encode(layer.prompt)

        with self._stage(call, "text_encoder"):
            text = backend.text_encoder(prompt.ids[None])
            for features in text:
                check_finite(features, backend, "text_encoder")

        def velocity(latent: Floats, now: float, duration: float) -> Floats:
            with self._stage(call, "generator"):
                found = backend.generator(latent, now, duration, text, request.seconds, guidance)
                if found.shape != latent.shape:
                    raise BackendError(f"{backend.name}: generator made {found.shape} of {latent.shape}")
                check_finite(found, backend, "generator")
            return found

        def draw(step: int = 0) -> Floats:
            # A stream of the seed's noise for every sound and step.
            stream = number * MAX_STEPS + step
            with call.watch.stage("generator"):
                frames = model.audio.latent_frames(request.seconds)
                return gaussian_noise(request.seed, (frames, model.audio.latent_channels), stream)[None]

        if model.generation.sampler == "ping-pong":
            latent = ping_pong(velocity, draw(), request.steps, draw)
        else:
            latent = sample(velocity, draw(), request.steps)

        with self._stage(call, "decoder"):
            waveform = backend.decoder(latent)
            count = model.audio.num_samples(request.seconds)
            if waveform.ndim != 3 or waveform.shape[1] != model.audio.channels or waveform.shape[2] < count:
                raise BackendError(
                    f"{backend.name}: decoder made {waveform.shape}, expected (1, {model.audio.channels}, >= {count})"
                )
            check_finite(waveform, backend, "decoder")
        return waveform[0, :, :count], prompt.warnings
