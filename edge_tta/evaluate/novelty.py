"""Does a generator replay its training data: how near its sounds come to training clips, beside new recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_tta.catalog import METADATA_FILE, Clip
from edge_tta.errors import DataError
from edge_tta.evaluate.clips import load_clip, read_clips
from edge_tta.evaluate.replay import SPEC, Frames, ReplayJudge, course
from edge_tta.evaluate.report import write_report
from edge_tta.evaluate.run import file_digest
from edge_tta.evaluate.spectrogram import Panel, write_sheet
from edge_tta.evaluate.statistics import Estimate, Spread, share_estimate, spread
from edge_tta.files import make_folder

SCHEMA = 1
SUFFIXES = (".wav", ".flac", ".ogg")
MIN_SECONDS = 2.0
"""Shorter training clips are left out: a moment of anything is like a moment of something."""
SHOWN = 6
"""Nearest pairs in the picture and the table."""
SMALL_SHARE = 5.0
"""Percent of new recordings that are nearer than the mark which generated sounds are counted at."""


@dataclass(frozen=True)
class Pair:
    """A sound and the training clip it is most like."""

    sound: str
    training_clip: str
    label: str
    """Of the training clip."""
    score: float


@dataclass(frozen=True)
class NoveltyReport:
    """Everything :func:`evaluate_novelty` finds."""

    schema: int
    reference: str
    """SHA-256 of the metadata of the real clips."""
    seconds: float
    """Length that is compared."""
    training_clips: int
    left_out: int
    """Training clips that are too short."""
    generated: Spread
    """Replay score of each sound with the training clip it is most like."""
    real: Spread
    """The same of real validation clips, which cannot have been replayed: no recording is in both splits."""
    mark: float
    """Score that ``SMALL_SHARE`` percent of the real clips exceed."""
    above_mark: Estimate
    """Share of generated sounds that exceed it."""
    nearest: tuple[Pair, ...]
    """The most alike, first the highest score."""


Progress = Callable[[str, int, int], Any]
"""Called with what is done, items done and items in all."""


def evaluate_novelty(
    sounds: Path,
    reference_dir: Path,
    output_dir: Path,
    *,
    random_seed: int = 0,
    on_progress: Progress = lambda *_: None,
) -> NoveltyReport:
    """Compare sounds with all training clips; writes ``novelty.json``, ``novelty.md`` and ``novelty.png``.

    Args:
        sounds: folder of generated sounds, such as ``audio`` of ``edge-tta evaluate --audio``. What is compared is as
            long as the shortest of them.
        reference_dir: folder of real clips with ``metadata.csv``; split ``train`` is what may have been replayed,
            ``val`` the new recordings.
        output_dir: gets the report.
        random_seed: seed of the intervals.
        on_progress: told of every clip.

    Raises:
        DataError: no sound or clip that can be compared, or one that cannot be read.
        OutputError: the report cannot be written.
    """
    paths = sorted(path for path in sounds.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{sounds}: no sound ({', '.join(SUFFIXES)})")
    clips = read_clips(reference_dir, ("train", "val"))
    make_folder(output_dir)
    rate = SPEC.sample_rate
    made = [course(load_clip(path, rate), rate) for path in paths]
    frames = min(view.shape[1] for view in made)
    held = [clip for clip in clips if clip.split == "val"]
    new, new_clips = [], []
    for number, clip in enumerate(held, start=1):
        view = course(load_clip(clip.path, rate), rate)
        if view.shape[1] >= frames:
            new.append(view)
            new_clips.append(clip)
        on_progress("reading validation clips", number, len(held))
    if not new:
        raise DataError(f"{reference_dir}: no validation clip is as long as the sounds")
    judge = ReplayJudge([view[:, :frames] for view in (*made, *new)])
    best, nearest, compared, left_out = _nearest(
        judge, [clip for clip in clips if clip.split == "train"], on_progress
    )
    generator = np.random.default_rng(random_seed)
    ours, theirs = best[: len(made)], best[len(made) :]
    mark = float(np.percentile(theirs, 100.0 - SMALL_SHARE))
    order = np.argsort(-ours, kind="stable")[:SHOWN]
    report = NoveltyReport(
        SCHEMA,
        file_digest(reference_dir / METADATA_FILE),
        frames * SPEC.hop / rate,
        compared,
        left_out,
        spread(ours, generator),
        spread(theirs, generator, groups=[clip.recording for clip in new_clips]),
        mark,
        share_estimate(ours > mark),
        tuple(_pair(paths[row], nearest[row], ours[row], reference_dir) for row in order),
    )
    write_report(report, novelty_markdown(report), output_dir, "novelty")
    panels = [
        [
            Panel(f"{paths[row].stem[:24]}, {ours[row]:.2f}", load_clip(paths[row], rate), rate),
            Panel(f"training: {nearest[row].label}", load_clip(nearest[row].path, rate), rate),
        ]
        for row in order
    ]
    write_sheet(panels, output_dir / "novelty.png")
    return report


def _nearest(
    judge: ReplayJudge, clips: Sequence[Clip], on_progress: Progress
) -> tuple[npt.NDArray[np.float64], list[Clip], int, int]:
    """Best score and clip of everything the judge holds; clips compared and left out."""
    best: npt.NDArray[np.float64] = np.zeros(0)
    nearest: list[Clip] = []
    left_out = 0
    for number, clip in enumerate(clips, start=1):
        on_progress("comparing training clips", number, len(clips))
        view: Frames = course(load_clip(clip.path, SPEC.sample_rate), SPEC.sample_rate)
        if view.shape[1] * SPEC.hop < MIN_SECONDS * SPEC.sample_rate:
            left_out += 1
            continue
        scores = judge.scores(view)
        if not nearest:
            best, nearest = scores, [clip] * len(scores)
            continue
        for row in np.flatnonzero(scores > best):
            nearest[row] = clip
        best = np.maximum(best, scores)
    if not nearest:
        raise DataError(f"no training clip of {MIN_SECONDS:g} s or more")
    return best, nearest, len(clips) - left_out, left_out


def _pair(sound: Path, clip: Clip, score: float, root: Path) -> Pair:
    return Pair(sound.name, clip.path.relative_to(root).as_posix(), clip.label, round(float(score), 3))


def novelty_markdown(report: NoveltyReport) -> str:
    """The report as Markdown."""

    def row(name: str, found: Spread) -> str:
        return (
            f"| {name} | {found.n} | {found.median:.3f} | {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) | "
            f"{found.highest:.3f} |"
        )

    share = report.above_mark
    lines = [
        "# Does it replay its training data?",
        "",
        (
            f"Every sound is held against {report.training_clips:,} training clips at every shift ({report.left_out} "
            f"shorter than {MIN_SECONDS:g} s are left out), over {report.seconds:.1f} s. The score is the correlation "
            "of log-mel spectrograms about the mean of every band: 1 is the same recording, whatever its level and "
            "timbre. Real validation clips show how alike new recordings are by chance. Reference "
            f"`{report.reference[:12]}`."
        ),
        "",
        "| most alike training clip | sounds | median score | mean (95 % interval) | highest |",
        "|---|---|---|---|---|",
        row("generated", report.generated),
        row("real validation clips", report.real),
        "",
        (
            f"{SMALL_SHARE:g} % of the real clips score above {report.mark:.3f}; of the generated ones "
            f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}) do."
        ),
        "",
        "| generated | training clip | its label | score |",
        "|---|---|---|---|",
        *(
            f"| {pair.sound} | `{pair.training_clip}` | {pair.label} | {pair.score:.3f} |"
            for pair in report.nearest
        ),
        "",
        "Generated left, the training clip it is most like right:",
        "",
        "![nearest pairs](novelty.png)",
        "",
    ]
    return "\n".join(lines)
