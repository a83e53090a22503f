"""Audio values and files: exact bytes, atomic writes, clear refusals."""

from __future__ import annotations

import io
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_tta.audio import MAX_COMMENT_BYTES, MAX_SAMPLES, Audio, read_audio, read_comment, write_audio
from edge_tta.errors import DataError, OutputError, RequestError


def sound(channels: int = 1, frames: int = 1001) -> Audio:
    ramp = np.linspace(-1.0, 1.0, channels * frames, dtype=np.float32).reshape(channels, frames)
    return Audio(ramp, 44100)


def chunks(wav: bytes) -> dict[bytes, bytes]:
    """Chunks of a WAV file by name; together they fill it to the last byte."""
    assert wav[:4] == b"RIFF" and wav[8:12] == b"WAVE"
    assert int.from_bytes(wav[4:8], "little") + 8 == len(wav)
    found, position = {}, 12
    while position < len(wav):
        size = int.from_bytes(wav[position + 4 : position + 8], "little")
        name = wav[position : position + 4]
        assert name not in found and size % 2 == 0
        found[name] = wav[position + 8 : position + 8 + size]
        position += 8 + size
    assert position == len(wav)
    return found


def test_units() -> None:
    audio = sound(2, 44100)
    assert (audio.channels, audio.frames, audio.seconds, audio.peak) == (2, 44100, 1.0, 1.0)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(5, np.float32),
        np.zeros((1, 5)),
        np.zeros((0, 5), np.float32),
        np.full((1, 5), np.nan, np.float32),
        np.full((1, 5), np.inf, np.float32),
    ],
)
def test_only_finite_float32_planes_are_audio(samples: np.ndarray) -> None:
    with pytest.raises(RequestError):
        Audio(samples, 44100)


def test_a_sample_rate_is_positive() -> None:
    with pytest.raises(RequestError, match="sample rate"):
        Audio(np.zeros((1, 5), np.float32), 0)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 999, 1000])
@pytest.mark.parametrize("comment", ["", "odd", "even", "é"])
def test_wav_s16_is_exactly_accounted(channels: int, frames: int, comment: str) -> None:
    audio = sound(channels, frames)
    data = audio.to_bytes(".wav", "s16", comment)
    expected = np.round(audio.samples.T * 32767).astype("<i2")
    assert chunks(data)[b"data"] == expected.tobytes()
    with wave.open(io.BytesIO(data)) as stream:
        assert stream.getparams()[:4] == (channels, 2, 44100, frames)
        assert stream.readframes(frames) == expected.tobytes()
    assert np.array_equal(soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)[0], expected)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 999, 1000])
def test_wav_f32_is_exactly_accounted(channels: int, frames: int) -> None:
    audio = sound(channels, frames)
    found = chunks(audio.to_bytes(".wav", "f32", "comment"))
    assert found[b"data"] == audio.samples.T.astype("<f4").tobytes()
    # The time of writing that libsndfile stores with the peak: equal audio must give equal bytes tomorrow too.
    assert found[b"PEAK"][4:8] == bytes(4)


def test_s16_clips_and_does_not_wrap() -> None:
    audio = Audio(np.array([[1.5, 1.0, -1.0, -1.5]], np.float32), 44100)
    assert np.frombuffer(chunks(audio.to_bytes())[b"data"], "<i2").tolist() == [32767, 32767, -32767, -32768]


def test_wav_f32_keeps_every_bit() -> None:
    audio = sound()
    back, rate = soundfile.read(io.BytesIO(audio.to_bytes(".wav", "f32")), dtype="float32")
    assert rate == 44100 and np.array_equal(back, audio.samples[0])


def test_flac_is_lossless_in_s16(tmp_path: Path) -> None:
    write_audio(sound(), tmp_path / "a.flac")
    back = read_audio(tmp_path / "a.flac")
    assert np.array_equal(np.round(back.samples * 32768), np.round(sound().samples * 32767))


