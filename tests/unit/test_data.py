"""Catalogs, decoding, captions and windows."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.random import default_rng

from edge_tta.catalog import (
    Clip,
    bandwidth_at_least,
    catalog_digest,
    in_split,
    is_permissive,
    licence_name,
    permissive,
    read_metadata_csv,
    select,
)
from edge_tta.decode import decode_mono, seconds_of
from edge_tta.errors import DataError
from edge_tta.evaluate.clips import load_clip, read_clips
from edge_tta.train.clips import seconds_of_clips
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.clip_cache import ClipCache, load_or_build_clip_cache
from edge_tta.train.data.windows import WindowBuilder, WindowPolicy

RATE = 44100


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def tone(seconds: float, hertz: float = 500.0, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for index, (label, seconds, split) in enumerate(
        [
            ("dog bark", 0.4, "train"),
            ("dog bark", 0.6, "train"),
            ("rain", 3.0, "train"),
            ("rain", 2.0, "val"),
            ("piano", 1.0, "train"),
        ]
    ):
        name = f"{index}.wav"
        soundfile.write(tmp_path / name, tone(seconds, 200.0 + 100 * index), RATE)
        licence = "CC-BY-NC-3.0" if index == 4 else "CC0"
        rows.append(
            {
                "file": name,
                "label": label,
                "caption": f"own caption {index}",
                "licence": licence,
                "split": split,
                "duration": seconds,
                "bandwidth_hz": 3000 * (index + 1),
            }
        )
    write_table(tmp_path / "metadata.csv", rows)
    return tmp_path


def builder_of(folder: Path, split: str = "train", **policy: float) -> WindowBuilder:
    clips = read_metadata_csv(folder)
    cache = load_or_build_clip_cache(clips, folder / "cache", RATE)
    return WindowBuilder(clips, cache, Captioner.from_package(), WindowPolicy(**policy), split)  # type: ignore[arg-type]


def test_metadata_folder(folder: Path) -> None:
    clips = read_metadata_csv(folder)
    assert [clip.label for clip in clips] == ["dog bark", "dog bark", "rain", "rain", "piano"]
    assert [clip.permissive for clip in clips] == [True] * 4 + [False]
    assert len(select(clips, permissive, in_split("train"), bandwidth_at_least(5000))) == 2
    assert catalog_digest(clips) != catalog_digest(clips[:-1])


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("CC0", True),
        ("CC-BY 3.0", True),
        ("Public-Domain", True),
        ("MIT", True),
        ("BSD-3-Clause", True),
        ("CC-BY-NC-3.0", False),
        ("CC-BY-SA-4.0", False),
        ("CC BY-NC 3.0", False),
        ("All rights reserved", False),
        ("", False),
        ("https://creativecommons.org/licenses/by/4.0/", True),
        ("http://creativecommons.org/licenses/by/3.0", True),
        ("https://www.creativecommons.org/licenses/by/4.0/deed.en", True),
        ("https://creativecommons.org/licenses/by/3.0/us/legalcode", True),
        ("https://creativecommons.org/licenses/by/4.0/?ref=chooser-v1", True),
        ("https://creativecommons.org/publicdomain/zero/1.0/", True),
        ("http://creativecommons.org/publicdomain/zero/1.0/legalcode.txt", True),
        ("https://creativecommons.org/publicdomain/mark/1.0/deed.de", True),
        ("https://creativecommons.org/licenses/by-sa/4.0/", False),
        ("https://creativecommons.org/licenses/by-nc/4.0/", False),
        ("https://creativecommons.org/licenses/by-nd/4.0/deed", False),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode", False),
        ("http://creativecommons.org/licenses/sampling+/1.0/", False),
        ("https://creativecommons.org/licenses/by_nc/4.0/", False),
        ("https://creativecommons.org/licenses/", False),
        ("https://example.org/creativecommons.org/licenses/by/4.0/", False),
    ],
)
def test_licences(name: str, allowed: bool) -> None:
    assert is_permissive(name) is allowed


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://creativecommons.org/licenses/by/3.0/", "CC-BY-3.0"),
        ("https://creativecommons.org/licenses/by-nc/3.0/de/deed.de", "CC-BY-NC-3.0-DE"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0"),
        ("http://creativecommons.org/licenses/publicdomain/", "public-domain"),
        (" MIT ", "MIT"),
    ],
)
def test_addresses_of_licences_are_names(text: str, name: str) -> None:
    assert licence_name(text) == name


def test_a_table_may_give_licences_by_their_address(tmp_path: Path) -> None:
    address = "https://creativecommons.org/licenses/by/4.0/"
    write_table(tmp_path / "metadata.csv", [{"file": "a.wav", "label": "rain", "licence": address}])
    (clip,) = read_metadata_csv(tmp_path)
    assert clip.permissive and clip.licence == address


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/passwd"])
def test_table_that_points_outside_its_folder(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / "metadata.csv", [{"file": name, "label": "rain"}])
    with pytest.raises(DataError, match="outside"):
        read_metadata_csv(tmp_path)


def test_missing_tables_and_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv"):
        read_metadata_csv(tmp_path)
    write_table(tmp_path / "metadata.csv", [{"name": "a"}])
    with pytest.raises(DataError, match="missing column file"):
        read_metadata_csv(tmp_path)


@pytest.mark.parametrize(
    ("table", "label", "split"),
    [
        ("file,caption\na.wav,A dog barks\n", "A dog barks", "train"),
        ("file,label\na.wav,dog bark\n", "dog bark", "train"),
        ("file,label,word,split\na.wav,,yes,val\n", "yes", "val"),
        ("file,label,word,split\na.wav,rain,yes,val\n", "rain", "val"),
        # As spreadsheets save it, and with a row that ends early.
        ("\ufefffile,label,split\na.wav,rain\n", "rain", "train"),
    ],
)
def test_training_and_evaluation_read_a_table_alike(
    tmp_path: Path, table: str, label: str, split: str
) -> None:
    (tmp_path / "metadata.csv").write_text(table, encoding="utf-8")
    clips = read_metadata_csv(tmp_path)
    assert [(clip.label, clip.split, clip.recording) for clip in clips] == [(label, split, "a.wav")]
    assert read_clips(tmp_path) == read_clips(tmp_path, [split]) == tuple(clips)
    with pytest.raises(DataError, match="no clip of split test"):
        read_clips(tmp_path, ["test"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\na.wav,x\nb.wav,\n", r"metadata\.csv:3: b\.wav has neither label, word nor caption"),
        ("file,label\n,x\n", r"metadata\.csv:2: file '' is no path inside"),
        (
            "file,label,split\na.wav,x,val\nb.wav,x,test\nc.wav,x,trian\n",
            r"metadata\.csv:4: split 'trian' is unknown; use train, val, test, or leave it empty for train",
        ),
        ("file,label,split\na.wav,x,dev\n", r"metadata\.csv:2: split 'dev' is unknown"),
        ("file,label,split\na.wav,x,Train\n", r"metadata\.csv:2: split 'Train' is unknown"),
        ("file,label,duration\na.wav,x,long\n", r"metadata\.csv:2: column duration holds 'long'"),
        ("file,label,duration\na.wav,x,nan\n", r"metadata\.csv:2: column duration holds 'nan'"),
        ("name\na\n", r"metadata\.csv: missing column file"),
    ],
)
@pytest.mark.parametrize("read", [read_metadata_csv, read_clips])
def test_what_is_wrong_with_a_table_is_told_alike(
    tmp_path: Path, read: Callable[[Path], object], table: str, message: str
) -> None:
    (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_evaluation_hears_the_beginning_as_training_does(tmp_path: Path) -> None:
    samples = np.stack([tone(2.0), tone(2.0, 700.0)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    whole = decode_mono(tmp_path / "a.wav", RATE)
    assert np.array_equal(load_clip(tmp_path / "a.wav", RATE), whole)
    assert np.array_equal(load_clip(tmp_path / "a.wav", RATE, max_seconds=0.5), whole[: RATE // 2])


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [("wav", 44100, 1), ("flac", 48000, 2), ("ogg", 22050, 1), ("wav", 8000, 2)],
)
def test_any_format_and_rate_becomes_mono_at_44100(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(1.0, 440.0, rate)] * channels, axis=1), rate)
    samples = decode_mono(path, RATE)
    assert samples.dtype == np.float32 and abs(len(samples) - RATE) < 50
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * RATE / len(samples) == pytest.approx(440.0, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVE", b"noise" * 100])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.wav").write_bytes(content)
    for read in (seconds_of, lambda path: decode_mono(path, RATE)):
        with pytest.raises(DataError, match=r"broken\.wav"):
            read(tmp_path / "broken.wav")


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN"):
        decode_mono(tmp_path / "nan.wav", RATE)


def test_clip_cache_keeps_the_samples_and_is_built_once(folder: Path) -> None:
    clips = read_metadata_csv(folder)
    calls: list[int] = []
    cache = load_or_build_clip_cache(clips, folder / "cache", RATE, lambda done, _: calls.append(done))
    assert calls == [1, 2, 3, 4, 5] and len(cache) == 5
    np.testing.assert_allclose(cache.read(2), tone(3.0, 400.0), atol=2e-4)
    assert len(cache.read(2, 100, 50)) == 50
    again = load_or_build_clip_cache(clips, folder / "cache", RATE, lambda done, _: calls.append(done))
    assert len(calls) == 5 and again.length(0) == cache.length(0)


def test_clips_that_cannot_be_opened_are_named_together(folder: Path) -> None:
    (folder / "0.wav").write_bytes(b"no sound")
    (folder / "1.wav").unlink()
    soundfile.write(folder / "2.wav", np.zeros(0, np.float32), RATE)
    told: list[tuple[str, int, int]] = []
    message = (
        r"^3 of 5 clips cannot be used; mend them .*0\.wav: cannot be decoded .*"
        r"1\.wav: is not there; .*2\.wav: holds no audio$"
    )
    clips = read_metadata_csv(folder)
    with pytest.raises(DataError, match=message) as caught:
        seconds_of_clips(clips, lambda *report: told.append(report))
    assert "\n" not in str(caught.value)
    assert told == [("opening clips", number, 5) for number in range(1, 6)]
    assert seconds_of_clips(clips[3:], lambda *_: None) == [2.0, 1.0]


def test_clips_that_cannot_be_decoded_are_named_together(folder: Path) -> None:
    """Their headers are as they should be."""
    clips = read_metadata_csv(folder)
    for clip in clips[:4]:
        soundfile.write(clip.path, np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
        assert seconds_of(clip.path) == 100 / RATE
    message = r"^4 of 5 clips cannot be used.*0\.wav: holds NaN.*1\.wav.*2\.wav: [^;]*; and 1 more$"
    calls: list[int] = []
    with pytest.raises(DataError, match=message):
        load_or_build_clip_cache(clips, folder / "cache", RATE, lambda done, _: calls.append(done))
    assert calls == [1, 2, 3, 4, 5] and not list((folder / "cache").iterdir())


def test_grammar_is_rich_and_repeatable() -> None:
    captioner = Captioner.from_package()
    assert len(captioner.labels) >= 160
    for label in captioner.labels:
        drawn = {captioner.caption(label, rng) for rng in [default_rng(1)] for _ in range(1200)}
        assert len(drawn) >= 60, label
    assert len({captioner.caption("rain", rng) for rng in [default_rng(1)] for _ in range(3000)}) >= 300
    assert captioner.caption("rain", default_rng(5)) == captioner.caption("rain", default_rng(5))


def test_grammar_knows_what_it_can_say() -> None:
    captioner = Captioner.from_package()
    rng = default_rng(2)
    for label in ("rain", "dog bark", "piano", "siren"):
        assert all(captioner.can_say(label, captioner.caption(label, rng)) for _ in range(300))
    assert not captioner.can_say("dog bark", "a puppy yapping in the yard")


def test_no_evaluation_paraphrase_can_be_a_training_caption() -> None:
    path = Path(__file__).parents[2] / "edge_tta/evaluate/prompts/paraphrases.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    captioner = Captioner.from_package()
    counts = {row["label"]: 0 for row in rows}
    for row in rows:
        counts[row["label"]] += 1
        assert not any(captioner.can_say(label, row["prompt"]) for label in captioner.labels), row["prompt"]
    assert len(counts) == 50 and min(counts.values()) >= 3


def test_no_wording_is_an_evaluation_prompt_in_another_order() -> None:
    """Words that carry meaning overlap by less than 0.6 of their union."""
    fillers = set(
        re.findall(
            r"\w+",
            "a an the of in on at to and with by for from is it its my our his her their as into over up",
        )
    )

    def content(text: str) -> frozenset[str]:
        return frozenset(re.findall(r"[a-z']+", text.lower())) - fillers

    folder = Path(__file__).parents[2] / "edge_tta/evaluate/prompts"
    prompts = set()
    for name in ("labels", "paraphrases", "paraphrases_and_pairs"):
        text = (folder / f"{name}.csv").read_text(encoding="utf-8")
        prompts |= {content(row["prompt"]) for row in csv.DictReader(text.splitlines())}
    for label, words in Captioner.from_package().labels.items():
        for wording in words.wordings:
            said = content(wording)
            near = [asked for asked in prompts if len(said & asked) >= max(2, 0.6 * len(said | asked))]
            assert not near, (label, wording)


@pytest.mark.parametrize("label", ["dog bark", "rain", "piano"])
def test_windows_of_every_length_are_exact_and_without_clicks(folder: Path, label: str) -> None:
    builder = builder_of(folder)
    for index, seconds in enumerate((0.5, 0.77, 2.0, 5.3, 12.0)):
        window = builder.build(seconds, label, default_rng([3, index]), num_captions=2)
        assert len(window.samples) == round(seconds * RATE)
        assert window.samples.dtype == np.float32 and np.isfinite(window.samples).all()
        peak = np.abs(window.samples).max()
        assert 10 ** (-9.1 / 20) <= peak <= 10 ** (-0.9 / 20)
        # The steepest a 600 Hz tone gets is its peak times 2 pi 600 / rate; seams may not be steeper by much.
        assert np.abs(np.diff(window.samples)).max() < 2.0 * peak * 2 * np.pi * 600 / RATE
        assert window.labels == (label,) and len(window.captions) == 2


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.0, 0.0), (0.2, 0.2)])
def test_own_captions_are_told_as_often_as_asked_for(folder: Path, share: float, expected: float) -> None:
    default = builder_of(folder)
    builder = WindowBuilder(
        default.clips, default.cache, default.captioner, default.policy, own_caption_share=share
    )
    own = {f"own caption {index}" for index in range(5)}
    told = [builder.build(2.0, "rain", default_rng(index), 50).captions for index in range(8)]
    assert np.mean([text in own for texts in told for text in texts]) == pytest.approx(expected, abs=0.05)
    as_before = [default.build(2.0, "rain", default_rng(index), 50).captions for index in range(8)]
    assert (told == as_before) is (share == 0.2)


def test_texture_fills_the_whole_window(folder: Path) -> None:
    window = builder_of(folder).build(11.0, "rain", default_rng(0))
    blocks = window.samples[: 10 * RATE].reshape(-1, RATE // 5)
    assert np.sqrt((blocks**2).mean(axis=1)).min() > 0.3 * np.sqrt((blocks**2).mean(axis=1)).max()


def test_windows_are_functions_of_their_generator(folder: Path) -> None:
    builder = builder_of(folder)
    first, second = (builder.draw(default_rng([9, 4])) for _ in "ab")
    assert np.array_equal(first.samples, second.samples) and first.captions == second.captions


def test_mixtures_name_both_sounds(folder: Path) -> None:
    window = builder_of(folder).build_mixture(4.0, "dog bark", "rain", default_rng(1), 3)
    assert window.labels == ("dog bark", "rain") and len(window.samples) == 4 * RATE
    assert all(len(caption.split()) >= 3 for caption in window.captions)


def test_labels_are_drawn_by_the_square_root_of_their_size(folder: Path) -> None:
    builder = builder_of(folder)
    rng = default_rng(0)
    drawn = [builder.draw_label(rng) for _ in range(4000)]
    ratio = drawn.count("dog bark") / drawn.count("rain")
    assert ratio == pytest.approx(2**0.5, rel=0.1)


def test_validation_windows_use_validation_clips_only(folder: Path) -> None:
    builder = builder_of(folder, split="val")
    assert builder.labels == ["rain"]
    assert set(builder.build(5.0, "rain", default_rng(0)).clip_ids) == {"3.wav"}
    with pytest.raises(DataError, match="no clip with label"):
        builder.build(1.0, "piano", default_rng(0))
    with pytest.raises(DataError, match="no clips in split"):
        WindowBuilder(
            [Clip("a", Path("a"), "rain")],
            ClipCache(np.zeros(1, np.int16), np.array([0, 1])),
            Captioner.from_package(),
            WindowPolicy(),
            "test",
        )
