"""Every backend keeps the same contract: one set of checks, run on each that this machine has."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, Cancelled
from edge_tta.runtime import GenerationRequest, Progress, TextToAudio
from edge_tta.runtime.backend import Backend, LoadedModel, load_variant
from edge_tta.runtime.golden import signal_to_noise_db
from edge_tta.runtime.memory import current_rss_bytes

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ONNX, EXECUTORCH = GOLDEN / "edge-tiny", GOLDEN / "edge-tiny-executorch"
REQUEST = GenerationRequest("rain on a tin roof", 0.5, seed=3, steps=2, guidance=3.0)
BACKENDS = {
    "ort-fp32": "ort",
    "eager": "eager",
    "et-xnnpack-fp32": "executorch",
    "et-xnnpack-int8": "executorch",
    "coreml-fp32": "coreml",
}
"""Backend of everything that is put to the test."""


def load(kind: str, threads: int = 1) -> LoadedModel:
    """A tiny model on a backend, or a skip that says why not."""
    if kind == "eager":
        pytest.importorskip("torch")
        from edge_tta.runtime.eager_backend import EagerBackend
        from export.tiny import tiny_checkpoint

        described = load_variant(Bundle.open(ONNX), "ort-fp32", 1)
        described.backend.close()
        return dataclasses.replace(described, backend=EagerBackend(tiny_checkpoint(), threads))
    if kind == "coreml-fp32":
        return load_coreml(threads)
    if kind.startswith("et-") and importlib.util.find_spec("executorch") is None:
        pytest.skip("executorch is not installed")
    return load_variant(Bundle.open(EXECUTORCH if kind.startswith("et-") else ONNX), kind, threads)


def load_coreml(threads: int) -> LoadedModel:
    """The tiny model exported for Core ML, where there is a Mac to run it."""
    if sys.platform != "darwin":
        pytest.skip("Core ML runs on macOS")
    pytest.importorskip("coremltools")
    import tempfile

    from export.recipe import ExportRecipe, VariantRecipe
    from export.tiny import write_tiny_bundle

    recipe = ExportRecipe("test", (VariantRecipe("coreml", "fp16"),))
    bundle = write_tiny_bundle(Path(tempfile.mkdtemp()) / "coreml", recipe)
    return load_variant(bundle, "coreml-fp16", threads)


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def model(kind: str) -> Iterator[LoadedModel]:
    loaded = load(kind)
    yield loaded
    loaded.backend.close()


def floats(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run_all(backend: Backend, frames: int, tokens: int) -> list[np.ndarray[Any, Any]]:
    """Outputs of every stage on inputs of some length."""
    text = backend.text_encoder(np.arange(tokens, dtype=np.int64)[None] % 250)
    latent = floats(1, frames, 4)
    velocity = backend.generator(latent, 1.0, 1.0, text, frames * 128 / 44100, 3.0)
    return [*text, velocity, backend.decoder(latent)]


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (7, 2), (173, 11), (1034, 16)])
def test_shapes_at_any_length(model: LoadedModel, frames: int, tokens: int) -> None:
    outputs = run_all(model.backend, frames, tokens)
    assert [output.shape for output in outputs] == [
        (1, tokens, 8),
        (1, 8),
        (1, frames, 4),
        (1, 1, frames * 128),
    ]
    assert all(output.dtype == np.float32 and np.isfinite(output).all() for output in outputs)


def test_longest_sound_and_one_frame_more(model: LoadedModel, kind: str) -> None:
    longest = model.audio.latent_frames(model.audio.max_seconds)
    latent = floats(1, longest, 4)
    assert model.backend.decoder(latent).shape == (1, 1, longest * 128)
    if kind.startswith("et-"):
        # Memory is planned for the longest sound, so more is refused, and what comes after still works.
        with pytest.raises(BackendError, match="executorch: decoder failed"):
            model.backend.decoder(floats(1, longest + 1, 4))
        assert model.backend.decoder(latent[:, :5]).shape == (1, 1, 640)


def test_golden_vectors(model: LoadedModel, kind: str) -> None:
    bundle = Bundle.open(EXECUTORCH if kind.startswith("et-") else ONNX)
    golden = bundle.golden()
    text = golden["tokens"], golden["pooled"]
    scalars = [float(golden[name].item()) for name in ("time", "duration", "seconds", "guidance")]
    backend: Any = model.backend
    found = {
        "text_encoder": (golden["tokens"], backend.text_encoder(golden["ids"])[0]),
        "generator": (
            golden["velocity"],
            backend.generator(golden["noise"], *scalars[:2], text, *scalars[2:]),
        ),
        "decoder": (golden["waveform"], backend.decoder(golden["latent"])),
    }
    stated = bundle.variants[kind].parity_snr_db if kind in bundle.variants else {}
    for stage, (expected, output) in found.items():
        required = min(60.0, stated.get(stage, 63.0) - 3.0)  # type: ignore[call-overload]
        assert signal_to_noise_db(expected, output) >= required, stage


def test_same_inputs_same_bytes_whatever_ran_before(model: LoadedModel) -> None:
    first = [output.tobytes() for output in run_all(model.backend, 40, 5)]
    for frames, tokens in ((90, 9), (2, 1)):
        run_all(model.backend, frames, tokens)
        assert [output.tobytes() for output in run_all(model.backend, 40, 5)] == first


def test_outputs_are_the_callers_own(model: LoadedModel) -> None:
    latent = floats(1, 9, 4)
    first = model.backend.decoder(latent)
    kept = first.copy()
    model.backend.decoder(floats(1, 9, 4, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_any_layout_of_the_input(model: LoadedModel) -> None:
    latent = floats(1, 12, 4)
    expected = model.backend.decoder(latent)
    frozen = latent.copy()
    frozen.flags.writeable = False
    others: tuple[Any, ...] = (
        np.asfortranarray(latent),
        np.repeat(latent, 2, axis=1)[:, ::2],
        latent.astype(np.float64),
        latent.astype(">f4"),
        frozen,
    )
    for other in others:
        np.testing.assert_array_equal(model.backend.decoder(other), expected)
    ids = np.array([[3, 7, 250, 1]], dtype=np.int64)
    tokens, _ = model.backend.text_encoder(ids)
    np.testing.assert_array_equal(model.backend.text_encoder(ids.astype(np.int32))[0], tokens)  # type: ignore[arg-type]


def test_says_what_it_is(model: LoadedModel, kind: str) -> None:
    with TextToAudio(model) as pipeline:
        result = pipeline.generate(REQUEST)
    assert result.backend == BACKENDS[kind]
    assert result.precision == (
        "int8" if kind.endswith("int8") else "fp32" if kind != "coreml-fp32" else "fp16"
    )
    assert result.threads == (0 if kind.startswith("coreml") else 1)


def threads_in_use(kind: str, backend: Any) -> int:
    """How many threads a backend was really told to use."""
    if kind == "eager":
        import torch

        with backend._inference():
            return int(torch.get_num_threads())
    if kind.startswith("et-"):
        from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count

        return int(_threadpool_get_thread_count())
    sessions = backend._sessions.values()
    (count,) = {session.get_session_options().intra_op_num_threads for session in sessions}
    return int(count)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_those_asked_for(kind: str, threads: int) -> None:
    if kind.startswith("coreml"):
        pytest.skip("Core ML has no setting for threads")
    backend = load(kind, threads).backend
    try:
        assert backend.threads == threads == threads_in_use(kind, backend)
        run_all(backend, 30, 3)
    finally:
        backend.close()


def test_closed_is_closed(kind: str) -> None:
    backend = load(kind).backend
    backend.decoder(floats(1, 3, 4))
    backend.close()
    backend.close()
    calls: tuple[Callable[[], Any], ...] = (
        lambda: backend.text_encoder(np.zeros((1, 3), np.int64)),
        lambda: backend.generator(floats(1, 3, 4), 1, 1, (floats(1, 2, 8), floats(1, 8)), 1, 1),
        lambda: backend.decoder(floats(1, 3, 4)),
    )
    for call in calls:
        with pytest.raises(BackendError, match="the backend is closed"):
            call()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read on Linux")
def test_closing_gives_memory_back(kind: str) -> None:
    closed = []

    def cycle() -> None:
        backend = load(kind).backend
        run_all(backend, 300, 8)
        backend.close()
        # Kept, so that it is closing that frees memory and not the end of the object.
        closed.append(backend)

    def growth() -> int:
        gc.collect()
        before = current_rss_bytes()
        for _ in range(10):
            cycle()
        gc.collect()
        return current_rss_bytes() - before

    for _ in range(2):
        cycle()
    # Without closing 2.5 MB (eager), 26 MB (ort) and more are kept, every time; the allocator only now and then.
    assert any(growth() < 2 * 2**20 for _ in range(3))


def test_two_models_at_once_from_four_threads(kind: str) -> None:
    with TextToAudio(load(kind)) as one, TextToAudio(load(kind)) as other:
        requests = [dataclasses.replace(REQUEST, seed=seed, seconds=0.5 + seed / 50) for seed in range(4)]
        expected = [one.generate(request).audio.samples.tobytes() for request in requests]
        wrong: list[object] = []

        def work(offset: int) -> None:
            try:
                for step in range(4):
                    index = (step + offset) % 4
                    made = (one, other)[(step + offset // 2) % 2].generate(requests[index])
                    if made.audio.samples.tobytes() != expected[index]:
                        wrong.append((offset, index))
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        assert wrong == []


@pytest.mark.parametrize("stage", ["tokenizer", "text_encoder", "generator", "decoder"])
def test_cancel_before_any_stage(model: LoadedModel, stage: str) -> None:
    with TextToAudio(model) as pipeline:
        seen: list[str] = []

        def stop(progress: Progress) -> bool:
            seen.append(progress.stage)
            return progress.stage != stage

        with pytest.raises(Cancelled, match=f"cancelled before {stage}") as caught:
            pipeline.generate(REQUEST, on_progress=stop)
        assert caught.value.exit_code == 130 and seen[-1] == stage
        assert pipeline.generate(REQUEST).audio.frames == 22050
