"""The codec's signal path against closed forms: perfect reconstruction, tones, clicks, lengths, gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_tta.config import AudioSpec, CodecConfig
from edge_tta.model.codec import Codec, Spectrum
from edge_tta.model.folded_dft import Blocks, ByParity, FoldedDft, blocks_of, samples_of
from edge_tta.model.stft import StftGeometry, band_matrix
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

TO_BINS = band_matrix(513, SMALL.bands, 44100 / 1024)


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
    target = spectrum_targets(decoder.geometry, stft, TO_BINS, SMALL.tonal_bins)
    like = torch.ones_like(target.tonality)
    spectrum = Spectrum(
        target.log_magnitude, target.advance, target.delay, like * tonality, like * impulsiveness
    )
    return decoder.synthesise(spectrum)


def by_parity(spectrum: torch.Tensor) -> ByParity:
    return ByParity(spectrum[..., ::2], spectrum[..., 1::2])


def padded_blocks(geometry: StftGeometry, waveform: torch.Tensor) -> Blocks:
    """A waveform as the overlap-added blocks it would be cut out of, silent before and after."""
    return blocks_of(torch.nn.functional.pad(waveform, (geometry.pad, geometry.pad)), geometry.hop)


def test_stft_reconstructs_perfectly_away_from_the_edges() -> None:
    geometry = StftGeometry(SMALL, AUDIO)
    waveform = seeded((2, 1, 2048 * 8))
    stft = geometry.analyse(waveform)
    blocks = FoldedDft(geometry).synthesise(by_parity(stft.real), by_parity(stft.imag))
    back = samples_of(blocks)[..., geometry.pad : -geometry.pad]
    assert back.shape == (2, 1, 2048 * 8)
    torch.testing.assert_close(back[..., 1024:-1024], waveform[..., 1024:-1024], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [4, 8, 64, 1024])
def test_the_folded_dft_is_the_windowed_dft(size: int) -> None:
    """Against numpy's inverse FFT, window by window, for sizes whose quarters are odd and even."""
    config = replace(SMALL, n_fft=size, stft_hop=size // 2, tonal_bins=1, bands=1)
    geometry = StftGeometry(config, AUDIO)
    spectrum = torch.complex(seeded((1, 3, geometry.bins), 1), seeded((1, 3, geometry.bins), 2)).to(
        torch.complex128
    )
    windows = np.fft.irfft((spectrum[0] * geometry.signs / geometry.scale).numpy(), size)
    windows = windows * geometry.synthesis_window.numpy()
    expected = np.zeros((4, size // 2))
    expected[:-1] += windows[:, : size // 2]
    expected[1:] += windows[:, size // 2 :]
    blocks = FoldedDft(geometry).synthesise(
        by_parity(spectrum.real.float()), by_parity(spectrum.imag.float())
    )
    np.testing.assert_allclose(
        samples_of(blocks)[0], expected.reshape(-1), atol=1e-4 * float(abs(windows).max())
    )


def test_blocks_and_samples_are_the_same_signal() -> None:
    samples = seeded((2, 3, 64 * 5))
    blocks = blocks_of(samples, 64)
    assert torch.equal(samples_of(blocks), samples)
    assert torch.equal(blocks.forward[..., -1], blocks.backward[..., -1])
    assert torch.equal(blocks.backward[..., :-1, 0], blocks.forward[..., 1:, 0])


def test_analysis_is_the_adjoint_of_synthesis() -> None:
    geometry = StftGeometry(SMALL, AUDIO)
    waveform = seeded((2, 1, 2048 * 3))
    stft = geometry.analyse(waveform)
    # A frame more at either end, half of it silence.
    real, imaginary = FoldedDft(geometry).analyse(padded_blocks(geometry, waveform))
    for made, wanted in ((real, by_parity(stft.real)), (imaginary, by_parity(stft.imag))):
        for one, other in zip(made, wanted, strict=True):
            torch.testing.assert_close(one[..., 1:-1, :], other, atol=1e-6, rtol=1e-4)


def test_bins_apart_are_the_same_bins(codec: Codec) -> None:
    latent = seeded((2, 5, 64))
    before = {name: value.clone() for name, value in codec.decoder.state_dict().items()}
    apart = codec.decoder.with_bins_apart()
    even, odd = SMALL.n_fft // 4 + 1, SMALL.n_fft // 4
    made, natural = apart.spectrum(latent).log_magnitude, codec.decoder.spectrum(latent).log_magnitude
    torch.testing.assert_close(made.split((even, odd), -1)[1], natural[..., 1::2])
    torch.testing.assert_close(apart(latent), codec.decoder(latent), atol=1e-5, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in codec.decoder.state_dict().items())


def refined(codec: Codec, waveform: torch.Tensor, log_magnitude: torch.Tensor) -> torch.Tensor:
    """A waveform after the round of consistency."""
    geometry = codec.decoder.geometry
    blocks = codec.decoder.refine(padded_blocks(geometry, waveform), log_magnitude)
    cut = geometry.pad + geometry.hop
    return samples_of(blocks)[..., cut:-cut]


def test_refining_leaves_a_waveform_alone_that_has_its_magnitudes_already(codec: Codec) -> None:
    waveform = 0.1 * seeded((2, 1, 2048 * 8), 5)
    magnitude = codec.decoder.geometry.analyse(waveform).abs()
    inner = slice(1024, -1024)
    made = refined(codec, waveform, torch.log(magnitude + 1e-12))
    torch.testing.assert_close(made[..., inner], waveform[..., inner], atol=1e-4, rtol=1e-3)


def test_refining_brings_magnitudes_closer_to_those_asked_for(codec: Codec) -> None:
    """Phases that were made up do not fit the magnitudes; one round takes out much of the disagreement."""
    decoder, waveform = codec.decoder, tone(700.0, 2048 * 20) + 0.02 * seeded((1, 1, 2048 * 20), 6)
    wanted = torch.log(decoder.geometry.analyse(waveform).abs() + 1e-5)
    before = oracle(codec, waveform, tonality=0.0, impulsiveness=0.0)
    after = refined(codec, before, wanted)

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
        target = spectrum_targets(decoder.geometry, stft, TO_BINS, SMALL.tonal_bins)
        loud = target.weight @ TO_BINS.T
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
    target = spectrum_targets(decoder.geometry, stft, TO_BINS, SMALL.tonal_bins)

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
    target = spectrum_targets(encoder.geometry, stft, TO_BINS, SMALL.tonal_bins)
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
