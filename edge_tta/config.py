"""Frozen configuration of the model, read strictly: an unknown key is an error that names the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from edge_tta.errors import ConfigError
from edge_tta.ranges import require_ranges, require_rising

T = TypeVar("T")

SCHEMA_VERSION = 1
MAX_LATENT_VALUES = 2**22
"""Most numbers in the latent of the longest sound: a configuration cannot ask for gigabytes."""


def _require_odd(config: Any, *names: str) -> None:
    """Even kernels cannot keep the length of a sequence with equal padding on both sides."""
    for name in names:
        if getattr(config, name) % 2 == 0:
            raise ConfigError(f"{name} {getattr(config, name)} must be odd")


@dataclass(frozen=True)
class AudioSpec:
    """What goes in and out of the model, in samples and seconds."""

    sample_rate: int = 44100
    """Samples per second, Hz."""
    channels: int = 1
    """Audio channels (1 mono, 2 stereo)."""
    hop: int = 2048
    """Samples per latent frame."""
    latent_channels: int = 64
    """Channels of one latent frame."""
    min_seconds: float = 0.5
    """Shortest duration a request may ask for."""
    max_seconds: float = 12.0
    """Longest duration a request may ask for."""

    def __post_init__(self) -> None:
        require_ranges(
            self, sample_rate=(4000, 192000), channels=(1, 2), hop=(1, 65536), latent_channels=(1, 1024)
        )
        require_ranges(self, min_seconds=(0.01, 60), max_seconds=(0.01, 60))
        require_rising(self, "min_seconds", "max_seconds")
        if self.latent_frames(self.max_seconds) * self.latent_channels > MAX_LATENT_VALUES:
            raise ConfigError(f"the latent of {self.max_seconds} s has more than {MAX_LATENT_VALUES} values")

    def num_samples(self, seconds: float) -> int:
        """Exact number of audio frames for a duration in seconds."""
        return round(seconds * self.sample_rate)

    def latent_frames(self, seconds: float) -> int:
        """Latent frames that cover a duration: the decoder's output is trimmed to ``num_samples``."""
        return max(1, math.ceil(self.num_samples(seconds) / self.hop))


@dataclass(frozen=True)
class TextEncoderConfig:
    """Compact transformer from SentencePiece ids to token features and a pooled vector."""

    vocab_size: int = 8192
    """Pieces of the SentencePiece model, byte fallback included."""
    max_tokens: int = 64
    """Longest token sequence; the tokenizer enforces it."""
    width: int = 384
    """Width of the residual stream and of the output features."""
    depth: int = 4
    """Transformer layers."""
    heads: int = 12
    """Attention heads."""
    feedforward: int = 1536
    """Inner width of the feed-forward layers."""

    def __post_init__(self) -> None:
        require_ranges(self, vocab_size=(1, 2**20), max_tokens=(2, 512), width=(1, 8192), depth=(0, 64))
        require_ranges(self, heads=(1, 128), feedforward=(1, 65536))


@dataclass(frozen=True)
class GeneratorConfig:
    """Latent transformer: joint text+audio blocks, then audio-only blocks."""

    latent_channels: int = 64
    """Channels of one latent frame."""
    text_width: int = 384
    """Width of the text encoder's token features and pooled vector."""
    width: int = 448
    """Width of the residual streams."""
    heads: int = 7
    """Attention heads."""
    joint_blocks: int = 4
    """Blocks in which text and audio streams attend jointly."""
    audio_blocks: int = 8
    """Audio-only blocks."""
    feedforward: int = 1280
    """Inner width of the gated ConvMLP."""
    kernel: int = 3
    """Kernel of the ConvMLP over time, odd."""
    stem_kernel: int = 7
    """Kernel of the first and last convolution, odd."""
    time_features: int = 128
    """Fourier features of each scalar condition (time, duration, seconds, guidance)."""
    shared_modulation: bool = False
    """One modulation for all blocks plus a learned offset per block, instead of one Linear a block."""

    def __post_init__(self) -> None:
        require_ranges(self, latent_channels=(1, 1024), text_width=(1, 8192), width=(1, 8192), heads=(1, 128))
        require_ranges(self, joint_blocks=(0, 64), audio_blocks=(0, 64), feedforward=(1, 65536))
        require_ranges(self, kernel=(1, 63), stem_kernel=(1, 63), time_features=(2, 4096))
        _require_odd(self, "kernel", "stem_kernel")


