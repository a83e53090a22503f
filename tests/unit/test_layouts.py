"""Layouts of public data sets, on small folders like those that are published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tta.errors import ConfigError, DataError
from edge_tta.train.clips import choose_clips, decoded_clips
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.layouts import (
    read_audiocaps,
    read_clotho,
    read_esc50,
    read_wavcaps,
)
from edge_tta.train.data.windows import WindowBuilder, WindowPolicy
from edge_tta.train.recipes import DataConfig

RATE = 44100
CLOTHO_COLUMNS = [f"caption_{number}" for number in range(1, 6)]


def write_table(path: Path, rows: list[dict[str, object]], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(RATE // 2) / RATE
    soundfile.write(path, (0.5 * np.sin(2 * np.pi * 500 * time)).astype(np.float32), RATE)


@pytest.fixture
def audiocaps(tmp_path: Path) -> Path:
    def row(number: int, video: str, caption: str) -> dict[str, object]:
        return {"audiocap_id": number, "youtube_id": video, "start_time": 30, "caption": caption}

    write_table(tmp_path / "train.csv", [row(1, "abc", "A dog barks"), row(2, "gone", "A bell rings")])
    write_table(tmp_path / "val.csv", [row(3, "-xy", "Rain falls"), row(4, "-xy", "It pours")])
    write_sound(tmp_path / "audio" / "abc_30.wav")
    write_sound(tmp_path / "audio" / "val" / "-xy_30.flac")
    return tmp_path


@pytest.fixture
def clotho(tmp_path: Path) -> Path:
    for split in ("development", "evaluation"):
        rows = [
            {"file_name": name, **{column: f"{name} {column}" for column in CLOTHO_COLUMNS}}
            for name in (f"{split} rain.wav", f"{split} hum.wav", "gone.wav")
        ]
        write_table(tmp_path / f"clotho_captions_{split}.csv", rows)
        for name in ("rain", "hum"):
            write_sound(tmp_path / split / f"{split} {name}.wav")
    origins = [
        {
            "file_name": f"development {name}.wav",
            "sound_id": number,
            "manufacturer": "José",
            "license": licence,
        }
        for number, (name, licence) in enumerate(
            [
                ("rain", "http://creativecommons.org/licenses/by/3.0/"),
                ("hum", "http://creativecommons.org/licenses/by-nc/3.0/"),
            ]
        )
    ]
    write_table(tmp_path / "clotho_metadata_development.csv", origins, "latin-1")
    return tmp_path


@pytest.fixture
def wavcaps(tmp_path: Path) -> Path:
    sources = {
        "FreeSound": (
            [{"id": str(i), "caption": f"Sound {i}.", "duration": 0.5, "author": "ann"} for i in range(120)]
        ),
        "AudioSet_SL": [{"id": "Yabc.wav", "caption": "Waves break.", "duration": 0.5}],
        "SoundBible": [{"id": 7, "caption": "A bell.", "duration": 0.5}, {"id": 8, "caption": "Gone."}],
    }
    for source, entries in sources.items():
        folder = tmp_path / "json_files" / source
        folder.mkdir(parents=True)
        document = {"num_captions_per_audio": 1, "data": entries}
        (folder / "final.json").write_text(json.dumps(document))
    (tmp_path / "json_files" / "blacklist").mkdir()
    (tmp_path / "json_files" / "blacklist" / "exclude.json").write_text('{"FreeSound": ["1"]}')
    for number in range(120):
        write_sound(tmp_path / "audio" / "FreeSound" / f"{number}.flac")
    write_sound(tmp_path / "AudioSet_SL_flac" / "Yabc.flac")
    write_sound(tmp_path / "SoundBible" / "7.flac")
    return tmp_path


def test_esc50(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"filename": f"{fold}-1-A-0.wav", "fold": fold, "category": "crying_baby", "src_file": fold}
        for fold in (1, 5)
    ]
    write_table(tmp_path / "meta" / "esc50.csv", rows)
    assert [(clip.label, clip.split, clip.permissive) for clip in read_esc50(tmp_path).clips] == [
        ("crying baby", "train", False),
        ("crying baby", "val", False),
    ]


def test_audiocaps_takes_what_is_there_and_gathers_captions(audiocaps: Path) -> None:
    clips, absent = read_audiocaps(audiocaps)
    found = [(clip.id, clip.captions, clip.split, clip.recording) for clip in clips]
    assert found == [
        ("1", ("A dog barks",), "train", "abc"),
        ("3", ("Rain falls", "It pours"), "val", "-xy"),
    ]
    assert absent == 1


def test_clotho_knows_splits_and_licences(clotho: Path) -> None:
    clips, absent = read_clotho(clotho)
    assert absent == 2
    assert [(clip.split, clip.licence, clip.permissive) for clip in clips] == [
        ("train", "CC-BY-3.0", True),
        ("train", "CC-BY-NC-3.0", False),
        ("test", "", False),
        ("test", "", False),
    ]
    assert clips[0].captions == tuple(f"development rain.wav {column}" for column in CLOTHO_COLUMNS)
    assert (clips[0].attribution, clips[0].recording) == ("José", "0")


def test_wavcaps_finds_the_audio_of_each_source_and_holds_some_out(wavcaps: Path) -> None:
    clips, absent = read_wavcaps(wavcaps)
    assert len(clips) == 122 and absent == 1 and not any(clip.permissive for clip in clips)
    by_id = {clip.id: clip for clip in clips}
    assert by_id["AudioSet_SL/Yabc"].captions == ("Waves break.",)
    assert by_id["SoundBible/7"].path == wavcaps / "SoundBible" / "7.flac"
    assert (by_id["FreeSound/3"].seconds, by_id["FreeSound/3"].attribution) == (0.5, "ann")
    held = {clip.id for clip in clips if clip.split == "val"}
    assert 0 < len(held) < 10
    assert held == {clip.id for clip in read_wavcaps(wavcaps).clips if clip.split == "val"}


@pytest.mark.parametrize("layout", ["audiocaps", "clotho", "wavcaps"])
def test_a_recipe_trains_on_every_layout(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(layout)
    data = DataConfig(folder=str(folder), layout=layout, permissive_only=False, cache=str(tmp_path / "cache"))
    clips, cache = decoded_clips(data, RATE, lambda *_: None)
    builder = WindowBuilder(clips, cache, Captioner.from_package(), WindowPolicy(mixture_share=0.0))
    window = builder.draw(np.random.default_rng(0))
    chosen = [clip for clip in clips if clip.id in window.clip_ids]
    assert chosen and all(clip.split == "train" for clip in chosen)
    assert {caption.rstrip(".").lower() for clip in chosen for caption in clip.captions} & {
        caption.rstrip(".").lower() for caption in window.captions
    }


def test_what_may_not_be_redistributed_is_left_out_unless_asked_for(audiocaps: Path, tmp_path: Path) -> None:
    data = DataConfig(folder=str(audiocaps), layout="audiocaps", cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"data\.permissive_only=false"):
        choose_clips(data)


def test_of_clotho_the_permissive_clips_are_used(clotho: Path) -> None:
    assert [clip.id for clip in choose_clips(DataConfig(folder=str(clotho), layout="clotho")).clips] == [
        "development rain.wav"
    ]


def test_unknown_layouts_are_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="metadata, esc50, audiocaps, clotho, wavcaps"):
        choose_clips(DataConfig(folder=str(tmp_path), layout="tar"))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("esc50", r"esc50\.csv"),
        ("audiocaps", r"none of train\.csv, val\.csv, test\.csv is there"),
        ("clotho", "none of clotho_captions_development"),
        ("wavcaps", "no json_files/SOURCE"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, layout: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_clips(DataConfig(folder=str(tmp_path), layout=layout))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", r"final\.json: "),
        ("[]", "no list 'data'"),
        ('{"data": [{"caption": "x"}]}', "entry 0 has no id"),
        ('{"data": [{"id": "1", "caption": ""}]}', "entry 0: no caption"),
        ('{"data": [{"id": "../1", "caption": "x"}]}', "outside"),
        ('{"data": [{"id": "1", "caption": "x", "duration": "long"}]}', "expected a number"),
    ],
)
def test_json_that_is_not_of_wavcaps_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "json_files" / "FreeSound" / "final.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    write_sound(tmp_path / "FreeSound" / "1.flac")
    with pytest.raises(DataError, match=message) as caught:
        read_wavcaps(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("video", "caption", "message"), [("../a", "x", "outside"), ("a", " ", "no caption")]
)
def test_rows_of_audiocaps_are_checked(tmp_path: Path, video: str, caption: str, message: str) -> None:
    row: dict[str, object] = {"audiocap_id": 1, "youtube_id": video, "start_time": 0, "caption": caption}
    write_table(tmp_path / "train.csv", [row])
    with pytest.raises(DataError, match=rf"train\.csv:2: .*{message}"):
        read_audiocaps(tmp_path)