@pytest.mark.parametrize("kind", [(".wav", "s16"), (".wav", "f32"), (".flac", "s16")])
@pytest.mark.parametrize("comment", ["seed 7", '{"prompt": "Regen — 雨"}', "x" * 20000])
def test_same_audio_gives_the_same_bytes_and_carries_its_comment(kind: tuple[str, str], comment: str) -> None:
    first, second = (sound().to_bytes(*kind, comment=comment) for _ in "ab")
    assert first == second
    if kind[0] == ".flac":
        assert soundfile.SoundFile(io.BytesIO(first)).comment == comment
        return
    listed = chunks(first)[b"LIST"]
    size = int.from_bytes(listed[8:12], "little")
    assert listed[:8] == b"INFOICMT"
    assert listed[12 : 12 + size].rstrip(b"\0").decode() == comment
    assert len(comment) > 2000 or soundfile.SoundFile(io.BytesIO(first)).comment == comment


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize(
    "comment", ["", "odd", "even", "雨" * (MAX_COMMENT_BYTES // 3), "x" * MAX_COMMENT_BYTES]
)
def test_comments_of_any_length_are_read_back(tmp_path: Path, name: str, comment: str) -> None:
    write_audio(sound(), tmp_path / name, comment=comment)
    assert read_comment(tmp_path / name) == comment
    if name == "a.wav":
        write_audio(sound(), tmp_path / name, "f32", comment)
        assert read_comment(str(tmp_path / name)) == comment


def test_a_comment_is_found_behind_other_chunks_and_nowhere_else(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)

    def wav(*parts: bytes) -> Path:
        body = b"WAVE" + b"".join(parts)
        (tmp_path / "a.wav").write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
        return tmp_path / "a.wav"

    data, comment = chunk(b"data", b"ICMT\5\0\0\0wrong"), chunk(b"ICMT", b"rain\0")
    assert read_comment(wav(data, chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"abc") + comment))) == "rain"
    assert read_comment(wav(chunk(b"LIST", b"adtl" + comment), data)) == ""
    assert read_comment(wav(chunk(b"LIST", b"INFO"), data)) == ""
    assert read_comment(wav(data[:-3])) == ""
    huge = b"LIST\xff\xff\xff\xffINFOICMT\xf0\xff\xff\xff"
    with pytest.raises(
        DataError, match=r"a\.wav: its comment cannot be read \(4294967280 bytes, at most 32768"
    ):
        read_comment(wav(huge))
    with pytest.raises(DataError, match=r"a\.wav"):
        read_comment(wav(chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"\xff\xfe"))))
    for path in (tmp_path / "none.wav", tmp_path, Path(__file__)):
        with pytest.raises(DataError, match="comment cannot be read"):
            read_comment(path)


def test_a_comment_that_would_be_lost_is_refused() -> None:
    sound().to_bytes(comment="x" * MAX_COMMENT_BYTES)
    with pytest.raises(OutputError, match="comment"):
        sound().to_bytes(comment="x" * (MAX_COMMENT_BYTES + 1))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_no_byte_is_handed_over_where_a_signal_could_interrupt(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in a callback of libsndfile is lost or ends the process; only the main thread gets signals."""
    threads = set()

    class Watched(io.BytesIO):
        def write(self, data: Any) -> int:
            threads.add(threading.current_thread())
            return super().write(data)

    monkeypatch.setattr("edge_tta.audio.io.BytesIO", Watched)
    assert len(sound().to_bytes(suffix)) > 44
    assert threads and threading.main_thread() not in threads


@pytest.mark.parametrize("audio", [sound(9), Audio(np.zeros((1, 9), np.float32), 700_000)])
def test_what_flac_cannot_hold_is_said(audio: Audio) -> None:
    with pytest.raises(OutputError, match="FLAC file cannot hold"):
        audio.to_bytes(".flac")


@pytest.mark.parametrize(("suffix", "subtype"), [(".mp3", "s16"), ("", "s16"), (".wav", "s24")])
def test_unknown_formats(suffix: str, subtype: str) -> None:
    with pytest.raises(OutputError):
        sound().to_bytes(suffix, subtype)


@pytest.mark.parametrize("content", [b"", b"no audio at all", sound().to_bytes()[:20]])
def test_unreadable_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav")


def test_a_header_that_claims_a_month_takes_no_memory(tmp_path: Path) -> None:
    data = bytearray(sound().to_bytes(".flac"))
    # STREAMINFO ends its 8 bytes at offset 18 with a 36-bit count of frames.
    field = int.from_bytes(data[18:26], "big") | (2**36 - 1)
    data[18:26] = field.to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(DataError, match=f"at most {MAX_SAMPLES} samples"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples: Any = np.array([0.0, value], np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    with pytest.raises(DataError, match="not finite"):
        read_audio(tmp_path / "a.wav")


def test_missing_file_and_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "no.wav", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_audio(path)
