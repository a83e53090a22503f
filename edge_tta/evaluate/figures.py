"""The figures of a validation: what each is called, its unit, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FigureKind:
    """How a figure is named and shown."""

    stage: Literal["text_encoder", "generator", "decoder", "end_to_end"]
    title: str
    unit: str
    decimals: int
    meaning: str
    better: Literal["higher", "lower", "zero"]


def _snr(stage: Literal["text_encoder", "generator", "decoder", "end_to_end"], what: str) -> FigureKind:
    meaning = f"energy of the reference's {what} over energy of the difference"
    return FigureKind(stage, f"{what} SNR", "dB", 1, meaning, "higher")


_LOG_MEL = "mean absolute difference of log10 mel magnitudes; 0.05 is 1 dB"
_STFT = "spectral convergence plus log magnitude distance over three resolutions (Yamamoto et al. 2020)"

FIGURES: dict[str, FigureKind] = {
    "text_encoder.tokens_snr_db": _snr("text_encoder", "token features"),
    "text_encoder.pooled_snr_db": _snr("text_encoder", "sentence vector"),
    "generator.latent_snr_db": _snr("generator", "latent"),
    "decoder.waveform_snr_db": _snr("decoder", "waveform"),
    "decoder.log_mel_distance": FigureKind("decoder", "log-mel distance", "", 3, _LOG_MEL, "lower"),
    "decoder.stft_distance": FigureKind("decoder", "multi-resolution STFT distance", "", 3, _STFT, "lower"),
    "end_to_end.latent_snr_db": _snr("end_to_end", "latent"),
    "end_to_end.waveform_snr_db": _snr("end_to_end", "waveform"),
    "end_to_end.log_mel_distance": FigureKind("end_to_end", "log-mel distance", "", 3, _LOG_MEL, "lower"),
    "end_to_end.stft_distance": FigureKind(
        "end_to_end", "multi-resolution STFT distance", "", 3, _STFT, "lower"
    ),
    "end_to_end.loudness_change_lu": FigureKind(
        "end_to_end", "loudness change", "LU", 2, "integrated loudness (ITU-R BS.1770-4) minus the reference's", "zero"
    ),
    "end_to_end.top1_change_points": FigureKind(
        "end_to_end", "adherence change, label first", "points", 1,
        "share of sounds whose label the tagger ranks first, minus the reference's", "higher",
    ),
    "end_to_end.top5_change_points": FigureKind(
        "end_to_end", "adherence change, label among five", "points", 1,
        "share of sounds whose label is among the tagger's first five, minus the reference's", "higher",
    ),
    "end_to_end.frechet_change_percent": FigureKind(
        "end_to_end", "Fréchet distance change", "%", 1,
        "Fréchet distance to real clips, in the tagger's embedding, over the reference's", "lower",
    ),
}  # fmt: skip
"""By key, in the order of reports."""
