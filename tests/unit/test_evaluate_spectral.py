import numpy as np
import pytest

from edge_tta.errors import DataError
from edge_tta.evaluate.spectral import (
    FLOOR_DB,
    MelSpec,
    log_mel,
    log_mel_distance,
    magnitude_spectrogram,
    mel_filterbank,
    multi_resolution_stft_distance,
    resample,
    signal_to_noise,
    timbre,
)

RATE = 44100


def sine(hertz: float, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def sound_like_speech(seed: int = 0) -> np.ndarray:
    """A pulse train through two resonances with a syllable envelope: harmonic, varying, mostly low."""
    generator = np.random.default_rng(seed)
    pulses = np.zeros(RATE, dtype=np.float32)
    pulses[:: RATE // 120] = 1.0
    time = np.arange(2000) / RATE
    body = sum(np.exp(-time * 300) * np.sin(2 * np.pi * f * time) for f in (600.0, 1700.0))
    voiced = np.convolve(pulses, body)[:RATE] * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(RATE) / RATE))
    return (0.3 * voiced / np.abs(voiced).max() + 1e-4 * generator.standard_normal(RATE)).astype(np.float32)


def test_full_scale_sine_reads_zero_decibels_at_its_bin():
    hertz = 93 * RATE / 2048
    magnitude = magnitude_spectrogram(sine(hertz, amplitude=1.0), 2048, 512)
    middle = magnitude[len(magnitude) // 2]
    assert middle.argmax() == 93
    assert middle[93] == pytest.approx(1.0, abs=1e-3)


def test_frames_are_centred_and_counted():
    samples = np.zeros(10 * 512, dtype=np.float32)
    samples[4 * 512] = 1.0
    magnitude = magnitude_spectrogram(samples, 2048, 512)
    assert magnitude.shape == (11, 1025)
    assert magnitude.sum(axis=1).argmax() == 4


def test_every_mel_band_hears_something_and_peaks_in_order():
    bank = mel_filterbank(MelSpec())
    assert bank.shape == (1025, 64)
    assert (bank.max(axis=0) > 0.3).all()
    assert (np.diff(bank.argmax(axis=0)) > 0).all()


def test_log_mel_of_silence_is_the_floor_and_of_a_sine_is_its_level():
    # The last bit of a logarithm differs from one vector unit to the next.
    np.testing.assert_allclose(log_mel(np.zeros(RATE), RATE), FLOOR_DB, atol=1e-4)
    quiet, loud = log_mel(sine(1000, amplitude=0.05), RATE), log_mel(sine(1000, amplitude=0.5), RATE)
    assert loud.max() - quiet.max() == pytest.approx(20.0, abs=0.05)


def test_stereo_is_averaged():
    one = sine(500)
    assert np.array_equal(log_mel(np.stack([one, one]), RATE), log_mel(one, RATE))


def test_identity_costs_nothing():
    sound = sound_like_speech()
    assert signal_to_noise(sound, sound) == float("inf")
    assert log_mel_distance(sound, sound, RATE) == 0.0
    assert multi_resolution_stft_distance(sound, sound) == 0.0


def test_white_noise_is_further_than_any_mild_change():
    sound = sound_like_speech()
    generator = np.random.default_rng(1)
    noise = 0.1 * generator.standard_normal(len(sound)).astype(np.float32)
    dull = np.convolve(sound, np.ones(3) / 3, mode="same").astype(np.float32)
    hum = sound + sine(100, amplitude=0.01)
    for distance in (lambda a, b: log_mel_distance(a, b, RATE), multi_resolution_stft_distance):
        assert distance(sound, noise) > 2 * max(distance(sound, dull), distance(sound, hum))


def test_gain_moves_snr_but_not_the_level_matched_distance():
    sound = sound_like_speech()
    half = sound / 2
    assert signal_to_noise(sound, half) == pytest.approx(6.02, abs=0.01)
    assert log_mel_distance(sound, half, RATE, match_level=True) < 1e-4
    assert log_mel_distance(sound, half, RATE) > 0.05


def test_log_mel_distance_counts_decades_of_magnitude():
    generator = np.random.default_rng(3)
    sound = 0.1 * generator.standard_normal(RATE).astype(np.float32)
    assert log_mel_distance(sound, sound * 10, RATE) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_wrong_sample_rate_is_an_error(rate):
    with pytest.raises(DataError, match=f"44100 Hz, got {rate} Hz"):
        log_mel(sine(440), rate)


@pytest.mark.parametrize("samples", [[], [[[0.0]]], [np.nan, 0.0], [np.inf]])
def test_unusable_samples_are_refused(samples):
    with pytest.raises(DataError):
        log_mel(np.array(samples, dtype=np.float32), RATE)


def test_lengths_must_agree():
    for distance in (signal_to_noise, multi_resolution_stft_distance):
        with pytest.raises(DataError, match="44100 and 44099"):
            distance(sine(440), sine(440)[:-1])


def test_timbre_ignores_gain_and_offset_but_not_pitch():
    low = timbre(sine(300, seconds=2.0), RATE)
    assert np.abs(timbre(sine(300, seconds=2.0) / 4, RATE) - low).mean() < 0.01
    shifted = np.abs(timbre(sine(300, seconds=2.2)[4410:], RATE) - low).mean()
    assert np.abs(timbre(sine(2500, seconds=2.0), RATE) - low).mean() > 5 * shifted


def test_resample_keeps_pitch_and_duration():
    tone = sine(1000)
    converted = resample(tone, RATE, 22050)
    assert abs(len(converted) - 22050) <= 1
    spectrum = np.abs(np.fft.rfft(converted[2000:12000]))
    assert spectrum.argmax() * 22050 / 10000 == pytest.approx(1000, abs=3)
    assert resample(tone, RATE, RATE) is tone or np.array_equal(resample(tone, RATE, RATE), tone)
