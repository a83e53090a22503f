"""What the codec loses: recognition of reconstructions first, spectral distances second.

A small mel distance alone proves little: smooth envelopes score well and sound like nothing. The tagger's verdict on
the reconstruction against its verdict on the original is the figure to steer by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_tta.catalog import Clip
from edge_tta.errors import DataError
from edge_tta.evaluate.adherence import ranks
from edge_tta.evaluate.clips import load_clip
from edge_tta.evaluate.contact_sheet import SheetEntry
from edge_tta.evaluate.frechet import frechet_estimate
from edge_tta.evaluate.spectral import FloatArray, log_mel_distance, mono, multi_resolution_stft_distance
from edge_tta.evaluate.statistics import Estimate, mean_estimate, share_estimate
from edge_tta.evaluate.tagger import Tagger, Tags
from edge_tta.evaluate.transients import Onset, TransientFigures, measure_onset, transient_figures

TREBLE_HZ, TREBLE_SHARE = (12_000.0, 16_000.0), 1e-5
"""A band that codecs lose first, and the share of a clip's energy in it (-50 dB) from which on it counts."""

Reconstruct = Callable[[FloatArray], FloatArray]
"""One channel [frames] through encoder and decoder to [frames] or [1, frames], at the tagger's sample rate."""


@dataclass(frozen=True)
class CodecFigures:
    """Reconstruction error on real clips; intervals are over whole labels, because a codec fails on kinds of sound."""

    original_top1: Estimate
    """Share of originals whose label the tagger ranks first."""
    reconstructed_top1: Estimate
    """The same share after the codec."""
    top1_change: Estimate
    """Reconstructed minus original, clip by clip."""
    original_top5: Estimate
    reconstructed_top5: Estimate
    same_verdict: Estimate
    """Share of clips whose first-ranked label the codec does not change."""
    frechet: Estimate
    """Fréchet distance of the reconstructions' embeddings from the originals'."""
    log_mel: Estimate
    """Mean absolute difference of log10 mel magnitudes."""
    multi_resolution_stft: Estimate
    """Spectral convergence plus log magnitude distance."""
    treble_change: Estimate | None
    """Level from 12 to 16 kHz, reconstruction minus original, dB, of clips that have something there."""
    transients: TransientFigures | None
    """None without two clips that have a clear onset."""


@dataclass(frozen=True, eq=False)
class CodecJudgement:
    """Figures, and sounds to look at."""

    figures: CodecFigures
    entries: list[SheetEntry]
    """A pair of each label, as many as were asked for."""
    onsets: list[Onset]
    """Every clear onset of the clips."""


def _fit(reconstruction: FloatArray, frames: int, name: str) -> FloatArray:
    """Cut the codec's padding; a short reconstruction is a fault, not something to fill up silently."""
    signal = mono(reconstruction)
    if len(signal) < frames:
        raise DataError(f"{name}: the reconstruction has {len(signal)} samples, the original {frames}")
    return signal[:frames]


def codec_figures(
    reconstruct: Reconstruct,
    clips: Sequence[Clip],
    tagger: Tagger,
    generator: np.random.Generator,
    *,
    sheet_labels: int = 25,
    on_progress: Callable[[int, int], None] | None = None,
) -> CodecJudgement:
    """Put clips through the codec and compare.

    Args:
        reconstruct: the codec.
        clips: real clips; those with a label unknown to the tagger are left out.
        tagger: the judge.
        generator: source of the bootstrap.
        sheet_labels: pairs to keep for a contact sheet, one per label.
        on_progress: called with clips done and clips in all.

    Raises:
        DataError: fewer than two clips have a known label, or a reconstruction is too short or not finite.
    """
    known = [clip for clip in clips if tagger.index(clip.label) is not None]
    if len(known) < 2:
        raise DataError("at least two clips with a label known to the tagger are needed to judge a codec")
    rate = tagger.config.mel.sample_rate
    entries: dict[str, SheetEntry] = {}
    parts: dict[str, list[Tags]] = {"original": [], "reconstructed": []}
    mel_distance, stft_distance, treble, treble_labels = [], [], [], []
    onsets: list[Onset] = []
    for number, clip in enumerate(known, start=1):
        original = load_clip(clip.path, rate)
        reconstruction = _fit(reconstruct(original), len(original), clip.path.name)
        parts["original"].append(tagger.tag([original], rate))
        parts["reconstructed"].append(tagger.tag([reconstruction], rate))
        mel_distance.append(log_mel_distance(original, reconstruction, rate))
        stft_distance.append(multi_resolution_stft_distance(original, reconstruction))
        if (change := treble_change(original, reconstruction, rate)) is not None:
            treble.append(change)
            treble_labels.append(clip.label)
        if (onset := measure_onset(clip.label, original, reconstruction, rate)) is not None:
            onsets.append(onset)
        if clip.label not in entries and len(entries) < sheet_labels:
            entries[clip.label] = SheetEntry(clip.label, original, reconstruction)
        if on_progress is not None:
            on_progress(number, len(known))
    original_tags, reconstructed_tags = (stack_tags(part) for part in parts.values())
    labels = [clip.label for clip in known]
    before, after = ranks(original_tags, labels, tagger), ranks(reconstructed_tags, labels, tagger)
    figures = CodecFigures(
        original_top1=share_estimate(before < 1, groups=labels),
        reconstructed_top1=share_estimate(after < 1, groups=labels),
        top1_change=mean_estimate((after < 1).astype(float) - (before < 1), generator, groups=labels),
        original_top5=share_estimate(before < 5, groups=labels),
        reconstructed_top5=share_estimate(after < 5, groups=labels),
        same_verdict=share_estimate(
            original_tags.ranked(1)[:, 0] == reconstructed_tags.ranked(1)[:, 0], groups=labels
        ),
        frechet=frechet_estimate(
            reconstructed_tags.embeddings, original_tags.embeddings, generator, groups=labels
        ),
        log_mel=mean_estimate(mel_distance, generator, groups=labels),
        multi_resolution_stft=mean_estimate(stft_distance, generator, groups=labels),
        treble_change=mean_estimate(treble, generator, groups=treble_labels) if treble else None,
        transients=transient_figures(onsets, generator),
    )
    return CodecJudgement(figures, list(entries.values()), onsets)


def treble_change(original: FloatArray, reconstruction: FloatArray, sample_rate: int) -> float | None:
    """Level of the reconstruction over the original's in ``TREBLE_HZ``, dB.

    Args:
        original: [frames].
        reconstruction: [frames].
        sample_rate: Hz.

    Returns:
        None where the original has next to nothing there, or the rate does not reach so far.
    """
    if sample_rate < 2 * TREBLE_HZ[1]:
        return None
    frequency = np.fft.rfftfreq(len(original), 1.0 / sample_rate)
    band = (frequency >= TREBLE_HZ[0]) & (frequency < TREBLE_HZ[1])
    power = [
        np.square(np.abs(np.fft.rfft(np.asarray(x, dtype=np.float64)))) for x in (original, reconstruction)
    ]
    if power[0][band].sum() <= TREBLE_SHARE * power[0].sum():
        return None
    return float(10.0 * np.log10(max(float(power[1][band].sum()), 1e-12) / float(power[0][band].sum())))


def stack_tags(parts: Sequence[Tags]) -> Tags:
    """Verdicts on single clips as one table."""
    return Tags(np.concatenate([p.embeddings for p in parts]), np.concatenate([p.logits for p in parts]))
