"""Gains in time for a trained codec: everything else stays, so latents, generators and spectra are as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import default_rng
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.catalog import Clip
from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError
from edge_tta.model.envelope import Envelope
from edge_tta.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SEED, require_ranges
from edge_tta.train.data.clip_cache import ClipCache
from edge_tta.train.frozen import codec_digest
from edge_tta.train.stages.codec import CodecStage, CodecStageConfig

QUIETEST, LOUDEST = -5.0, 1.0
"""Range of the gains that are asked for, nepers: -43 to 9 dB."""
SILENCE = 1e-9
"""Added to powers before the logarithm: -90 dB."""
DECODED_AT_ONCE = 16
"""Crops that go through the codec together while the pool is made."""


@dataclass(frozen=True)
class EnvelopeStageConfig:
    """Crops and loss weights of the gains."""

    start: str = ""
    """Checkpoint directory of the trained codec; it may be from before there were gains."""
    pool: int = 3200
    """Crops that are decoded once and learnt from; all but the gains stays, and decoding is what costs."""
    crop_frames: int = 24
    """Latent frames in a crop (24 = 1.1 s)."""
    batch: int = 48
    """Crops in a batch."""
    wave_batch: int = 4
    """Crops of the batch whose shaped waveform is made for the mel loss."""
    mel_weight: float = 0.5
    coder_edges_hz: tuple[float, ...] = ()
    """As the codec stage's."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, pool=COUNT, crop_frames=COUNT, batch=COUNT, wave_batch=COUNT, seed=SEED)
        require_ranges(self, mel_weight=NOT_NEGATIVE, coder_edges_hz=POSITIVE)


class Decoded(NamedTuple):
    """Crops, and what the codec makes of them."""

    original: Tensor
    """[B, S, N], full scale 1."""
    decoded: Tensor
    """[B, S, N], before gains."""
    hidden: Tensor
    """[B, frames, frame_width], what gains are predicted from."""


