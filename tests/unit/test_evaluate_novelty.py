"""Replays are found wherever they lie in a recording, and nothing else is taken for one."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_info
from typer.testing import CliRunner

from edge_tta.catalog import Clip
from edge_tta.cli.main import app
from edge_tta.errors import DataError
from edge_tta.evaluate import novelty
from edge_tta.evaluate.novelty import Progress, evaluate_novelty
from edge_tta.evaluate.replay import SPEC, ReplayJudge, course

RATE = SPEC.sample_rate


def recording(seconds: float, seed: int) -> np.ndarray:
    """Bursts of noise at random times, each in a band and of a level of its own."""
    draw = np.random.default_rng(seed)
    count = round(seconds * RATE)
    samples = 1e-3 * draw.standard_normal(count)
    time = np.arange(count) / RATE
    for _ in range(round(4 * seconds)):
        start, length, pitch = draw.uniform(0, seconds), draw.uniform(0.05, 0.5), draw.uniform(100, 8000)
        envelope = np.exp(-np.maximum(time - start, 0) / length) * (time >= start)
        samples += (
            draw.uniform(0.05, 0.5)
            * envelope
            * np.sin(2 * np.pi * pitch * time * (1 + 0.1 * np.sin(30 * time)))
        )
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)


def direct(first: np.ndarray, second: np.ndarray) -> float:
    """The score by its definition, shift by shift."""
    short, long = sorted(
        (first.astype(np.float64), second.astype(np.float64)), key=lambda view: view.shape[1]
    )
    best = -1.0
    for shift in range(long.shape[1] - short.shape[1] + 1):
        other = long[:, shift : shift + short.shape[1]]
        one, other = (view - view.mean(axis=1, keepdims=True) for view in (short, other))
        best = max(best, float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())))
    return best


@pytest.mark.parametrize("seconds", [1.0, 2.9, 3.0, 3.1, 8.0])
def test_scores_are_those_of_the_definition(seconds: float) -> None:
    views = [course(recording(3.0, seed), RATE) for seed in range(4)]
    other = course(recording(seconds, 9), RATE)
    scores = ReplayJudge(views).scores(other)
    np.testing.assert_allclose(scores, [direct(view, other) for view in views], atol=1e-4)


@pytest.mark.parametrize("start", [0.0, 1.7, 5.0])
def test_a_stretch_of_a_recording_is_found_whatever_its_level_and_timbre(start: float) -> None:
    whole = recording(8.0, 1)
    taken = whole[round(start * RATE) :][: 3 * RATE]
    louder = np.clip(2.5 * taken, -1, 1)
    brighter = np.diff(taken, append=0.0)
    noisy = taken + 0.003 * np.random.default_rng(0).standard_normal(len(taken)).astype(np.float32)
    other = recording(3.0, 2)
    judge = ReplayJudge([course(sound, RATE) for sound in (taken, louder, brighter, noisy, other)])
    scores = judge.scores(course(whole, RATE))
    assert scores[0] > 0.95 and scores[:4].min() > 0.85 and scores[4] < 0.65


def test_a_recording_inside_a_longer_sound_is_found() -> None:
    part = recording(2.0, 3)
    around = np.concatenate([recording(1.0, 4), part, recording(1.0, 5)])
    judge = ReplayJudge([course(sound, RATE) for sound in (around, recording(4.0, 6))])
    found, other = judge.scores(course(part, RATE))
    assert found > 0.95 and other < 0.75


def test_silence_and_steady_noise_are_like_nothing() -> None:
    draw = np.random.default_rng(0)
    silent, steady = np.zeros(3 * RATE, np.float32), (0.1 * draw.standard_normal(3 * RATE)).astype(np.float32)
    judge = ReplayJudge([course(sound, RATE) for sound in (silent, steady)])
    for other in (silent, steady[::-1].copy(), recording(5.0, 1)):
        scores = judge.scores(course(other, RATE))
        assert scores[0] == 0.0 and abs(scores[1]) < 0.3


def test_clips_of_several_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="one length"):
        ReplayJudge([course(recording(seconds, 1), RATE) for seconds in (1.0, 2.0)])
    with pytest.raises(DataError, match="at least one"):
        ReplayJudge([])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Generated sounds, one of them out of a training clip; and real clips."""
    sounds, real = tmp_path / "sounds", tmp_path / "real"
    sounds.mkdir()
    real.mkdir()
    rows = []
    for number in range(24):
        split = "val" if number % 3 == 0 else "train"
        soundfile.write(real / f"{number}.flac", recording(1.0 if number == 1 else 4.0, number), RATE)
        rows.append({"file": f"{number}.flac", "label": "bursts", "split": split})
    for name, seconds in (*((f"short{number}", 0.7) for number in range(6)), ("tick", 0.1)):
        soundfile.write(real / f"{name}.flac", recording(seconds, 50 + len(rows)), RATE)
        rows.append({"file": f"{name}.flac", "label": "knock", "split": "train"})
    with (real / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for number in range(5):
        soundfile.write(sounds / f"{number}_new.wav", recording(3.0, 100 + number), RATE)
    copied, _ = soundfile.read(real / "7.flac", dtype="float32")
    soundfile.write(sounds / "5_copied.wav", 0.5 * copied[RATE // 2 :][: 3 * RATE], RATE)
    knock, _ = soundfile.read(real / "short3.flac", dtype="float32")
    silence = 1e-5 * np.random.default_rng(0).standard_normal(3 * RATE)
    silence[RATE : RATE + len(knock)] += 0.3 * knock
    soundfile.write(sounds / "6_knock.wav", silence, RATE)
    return sounds, real


def test_the_report_names_the_replay(folders: tuple[Path, Path], tmp_path: Path) -> None:
    sounds, real = folders
    report = evaluate_novelty(sounds, real, tmp_path / "out")
    assert (report.training_clips, report.left_out) == (22, 1)
    assert [(band.shortest, band.longest, band.training_clips) for band in report.bands] == [
        (2.0, None, 15), (1.0, 2.0, 1), (0.5, 1.0, 6),
    ]  # fmt: skip
    assert all((band.generated.n, band.real.n) == (7, 8) for band in report.bands)
    long, _, short = report.bands
    first, second = long.nearest[:2]
    assert (first.sound, first.training_clip, first.label) == ("5_copied.wav", "7.flac", "bursts")
    assert first.score > 0.88 > second.score + 0.05
    assert long.above_mark.value == pytest.approx(1 / 7, abs=0.17)
    # A short clip is found within the sound, and held against what new recordings have with short clips.
    found = short.nearest[0]
    assert (found.sound, found.training_clip, found.label) == ("6_knock.wav", "short3.flac", "knock")
    assert found.score > 0.98 > short.mark and short.above_mark.value >= 1 / 7
    assert report.seconds == pytest.approx(3.0, abs=0.1)
    assert (tmp_path / "out" / "novelty.png").stat().st_size > 1000
    text = (tmp_path / "out" / "novelty.md").read_text(encoding="utf-8")
    assert "`7.flac`" in text and "| 0.5 to 1 s | 6 |" in text
    assert "1 (4.3 %) shorter than 0.25 s are left out" in text


def test_a_mark_is_that_of_new_recordings_with_the_same_clips(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Sounds that are new recordings themselves: in every band as few lie above the mark as of the others."""
    sounds, real = folders
    for path in sounds.iterdir():
        path.unlink()
    for number in range(30):
        soundfile.write(sounds / f"{number}.wav", recording(3.0, 500 + number), RATE)
    rows = (real / "metadata.csv").read_text(encoding="utf-8").splitlines()
    for number in range(30):
        soundfile.write(real / f"more{number}.flac", recording(3.5, 700 + number), RATE)
        rows.append(f"more{number}.flac,bursts,val")
    (real / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    report = evaluate_novelty(sounds, real, tmp_path / "out")
    for band in report.bands:
        assert band.above_mark.low <= 0.05 <= band.above_mark.high
        assert band.generated.median == pytest.approx(band.real.median, abs=0.1)


def test_the_verb_prints_the_report_without_torch_and_keeps_to_its_threads(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds, real = folders
    pools: set[int] = set()

    def counting(judge: ReplayJudge, train: list[Clip], on_progress: Progress) -> dict[float, Any]:
        pools.update(pool["num_threads"] for pool in threadpool_info())
        return nearest(judge, train, on_progress)

    nearest = novelty._nearest
    monkeypatch.setattr(novelty, "_nearest", counting)
    monkeypatch.setitem(sys.modules, "torch", None)
    words = ["evaluate-novelty", str(sounds), "--reference", str(real), "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, [*words, "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert pools == {1}
    found = json.loads(result.stdout)
    assert found["schema"] == 2 and found["bands"][0]["nearest"][0]["training_clip"] == "7.flac"
    assert json.loads((tmp_path / "out" / "novelty.json").read_text(encoding="utf-8")) == found


def test_what_cannot_be_compared_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, real = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no sound"):
        evaluate_novelty(tmp_path / "empty", real, tmp_path / "out")
    soundfile.write(tmp_path / "empty" / "long.wav", recording(9.0, 1), RATE)
    with pytest.raises(DataError, match="no validation clip is as long"):
        evaluate_novelty(tmp_path / "empty", real, tmp_path / "out")
