"""Training the codec: supervised spectra and mel energies first, adversarial losses once harmonics are there."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import default_rng
from torch import Tensor, nn

from edge_tta.catalog import Clip
from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError, DataError
from edge_tta.model.checkpoint import load_part, read_config, save_part
from edge_tta.model.codec import Codec, Posterior, Spectrum
from edge_tta.model.discriminators import (
    MultiResolutionDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from edge_tta.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SEED, require_ranges
from edge_tta.train.codec_losses import (
    MelLoss,
    SpectrumLoss,
    SpectrumTargets,
    kl_divergence,
    spectrum_targets,
    start_from_principal_components,
)
from edge_tta.train.coder_steps import remove_steps, without_steps
from edge_tta.train.data.clip_cache import ClipCache
from edge_tta.train.track import write_examples

ENVELOPE = "decoder.envelope."
"""Where names of the gains' weights begin."""


@dataclass(frozen=True)
class CodecStageConfig:
    """Batches and loss weights of the codec."""

    start: str = ""
    """Checkpoint directory whose codec is the start; empty to start from principal components."""
    batch: int = 16
    """Crops in a batch."""
    crop_frames: int = 24
    """Latent frames in a crop (24 = 1.1 s)."""
    wave_batch: int = 5
    """Crops of the batch whose waveform is made for the mel and adversarial losses; they cost the most."""
    advance_weight: float = 0.3
    delay_weight: float = 0.3
    steadiness_weight: float = 0.3
    mel_weight: float = 0.4
    kl_weight: float = 1e-4
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss; 0 trains without discriminator."""
    feature_weight: float = 0.0
    """Weight of feature matching."""
    freeze_encoder: bool = False
    """Train the decoder only, so that latents cached before stay valid."""
    coder_edges_hz: tuple[float, ...] = ()
    """Where bands of the lossy coder meet that the clips were stored with: the steps it left there are taken out of
    what is exported (``edge_tta.train.coder_steps``)."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, batch=COUNT, crop_frames=COUNT, wave_batch=COUNT, coder_edges_hz=POSITIVE)
        weights = ("advance", "delay", "steadiness", "mel", "kl", "adversarial", "feature")
        require_ranges(self, seed=SEED, **{f"{name}_weight": NOT_NEGATIVE for name in weights})


