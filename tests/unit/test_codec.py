"""The codec's signal path against closed forms: perfect reconstruction, tones, clicks, lengths, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from edge_tta.config import AudioSpec, CodecConfig
from edge_tta.model.codec import Codec, Spectrum
from edge_tta.model.stft import StftGeometry
from edge_tta.train.codec_losses import (
    MelLoss,
    SpectrumLoss,
    kl_divergence,
    spectrum_targets,
    start_from_principal_components,
)

AUDIO = AudioSpec()
SMALL = CodecConfig(
    frame_width=16,
    latent_width=24,
    encoder_frame_blocks=1,
    encoder_latent_blocks=1,
    decoder_latent_blocks=1,
    decoder_frame_blocks=1,
    noise_frames=64,
)


def seeded(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def codec() -> Codec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Codec(SMALL, AUDIO).eval()


def tone(hertz: float, samples: int, amplitude: float = 0.5) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(samples) / 44100)[None, None]


def oracle(codec: Codec, waveform: torch.Tensor, tonality: float, impulsiveness: float) -> torch.Tensor:
    """Synthesis from the original's own magnitudes and phase derivatives."""
    decoder = codec.decoder
    stft = decoder.geometry.analyse(waveform)
    target = spectrum_targets(decoder.geometry, stft, decoder.to_bins, SMALL.tonal_bins)
    like = torch.ones_like(target.tonality)
    spectrum = Spectrum(
        target.log_magnitude, target.advance, target.delay, like * tonality, like * impulsiveness
    )
    return decoder.synthesise(spectrum)


def test_stft_reconstructs_perfectly_away_from_the_edges() -> None:
    geometry = StftGeometry(SMALL, AUDIO)
    waveform = seeded((2, 1, 2048 * 8))
    stft = geometry.analyse(waveform)
    even, odd = geometry.folded_synthesis()
    back = geometry.crop(geometry.overlap_add(stft.real[:, 0] @ even, stft.imag[:, 0] @ odd))
    assert back.shape == (2, 2048 * 8)
    torch.testing.assert_close(back[:, 1024:-1024], waveform[:, 0, 1024:-1024], atol=1e-5, rtol=0)


def blocks_of(geometry: StftGeometry, waveform: torch.Tensor) -> torch.Tensor:
    """Waveform [B, 1, N] as overlap-added blocks, silent before and after."""
    padded = torch.nn.functional.pad(waveform[:, 0], (geometry.pad, geometry.pad))
    return padded.reshape(len(waveform), -1, geometry.hop)


def test_analysis_is_the_adjoint_of_synthesis() -> None:
    geometry = StftGeometry(SMALL, AUDIO)
    waveform = seeded((2, 1, 2048 * 3))
    stft = geometry.analyse(waveform)[:, 0]
    (even, odd), (to_real, to_imaginary) = (
        geometry.fold(blocks_of(geometry, waveform)),
        geometry.folded_analysis(),
    )
    real, imaginary = even @ to_real, odd @ to_imaginary
    torch.testing.assert_close(torch.complex(real, imaginary), stft, atol=1e-6, rtol=1e-4)


def test_refining_leaves_a_waveform_alone_that_has_its_magnitudes_already(codec: Codec) -> None:
    waveform = 0.1 * seeded((2, 1, 2048 * 8), 5)
    magnitude = codec.decoder.geometry.analyse(waveform).abs()
    geometry = codec.decoder.geometry
    refined = geometry.crop(codec.decoder.refine(blocks_of(geometry, waveform), torch.log(magnitude + 1e-12)))
    inner = slice(1024, -1024)
    torch.testing.assert_close(refined[:, inner], waveform[:, 0, inner], atol=1e-4, rtol=1e-3)


def test_refining_brings_magnitudes_closer_to_those_asked_for(codec: Codec) -> None:
    """Phases that were made up do not fit the magnitudes; one round takes out much of the disagreement."""
    decoder, waveform = codec.decoder, tone(700.0, 2048 * 20) + 0.02 * seeded((1, 1, 2048 * 20), 6)
    wanted = torch.log(decoder.geometry.analyse(waveform).abs() + 1e-5)
    before = oracle(codec, waveform, tonality=0.0, impulsiveness=0.0)
    after = decoder.geometry.crop(decoder.refine(blocks_of(decoder.geometry, before), wanted))[:, None]

    def distance(made: torch.Tensor) -> float:
        return float((torch.log(decoder.geometry.analyse(made).abs() + 1e-5) - wanted).square().mean())

    assert distance(after) < 0.6 * distance(before)


def test_full_scale_sine_has_magnitude_one() -> None:
    geometry = StftGeometry(SMALL, AUDIO)
    hertz = 100 * 44100 / 1024
    assert geometry.analyse(tone(hertz, 2048 * 8, 1.0)).abs().max() == pytest.approx(1.0, abs=1e-3)


def test_a_tone_survives_when_only_phase_advances_are_known(codec: Codec) -> None:
    waveform = tone(1234.5, 2048 * 40)
    output = oracle(codec, waveform, tonality=1.0, impulsiveness=0.0)[0, 0, 4096:-4096]
    spectrum = torch.fft.rfft(output * torch.hann_window(len(output))).abs()
    peak = int(spectrum.argmax())
    assert peak * 44100 / len(output) == pytest.approx(1234.5, abs=1.0)
    near = spectrum[peak - 4 : peak + 5].square().sum() / spectrum.square().sum()
    assert near > 0.99
    assert output.std() == pytest.approx(float(waveform.std()), rel=0.05)


