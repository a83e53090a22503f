"""The peers: their parts with what was published of them, and how a sound is made of the parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.peers.bigvgan import BigVGAN, BigVGANConfig
from benchmarks.peers.meanaudio import MeanAudioConfig, MeanAudioTransformer, MelDecoder
from benchmarks.peers.stable_audio import (
    OobleckDecoder,
    StableAudioConfig,
    StableAudioText,
    StableAudioTransformer,
)
from benchmarks.peers.text import ClapText, ClapTextConfig, T5Config, T5Encoder
from edge_tta.bundle.manifest import Port
from edge_tta.errors import ConfigError
from edge_tta.runtime.sampler import ping_pong

Arrays = dict[str, NDArray[Any]]
Run = Callable[[str, Arrays], list[NDArray[Any]]]
"""Runs a part on inputs by name."""
WORDS = 12
"""Tokens of the prompt; the rest up to the fixed length is padding."""


@dataclass(frozen=True)
class Part:
    """One network of a system."""

    name: str
    stage: str
    """Which of our stages it does the work of."""
    build: Callable[[], nn.Module]
    """With random weights."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    calls: int = 1
    """How often it runs for a sound."""


@dataclass(frozen=True)
class Peer:
    """One system."""

    name: str
    title: str
    parts: tuple[Part, ...]
    make: Callable[[Run, np.random.Generator], NDArray[np.float32]]
    """One sound [1, channels, samples] from running the parts."""
    seconds: float
    """Duration of every sound."""
    sample_rate: int
    channels: int
    steps: int

    def part(self, name: str) -> Part:
        """Part by name."""
        return next(part for part in self.parts if part.name == name)


def _floats(**shapes: Sequence[int]) -> tuple[Port, ...]:
    return tuple(Port(name=name, dtype="float32", shape=list(shape)) for name, shape in shapes.items())


def _text_ports(tokens: int) -> tuple[Port, ...]:
    return Port(name="ids", dtype="int64", shape=[1, tokens]), *_floats(mask=(1, tokens))


def _prompt(tokens: int, vocab_size: int, random: np.random.Generator) -> Arrays:
    """Ids of a prompt of random words, and which of them are real."""
    mask = (np.arange(tokens) < WORDS).astype(np.float32)[None]
    return {"ids": random.integers(1, vocab_size, (1, tokens)), "mask": mask}