class CodecStage:
    """Codec, with a discriminator if asked for.

    Args:
        config: stage settings.
        model: model configuration.
        clips: catalog; its train split is learnt from, its val split shown.
        cache: decoded clips in the same order.
    """

    def __init__(
        self, config: CodecStageConfig, model: ModelConfig, clips: list[Clip], cache: ClipCache
    ) -> None:
        self.config, self.model, self.cache, self.clips = config, model, cache, clips
        self.train_clips = [i for i, clip in enumerate(clips) if clip.split == "train"]
        self.val_clips = [i for i, clip in enumerate(clips) if clip.split == "val"]
        if not self.train_clips:
            raise DataError("codec stage: no training clips")
        lengths = np.array([cache.length(index) for index in self.train_clips], dtype=np.float64)
        # Half by duration, half by clip: long textures do not drown the many short sounds.
        self.probability = 0.5 * lengths / lengths.sum() + 0.5 / len(lengths)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.codec = Codec(model.codec, model.audio)
            self.discriminator = MultiResolutionDiscriminator()
        rate = model.audio.sample_rate
        # Made first, so that an edge that cannot be is told before an hour of training.
        self.projection = without_steps(model.codec.n_fft, rate, config.coder_edges_hz)
        if config.start:
            self._start_from(Path(config.start))
        else:
            start_from_principal_components(self.codec, [self._crops(-1 - step) for step in range(60)], rate)
        self.spectrum_loss = SpectrumLoss(self.codec, rate)
        self.mel_loss = MelLoss(rate)

    def _start_from(self, directory: Path) -> None:
        """Weights of a checkpoint, however it stacks frames; one from before gains in time leaves those at one."""
        config, own = read_config(directory), self.model.codec
        if replace(config.codec, envelope_steps=own.envelope_steps, stack=own.stack) != own:
            raise ConfigError(f"{directory} holds a codec of another shape than {self.model.name} has")
        found = load_part(directory, config, "codec").state_dict()
        if config.codec.envelope_steps != own.envelope_steps:
            found = {name: weight for name, weight in found.items() if not name.startswith(ENVELOPE)}
        self.codec.load_state_dict({**self.codec.state_dict(), **found})

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator is trained."""
        return self.config.adversarial_weight > 0 or self.config.feature_weight > 0

    def origin(self) -> dict[str, str]:
        """The clips."""
        return {"data": self.cache.digest}

    def modules(self) -> dict[str, nn.Module]:
        """Codec and, when adversarial, discriminator."""
        return {"codec": self.codec, **({"discriminator": self.discriminator} if self.adversarial else {})}

    def averaged(self) -> Iterable[str]:
        """The codec's average is what ships."""
        return ("codec",)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Discriminator first, then codec."""
        codec = self.codec.decoder if self.config.freeze_encoder else self.codec
        groups = {"codec": list(codec.parameters())}
        return (
            {"discriminator": list(self.discriminator.parameters()), **groups} if self.adversarial else groups
        )

    def due(self, group: str, step: int) -> bool:
        """At every step."""
        return True

    def to(self, device: torch.device) -> None:
        """Move codec, discriminator and the constants of the losses."""
        for module in (self.codec, self.discriminator, self.spectrum_loss, self.mel_loss):
            module.to(device)

    def batch(self, step: int) -> Tensor:
        """Random crops float32 [B, S, N]."""
        return self._crops(step)

    def _crops(self, step: int) -> Tensor:
        rng = default_rng([self.config.seed, step + 1_000_000])
        count = self.config.crop_frames * self.model.audio.hop
        rows = np.zeros((self.config.batch, count), dtype=np.float32)
        for row in rows:
            index = self.train_clips[int(rng.choice(len(self.train_clips), p=self.probability))]
            length = self.cache.length(index)
            if length >= count:
                row[:] = self.cache.read(index, int(rng.integers(0, length - count + 1)), count)
            else:
                start = int(rng.integers(0, count - length + 1))
                row[start : start + length] = self.cache.read(index)
            row *= 10.0 ** (rng.uniform(-15.0, 0.0) / 20.0)
        return torch.from_numpy(rows)[:, None].expand(-1, self.model.audio.channels, -1)

    def losses(self, group: str, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of the discriminator or of the codec."""
        config, codec = self.config, self.codec
        real = batch[: config.wave_batch]
        if group == "discriminator":
            with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
                fake = codec.decoder.synthesise(codec.decoder.spectrum(codec.encoder(real).mean))
            loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
            return {"loss": loss}
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            stft = codec.encoder.geometry.analyse(batch)
            target = spectrum_targets(
                codec.encoder.geometry, stft, self.spectrum_loss.to_bins, self.model.codec.tonal_bins
            )
        posterior, latent = self.drawn(stft, generator)
        hidden = codec.decoder.hidden(latent)
        spectrum = Spectrum(*(part.float() for part in codec.decoder.spectrum_of(hidden, latent)))
        # The network may compute in half precision; phases, waveforms and losses may not: -50 dB of rounding is heard.
        with torch.autocast(batch.device.type, enabled=False):
            return self._codec_losses(real, spectrum, target, posterior, generator)

    def drawn(self, stft: Tensor, generator: torch.Generator) -> tuple[Posterior, Tensor]:
        """Posterior of a complex STFT [B, S, frames, K] and a latent drawn from it, [B, L, C]; float32."""
        posterior = Posterior(*(part.float() for part in self.codec.encoder.from_stft(stft)))
        deviation = torch.exp(0.5 * posterior.log_variance)
        noise = torch.randn(deviation.shape, generator=generator).to(deviation.device)
        return posterior, posterior.mean + deviation * noise

    def _codec_losses(
        self,
        real: Tensor,
        spectrum: Spectrum,
        target: SpectrumTargets,
        posterior: Posterior,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        config, codec = self.config, self.codec
        parts = self.spectrum_loss(spectrum, target, codec.decoder.bin_std)
        kl = kl_divergence(posterior)
        # Energies are set through magnitudes only: through the shares a spectral loss would turn noise into tone.
        few = Spectrum(*(part[: config.wave_batch] for part in spectrum))
        few = Spectrum(few.log_magnitude, *(part.detach() for part in few[1:]))
        noise_start = int(torch.randint(self.model.codec.noise_frames, (), generator=generator))
        waveform = codec.decoder.synthesise(few, noise_start)
        mel = self.mel_loss(waveform, real)
        loss = (
            parts["magnitude"]
            + config.advance_weight * parts["advance"]
            + config.delay_weight * parts["delay"]
            + config.steadiness_weight * parts["steadiness"]
            + config.mel_weight * mel
            + config.kl_weight * kl
        )
        values = {
            **{name: part.detach() for name, part in parts.items()},
            "mel": mel.detach(),
            "kl": kl.detach(),
        }
        if self.adversarial:
            judged_real, judged_fake = self.discriminator(real), self.discriminator(waveform)
            adversarial = adversarial_loss(judged_fake)
            features = feature_matching_loss(judged_real, judged_fake)
            loss = loss + config.adversarial_weight * adversarial + config.feature_weight * features
            values.update(adversarial=adversarial.detach(), features=features.detach())
        return {"loss": loss, **values}

    def validate(self) -> dict[str, float]:
        """Log-mel distance and magnitude error of reconstructed validation clips."""
        totals: dict[str, list[float]] = {"validation_mel": [], "validation_magnitude": []}
        codec = self.codec
        for index in self.val_clips[::4]:
            waveform = self._clip(index, 4.0)
            with torch.no_grad():
                stft = codec.encoder.geometry.analyse(waveform)
                spectrum = codec.decoder.spectrum(codec.encode(waveform))
                target = spectrum_targets(
                    codec.encoder.geometry, stft, self.spectrum_loss.to_bins, self.model.codec.tonal_bins
                )
                parts = self.spectrum_loss(spectrum, target, codec.decoder.bin_std)
                mel = self.mel_loss(codec.decoder.synthesise(spectrum), waveform)
            totals["validation_mel"].append(float(mel))
            totals["validation_magnitude"].append(float(parts["magnitude"]))
        return {name: float(np.mean(values)) for name, values in totals.items() if values}

    def _clip(self, index: int, seconds: float) -> Tensor:
        """A clip's beginning float32 [1, S, N], padded to the hop."""
        samples = self.cache.read(index, 0, int(seconds * self.model.audio.sample_rate))
        samples = np.pad(samples, (0, -len(samples) % self.model.audio.hop))
        waveform = torch.from_numpy(samples)[None, None].expand(1, self.model.audio.channels, -1)
        return waveform.to(self.codec.decoder.bin_mean.device)

    def sample(self, directory: Path) -> None:
        """Originals and reconstructions of a few validation clips, side by side."""
        names, waveforms = [], []
        for index in self.val_clips[:: max(1, len(self.val_clips) // 8)][:8]:
            waveform = self._clip(index, 4.0)
            with torch.no_grad():
                back = self.codec.decode(self.codec.encode(waveform))
            names += [f"{self.clips[index].label} original", f"{self.clips[index].label} codec"]
            waveforms += [waveform[0].cpu().numpy(), back[0].cpu().numpy()]
        if names:
            write_examples(directory, names, waveforms, self.model.audio.sample_rate)

    @torch.no_grad()
    def export(self, directory: Path) -> None:
        """Measure the latents' statistics, take the coder's steps out, and write ``codec.safetensors``.

        Statistics stay as they are when the encoder was frozen.
        """
        if not self.config.freeze_encoder:
            device = self.codec.decoder.bin_mean.device
            crops = (self._crops(-1000 - step).to(device) for step in range(40))
            means = torch.cat([self.codec.encoder(crop).mean.flatten(0, 1) for crop in crops])
            self.codec.set_latent_statistics(means.mean(0), means.std(0))
        shipped = copy.deepcopy(self.codec).cpu()
        remove_steps(shipped.decoder, self.projection)
        save_part(directory, self.model, "codec", shipped)
