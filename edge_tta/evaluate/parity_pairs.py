"""Pairs of sounds to be heard and seen: the reference's above, the variant's below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_tta.audio import Audio
from edge_tta.evaluate.html import Markup, data_address, element
from edge_tta.evaluate.parity_results import ClipParity
from edge_tta.evaluate.parity_text import figure_number, number
from edge_tta.evaluate.spectrogram import loudest_cell, picture_png, spectrogram_pixels

AUDIBLE_LOG_MEL = 0.001
"""Sounds nearer than this end to end (0.02 dB on average) are not worth playing."""
PICTURE_WIDTH, PICTURE_HEIGHT = 480, 120


@dataclass(frozen=True, eq=False)
class HeardPair:
    """A sound of a variant and the reference's of the same prompt and noise."""

    clip: ClipParity
    reference: Audio
    variant: Audio


def flac_address(audio: Audio) -> str:
    """The sound as a ``data:`` address; lossless, so that no codec stands between listener and difference."""
    return data_address("audio/flac", audio.to_bytes(".flac"))


def player(audio: Audio, label: str) -> Markup:
    """An audio element with the sound in it."""
    return element("audio", controls=True, preload="metadata", src=flac_address(audio), aria_label=label)


def pairs_section(pairs: Sequence[HeardPair], reference: str, variant: str) -> Markup:
    """Cards of pairs, each with pictures of one scale, players, and a button that changes sides in mid-sound."""
    return element("div", *(_card(pair, reference, variant) for pair in pairs), class_="pairs")


def _card(pair: HeardPair, reference: str, variant: str) -> Markup:
    clip = pair.clip
    loudest = max(loudest_cell(audio.samples, audio.sample_rate) for audio in (pair.reference, pair.variant))
    facts = (
        f"Seed {clip.seed}; log-mel distance {number(clip.log_mel, 3)}, latent "
        f"{figure_number('end_to_end.latent_snr_db', clip.latent_snr_db)} dB"
    )
    if clip.loudness_change_lu is not None:
        facts += f", loudness {number(clip.loudness_change_lu, 1, signed=True)} LU"
    return element(
        "article",
        element("h4", clip.prompt),
        element("p", facts, class_="soft"),
        _view(pair.reference, f"{reference}, fp32", clip.prompt, loudest),
        _view(pair.variant, variant, clip.prompt, loudest),
        element("button", "Switch sides here", type="button", class_="button switch"),
        class_="pair",
    )


def _view(audio: Audio, name: str, prompt: str, loudest: float) -> Markup:
    pixels = spectrogram_pixels(
        audio.samples, audio.sample_rate, PICTURE_WIDTH, PICTURE_HEIGHT, loudest_db=loudest
    )
    return element(
        "figure",
        element("figcaption", name),
        element(
            "img",
            src=data_address("image/png", picture_png(pixels)),
            alt=f"Spectrogram of “{prompt}” by {name}",
            width=PICTURE_WIDTH,
            height=PICTURE_HEIGHT,
        ),
        player(audio, f"“{prompt}” by {name}"),
    )