def test_a_click_stays_a_click_when_only_delays_are_known(codec: Codec) -> None:
    waveform = torch.zeros(1, 1, 2048 * 8)
    waveform[..., 9000] = 0.9
    output = oracle(codec, waveform, tonality=0.0, impulsiveness=1.0)[0, 0]
    energy = output.square()
    assert energy[8990:9011].sum() / energy.sum() > 0.9
    as_noise = oracle(codec, waveform, tonality=0.0, impulsiveness=0.0)[0, 0].square()
    assert as_noise[8990:9011].sum() / as_noise.sum() < 0.5


def test_noise_keeps_its_level_under_random_phase(codec: Codec) -> None:
    waveform = 0.1 * seeded((1, 1, 2048 * 40), 3)
    output = oracle(codec, waveform, tonality=0.0, impulsiveness=0.0)
    log_ratio = 20 * math.log10(float(output.std() / waveform.std()))
    # Magnitudes here already carry the noise's own fine grain, which adds about 3 dB on top of the excitation's.
    assert 1.0 < log_ratio < 5.0


def test_targets_tell_tone_click_and_noise_apart(codec: Codec) -> None:
    decoder = codec.decoder

    def steadiness(waveform: torch.Tensor) -> tuple[float, float]:
        stft = decoder.geometry.analyse(waveform)
        target = spectrum_targets(decoder.geometry, stft, decoder.to_bins, SMALL.tonal_bins)
        loud = target.weight @ decoder.to_bins.T
        loud = loud / loud.sum()
        return float((target.tonality * loud).sum()), float((target.impulsiveness * loud).sum())

    click = torch.zeros(1, 1, 2048 * 8)
    click[..., 5000] = 0.9
    assert steadiness(tone(800.0, 2048 * 8))[0] > 0.6
    assert steadiness(click)[1] > 0.9
    noise = steadiness(seeded((1, 1, 2048 * 40), 5))
    assert abs(noise[0]) < 0.1
    assert abs(noise[1]) < 0.1


def test_shapes_for_every_length_and_for_stereo() -> None:
    stereo = AudioSpec(channels=2)
    codec = Codec(SMALL, stereo).eval()
    for length in (1, 2, 7):
        waveform = seeded((2, 2, 2048 * length))
        latent = codec.encode(waveform)
        assert latent.shape == (2, length, 64)
        assert codec.decode(latent).shape == waveform.shape


def test_length_that_is_no_multiple_of_the_hop_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="multiple of the hop"):
        codec.encode(torch.zeros(1, 1, 2049))


def test_decoding_is_deterministic_and_items_do_not_touch(codec: Codec) -> None:
    latent = seeded((2, 6, 64))
    with torch.no_grad():
        both, alone = codec.decode(latent), codec.decode(latent[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)


def test_principal_components_beat_an_untrained_codec() -> None:
    codec = Codec(SMALL, AUDIO)
    waveforms = [
        0.1 * seeded((4, 1, 2048 * 6), seed).cumsum(-1).diff(prepend=torch.zeros(4, 1, 1))
        for seed in range(4)
    ]
    waveforms = [waveform + tone(600.0 + 100 * index, 2048 * 6) for index, waveform in enumerate(waveforms)]
    decoder = codec.decoder
    loss = SpectrumLoss(codec, 44100)
    stft = decoder.geometry.analyse(waveforms[0])
    target = spectrum_targets(decoder.geometry, stft, decoder.to_bins, SMALL.tonal_bins)

    def magnitude_error() -> float:
        with torch.no_grad():
            spectrum = decoder.spectrum(codec.encoder(waveforms[0]).mean)
        return float(loss(spectrum, target, decoder.bin_std)["magnitude"])

    before = magnitude_error()
    explained = start_from_principal_components(codec, waveforms, 44100)
    assert 0.3 < explained <= 1.0
    assert magnitude_error() < 0.6 * before


def test_losses_reach_every_trainable_weight() -> None:
    codec = Codec(SMALL, AUDIO)
    start_from_principal_components(codec, [seeded((2, 1, 2048 * 4), 9)], 44100)
    waveform = 0.2 * seeded((2, 1, 2048 * 4))
    encoder, decoder = codec.encoder, codec.decoder
    stft = encoder.geometry.analyse(waveform)
    posterior = encoder.from_stft(stft)
    latent = posterior.mean + torch.exp(0.5 * posterior.log_variance) * seeded(posterior.mean.shape, 1)
    spectrum = decoder.spectrum(latent)
    target = spectrum_targets(encoder.geometry, stft, decoder.to_bins, SMALL.tonal_bins)
    losses = SpectrumLoss(codec, 44100)(spectrum, target, decoder.bin_std)
    total = (
        sum(losses.values())
        + MelLoss(44100)(decoder.synthesise(spectrum), waveform)
        + kl_divergence(posterior)
    )
    total.backward()
    missing = [
        name for name, weight in codec.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert missing == []
    assert all(torch.isfinite(weight.grad).all() for weight in codec.parameters())