@dataclass(frozen=True)
class CodecConfig:
    """Variational codec between waveforms and latents; the decoder ends in an inverse STFT."""

    latent_channels: int = 64
    """Channels of one latent frame."""
    n_fft: int = 1024
    """STFT window length in samples."""
    stft_hop: int = 512
    """STFT hop in samples: half of ``n_fft``."""
    frame_width: int = 256
    """Width of the blocks that run once per STFT hop."""
    latent_width: int = 512
    """Width of the blocks that run once per latent frame."""
    encoder_frame_blocks: int = 2
    """Encoder blocks at the STFT rate."""
    encoder_latent_blocks: int = 3
    """Encoder blocks at the latent rate."""
    decoder_latent_blocks: int = 4
    """Decoder blocks at the latent rate."""
    decoder_frame_blocks: int = 3
    """Decoder blocks at the STFT rate."""
    expansion: int = 3
    """Inner width of a block over its width."""
    kernel: int = 7
    """Depthwise kernel over time, odd."""
    tonal_bins: int = 256
    """Lowest STFT bins whose phase may be integrated along time (tones)."""
    bands: int = 64
    """Bands in which the mixture of tone, transient and noise is decided."""
    noise_frames: int = 1040
    """STFT frames of fixed white noise that give noisy bins their phase; longer sounds go round."""
    envelope_steps: int = 0
    """Gains in a hop by which the decoder shapes its sound in time; 0 for a decoder that does not."""
    stack: int = 1
    """Latent frames of the codec that lie side by side in one frame of the generator: with two the generator makes half
    as many frames of twice the channels, and the codec stays the same."""

    def __post_init__(self) -> None:
        require_ranges(self, latent_channels=(1, 1024), n_fft=(2, 16384), frame_width=(1, 8192))
        require_ranges(self, latent_width=(1, 8192), expansion=(1, 16), kernel=(1, 63))
        blocks = ("encoder_frame", "encoder_latent", "decoder_latent", "decoder_frame")
        require_ranges(self, **{f"{name}_blocks": (0, 64) for name in blocks})
        require_ranges(self, tonal_bins=(0, 8193), bands=(1, 8193), noise_frames=(1, 2**16))
        require_ranges(self, envelope_steps=(0, 512), stack=(1, 64))
        _require_odd(self, "kernel")
        if self.n_fft % 4 or 2 * self.stft_hop != self.n_fft:
            raise ConfigError(
                f"stft_hop {self.stft_hop} is not half of n_fft {self.n_fft}, which has to be a multiple of four"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild the modules of one model."""

    name: str = "edge-120m"
    """Preset name."""
    audio: AudioSpec = field(default_factory=AudioSpec)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ConfigError(
                f"schema_version {self.schema_version} is not {SCHEMA_VERSION}, the one this release reads"
            )
        latent, codec, generator = self.audio.latent_channels, self.codec, self.generator
        if not latent == codec.stack * codec.latent_channels == generator.latent_channels:
            own = f"{codec.stack} times {codec.latent_channels}" if codec.stack > 1 else codec.latent_channels
            raise ConfigError(
                f"latent_channels differ: audio {latent}, codec {own}, generator {generator.latent_channels}"
            )
        if generator.text_width != self.text_encoder.width:
            raise ConfigError(
                f"generator.text_width {generator.text_width} is not text_encoder.width {self.text_encoder.width}"
            )
        if self.audio.hop % codec.stft_hop:
            raise ConfigError(f"codec.stft_hop {codec.stft_hop} does not divide audio.hop {self.audio.hop}")
        if codec.envelope_steps and codec.stft_hop % codec.envelope_steps:
            raise ConfigError(
                f"codec.envelope_steps {codec.envelope_steps} does not divide codec.stft_hop {codec.stft_hop}"
            )
        if self.audio.hop % (codec.stack * codec.stft_hop):
            raise ConfigError(
                f"codec.stack {codec.stack} does not divide the {self.audio.hop // codec.stft_hop} STFT frames of "
                "audio.hop"
            )

    def codec_alone(self) -> tuple[AudioSpec, CodecConfig]:
        """The codec whatever its frames are stacked to: two models that agree in it can share weights and latents."""
        stack = self.codec.stack
        audio = replace(self.audio, hop=self.audio.hop // stack, latent_channels=self.codec.latent_channels)
        return audio, replace(self.codec, stack=1)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of this configuration, hexadecimal."""
        return config_digest(self)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dictionary of a configuration dataclass (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def config_digest(config: Any) -> str:
    """SHA-256 of a configuration dataclass as canonical JSON (sorted keys, no spaces), hexadecimal."""
    return dict_digest(to_dict(config))


def dict_digest(plain: dict[str, Any]) -> str:
    """SHA-256 of a plain dictionary as canonical JSON, hexadecimal.

    Raises:
        ValueError: a number is not finite.
    """
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def from_dict(cls: type[T], data: Any, where: str = "") -> T:
    """Build a configuration dataclass from parsed TOML or JSON, strictly.

    Args:
        cls: frozen dataclass to build; nested dataclasses are built from nested tables.
        data: mapping of field names to values.
        where: dotted path of ``data`` inside the document, for messages.

    Raises:
        ConfigError: unknown key (the nearest known key is named), missing key, wrong type, value out of range.
    """
    place = where or cls.__name__
    if not isinstance(data, dict):
        raise ConfigError(f"{place}: expected a table, got {type(data).__name__}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(sorted(fields))}"
            raise ConfigError(f"{place}: unknown key '{key}'{hint}")
    values = {}
    for name, spec in fields.items():
        if name in data:
            values[name] = _coerce(hints[name], data[name], f"{where}.{name}" if where else name)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{place}: missing key '{name}'")
    try:
        return cls(**values)
    except (ConfigError, ValueError, TypeError) as error:
        raise ConfigError(f"{place}: {error}") from error


def _knows(choice: Any, value: Any) -> bool:
    """Whether a table has keys of a dataclass alone: what is wrong with it there is what is wrong with it."""
    if not dataclasses.is_dataclass(choice) or not isinstance(value, dict):
        return False
    kind = next((f.default for f in dataclasses.fields(choice) if f.name == "kind"), None)
    return value.keys() <= {f.name for f in dataclasses.fields(choice)} and value.get("kind", kind) == kind


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """Check ``value`` against a type hint; integers are accepted for floats, lists for tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [argument for argument in arguments if argument is not type(None)]
        if len(choices) == 1:
            return _coerce(choices[0], value, where)
        known: ConfigError | None = None
        for choice in choices:
            try:
                return _coerce(choice, value, where)
            except ConfigError as error:
                if known is None and _knows(choice, value):
                    known = error
        if known is not None:
            raise known
        raise ConfigError(f"{where}: {value!r} fits none of {', '.join(str(c) for c in choices)}")
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {type(value).__name__}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_coerce(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(arguments) != len(value):
            raise ConfigError(f"{where}: expected {len(arguments)} values, got {len(value)}")
        return tuple(
            _coerce(a, item, f"{where}[{i}]")
            for i, (a, item) in enumerate(zip(arguments, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a table, got {type(value).__name__}")
        return {key: _coerce(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {type(value).__name__} {value!r}")
    return value
