"""The step that many sounds share is found, and single sounds' edges are not."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.spectral_step import DEPTH_DB, largest_step, long_term_spectrum

RATE = 44100


def noises(count: int, edge_hz: float | None, gain_db: float) -> list[FloatArray]:
    """Noise that falls by 6 dB an octave, each with an edge of its own, and one that all share."""
    draw = np.random.default_rng(5)
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)
    made = []
    for _ in range(count):
        spectrum = np.fft.rfft(draw.standard_normal(RATE)) / np.maximum(hertz, 200)
        spectrum[hertz > draw.uniform(5000, 17000)] *= 10 ** (draw.choice([-8, 8]) / 20)
        if edge_hz is not None:
            spectrum[hertz > edge_hz] *= 10 ** (gain_db / 20)
        sound = np.fft.irfft(spectrum)
        made.append((sound / np.abs(sound).max()).astype(np.float32))
    return made


@pytest.mark.parametrize(("edge", "gain"), [(8000.0, 5.0), (15600.0, -5.0)])
def test_the_shared_step_is_found_where_it_is_and_as_high(edge: float, gain: float) -> None:
    spectra = [long_term_spectrum(sound) for sound in noises(40, edge, gain)]
    found = largest_step(spectra, RATE, np.random.default_rng(0))
    assert found is not None
    assert found.hertz == pytest.approx(edge, abs=45)
    assert found.height_db.value == pytest.approx(gain, abs=1.0)
    assert found.height_db.low < gain < found.height_db.high or abs(found.height_db.value - gain) < 0.5
    assert found.height_db.n == 40


def test_edges_of_single_sounds_average_out_and_slopes_are_none() -> None:
    found = largest_step(
        [long_term_spectrum(sound) for sound in noises(80, None, 0)], RATE, np.random.default_rng(0)
    )
    assert found is not None and abs(found.height_db.value) < 2.5
    slope = np.linspace(0, -80, 1025, dtype=np.float32)
    flat = largest_step([slope, slope], RATE, np.random.default_rng(0))
    assert flat is not None and abs(flat.height_db.value) < 1e-4


def test_spectra_end_at_their_depth_and_do_not_depend_on_level() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    spectrum = long_term_spectrum(tone)
    assert spectrum.max() == 0 and spectrum.min() == -DEPTH_DB
    np.testing.assert_allclose(long_term_spectrum(0.01 * tone), spectrum, atol=0.01)
    assert np.isfinite(long_term_spectrum(np.zeros(RATE, np.float32))).all()


def test_there_is_none_without_sounds_or_room() -> None:
    spectrum = long_term_spectrum(noises(1, None, 0)[0])
    generator = np.random.default_rng(0)
    assert largest_step([spectrum], RATE, generator) is None
    assert largest_step([spectrum, spectrum], 8000, generator) is None
