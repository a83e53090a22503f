"""What a run says that it learns from, before it does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from edge_tta.cli.main import app
from edge_tta.errors import DataError
from edge_tta.train import run as running
from edge_tta.train.data_summary import Amount, DataSummary, summarise
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe
from edge_tta.train.stages.tagger import is_development

RATE = 8000
COLUMNS = ("file", "label", "licence", "split", "bandwidth_hz", "caption")
BY = "https://creativecommons.org/licenses/by/4.0/"
ROWS = (
    ("a.wav", "rain", "CC0", "train", "", "it rains"),
    ("b.wav", "rain", BY, "", "9000", ""),
    ("c.wav", "gargling", "MIT", "val", "", ""),
    ("d.wav", "rain", "CC-BY 3.0", "test", "", ""),
    ("e.wav", "rain", "CC-BY-NC-3.0", "train", "", ""),
    ("f.wav", "rain", "Creative Commons 0", "train", "", ""),
    ("g.wav", "rain", "Creative Commons 0", "val", "", ""),
    ("h.wav", "rain", "as is", "train", "", ""),
    ("i.wav", "rain", "", "train", "", ""),
    ("j.wav", "rain", "CC0", "train", "800", ""),
)
TAGGER = (
    "tagger.minimum_clips=2", "tagger.batch=2", "tagger.network.widths=[4, 6, 8]", "tagger.network.embedding=8",
    "loop.steps=1", "loop.warmup_steps=1", "loop.log_every=1",
)  # fmt: skip


def write(folder: Path, rows: tuple[tuple[str, ...], ...]) -> Path:
    """A folder of clips, the first of 1 s, each half a second longer than the one before."""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    draw = np.random.default_rng(0)
    for index, row in enumerate(rows):
        sound = 0.1 * draw.standard_normal(RATE + RATE // 2 * index)
        soundfile.write(folder / row[0], sound.astype(np.float32), RATE)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sounds"
    made.mkdir()
    return write(made, ROWS)


def summary_of(recipe: str, *settings: str) -> DataSummary:
    found = summarise(load_recipe(recipe, [*settings]), lambda *_: None)
    assert found is not None
    return found


def test_clips_are_counted_by_what_is_done_with_them(folder: Path) -> None:
    # What is left out is not opened.
    (folder / "e.wav").unlink()
    found = summary_of("codec", f"data.folder={folder}", "data.min_bandwidth_hz=1000")
    assert found.plain() == {
        "source": str(folder),
        "training": {"clips": 2, "labels": 1, "hours": round(2.5 / 3600, 4)},
        "validation": {"clips": 1, "labels": 1, "hours": round(2.0 / 3600, 4)},
        "left_out": {
            "bandwidth below 1000 Hz": 1,
            "licence not permissive": 1,
            "licence not known": 3,
            "no licence given": 1,
            "split test": 1,
        },
        "unknown_licences": {"Creative Commons 0": 2, "as is": 1},
    }
    assert found.lines() == [
        ("data", str(folder)),
        ("training", "2 clips, 1 labels, 2.5 s"),
        ("validation", "1 clips, 1 labels, 2.0 s"),
        ("left out", "1 clips: bandwidth below 1000 Hz"),
        ("left out", "1 clips: licence not permissive"),
        ("left out", "3 clips: licence not known ('Creative Commons 0' 2, 'as is' 1)"),
        ("left out", "1 clips: no licence given"),
        ("left out", "1 clips: split test"),
    ]


def test_clips_of_any_licence_are_left_out_for_none(folder: Path) -> None:
    found = summary_of("codec", f"data.folder={folder}", "data.permissive_only=false").plain()
    assert (found["training"]["clips"], found["validation"]["clips"]) == (7, 2)
    assert found["left_out"] == {"split test": 1} and found["unknown_licences"] == {}


def test_generators_are_told_captions_and_labels(folder: Path) -> None:
    found = summary_of("flow", f"data.folder={folder}")
    assert (found.own_captions, found.unknown_labels) == (1, {"gargling": 1})
    assert found.lines()[-2:] == [
        ("captions", "1 clips have their own"),
        ("unknown", "1 clips have a label that the grammar does not know ('gargling' 1)"),
    ]
    plain = summary_of("flow", f"data.folder={folder}", "data.num_validation_windows=0").plain()
    assert "validation" not in plain and plain["left_out"]["data.num_validation_windows is 0"] == 1
    assert (plain["own_captions"], plain["unknown_labels"]) == (1, {})


def test_captions_in_place_of_labels_are_no_unknown_labels(folder: Path) -> None:
    write(folder, (("a.wav", "", "CC0", "train", "", "a door creaks"), ("b.wav", "creak", "CC0", "", "", "")))
    found = summary_of("flow", f"data.folder={folder}")
    assert (found.own_captions, found.unknown_labels) == (1, {"creak": 1})
    assert found.used["training"].labels == 2


def test_the_tagger_takes_labels_of_enough_clips_and_holds_recordings_out(folder: Path) -> None:
    found = summary_of("tagger", f"data.folder={folder}", "tagger.minimum_clips=3").plain()
    assert found["training"]["clips"] == 3 and "validation" not in found
    assert found["left_out"]["label with fewer than 3 training clips"] == 1
    share = "tagger.development_share=0.2"
    held = summary_of("tagger", f"data.folder={folder}", "tagger.minimum_clips=3", share)
    expected = sum(is_development(name, 0.2) for name in ("a.wav", "b.wav", "j.wav"))
    assert 0 < expected < 3
    assert (held.used["development"].count, held.used["training"].count) == (expected, 3 - expected)


def test_texts_are_counted_where_no_sound_is_learnt_from(tmp_path: Path) -> None:
    grammar = tmp_path / "own.toml"
    grammar.write_text(
        '[labels.bell]\nkind = "event"\nsettings = "none"\nevents = ["a bell"]\nnouns = ["bell"]\n'
        'wordings = ["ding", "dong", "chime"]\n'
    )
    assert summary_of("text-encoder", f"data.captions={grammar}", 'text_encoder.extra_texts=["b.csv"]') == (
        DataSummary(f"grammar {grammar}, b.csv", {"training": Amount(1, "labels")})
    )
    found = summary_of("text-wordings", f"text_wordings.captions={grammar}", "text_wordings.held_out=1")
    assert {part: str(amount) for part, amount in found.used.items()} == {
        "training": "0 wordings",
        "validation": "3 wordings",
    }


def test_lengths_are_told_in_seconds_minutes_or_hours() -> None:
    assert str(Amount(3, "clips", 59.0)) == "3 clips, 59.0 s"
    assert str(Amount(3, "clips", 90.0)) == "3 clips, 1.5 min"
    assert str(Amount(3, "clips", 5400.0)) == "3 clips, 1.50 h"


def test_nothing_to_learn_from_is_refused_with_the_reasons(folder: Path) -> None:
    write(folder, tuple(row for row in ROWS if row[3] in ("val", "test")))
    with pytest.raises(
        DataError, match=r"no clip is left to learn from; left out are 1 licence not known, 1 split test$"
    ):
        summary_of("codec", f"data.folder={folder}")
    write(folder, ROWS[4:9])
    message = (
        r"no clip has a permissive licence \('Creative Commons 0' 2, 'CC-BY-NC-3.0' 1, 'as is' 1, none 1\);"
    )
    with pytest.raises(DataError, match=message):
        summary_of("codec", f"data.folder={folder}")


def test_broken_clips_are_named_before_anything_long_begins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.wav").write_bytes(b"no sound")
    (folder / "c.wav").unlink()
    monkeypatch.setattr(running, "build_stage", lambda *_: pytest.fail("data are prepared"))
    settings = [f"data.folder={folder}", f"checkpoint={tmp_path / 'made'}", "loop.device=cpu"]
    for dry_run in (True, False):
        with pytest.raises(DataError, match=r"^2 of 5 clips cannot be used; .*a\.wav.*c\.wav: is not there$"):
            run_recipe("tagger", settings, output=tmp_path / "run", dry_run=dry_run)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be_learnt_from(folder: Path) -> None:
    arguments = ["train", "codec", "--dry-run", "--set", f"data.folder={folder}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "training       3 clips, 1 labels, 8.0 s\n" in result.stdout
    assert "left out       1 clips: split test\n" in result.stdout
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["data"] == summary_of("codec", f"data.folder={folder}").plain()
    # Without a folder the recipe alone is checked.
    result = CliRunner().invoke(app, arguments[:3])
    assert result.exit_code == 0 and "clips" not in result.stdout and result.stderr == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_says_at_its_start_what_it_learns_from_and_keeps_it(tmp_path: Path, quiet: bool) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    write(folder, tuple((f"{n}.wav", ("rain", "piano")[n % 2], "CC0", "train", "", "") for n in range(6)))
    settings = [
        f"data.folder={folder}",
        f"data.cache={tmp_path / 'cache'}",
        f"checkpoint={tmp_path / 'made'}",
    ]
    settings += [*TAGGER, "tagger.development_share=0.0"]
    arguments = ["train", "tagger", "--json", "-o", str(tmp_path / "run"), *(["--quiet"] if quiet else [])]
    for setting in settings:
        arguments += ["--set", setting]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert ("training       6 clips, 2 labels, 13.5 s" in result.stderr) is not quiet
    data = json.loads(result.stdout)["data"]
    assert data["training"] == {"clips": 6, "labels": 2, "hours": round(13.5 / 3600, 4)}
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == data
