import numpy as np
import pytest
from PIL import Image

from edge_tta.errors import DataError, OutputError
from edge_tta.evaluate.contact_sheet import SheetEntry, write_contact_sheet
from edge_tta.evaluate.spectrogram import Panel, draw_sheet, spectrogram_pixels, write_sheet

RATE = 44100


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_high_tones_are_drawn_above_low_ones():
    brightness = [
        spectrogram_pixels(tone(f), RATE, 60, 96).sum(axis=(1, 2)).argmax() for f in (200, 1000, 6000)
    ]
    assert brightness[0] > brightness[1] + 10
    assert brightness[1] > brightness[2] + 10


def test_time_runs_left_to_right_and_a_click_survives():
    samples = np.zeros(5 * RATE, dtype=np.float32)
    samples[4 * RATE] = 1.0
    columns = spectrogram_pixels(samples, RATE, 50, 40).sum(axis=(0, 2))
    assert abs(int(columns.argmax()) - 40) <= 1


@pytest.mark.parametrize("length", [1, 300, RATE])
def test_short_and_silent_sounds_can_be_drawn(length):
    pixels = spectrogram_pixels(np.zeros(length, dtype=np.float32), RATE, 30, 20)
    assert pixels.shape == (20, 30, 3)
    assert (pixels == pixels[0, 0]).all()


def test_sheet_has_a_cell_per_panel(tmp_path):
    panel = Panel("a very long caption that cannot possibly fit above so narrow a panel as this", tone(440))
    sheet = draw_sheet([[panel, panel], [panel]], width=100, height=50)
    assert sheet.size == (2 * 104 + 4, 2 * 68 + 4)
    pixels = np.asarray(sheet)
    assert (pixels[:, 104:108] == 255).all()
    write_sheet([[panel]], tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_contact_sheet_pairs_real_and_generated(tmp_path):
    entries = [SheetEntry(f"label {i}", tone(200), tone(5000)) for i in range(7)]
    write_contact_sheet(entries, tmp_path / "contact.png", RATE, columns=5)
    pixels = np.asarray(Image.open(tmp_path / "contact.png").convert("RGB")).astype(int)
    height = pixels.shape[0] // 4
    real, generated = (
        pixels[18:height, 4:204].sum(axis=(1, 2)),
        pixels[height + 18 : 2 * height, 4:204].sum(axis=(1, 2)),
    )
    assert real[:90].argmax() > generated[:90].argmax() + 20


def test_nothing_to_draw_and_nowhere_to_write(tmp_path):
    with pytest.raises(DataError):
        draw_sheet([])
    with pytest.raises(DataError):
        write_contact_sheet([], tmp_path / "a.png", RATE)
    with pytest.raises(OutputError):
        write_sheet([[Panel("x", tone(440))]], tmp_path / "missing" / "a.png")