def _noise(random: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return random.standard_normal(shape).astype(np.float32)


def stable_audio_open_small(config: StableAudioConfig) -> Peer:
    """Stable Audio Open Small; what it makes is always as long, and cut to the duration asked for."""
    text, frames, channels = config.text, config.frames, config.latent_channels
    cross, duration = (1, config.tokens + 1, text.width), (1, text.width)
    latent, waveform = (1, channels, frames), (1, config.audio_channels, frames * config.hop)

    def make(run: Run, random: np.random.Generator) -> NDArray[np.float32]:
        prompt = _prompt(config.tokens, text.vocab_size, random)
        seconds = np.array([config.seconds], dtype=np.float32)
        tokens, length = run("text_encoder", {**prompt, "seconds": seconds})

        def velocity(now: NDArray[np.float32], time: float, _: float) -> NDArray[np.float32]:
            inputs = {"latent": now, "time": np.array([time], dtype=np.float32)}
            return run("generator", {**inputs, "cross": tokens, "duration": length})[0]

        fresh: Callable[[int], NDArray[np.float32]] = lambda _: _noise(random, *latent)  # noqa: E731
        clean = ping_pong(velocity, fresh(0), config.steps, fresh)
        return run("decoder", {"latent": clean})[0]

    parts = (
        Part(
            "text_encoder", "text_encoder", partial(StableAudioText, config),
            (*_text_ports(config.tokens), *_floats(seconds=(1,))), _floats(cross=cross, duration=duration),
        ),
        Part(
            "generator", "generator", partial(StableAudioTransformer, config),
            _floats(latent=latent, time=(1,), cross=cross, duration=duration), _floats(velocity=latent), config.steps,
        ),
        Part(
            "decoder", "decoder", partial(OobleckDecoder, config), _floats(latent=latent), _floats(waveform=waveform)
        ),
    )  # fmt: skip
    title = "Stable Audio Open Small (architecture)"
    audio = config.seconds, config.sample_rate, config.audio_channels, config.steps
    return Peer("stable-audio-open-small", title, parts, make, *audio)


def meanaudio_s(config: MeanAudioConfig, vocoder: BigVGANConfig) -> Peer:
    """MeanAudio-S in one step."""
    text, frames = config.text, config.frames
    tokens, vector = (1, config.tokens, text.width), (1, config.clap.joint)
    latent, mel = (1, frames, config.latent_channels), (1, config.mels, 2 * frames)
    waveform = (1, 1, mel[2] * vocoder.hop)

    def make(run: Run, random: np.random.Generator) -> NDArray[np.float32]:
        prompt = _prompt(config.tokens, min(text.vocab_size, config.clap.vocab_size), random)
        condition = {"tokens": run("text_encoder", prompt)[0], "vector": run("clap_text", prompt)[0]}
        noise = _noise(random, *latent)
        times = {"end": np.zeros(1, dtype=np.float32), "time": np.ones(1, dtype=np.float32)}
        clean = noise - run("generator", {"latent": noise, **times, **condition})[0]
        return run("vocoder", {"mel": run("mel_decoder", {"latent": clean})[0]})[0]

    parts = (
        Part(
            "text_encoder", "text_encoder", partial(T5Encoder, text), _text_ports(config.tokens),
            _floats(tokens=tokens),
        ),
        Part(
            "clap_text", "text_encoder", partial(ClapText, config.clap), _text_ports(config.tokens),
            _floats(vector=vector),
        ),
        Part(
            "generator", "generator", partial(MeanAudioTransformer, config),
            _floats(latent=latent, end=(1,), time=(1,), tokens=tokens, vector=vector), _floats(velocity=latent),
        ),
        Part("mel_decoder", "decoder", partial(MelDecoder, config), _floats(latent=latent), _floats(mel=mel)),
        Part("vocoder", "decoder", partial(BigVGAN, vocoder), _floats(mel=mel), _floats(waveform=waveform)),
    )  # fmt: skip
    return Peer(
        "meanaudio-s", "MeanAudio-S (architecture)", parts, make, config.seconds, config.sample_rate, 1, 1
    )


_TINY_T5 = T5Config(vocab_size=64, width=64, depth=2, heads=2, head_width=32, feedforward=256)
_TINY = {
    "stable-audio-open-small": lambda: stable_audio_open_small(
        StableAudioConfig(
            text=_TINY_T5, tokens=16, latent_channels=8, frames=12, width=128, depth=2, heads=2, feedforward=192,
            rotary=32, fourier=8, decoder_width=16, decoder_multiples=(1, 2), strides=(2, 4), steps=2,
        )
    ),
    "meanaudio-s": lambda: meanaudio_s(
        MeanAudioConfig(
            text=replace(_TINY_T5, gated=True), tokens=16, latent_channels=4, frames=12, width=128, heads=2,
            joint_blocks=2, audio_blocks=1, feedforward=192, time_features=32, vae_width=32, mels=8, mel_hop=8,
            clap=ClapTextConfig(vocab_size=64, positions=32, width=64, depth=1, heads=2, feedforward=256, joint=24),
        ),
        BigVGANConfig(mels=8, width=64, rates=(4, 2)),
    ),
}  # fmt: skip
_FULL = {
    "stable-audio-open-small": lambda: stable_audio_open_small(StableAudioConfig()),
    "meanaudio-s": lambda: meanaudio_s(MeanAudioConfig(), BigVGANConfig()),
}
PEERS = tuple(_FULL)


def peer(name: str, tiny: bool = False) -> Peer:
    """A system by name; ``tiny`` shrinks it to what a test can run.

    Raises:
        ConfigError: unknown name.
    """
    if name not in _FULL:
        raise ConfigError(f"unknown system '{name}'; known are {', '.join(PEERS)}")
    return (_TINY if tiny else _FULL)[name]()
