"""What is asked for and what comes back."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edge_tta.audio import Audio
from edge_tta.bundle.manifest import Generation
from edge_tta.config import AudioSpec
from edge_tta.errors import RequestError
from edge_tta.noise import MAX_SEED
from edge_tta.runtime.layers import Layer, layers_of
from edge_tta.runtime.timings import Timings

MAX_STEPS = 8
MAX_COUNT = 64

StageName = Literal["tokenizer", "text_encoder", "generator", "decoder"]


@dataclass(frozen=True)
class GenerationRequest:
    """One request. What no bundle is needed for is checked here; the rest when it is served.

    Raises:
        RequestError: names field, value and allowed range.
    """

    prompt: str
    """Description of the sound, or of up to four that are made apart and mixed: "rain + distant thunder (-6 dB)"."""
    seconds: float = 5.0
    """Duration; the result has exactly round(seconds * sample_rate) frames. A bundle states shortest and longest."""
    seed: int = 0
    """0 .. 2**63 - 1. The same request on the same bundle, backend, threads and machine gives the same bytes."""
    steps: int = 1
    """Network steps, 1 .. 8; more cost more. The shipped model is made for one, and more do not make it better
    (docs/reports/shipped/acceleration.md); they are for models that are."""
    guidance: float | None = None
    """How strictly to follow the prompt, at least 0; None takes the bundle's default."""
    count: int = 1
    """How many variations, 1 .. 64; variation i is the same request with seed + i."""

    def __post_init__(self) -> None:
        layers_of(self.prompt)
        object.__setattr__(self, "seconds", _number("seconds", self.seconds))
        if self.seconds <= 0:
            raise RequestError(f"seconds {self.seconds:g} is out of range: it must be above 0")
        if self.guidance is not None:
            object.__setattr__(self, "guidance", _number("guidance", self.guidance))
            if self.guidance < 0:
                raise RequestError(f"guidance {self.guidance:g} is out of range: it must be at least 0")
        for name, low, high in (("seed", 0, MAX_SEED), ("steps", 1, MAX_STEPS), ("count", 1, MAX_COUNT)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, high))
        if self.seed + self.count - 1 > MAX_SEED:
            raise RequestError(
                f"seed {self.seed} leaves no room for count {self.count}: the last seed is {MAX_SEED}"
            )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The sounds that the prompt names."""
        return layers_of(self.prompt)


def as_request(given: object) -> GenerationRequest:
    """A request, or that of a bare prompt.

    Raises:
        RequestError: neither of both.
    """
    if isinstance(given, GenerationRequest):
        return given
    if isinstance(given, str):
        return GenerationRequest(given)
    raise RequestError(f"a request is a GenerationRequest or a prompt, got {type(given).__name__}")


def as_requests(given: object) -> list[GenerationRequest]:
    """Requests of one or of any number of requests and bare prompts.

    Raises:
        RequestError: something else is given, or among them.
    """
    # The keys of a mapping would be no prompts.
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))
    return [as_request(one) for one in given] if several else [as_request(given)]  # type: ignore[attr-defined]


def check_limits(request: GenerationRequest, audio: AudioSpec, limits: Generation) -> None:
    """Check a request against what a bundle makes.

    Args:
        request: what is asked for.
        audio: shortest and longest sound.
        limits: most steps, least and most guidance.

    Raises:
        RequestError: names field, value and the bundle's range.
    """
    check_seconds(request.seconds, audio)
    if request.steps > limits.max_steps:
        raise RequestError(
            f"steps {request.steps} is out of range: this bundle takes 1 to {limits.max_steps}"
        )
    low, high = limits.min_guidance, limits.max_guidance
    if request.guidance is not None and not low <= request.guidance <= high:
        raise RequestError(
            f"guidance {request.guidance:g} is out of range: this bundle takes {low:g} to {high:g}"
        )


def check_seconds(seconds: float, audio: AudioSpec, maker: str = "bundle") -> None:
    """Check a duration against what a model makes.

    Args:
        seconds: what is asked for.
        audio: shortest and longest sound.
        maker: what was given, for the message.

    Raises:
        RequestError: names value and range.
    """
    low, high = audio.min_seconds, audio.max_seconds
    if not low <= seconds <= high:
        raise RequestError(f"seconds {seconds:g} is out of range: this {maker} makes {low:g} to {high:g} s")


def _number(name: str, value: object) -> float:
    # NumPy scalars are welcome and become plain Python numbers, so that a request compares and serialises simply.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise RequestError(f"{name} must be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise RequestError(f"{name} is out of range: it is larger than any floating-point number") from None
    if not math.isfinite(number):
        raise RequestError(f"{name} must be a finite number, got {number}")
    return number


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """A whole number of a range as a plain int; NumPy's are welcome.

    Raises:
        RequestError: names what is given and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise RequestError(f"{name} must be a whole number, got {type(value).__name__}")
    integer = int(value)
    if not low <= integer <= high:
        # Python refuses to write out numbers of thousands of digits.
        bits = integer.bit_length()
        shown = str(integer) if bits <= 128 else f"of {bits} bits"
        raise RequestError(f"{name} {shown} is out of range: allowed are {low} to {high}")
    return integer


@dataclass(frozen=True)
class Progress:
    """Where a call is; passed to ``on_progress``, which may return False to cancel."""

    stage: StageName
    """Stage that is about to run; at the end, when fraction is 1, the one that ran last."""
    fraction: float
    """Share of the whole call's stages that have run, 0 .. 1."""
    item: int
    """Which sound of the call, from 0."""
    count: int
    """How many sounds the call makes."""


@dataclass(frozen=True, eq=False)
class GenerationResult:
    """One sound, and everything needed to make it again."""

    audio: Audio
    request: GenerationRequest
    """What makes this very sound again: count is 1 and seed is this sound's."""
    guidance: float
    """Guidance that was used."""
    timings: Timings
    bundle: str
    """Name of the bundle and the beginning of its digest."""
    backend: str
    """Backend that ran."""
    precision: str
    """Precision that ran."""
    threads: int
    """Threads a stage could use."""
    warnings: tuple[str, ...] = ()
    """What the caller should know: tokens left out, a prompt in letters the model does not know, an offset taken out, a
    peak far above full scale, silence. That a sound was merely scaled down to full scale is told by ``gain`` alone."""
    gain: float = 1.0
    """Linear factor that was applied to keep the sound within full scale; 1 if none was. What the decoder made is
    audio / gain, but for an offset and the fades: so levels of different sounds can be compared."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions by package: this one's and the backend's."""

    @property
    def seed(self) -> int:
        """Seed of this sound."""
        return self.request.seed

    @property
    def steps(self) -> int:
        """Network steps of this sound."""
        return self.request.steps

    def recipe(self) -> dict[str, Any]:
        """What to ask of which bundle and backend for the same bytes, as plain values."""
        request = asdict(self.request)
        del request["count"]
        return {
            **request,
            "guidance": self.guidance,
            "bundle": self.bundle,
            "backend": self.backend,
            "precision": self.precision,
            "threads": self.threads,
            "versions": dict(self.versions),
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything but the samples, as plain values."""
        return {
            **self.recipe(),
            "frames": self.audio.frames,
            "sample_rate": self.audio.sample_rate,
            "channels": self.audio.channels,
            "peak": self.audio.peak,
            "gain": self.gain,
            "timings": self.timings.as_dict(),
            "real_time_factor": self.timings.real_time_factor(self.audio.seconds),
            "warnings": list(self.warnings),
        }