class EnvelopeStage(CodecStage):
    """Regression of the gains that bring the decoder's sound to the original's level, step by step.

    What is asked for is the ratio of two levels, original over decoded, each smoothed over two steps. Where a sound
    goes on, its phase is not known and neither is the ratio, so the median that the network learns is about one;
    before an onset it is certain, and far below one. Median: the loss is the mean absolute error.

    Args:
        config: stage settings with a ``start``.
        model: model configuration with ``codec.envelope_steps``.
        clips: as in ``CodecStage``.
        cache: as there.
        report: told (what, done, total) while the pool is made.

    Raises:
        ConfigError: no start, a start of another shape, or a model without gains.
    """

    def __init__(
        self,
        config: EnvelopeStageConfig,
        model: ModelConfig,
        clips: list[Clip],
        cache: ClipCache,
        report: Callable[[str, int, int], Any],
    ) -> None:
        if not config.start:
            raise ConfigError("envelope stage: give envelope.start, the checkpoint of a trained codec")
        if not model.codec.envelope_steps:
            raise ConfigError(f"envelope stage: {model.name} has no gains in time")
        codec = CodecStageConfig(
            start=config.start,
            batch=DECODED_AT_ONCE,
            crop_frames=config.crop_frames,
            freeze_encoder=True,
            coder_edges_hz=config.coder_edges_hz,
            seed=config.seed,
        )
        super().__init__(codec, model, clips, cache)
        self.settings = config
        self.codec.requires_grad_(False)
        self.envelope.requires_grad_(True)
        self.step_samples = model.codec.stft_hop // model.codec.envelope_steps
        self.pool = self._decoded(report)

    @property
    def envelope(self) -> Envelope:
        """The module that is trained."""
        assert self.codec.decoder.envelope is not None
        return self.codec.decoder.envelope

    @torch.no_grad()
    def _decoded(self, report: Callable[[str, int, int], Any]) -> Decoded:
        """The pool on the CPU, in half precision: 0.8 GB of edge-10m's 3,200 crops in place of 1.6."""
        decoder, wanted = self.codec.decoder, self.settings.pool
        parts: list[Decoded] = []
        for number in range(-(-wanted // DECODED_AT_ONCE)):
            report("decoding crops", number * DECODED_AT_ONCE, wanted)
            generator = torch.Generator().manual_seed(self.settings.seed * 2**20 + number)
            original = self._crops(number)
            _, latent = self.drawn(self.codec.encoder.geometry.analyse(original), generator)
            hidden = decoder.hidden(latent)
            noise_start = int(torch.randint(self.model.codec.noise_frames, (), generator=generator))
            decoded = decoder.unshaped(decoder.spectrum_of(hidden, latent), noise_start)
            parts.append(Decoded(original.half(), decoded.half(), hidden.half()))
        report("decoding crops", wanted, wanted)
        return Decoded(*(torch.cat(tensors)[:wanted] for tensors in zip(*parts, strict=True)))

    def origin(self) -> dict[str, str]:
        """The clips, and the codec that the pool was decoded by."""
        return {**super().origin(), "codec": codec_digest(Path(self.settings.start))}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The gains alone."""
        return {"envelope": list(self.envelope.parameters())}

    def batch(self, step: int) -> Tensor:
        """Random crops of the pool, int64 [B]."""
        drawn = default_rng([self.settings.seed, step, 1]).integers(
            0, self.settings.pool, self.settings.batch
        )
        return torch.from_numpy(drawn)

    def losses(self, group: str, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Distance of the gains, and of the mel spectrograms of the sound they shape."""
        chosen = batch.cpu()
        crops = Decoded(*(tensor[chosen].to(batch.device).float() for tensor in self.pool))
        log_gain = self.envelope(crops.hidden).float()
        with torch.autocast(batch.device.type, enabled=False):
            distance = (log_gain - self.wanted(crops.original, crops.decoded)).abs().mean()
            few = slice(self.settings.wave_batch)
            shaped = self.envelope.shaped(crops.decoded[few], log_gain[few])
            mel = self.mel_loss(shaped, crops.original[few])
        loss = distance + self.settings.mel_weight * mel
        return {"loss": loss, "envelope": distance.detach(), "mel": mel.detach()}

    def wanted(self, original: Tensor, decoded: Tensor) -> Tensor:
        """Natural logarithms of the gains from decoded to original level, float32 [B, S, frames, steps].

        Args:
            original: float32 [B, S, N], N a multiple of the hop.
            decoded: likewise.
        """
        ratio = level(original, self.step_samples) - level(decoded, self.step_samples)
        steps = self.model.codec.envelope_steps
        return ratio.clamp(QUIETEST, LOUDEST).reshape(*original.shape[:2], -1, steps)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Distance of the gains on validation clips, and of mel spectrograms before and after them."""
        decoder = self.codec.decoder
        totals: dict[str, list[float]] = {"envelope": [], "mel_unshaped": [], "mel": []}
        for index in self.val_clips[::4]:
            waveform = self._clip(index, 4.0)
            latent = self.codec.encoder(waveform).mean
            hidden = decoder.hidden(latent)
            decoded = decoder.unshaped(decoder.spectrum_of(hidden, latent))
            log_gain = self.envelope(hidden)
            totals["envelope"].append(float((log_gain - self.wanted(waveform, decoded)).abs().mean()))
            totals["mel_unshaped"].append(float(self.mel_loss(decoded, waveform)))
            totals["mel"].append(float(self.mel_loss(self.envelope.shaped(decoded, log_gain), waveform)))
        return {f"validation_{name}": float(np.mean(values)) for name, values in totals.items() if values}


def level(waveform: Tensor, step: int) -> Tensor:
    """Logarithm of the root mean square about the middle of every step, under a Hann window of two steps.

    Args:
        waveform: float32 [B, S, N], N a multiple of ``step``.
        step: samples.

    Returns:
        float32 [B, S, N / step].
    """
    window = torch.hann_window(2 * step + 1, periodic=False, device=waveform.device)
    power = F.pad(waveform.square().flatten(0, 1)[:, None], (step, step))
    smoothed = F.conv1d(power[..., step // 2 :], (window / window.sum())[None, None], stride=step)
    mean = smoothed[..., : waveform.shape[-1] // step].reshape(*waveform.shape[:2], -1)
    return 0.5 * torch.log(mean + SILENCE)
