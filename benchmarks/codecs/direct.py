"""A decoder whose last layer gives samples: windows of them, overlap-added, without spectrum or phase."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.codec import Decoder, Posterior
from edge_tta.train.codec_losses import kl_divergence
from edge_tta.train.stages.codec import CodecStage

RESOLUTIONS = ((256, 64), (512, 128), (1024, 256), (2048, 512))
"""Windows and hops of the spectral loss: the waveform is all that such a head can be judged by."""


class DirectHead(nn.Module):
    """Windows of samples from the hidden frames of a decoder, whose own heads are not used.

    Args:
        decoder: gives latent statistics, trunk and geometry; not registered here.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        # In a list, so that its parameters belong to the codec alone.
        self._decoder = [decoder]
        self.samples = nn.Linear(decoder.config.frame_width, decoder.config.n_fft)
        nn.init.normal_(self.samples.weight, std=0.01)
        window = decoder.geometry.synthesis_window * decoder.geometry.window.max()
        self.register_buffer("window", window.float(), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Waveform float32 [B, 1, L * hop] of a standardised latent float32 [B, L, C]."""
        (decoder,) = self._decoder
        latent = latent * decoder.latent_std + decoder.latent_mean
        hidden = decoder.latent_blocks(decoder.latent_in(latent))
        frames = latent.shape[1] * decoder.geometry.frames_per_latent
        hidden = decoder.up(hidden).reshape(len(latent), frames, decoder.config.frame_width)
        windows = self.samples(decoder.norm(decoder.frame_blocks(hidden))).float() * self.window
        first, second = windows.chunk(2, dim=-1)
        blocks = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))
        pad = decoder.geometry.pad
        return blocks.flatten(1)[:, None, pad:-pad]


class DirectStage(CodecStage):
    """The codec's training with a direct head: mel and spectral distances of the waveform in place of spectra."""

    head: DirectHead

    def attach(self) -> DirectStage:
        """Give the codec its head; before a trainer sees it."""
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.head = self.codec.direct = DirectHead(self.codec.decoder)
        return self

    def losses(self, group: str, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``CodecStage``."""
        codec = self.codec
        posterior = Posterior(*(part.float() for part in codec.encoder(batch)))
        noise = torch.randn(posterior.mean.shape, generator=generator)
        latent = posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise
        latent = latent[: self.config.wave_batch]
        waveform = self.head((latent - codec.decoder.latent_mean) / codec.decoder.latent_std)
        real = batch[: self.config.wave_batch]
        with torch.autocast(batch.device.type, enabled=False):
            mel, spectral, kl = (
                self.mel_loss(waveform, real),
                _spectral(waveform, real),
                kl_divergence(posterior),
            )
        return {"loss": mel + spectral + self.config.kl_weight * kl, "mel": mel.detach(), "kl": kl.detach()}

    def validate(self) -> dict[str, float]:
        """Nothing: it is judged afterwards."""
        return {}

    def decode(self, waveform: Tensor) -> Tensor:
        """Through encoder and head, float32 [B, 1, N]."""
        found: Tensor = self.head(self.codec.encode(waveform))
        return found


def _spectral(made: Tensor, real: Tensor) -> Tensor:
    """Spectral convergence plus log-magnitude distance over several resolutions, scalar."""
    total = made.new_zeros(())
    for size, hop in RESOLUTIONS:
        window = torch.hann_window(size)
        ours, theirs = (
            torch.stft(x.flatten(0, 1), size, hop, window=window, return_complex=True).abs() + 1e-5
            for x in (made, real)
        )
        total = total + (ours - theirs).norm() / theirs.norm() + (ours.log() - theirs.log()).abs().mean()
    return total / len(RESOLUTIONS)
