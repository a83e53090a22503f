"""Audio values and files: exact bytes, atomic writes, clear refusals."""

from __future__ import annotations

import errno
import io
import os
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tta import audio as audio_module
from edge_tta.audio import Audio, read_audio, write_audio
from edge_tta.errors import DataError, OutputError, RequestError


def sound(channels: int = 1, frames: int = 1001) -> Audio:
    ramp = np.linspace(-1.0, 1.0, channels * frames, dtype=np.float32).reshape(channels, frames)
    return Audio(ramp, 44100)


def test_units() -> None:
    audio = sound(2, 44100)
    assert (audio.channels, audio.frames, audio.seconds, audio.peak) == (2, 44100, 1.0, 1.0)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(5, np.float32),
        np.zeros((1, 5)),
        np.full((1, 5), np.nan, np.float32),
        np.full((1, 5), np.inf, np.float32),
    ],
)
def test_only_finite_float32_planes_are_audio(samples: np.ndarray) -> None:
    with pytest.raises(RequestError):
        Audio(samples, 44100)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 999, 1000])
def test_wav_s16_is_exactly_accounted(channels: int, frames: int) -> None:
    audio = sound(channels, frames)
    data = audio.to_bytes(".wav", "s16")
    with wave.open(io.BytesIO(data)) as stream:
        assert (stream.getnchannels(), stream.getnframes(), stream.getframerate()) == (
            channels,
            frames,
            44100,
        )
        stored = np.frombuffer(stream.readframes(frames), "<i2").reshape(frames, channels)
    assert np.array_equal(stored, np.round(audio.samples.T * 32767).astype(np.int16))
    assert int.from_bytes(data[4:8], "little") + 8 == len(data)


def test_wav_f32_keeps_every_bit() -> None:
    audio = sound()
    back, rate = soundfile.read(io.BytesIO(audio.to_bytes(".wav", "f32")), dtype="float32")
    assert rate == 44100 and np.array_equal(back, audio.samples[0])


def test_flac_is_lossless_in_s16(tmp_path: Path) -> None:
    write_audio(sound(), tmp_path / "a.flac")
    back = read_audio(tmp_path / "a.flac")
    assert np.array_equal(np.round(back.samples * 32768), np.round(sound().samples * 32767))


def test_same_audio_gives_the_same_bytes_and_carries_its_comment() -> None:
    first, second = (sound().to_bytes(".wav", comment="seed 7") for _ in "ab")
    assert first == second
    assert soundfile.SoundFile(io.BytesIO(first)).comment == "seed 7"


@pytest.mark.parametrize(("suffix", "subtype"), [(".mp3", "s16"), ("", "s16"), (".wav", "s24")])
def test_unknown_formats(suffix: str, subtype: str) -> None:
    with pytest.raises(OutputError):
        sound().to_bytes(suffix, subtype)


def test_full_disk_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audio_module, "_write_all", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_audio(sound(), path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.wav"]


def test_missing_directory_and_directory_as_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_audio(sound(), tmp_path / "no" / "a.wav")
    (tmp_path / "d.wav").mkdir()
    with pytest.raises(OutputError, match="directory"):
        write_audio(sound(), tmp_path / "d.wav")
    assert sorted(os.listdir(tmp_path)) == ["d.wav"]


@pytest.mark.parametrize("content", [b"", b"no audio at all", sound().to_bytes()[:20]])
def test_unreadable_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav")
