"""What one variant makes of one request, stage by stage, through the pipeline that users run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_tta.audio import Audio
from edge_tta.errors import OutputError
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.runtime import GenerationRequest, TextToAudio
from edge_tta.runtime.backend import Backend, LoadedModel


@dataclass(frozen=True, eq=False)
class Rendition:
    """Inputs and outputs of all stages for one request."""

    ids: npt.NDArray[np.int64]
    """[1, T]."""
    tokens: FloatArray
    """Token features [1, T, D]."""
    pooled: FloatArray
    """Sentence vector [1, D]."""
    latent: FloatArray
    """What the decoder got, [1, L, C]."""
    waveform: FloatArray
    """What the decoder made, cut to the sound's length, [channels, frames]."""
    audio: Audio
    """The finished sound."""

    @property
    def text(self) -> tuple[FloatArray, FloatArray]:
        """Outputs of the text encoder."""
        return self.tokens, self.pooled


class _Tap:
    """A backend that runs another one and keeps what goes through it; see ``edge_tta.runtime.backend.Backend``.

    Args:
        inner: the backend that computes.
        text: features that stand in for the text encoder's, which then does not run.
        latent: stands in for the generator's, which then does not run.
        silence: channels and samples per latent frame of a silent waveform that stands in for the decoder's.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        text: tuple[FloatArray, FloatArray] | None = None,
        latent: FloatArray | None = None,
        silence: tuple[int, int] | None = None,
    ) -> None:
        self.name, self.precision, self.threads = inner.name, inner.precision, inner.threads
        self._inner, self._text, self._latent, self._silence = inner, text, latent, silence
        self.ids: npt.NDArray[np.int64] = np.zeros((1, 0), dtype=np.int64)
        self.text: tuple[FloatArray, FloatArray] | None = None
        self.latent: FloatArray | None = None
        self.waveform: FloatArray | None = None

    def text_encoder(self, ids: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """The features that were given, or the inner backend's."""
        self.ids = ids
        self.text = self._inner.text_encoder(ids) if self._text is None else self._text
        return self.text

    def generator(
        self,
        latent: FloatArray,
        time: float,
        duration: float,
        text: tuple[FloatArray, FloatArray],
        seconds: float,
        guidance: float,
    ) -> FloatArray:
        """The inner backend's velocity; none at all where the latent is known."""
        if self._latent is not None:
            return np.zeros_like(latent)
        return self._inner.generator(latent, time, duration, text, seconds, guidance)

    def decoder(self, latent: FloatArray) -> FloatArray:
        """The inner backend's waveform, or silence."""
        self.latent = latent if self._latent is None else self._latent
        if self._silence is None:
            self.waveform = self._inner.decoder(self.latent)
        else:
            channels, hop = self._silence
            self.waveform = np.zeros((1, channels, latent.shape[1] * hop), dtype=np.float32)
        return self.waveform

    def close(self) -> None:
        """Nothing: the inner backend belongs to who opened it."""


def render(model: LoadedModel, request: GenerationRequest) -> Rendition:
    """Run a request and keep what every stage made.

    Raises:
        RequestError, BackendError: as ``TextToAudio.generate``.
    """
    tap = _Tap(model.backend)
    audio = TextToAudio(dataclasses.replace(model, backend=tap)).generate(request).audio
    assert tap.text is not None and tap.latent is not None and tap.waveform is not None
    return Rendition(tap.ids, *tap.text, tap.latent, tap.waveform[0, :, : audio.frames], audio)


def latent_from_text(
    model: LoadedModel, request: GenerationRequest, text: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Latent [1, L, C] that a model's generator makes of the request's noise and of given text features.

    Raises:
        RequestError, BackendError: as ``TextToAudio.generate``.
    """
    tap = _Tap(model.backend, text=text, silence=(model.audio.channels, model.audio.hop))
    TextToAudio(dataclasses.replace(model, backend=tap)).generate(request)
    assert tap.latent is not None
    return tap.latent


def waveform_from_latent(model: LoadedModel, request: GenerationRequest, made: Rendition) -> FloatArray:
    """Waveform [channels, frames] that a model's decoder makes of a latent that another model made.

    Raises:
        RequestError, BackendError: as ``TextToAudio.generate``.
    """
    tap = _Tap(model.backend, text=made.text, latent=made.latent)
    audio = TextToAudio(dataclasses.replace(model, backend=tap)).generate(request).audio
    assert tap.waveform is not None
    return tap.waveform[0, :, : audio.frames]


class RenditionStore:
    """Renditions in a folder, because hundreds of them are too much to hold.

    Args:
        directory: an existing folder; whoever made it removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, number: int, rendition: Rendition) -> None:
        """Keep a rendition.

        Raises:
            OutputError: it cannot be written.
        """
        arrays = {field.name: getattr(rendition, field.name) for field in dataclasses.fields(rendition)}
        audio = arrays.pop("audio")
        try:
            np.savez(self._path(number), samples=audio.samples, sample_rate=audio.sample_rate, **arrays)
        except OSError as error:
            raise OutputError(f"{self._directory}: cannot be written ({error.strerror or error})") from error

    def get(self, number: int) -> Rendition:
        """A rendition that was kept."""
        with np.load(self._path(number), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        audio = Audio(arrays.pop("samples"), int(arrays.pop("sample_rate")))
        return Rendition(audio=audio, **arrays)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:06d}.npz"
