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
from edge_tta.evaluate.threads import bounded_threads
from edge_tta.files import make_folder
from edge_tta.runtime.pipeline import checked_threads

SCHEMA = 2
SUFFIXES = (".wav", ".flac", ".ogg")
BANDS = (2.0, 1.0, 0.5, 0.25)
"""Training clips are taken together from these seconds up to the next: a moment of anything is like a moment of
something, so that the scores of short clips are higher by chance and need a mark of their own. Still shorter ones are
left out: ten frames have no course."""
SHOWN = 3
"""Nearest pairs of each band in the picture and the table."""
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
class Band:
    """Sounds beside the training clips of about one length; generated and real ones on equal terms."""

    shortest: float
    """Seconds of a training clip, from this."""
    longest: float | None
    """Up to this; None without end."""
    training_clips: int
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


@dataclass(frozen=True)
class NoveltyReport:
    """Everything :func:`evaluate_novelty` finds."""

    schema: int
    reference: str
    """SHA-256 of the metadata of the real clips."""
    seconds: float
    """Length of the sounds that are compared; shorter training clips are looked for anywhere within."""
    training_clips: int
    """Of all bands."""
    left_out: int
    """Training clips that are too short for any."""
    bands: tuple[Band, ...]
    """Those that have training clips, the longest first."""


Progress = Callable[[str, int, int], Any]
"""Called with what is done, items done and items in all."""


