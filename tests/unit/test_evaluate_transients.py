"""Onsets are found where they are; noise before them and lost sharpness are measured in their exact size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_tta.evaluate.codec import treble_change
from edge_tta.evaluate.transient_sheet import COLUMNS, write_transient_sheet
from edge_tta.evaluate.transients import (
    AUDIBLE_DB,
    FLOOR_DB,
    Onset,
    find_onset,
    measure_onset,
    transient_figures,
)

RATE = 44100


def click(at: float = 0.25, floor: float = 1e-4) -> np.ndarray:
    """Half a second of faint noise in which a decaying burst begins."""
    random = np.random.default_rng(0)
    sound = floor * random.standard_normal(RATE // 2)
    start = round(at * RATE)
    length = len(sound) - start
    sound[start:] += np.exp(-np.arange(length) / 400) * random.standard_normal(length)
    return sound.astype(np.float32)


@pytest.mark.parametrize("at", [0.1, 0.2503, 0.4])
def test_an_onset_is_found_to_the_millisecond(at: float) -> None:
    found = find_onset(click(at), RATE)
    assert found is not None and abs(found - at * RATE) < 0.001 * RATE


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(RATE, np.float32),
        np.zeros(300, np.float32),
        np.random.default_rng(0).standard_normal(RATE).astype(np.float32),
        np.linspace(0, 1, RATE, dtype=np.float32) * np.sin(np.arange(RATE) / 5).astype(np.float32),
        click(at=0.01),
    ],
    ids=["silence", "too short", "noise", "slow rise", "nothing before it"],
)
def test_what_has_no_clear_onset_has_none(sound: np.ndarray) -> None:
    assert find_onset(sound, RATE) is None


def test_pre_echo_is_measured_in_its_size() -> None:
    sound = click()
    start = find_onset(sound, RATE)
    assert start is not None
    echo = sound.copy()
    # A thousandth of a constant before the onset: its level is known, the burst's loudest millisecond is too.
    echo[start - 20 * 44 : start - 2 * 44] = 0.05
    same, worse = (measure_onset("click", sound, other, RATE) for other in (sound, echo))
    assert same is not None and worse is not None
    assert same.before[0] == same.before[1] < -70 and same.rise[0] == same.rise[1]
    burst = [float(np.square(sound[start + 44 * k : start + 44 * (k + 1)]).mean()) for k in range(6)]
    assert worse.before[1] == pytest.approx(10 * np.log10(0.05**2 / max(burst)), abs=0.3)
    figures = transient_figures([same, worse, worse], np.random.default_rng(0))
    assert figures is not None and figures.echoes.value == pytest.approx(2 / 3)
    assert AUDIBLE_DB < figures.reconstructed_before.value < 0


def test_a_softened_onset_rises_more_slowly() -> None:
    sound = click()
    soft = np.convolve(sound, np.hanning(200) / 100, mode="same").astype(np.float32)
    found = measure_onset("click", sound, soft, RATE)
    assert found is not None and found.rise[1] > found.rise[0] + 0.5


def test_digital_silence_before_an_onset_is_the_floor() -> None:
    found = measure_onset("click", click(floor=0.0), click(floor=0.0), RATE)
    assert found is not None and found.before == (FLOOR_DB, FLOOR_DB)


def test_one_onset_makes_no_figure() -> None:
    found = measure_onset("click", click(), click(), RATE)
    assert found is not None and transient_figures([found], np.random.default_rng(0)) is None


def test_the_sheet_has_a_cell_for_every_onset(tmp_path: Path) -> None:
    onsets = [Onset("a very long label of a sound", at, click(), click(), (-80.0, -20.0), (1.0, 2.0)) for at in
              (0, 300, 11025, 22000, 22049)]  # fmt: skip
    sizes = []
    for count in (1, COLUMNS, COLUMNS + 1):
        write_transient_sheet(onsets[:count], tmp_path / "sheet.png", RATE)
        with Image.open(tmp_path / "sheet.png") as sheet:
            sizes.append(sheet.size)
    assert sizes[0] == sizes[1] and sizes[2][1] > 1.9 * sizes[0][1]


def test_treble_is_compared_where_there_is_some() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    spectrum = np.fft.rfft(noise)
    spectrum[12_000:16_000] *= 0.1
    dull = np.fft.irfft(spectrum).astype(np.float32)
    assert treble_change(noise, dull, RATE) == pytest.approx(-20.0, abs=0.05)
    spectrum[12_000:16_000] = 0
    assert treble_change(np.fft.irfft(spectrum).astype(np.float32), noise, RATE) is None
    assert treble_change(noise, noise, 22050) is None
