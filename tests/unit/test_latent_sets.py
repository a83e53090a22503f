"""Windows of the generator in the cache: what they follow from, how they grow, and what a cut leaves to be told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from tiny_data import LABELS, write_checkpoint, write_clips

from edge_tta.catalog import catalog_digest, read_metadata_csv
from edge_tta.config import dict_digest, to_dict
from edge_tta.errors import DataError
from edge_tta.model.presets import preset
from edge_tta.train import latent_sets as sets
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.clip_cache import load_or_build_clip_cache
from edge_tta.train.data.windows import WindowBuilder, WindowPolicy
from edge_tta.train.data_summary import summarise
from edge_tta.train.frozen import load_frozen
from edge_tta.train.latents import LatentSet, heard, windows_in
from edge_tta.train.recipes import load_recipe

TINY = preset("edge-tiny")
PAIR = {
    "labels": ["rain", "piano"],
    "captions": ["rain, then a piano"],
    "seconds": 4.0,
    "begins": [0.0, 2.0],
    "alone": [["rain"], ["a piano"]],
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_clips(tmp_path / "clips")
    write_checkpoint(tmp_path / "model", ("codec", "text_encoder"))
    return tmp_path


def windows(place: Path, *settings: str) -> LatentSet:
    """Training windows of a recipe whose cache every call shares; five to a shard."""
    recipe = load_recipe(
        "flow",
        [
            "preset=edge-tiny", "data.windows.max_seconds=0.5", "data.windows.short_seconds=0.4",
            "data.windows.min_seconds=0.3", "data.num_validation_windows=3", "generator.sample_prompts=[]",
            f"data.cache={place / 'cache'}", f"data.folder={place / 'clips'}", *settings,
        ],
    )  # fmt: skip
    frozen = load_frozen(TINY, place / "model", None, None, place / "text")
    found = sets.latent_sets(recipe, TINY, frozen, lambda *_: None)[0]
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "SHARD_WINDOWS", 5)


def folders(place: Path) -> int:
    return len(list((place / "cache").glob("latents-*")))


def test_other_clips_captions_or_windows_are_other_latents(place: Path) -> None:
    first = windows(place, "data.num_windows=4")
    again = windows(place, "data.num_windows=4")
    assert np.array_equal(first.latents, again.latents) and folders(place) == 1
    # The same catalog and clips somewhere else are the same.
    shutil.copytree(place / "clips", place / "moved")
    windows(place, "data.num_windows=4", f"data.folder={place / 'moved'}")
    assert folders(place) == 1

    table = (place / "moved" / "metadata.csv").read_text()
    (place / "moved" / "metadata.csv").write_text(table.replace(LABELS[0], "dog bark"))
    other = windows(place, "data.num_windows=4", f"data.folder={place / 'moved'}")
    assert {label for record in other.records for label in record["labels"]} <= {"dog bark", "rain"}
    mixed = windows(place, "data.num_windows=4", "data.windows.mixture_share=1.0")
    assert all(len(record["labels"]) == 2 for record in mixed.records)
    seeded = windows(place, "data.num_windows=4", "data.seed=1001")
    assert not np.array_equal(seeded.lengths, first.lengths)
    windows(place, "data.num_windows=4", "data.own_caption_share=1.0")
    assert folders(place) == 5
    shutil.copy(place / "clips" / "0.wav", place / "clips" / "2.wav")
    windows(place, "data.num_windows=4")
    assert folders(place) == 6


def test_captions_of_the_clips_themselves_are_told_where_they_are_asked_for(place: Path) -> None:
    table = place / "clips" / "metadata.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{rows[0]},caption", *(f"{row},as heard" for row in rows[1:])]))
    told = windows(
        place, "data.num_windows=4", "data.own_caption_share=1", "data.windows.mixture_share=0.0"
    ).captions
    assert told == {"as heard"}


def test_windows_of_the_default_share_of_own_captions_are_those_of_earlier_releases(place: Path) -> None:
    windows(place, "data.num_windows=4")
    (folder,) = (place / "cache").glob("latents-*")
    clips = catalog_digest(read_metadata_csv(place / "clips"))
    policy = WindowPolicy(min_seconds=0.3, short_seconds=0.4, max_seconds=0.5)
    drawn_from = {"captions": Captioner.from_package().digest(), "windows": to_dict(policy)}
    assert json.loads((folder / "latents.json").read_text())["data"] == dict_digest(
        {"clips": clips, "seed": 1000, **drawn_from}
    )


def test_a_grammar_of_the_same_name_and_other_words_is_another(place: Path) -> None:
    for folder, noun in (("one", "keys"), ("two", "hammers")):
        (place / folder).mkdir()
        (place / folder / "mine.toml").write_text(
            '[settings]\n[labels.piano]\nkind = "music"\nsettings = "none"\n'
            f'events = ["{noun} ring"]\nnouns = ["{noun}"]\n'
        )
        made = windows(place, "data.num_windows=5", f"data.captions={place / folder / 'mine.toml'}")
        told = [
            text for record in made.records if record["labels"] == ["piano"] for text in record["captions"]
        ]
        assert told and all(noun in text.lower() for text in told)


def test_more_windows_extend_a_set_and_fewer_are_its_beginning(place: Path) -> None:
    seven = windows(place, "data.num_windows=7")
    (folder,) = (place / "cache").glob("latents-*")
    before = (folder / "train-0000.npz").stat().st_mtime_ns
    twelve = windows(place, "data.num_windows=12")
    assert (len(seven), len(twelve)) == (7, 12)
    assert twelve.records[:7] == seven.records
    assert np.array_equal(twelve.latents[: len(seven.latents)], seven.latents)
    # A whole shard stays; the one that was begun is finished.
    assert (folder / "train-0000.npz").stat().st_mtime_ns == before
    assert [windows_in(path) for path in sorted(folder.glob("train-*"))] == [5, 5, 2]
    fewer = windows(place, "data.num_windows=7")
    assert fewer.records == seven.records and len(fewer) == 7
    assert fewer.captions == seven.captions


def test_shards_splits_and_seeds_share_no_draws(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[tuple[int, ...]] = []
    build = sets.build_latent_shard

    def note(path: Path, builder: Any, codec: Any, audio: Any, count: int, seed: Any, tell: Any) -> None:
        seeds.append(tuple(seed))
        build(path, builder, codec, audio, count, seed, tell)

    monkeypatch.setattr(sets, "build_latent_shard", note)
    for seed in (1000, 1001):
        windows(place, "data.num_windows=12", f"data.seed={seed}")
    assert len(seeds) == 8
    streams = {tuple(default_rng([*seed, index]).random(2)) for seed in seeds for index in range(5)}
    assert len(streams) == 40


def test_latents_of_earlier_releases_are_read_and_damaged_shards_are_one_line(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windows(place, "data.num_windows=4", "data.windows.mixture_share=1.0")
    (folder,) = (place / "cache").glob("latents-*")
    brought = f"data.latents={folder}"
    windows(place, brought)
    assert not caplog.records
    origin = json.loads((folder / "latents.json").read_text())
    (folder / "latents.json").write_text(json.dumps({"codec": origin["codec"]}))
    shard = folder / "train-0000.npz"
    with np.load(shard) as data:
        parts = dict(data)
    records = json.loads(bytes(parts["records"]).decode())
    for record in records:
        del record["begins"], record["alone"]
    parts["records"] = np.frombuffer(json.dumps(records).encode(), dtype=np.uint8)
    np.savez(shard, **parts)
    assert len(windows(place, brought).batch(0, 0, 200).labels[0]) == 2
    assert "made by an earlier release" in caplog.text
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"train-0000\.npz"):
        windows(place, brought)


def test_latents_that_are_brought_tell_how_much_they_are(place: Path) -> None:
    made = windows(place, "data.num_windows=7")
    (folder,) = (place / "cache").glob("latents-*")
    found = summarise(load_recipe("flow", [f"data.latents={folder}"]), lambda *_: None)
    assert found is not None and found.source == str(folder)
    seconds = sum(record["seconds"] for record in made.records)
    assert (found.used["training"].count, found.used["training"].unit) == (7, "windows")
    assert found.used["training"].seconds == pytest.approx(seconds)
    assert found.used["validation"].count == 3
    for path in folder.glob("train-*"):
        path.unlink()
    with pytest.raises(DataError, match="no shards of the train split"):
        summarise(load_recipe("flow", [f"data.latents={folder}"]), lambda *_: None)


def test_what_a_cut_leaves_is_what_is_told() -> None:
    assert heard(PAIR, 4.0) == heard(PAIR, 2.3) == (PAIR["labels"], PAIR["captions"])
    assert heard(PAIR, 2.2) == (["rain"], ["rain"])
    late = {**PAIR, "begins": [1.5, 0.1]}
    assert heard(late, 1.0) == (["piano"], ["a piano"])
    assert heard(late, 0.2) == (PAIR["labels"], PAIR["captions"])
    single = {"labels": ["rain"], "captions": ["rain falls"], "seconds": 1.0}
    assert heard(single, 0.1) == (["rain"], ["rain falls"])


def stored(path: Path, lengths: list[int], record: dict[str, Any]) -> LatentSet:
    """Windows of these lengths in latent frames, all with one record; their latents are their number."""
    values = np.repeat(np.arange(len(lengths), dtype=np.float16), lengths)[:, None].repeat(4, axis=1)
    records = np.frombuffer(json.dumps([record] * len(lengths)).encode(), dtype=np.uint8)
    np.savez(path, latents=values, lengths=np.array(lengths), records=records)
    made = LatentSet([path], torch.zeros(4), torch.ones(4), TINY)
    for text in made.captions:
        made.features[text], made.pooled[text] = np.zeros((1, 8), np.float16), np.zeros(8, np.float32)
    return made


def test_a_batch_that_is_cut_names_the_first_sound_alone(tmp_path: Path) -> None:
    frames = TINY.audio.latent_frames(4.0)
    made = stored(tmp_path / "train-0000.npz", [frames] * 8, PAIR)
    whole, cut = (made.batch(0, 0, 4 * frames, cap) for cap in (None, TINY.audio.latent_frames(1.0)))
    assert set(whole.captions) == {"rain, then a piano"} and set(whole.labels) == {("rain", "piano")}
    assert set(cut.captions) == {"rain"} and set(cut.labels) == {("rain",)}
    assert torch.equal(cut.condition.pooled, made.condition(cut.captions, cut.condition.seconds).pooled)


def test_windows_of_every_length_come_equally_often(tmp_path: Path) -> None:
    record = {"labels": ["rain"], "captions": ["rain"], "seconds": 9.0}
    lengths = list(range(16, 216))
    made = stored(tmp_path / "train-0000.npz", lengths, record)
    weight = np.zeros(len(lengths))
    for step in range(4000):
        rows = made.batch(0, step, 600, 64).latents[:, 0, 0].numpy().astype(int)
        weight[rows] += 1 / len(rows)
    share = weight / weight.mean()
    parts = [share[:6].mean(), *(part.mean() for part in np.array_split(share, 10)), share[-6:].mean()]
    assert min(parts) > 0.85 and max(parts) < 1.15


def test_sets_smaller_than_a_batch_are_drawn_whole(tmp_path: Path) -> None:
    record = {"labels": ["rain"], "captions": ["rain"], "seconds": 9.0}
    made = stored(tmp_path / "train-0000.npz", [16, 17, 18], record)
    assert all(len(made.batch(0, step, 600).labels) == 3 for step in range(20))


def test_the_second_sound_of_a_sequence_begins_after_the_first(place: Path) -> None:
    clips = read_metadata_csv(place / "clips")
    cache = load_or_build_clip_cache(clips, place / "cache", 44100)
    captioner = Captioner.from_package()
    for share, sequential in ((1.0, True), (0.0, False)):
        policy = WindowPolicy(sequence_share=share, start_at_once_share=1.0)
        builder = WindowBuilder(clips, cache, captioner, policy)
        window = builder.build_mixture(4.0, "rain", "piano", default_rng(1), 3)
        first, second = window.begins
        assert first < 0.1
        assert 1.6 <= second <= 2.5 if sequential else second < 0.1
        assert all(
            captioner.can_say(label, text)
            for label, texts in zip(window.labels, window.alone, strict=True)
            for text in texts
        )
        assert [len(texts) for texts in window.alone] == [3, 3]
    assert builder.build(2.0, "rain", default_rng(0)).alone == ()