def evaluate_novelty(
    sounds: Path,
    reference_dir: Path,
    output_dir: Path,
    *,
    random_seed: int = 0,
    threads: int | None = None,
    on_progress: Progress = lambda *_: None,
) -> NoveltyReport:
    """Compare sounds with all training clips; writes ``novelty.json``, ``novelty.md`` and ``novelty.png``.

    Args:
        sounds: folder of generated sounds, such as ``audio`` of ``edge-tta evaluate --audio``. What is compared of
            each is as long as the shortest of them.
        reference_dir: folder of real clips with ``metadata.csv``; split ``train`` is what may have been replayed,
            ``val`` the new recordings.
        output_dir: gets the report.
        random_seed: seed of the intervals.
        threads: threads of the matrix library, None for the runtime's choice.
        on_progress: told of every clip.

    Raises:
        DataError: no sound or clip that can be compared, or one that cannot be read.
        OutputError: the report cannot be written.
        RequestError: threads are no whole number, or out of range.
    """
    threads = checked_threads(threads)
    paths = sorted(path for path in sounds.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{sounds}: no sound ({', '.join(SUFFIXES)})")
    clips = read_clips(reference_dir, ("train", "val"))
    make_folder(output_dir)
    rate = SPEC.sample_rate
    with bounded_threads(threads):
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
        train = [clip for clip in clips if clip.split == "train"]
        found = _nearest(judge, train, on_progress)
    generator, recordings = np.random.default_rng(random_seed), [clip.recording for clip in new_clips]
    bands, shown = [], []
    for shortest, best in found.items():
        ours, theirs = best.scores[: len(made)], best.scores[len(made) :]
        mark = float(np.percentile(theirs, 100.0 - SMALL_SHARE))
        order = np.argsort(-ours, kind="stable")[:SHOWN]
        place = BANDS.index(shortest)
        bands.append(
            Band(
                shortest,
                BANDS[place - 1] if place else None,
                best.compared,
                spread(ours, generator),
                spread(theirs, generator, groups=recordings),
                mark,
                share_estimate(ours > mark),
                tuple(_pair(paths[row], best.clips[row], ours[row], reference_dir) for row in order),
            )
        )
        shown += [(paths[row], best.clips[row], ours[row]) for row in order]
    compared = sum(band.training_clips for band in bands)
    report = NoveltyReport(
        SCHEMA,
        file_digest(reference_dir / METADATA_FILE),
        frames * SPEC.hop / rate,
        compared,
        len(train) - compared,
        tuple(bands),
    )
    write_report(report, novelty_markdown(report), output_dir, "novelty")
    panels = [
        [
            Panel(f"{path.stem[:24]}, {score:.2f}", load_clip(path, rate), rate),
            Panel(f"training: {clip.label}", load_clip(clip.path, rate), rate),
        ]
        for path, clip, score in shown
    ]
    write_sheet(panels, output_dir / "novelty.png")
    return report


@dataclass(eq=False)
class _Best:
    """Of the training clips of one band: the score of the most alike by sound, and which it is."""

    scores: npt.NDArray[np.float64]
    clips: list[Clip]
    compared: int = 0


def _nearest(judge: ReplayJudge, clips: Sequence[Clip], on_progress: Progress) -> dict[float, _Best]:
    """By the shortest length of a band, the longest first: the best of everything the judge holds."""
    found: dict[float, _Best] = {}
    for number, clip in enumerate(clips, start=1):
        on_progress("comparing training clips", number, len(clips))
        view: Frames = course(load_clip(clip.path, SPEC.sample_rate), SPEC.sample_rate)
        seconds = view.shape[1] * SPEC.hop / SPEC.sample_rate
        shortest = next((limit for limit in BANDS if seconds >= limit), None)
        if shortest is None:
            continue
        scores = judge.scores(view)
        best = found.setdefault(shortest, _Best(np.full(len(scores), -np.inf), [clip] * len(scores)))
        for row in np.flatnonzero(scores > best.scores):
            best.clips[row] = clip
        best.scores = np.maximum(best.scores, scores)
        best.compared += 1
    if not found:
        raise DataError(f"no training clip of {BANDS[-1]:g} s or more")
    return {shortest: found[shortest] for shortest in BANDS if shortest in found}


def _pair(sound: Path, clip: Clip, score: float, root: Path) -> Pair:
    return Pair(sound.name, clip.path.relative_to(root).as_posix(), clip.label, round(float(score), 3))


def _lengths(band: Band) -> str:
    """Which training clips, in words."""
    return (
        f"of {band.shortest:g} s and more"
        if band.longest is None
        else f"{band.shortest:g} to {band.longest:g} s"
    )


def _middle(found: Spread) -> str:
    return f"{found.median:.3f}, {found.highest:.3f}"


def novelty_markdown(report: NoveltyReport) -> str:
    """The report as Markdown."""

    def row(band: Band) -> str:
        share = band.above_mark
        return (
            f"| {_lengths(band)} | {band.training_clips:,} | {_middle(band.generated)} | {_middle(band.real)} | "
            f"{band.mark:.3f} | {100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}) |"
        )

    first, left_out = report.bands[0], ""
    if report.left_out:
        share = report.left_out / (report.left_out + report.training_clips)
        left_out = f"; {report.left_out:,} ({100 * share:.1f} %) shorter than {BANDS[-1]:g} s are left out"
    lines = [
        "# Does it replay its training data?",
        "",
        (
            f"{first.generated.n} generated sounds and {first.real.n} real validation clips, {report.seconds:.1f} s of "
            f"each, are held against {report.training_clips:,} training clips at every shift{left_out}. The score is "
            "the correlation of log-mel spectrograms about the mean of every band: 1 is the same recording, whatever "
            "its level and timbre. Real validation clips show how alike new recordings are by chance: the more, the "
            f"shorter a training clip is. Reference `{report.reference[:12]}`."
        ),
        "",
        (
            "| training clips | number | score with the most alike, generated: median, highest | real: median, highest "
            f"| mark, which {SMALL_SHARE:g} % of the real exceed | generated above it |"
        ),
        "|---|---|---|---|---|---|",
        *map(row, report.bands),
        "",
        f"In every row {SMALL_SHARE:g} % of the sounds would be above the mark by chance.",
        "",
        "| training clips | generated | training clip | its label | score |",
        "|---|---|---|---|---|",
        *(
            f"| {_lengths(band)} | {pair.sound} | `{pair.training_clip}` | {pair.label} | {pair.score:.3f} |"
            for band in report.bands
            for pair in band.nearest
        ),
        "",
        "Generated left, the training clip it is most like right:",
        "",
        "![nearest pairs](novelty.png)",
        "",
    ]
    return "\n".join(lines)
