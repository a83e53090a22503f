"""Whatever a caller can get wrong raises an error of ``edge_tta.errors``, as the quickstart promises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tta import GenerationRequest, TextToAudio, errors
from edge_tta.audio import Audio, read_audio, write_audio
from edge_tta.errors import BackendError, BundleError, ConfigError, DataError, OutputError, RequestError

ONE = "a request is a GenerationRequest or a prompt, got "
PATH = "a sound file needs a path, got "


def sound() -> Audio:
    return Audio(np.zeros((1, 8), np.float32), 44100)


def generate(*arguments: Any, **options: Any) -> Callable[[Path], object]:
    def call(bundle: Path) -> object:
        with TextToAudio.open(bundle, threads=1) as model:
            return model.generate(*arguments, **options)

    return call


def generate_many(*arguments: Any, **options: Any) -> Callable[[Path], object]:
    def call(bundle: Path) -> object:
        with TextToAudio.open(bundle, threads=1) as model:
            return list(model.generate_many(*arguments, **options))

    return call


def opened(*source: Any, **options: Any) -> Callable[[Path], object]:
    return lambda bundle: TextToAudio.open(*(source or (bundle,)), **options)


def request(**fields: Any) -> Callable[[Path], object]:
    return lambda _: GenerationRequest(**{"prompt": "wind", **fields})


def written(*arguments: Any, **options: Any) -> Callable[[Path], object]:
    return lambda _: write_audio(*arguments, **options)


MISTAKES: list[tuple[Callable[[Path], object], type[Exception], str]] = [
    (generate(None), RequestError, ONE + "NoneType"),
    (generate({"prompt": "wind"}), RequestError, ONE + "dict"),
    (generate(b"wind"), RequestError, ONE + "bytes"),
    (generate(["rain", "dog"]), RequestError, "generate makes one sound, got a list; use generate_many"),
    (generate("wind", on_progress=1), RequestError, "on_progress must be a function, got int"),
    (generate_many([1]), RequestError, ONE + "int"),
    (generate_many(["wind", None]), RequestError, ONE + "NoneType"),
    (generate_many(None), RequestError, ONE + "NoneType"),
    (generate_many({"prompt": "wind"}), RequestError, ONE + "dict"),
    (generate_many(b"wind"), RequestError, ONE + "bytes"),
    (opened(threads="2"), RequestError, "threads must be a whole number, got str"),
    (opened(threads=2.5), RequestError, "threads must be a whole number, got float"),
    (opened(threads=True), RequestError, "threads must be a whole number, got bool"),
    (opened(123), BundleError, "a bundle is a name or a directory, got int"),
    (opened(b"folder"), BundleError, "a bundle is a name or a directory, got bytes"),
    (opened(1, backend="eager", precision="fp32"), ConfigError, "a checkpoint is a directory, got int"),
    (opened(backend=5), BackendError, "unknown backend '5'"),
    (opened(precision=None), BackendError, "has no None variant"),
    (opened(compute_units="bogus"), BackendError, "unknown compute units 'bogus'; there are all, cpu, cpu+gpu"),
    (opened(compute_units=["cpu"]), BackendError, "unknown compute units"),
    (request(prompt=None), RequestError, "prompt must be text, got NoneType"),
    (request(seed=10**5000), RequestError, "seed of 16610 bits is out of range: allowed are 0 to "),
    (request(seed=-(10**5000)), RequestError, "seed of 16610 bits is out of range"),
    (request(seconds=10**400), RequestError, "seconds is out of range"),
    (request(guidance=10**400), RequestError, "guidance is out of range"),
    (written(sound(), 7), OutputError, PATH + "int"),
    (written(sound(), None), OutputError, PATH + "NoneType"),
    (written(sound(), "rain.mp3"), OutputError, "cannot write '.mp3' files"),
    (written(sound(), "nowhere\0.wav"), OutputError, "not a possible file name"),
    (written(sound(), "rain.wav", subtype=16), OutputError, "sample format of a sound file must be text, got int"),
    (written(sound(), "rain.wav", comment=None), OutputError, "comment of a sound file must be text"),
    (written(sound(), "rain.wav", comment="\ud800"), OutputError, "the comment is not valid Unicode"),
    (written(np.zeros(8), "rain.wav"), RequestError, "must be an Audio, got ndarray"),
    (lambda _: sound().to_bytes(None), OutputError, "suffix of a sound file must be text"),  # type: ignore[arg-type]
    (lambda _: Audio([[0.0]], 44100), RequestError, "must be a NumPy array, got list"),  # type: ignore[arg-type]
    (lambda _: Audio(sound().samples, "44100"), RequestError, "a whole number, got str"),  # type: ignore[arg-type]
    (lambda _: read_audio(0), DataError, PATH + "int"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "kind", "words"), MISTAKES, ids=[words for *_, words in MISTAKES])
def test_a_mistake_is_one_line_of_our_own(
    mistake: Callable[[Path], object],
    kind: type[Exception],
    words: str,
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.EdgeTTAError) as caught:
        mistake(toy_bundle)
    message = str(caught.value)
    assert type(caught.value) is kind and words in message
    assert "\n" not in message and len(message) < 300
    assert list(tmp_path.iterdir()) == []


def test_paths_are_text_or_path_like(tmp_path: Path) -> None:
    for target in (str(tmp_path / "text.wav"), tmp_path / "path.wav"):
        write_audio(sound(), target)
        assert read_audio(target).frames == 8


def test_numpy_counts_threads(toy_bundle: Path) -> None:
    with TextToAudio.open(toy_bundle, threads=np.int64(2)) as model:  # type: ignore[arg-type]
        assert type(model.model.backend.threads) is int


def test_errors_travel_between_processes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    samples = [kind("words") for kind in kinds if kind is not errors.MissingExtraError]
    for error in [*samples, errors.MissingExtraError("train", "training")]:
        arrived = copy.copy(error)  # by the same protocol as between processes
        assert type(arrived) is type(error) and str(arrived) == str(error) and vars(arrived) == vars(error)
