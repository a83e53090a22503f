"""The pipeline: exact lengths, repeatable, shared by threads, cancelled and closed at any moment."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import edge_tta
from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, BundleError, Cancelled, RequestError
from edge_tta.runtime import GenerationRequest, Progress, TextToAudio
from edge_tta.runtime.pipeline import default_threads

SHORT = 0.5


@pytest.fixture
def model(toy_bundle: Path) -> Iterator[TextToAudio]:
    with TextToAudio.open(toy_bundle, threads=1) as opened:
        yield opened


class FaultyBackend:
    """Wraps a backend; ``change`` is applied to what a stage returns, and may raise."""

    def __init__(self, inner: Any, stage: str, change: Callable[[Any], Any]) -> None:
        self.inner, self.stage, self.change = inner, stage, change
        self.name, self.precision, self.threads = inner.name, inner.precision, inner.threads

    def _maybe(self, stage: str, value: Any) -> Any:
        return self.change(value) if stage == self.stage else value

    def text_encoder(self, *inputs: Any) -> Any:
        return self._maybe("text_encoder", self.inner.text_encoder(*inputs))

    def generator(self, *inputs: Any) -> Any:
        return self._maybe("generator", self.inner.generator(*inputs))

    def decoder(self, *inputs: Any) -> Any:
        return self._maybe("decoder", self.inner.decoder(*inputs))

    def close(self) -> None:
        self.inner.close()


def with_fault(model: TextToAudio, stage: str, change: Callable[[Any], Any]) -> TextToAudio:
    loaded = model.model
    return TextToAudio(dataclasses.replace(loaded, backend=FaultyBackend(loaded.backend, stage, change)))


def test_length_is_exact_for_any_duration(model: TextToAudio) -> None:
    random = np.random.default_rng(1)
    durations = [0.5, 12.0, 0.50001, 1.0, 256 / 44100 * 100, *random.uniform(0.5, 12.0, 200)]
    for seconds in durations:
        audio = model.generate(GenerationRequest("rain", seconds=float(seconds))).audio
        assert audio.samples.shape == (1, round(seconds * 44100))
        assert np.isfinite(audio.samples).all() and audio.peak <= 1.0


@pytest.mark.parametrize("seconds", [0.4999, 12.001, 13, 1e9])
def test_duration_outside_the_bundle(model: TextToAudio, seconds: float) -> None:
    with pytest.raises(RequestError, match=r"seconds .* is out of range: this bundle makes 0.5 to 12 s"):
        model.generate(GenerationRequest("rain", seconds=seconds))


def test_guidance_outside_the_bundle(model: TextToAudio) -> None:
    with pytest.raises(RequestError, match="guidance 9 is out of range: this bundle takes 1 to 8"):
        model.generate(GenerationRequest("rain", guidance=9))


def test_result_tells_what_ran(model: TextToAudio, toy_bundle: Path) -> None:
    result = model.generate("rain on a tin roof")
    assert (result.backend, result.precision, result.threads, result.guidance) == ("ort", "int8", 1, 3.0)
    assert result.bundle == Bundle.open(toy_bundle).name
    assert result.request == GenerationRequest("rain on a tin roof")
    assert result.recipe()["versions"] == {
        "edge_tta": edge_tta.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    timings = result.timings
    stages = [timings.tokenizer, timings.text_encoder, timings.generator, timings.decoder]
    assert min(stages) > 0 and sum(stages) <= timings.total
    assert timings.load > 0 and timings.peak_rss_bytes > 10 * 2**20


def test_same_request_same_bytes(toy_bundle: Path) -> None:
    request = GenerationRequest("a dog barks", seconds=1.0, seed=5, steps=3)
    found = set()
    for _ in range(3):
        with TextToAudio.open(toy_bundle, threads=1) as model:
            found |= {model.generate(request).audio.samples.tobytes() for _ in range(7)}
    assert len(found) == 1


def test_everything_asked_for_matters(model: TextToAudio) -> None:
    base = GenerationRequest("a dog barks", seconds=1.0)
    variations = [{"prompt": "wind"}, {"seed": 1}, {"steps": 2}, {"guidance": 5.0}, {"seconds": 1.5}]
    sounds = [model.generate(dataclasses.replace(base, **change)) for change in [{}, *variations]]  # type: ignore[arg-type]
    samples = [sound.audio.samples[:, 500:30000] for sound in sounds]
    for first, second in itertools.combinations(samples, 2):
        assert np.abs(first - second).max() > 1e-3


def test_variations_equal_single_calls(model: TextToAudio) -> None:
    many = list(model.generate_many(GenerationRequest("wind", seconds=SHORT, seed=9, count=4)))
    assert [result.seed for result in many] == [9, 10, 11, 12]
    for result in many:
        assert result.request.count == 1
        alone = model.generate(result.request)
        assert alone.audio.samples.tobytes() == result.audio.samples.tobytes()


def test_place_in_a_list_does_not_matter(model: TextToAudio) -> None:
    requests = [GenerationRequest(text, seconds=SHORT, seed=3) for text in ("wind", "rain", "dog")]
    forward = {r.request.prompt: r.audio.samples.tobytes() for r in model.generate_many(requests)}
    backward = {r.request.prompt: r.audio.samples.tobytes() for r in model.generate_many(reversed(requests))}
    assert forward == backward


def test_many_are_checked_before_the_first_is_made(model: TextToAudio) -> None:
    with pytest.raises(RequestError, match="13"):
        model.generate_many(["rain", GenerationRequest("rain", seconds=13)])


def test_generate_refuses_a_count(model: TextToAudio) -> None:
    with pytest.raises(RequestError, match="count 2: generate makes one sound; use generate_many"):
        model.generate(GenerationRequest("rain", count=2))


def test_overlong_prompt_is_cut_and_told(model: TextToAudio) -> None:
    words = "rain on a tin roof and " * 20
    result = model.generate(GenerationRequest(words, seconds=SHORT))
    whole = model.model.tokenizer.encode(words)
    assert len(whole.ids) == 16 and whole.dropped > 0
    (warning,) = result.warnings
    assert f"its last {whole.dropped} tokens were left out (limit 16)" in warning


def test_progress_names_every_stage_in_order(model: TextToAudio) -> None:
    seen: list[Progress] = []
    requests = [GenerationRequest("wind", seconds=SHORT, steps=2), GenerationRequest("rain", seconds=SHORT)]
    list(model.generate_many(requests, on_progress=seen.append))
    one_step = ["tokenizer", "text_encoder", "generator", "decoder"]
    assert [p.stage for p in seen] == [*one_step[:3], "generator", "decoder", *one_step, "decoder"]
    assert [p.item for p in seen] == [0] * 5 + [1] * 5
    assert {p.count for p in seen} == {2}
    assert [p.fraction for p in seen] == pytest.approx([i / 9 for i in range(10)])
    assert seen[-1].fraction == 1.0


def test_at_the_end_it_is_too_late_to_cancel(model: TextToAudio) -> None:
    request = GenerationRequest("wind", seconds=SHORT)
    result = model.generate(request, on_progress=lambda progress: progress.fraction < 1.0)
    assert result.audio.samples.tobytes() == model.generate(request).audio.samples.tobytes()


@pytest.mark.parametrize("stage", ["tokenizer", "text_encoder", "generator", "decoder"])
@pytest.mark.parametrize("how", ["callback", "cancel"])
def test_cancel_before_any_stage(model: TextToAudio, stage: str, how: str) -> None:
    request = GenerationRequest("wind", seconds=SHORT)
    expected = model.generate(request).audio.samples.tobytes()
    seen = []

    def stop(progress: Progress) -> bool | None:
        seen.append(progress.stage)
        if progress.stage != stage:
            return None
        if how == "callback":
            return False
        other = threading.Thread(target=model.cancel)
        other.start()
        other.join()
        return True

    with pytest.raises(Cancelled, match=f"before {stage}") as caught:
        model.generate(request, on_progress=stop)
    assert caught.value.exit_code == 130
    assert seen[-1] == stage
    assert model.generate(request).audio.samples.tobytes() == expected


def test_cancel_while_nothing_runs_does_nothing(model: TextToAudio) -> None:
    model.cancel()
    assert model.generate(GenerationRequest("wind", seconds=SHORT)).audio.frames == 22050


def test_an_exception_in_the_callback_reaches_the_caller_once(model: TextToAudio) -> None:
    def fail(progress: Progress) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.generate("wind", on_progress=fail)
    assert model.generate(GenerationRequest("wind", seconds=SHORT)).audio.frames == 22050


def test_use_after_close(toy_bundle: Path) -> None:
    model = TextToAudio.open(toy_bundle, threads=1)
    started = model.generate_many(GenerationRequest("wind", seconds=SHORT, count=2))
    next(started)
    model.close()
    model.close()
    assert model.closed
    with pytest.raises(BackendError, match="the pipeline is closed"):
        model.generate("wind")
    with pytest.raises(BackendError, match="the pipeline is closed"):
        next(started)
    with pytest.raises(BackendError, match="the backend is closed"):
        model.model.backend.decoder(np.zeros((1, 2, 4), np.float32))


def test_close_from_the_callback(toy_bundle: Path) -> None:
    model = TextToAudio.open(toy_bundle, threads=1)

    def close(progress: Progress) -> None:
        if progress.stage == "generator":
            model.close()

    with pytest.raises(BackendError, match="the pipeline is closed"):
        model.generate("wind", on_progress=close)


def test_close_during_generate_from_another_thread(toy_bundle: Path) -> None:
    for _ in range(25):
        model = TextToAudio.open(toy_bundle, threads=1)
        closer: list[threading.Thread] = []

        def close_elsewhere(progress: Progress, model: TextToAudio = model, closer: Any = closer) -> None:
            if progress.stage == "generator":
                closer.append(threading.Thread(target=model.close))
                closer[0].start()
                while not model.closed:
                    pass

        with pytest.raises(BackendError, match="the pipeline is closed"):
            model.generate(GenerationRequest("wind", seconds=SHORT), on_progress=close_elsewhere)
        closer[0].join(10)
        assert not closer[0].is_alive()


def test_shared_by_eight_threads(model: TextToAudio) -> None:
    requests = [GenerationRequest("a dog barks", seconds=SHORT + i / 50, seed=i) for i in range(25)]
    expected = [model.generate(request).audio.samples.tobytes() for request in requests]
    wrong: list[object] = []

    def work(offset: int) -> None:
        try:
            for i in range(25):
                k = (i + 3 * offset) % 25
                if model.generate(requests[k]).audio.samples.tobytes() != expected[k]:
                    wrong.append((offset, k))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


def poison(value: float) -> Callable[[Any], Any]:
    def change(output: Any) -> Any:
        if isinstance(output, tuple):
            return tuple(change(part) for part in output)
        changed = output.copy()
        changed.flat[3] = value
        return changed

    return change


@pytest.mark.parametrize("stage", ["text_encoder", "generator", "decoder"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_stage(model: TextToAudio, stage: str, value: float) -> None:
    with pytest.raises(BackendError, match=f"ort: {stage} made values that are not finite") as caught:
        with_fault(model, stage, poison(value)).generate(GenerationRequest("wind", seconds=SHORT))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("stage", ["text_encoder", "generator", "decoder"])
def test_whatever_a_backend_raises_names_stage_and_backend(model: TextToAudio, stage: str) -> None:
    failing = [True]

    def fail_once(output: Any) -> Any:
        if failing:
            failing.clear()
            raise RuntimeError("first line\nsecond line")
        return output

    faulty = with_fault(model, stage, fail_once)
    request = GenerationRequest("wind", seconds=SHORT)
    with pytest.raises(BackendError, match=f"^ort: {stage} failed: first line$"):
        faulty.generate(request)
    assert faulty.generate(request).audio.samples.tobytes() == model.generate(request).audio.samples.tobytes()


def test_wrong_shapes_are_refused(model: TextToAudio) -> None:
    request = GenerationRequest("wind", seconds=SHORT)
    with pytest.raises(BackendError, match="generator made"):
        with_fault(model, "generator", lambda v: v[:, :-1]).generate(request)
    with pytest.raises(BackendError, match="decoder made"):
        with_fault(model, "decoder", lambda w: w[:, :, :22049]).generate(request)


def test_loud_silent_and_offset_sounds_are_put_right_with_a_warning(model: TextToAudio) -> None:
    request = GenerationRequest("wind", seconds=SHORT)
    for change, words in (
        (lambda w: w / np.abs(w).max() * 30, "peaked at"),
        (lambda w: w * 0, "silent"),
        (lambda w: w * 0.1 + np.float32(0.4), "offset of 0.4"),
    ):
        result = with_fault(model, "decoder", change).generate(request)
        assert any(words in warning for warning in result.warnings)
        assert result.audio.peak <= 1.0 and abs(result.audio.samples.mean()) < 1e-3


@pytest.mark.parametrize("peak", [0.5, 2.0])
def test_level_is_told_and_never_warned_of(model: TextToAudio, peak: float) -> None:
    request = GenerationRequest("wind", seconds=SHORT)
    scaled = with_fault(model, "decoder", lambda w: w / np.abs(w).max() * np.float32(peak))
    result = scaled.generate(request)
    expected = 1.0 if peak <= 1 else 1 / peak
    assert result.gain == pytest.approx(expected, rel=1e-2) and result.warnings == ()
    assert result.as_dict()["gain"] == result.gain


def test_warmup_makes_a_real_sound(model: TextToAudio) -> None:
    seen: list[str] = []
    warm = with_fault(model, "decoder", lambda w: seen.append("decoder") or w)
    warm.warmup()
    assert seen == ["decoder"]


def test_explicit_backend_never_falls_back(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"unknown backend 'tflite'; this version has auto, ort, .*eager"):
        TextToAudio.open(toy_bundle, backend="tflite")
    with pytest.raises(BackendError, match=r"has no coreml-int8 variant; it has ort-fp32, ort-int8"):
        TextToAudio.open(toy_bundle, backend="coreml")
    with pytest.raises(BackendError, match=r"has no ort-fp16 variant; it has ort-fp32, ort-int8") as caught:
        TextToAudio.open(toy_bundle, backend="ort", precision="fp16")
    assert caught.value.exit_code == 4


def test_auto_tells_its_choice(toy_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), TextToAudio.open(toy_bundle, precision="fp32") as model:
        assert model.generate(GenerationRequest("wind", seconds=SHORT)).precision == "fp32"
    assert "backend auto chose ort" in caplog.text


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_threads_out_of_range(toy_bundle: Path, threads: int) -> None:
    with pytest.raises(RequestError, match=f"threads {threads} is out of range: allowed are 1 to 64"):
        TextToAudio.open(toy_bundle, threads=threads)


def test_default_threads() -> None:
    assert 1 <= default_threads() <= 4


def test_unknown_bundle() -> None:
    with pytest.raises(BundleError, match="no bundle 'nowhere'"):
        TextToAudio.open("nowhere")
