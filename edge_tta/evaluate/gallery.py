"""The sounds of an evaluation as one page to listen to: nothing is chosen by ear, and nothing lies beside it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_tta.audio import Audio
from edge_tta.errors import DataError
from edge_tta.evaluate.html import Markup, data_address, document, element
from edge_tta.evaluate.loudness import integrated_loudness
from edge_tta.evaluate.parity_text import number
from edge_tta.evaluate.results import GeneratorReport
from edge_tta.evaluate.spectrogram import picture_png, spectrogram_pixels
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import Tagger

PICTURE_WIDTH, PICTURE_HEIGHT = 480, 120
MP3_COMPRESSION = 0.4
"""LAME's variable bit rate, quality 4 of 9: about 50 kB for 5 s, so that fifty sounds make a page that travels."""


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A sound as it was made."""

    prompt: Prompt
    seed: int
    audio: Audio


class FirstSounds:
    """Keeps the first sound of every prompt, in the order in which they are made."""

    def __init__(self) -> None:
        self.exhibits: list[Exhibit] = []
        self._seen: set[Prompt] = set()

    def add(self, prompt: Prompt, seed: int, audio: Audio) -> None:
        """Offer a sound; later ones of the same prompt are not kept."""
        if prompt not in self._seen:
            self._seen.add(prompt)
            self.exhibits.append(Exhibit(prompt, seed, audio))


def mp3_bytes(audio: Audio) -> bytes:
    """The sound as MP3, which every browser plays; for listening, not for measuring.

    Raises:
        DataError: a rate or channel count that MP3 does not have.
    """
    import soundfile

    stream = io.BytesIO()
    try:
        with soundfile.SoundFile(
            stream,
            "w",
            audio.sample_rate,
            audio.channels,
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=MP3_COMPRESSION,
            bitrate_mode="VARIABLE",
        ) as file:
            file.write(np.ascontiguousarray(audio.samples.T))
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"MP3 cannot hold {audio.channels} channels at {audio.sample_rate} Hz ({error.error_string})"
        ) from error
    return stream.getvalue()


def gallery_page(report: GeneratorReport, exhibits: Sequence[Exhibit], tagger: Tagger) -> str:
    """The page: a card a prompt, with picture, player, and what the tagger hears in it.

    Args:
        report: what the evaluation found; names subject and settings.
        exhibits: sounds in the order of the page; those of a suite stand together.
        tagger: the judge.

    Raises:
        DataError: there is no sound, or one that MP3 cannot hold.
    """
    if not exhibits:
        raise DataError("a page of sounds needs at least one sound")
    settings, subject = report.settings, report.provenance.subject
    suites = {
        name: list(group)
        for name, group in itertools.groupby(
            sorted(exhibits, key=lambda one: one.prompt.suite), key=lambda one: one.prompt.suite
        )
    }
    steps = "one step" if settings.steps == 1 else f"{settings.steps} steps"
    guidance = "" if settings.guidance is None else f", guidance {settings.guidance:g}"
    head = element(
        "header",
        element("p", "edge_tta sounds", class_="kicker"),
        element("h1", f"What {subject} makes of {len(exhibits)} prompts"),
        element(
            "p",
            f"{steps.capitalize()}, {settings.precision}, {settings.seconds:g} s{guidance}. The first seed of every "
            "prompt: nothing was chosen by ear.",
            class_="lede",
        ),
        element(
            "p",
            "The verdict is that of a tagger trained on real clips, which ranks the label of "
            f"{100 * report.real.top1.value:.0f} % of real clips first; it heard the sounds before they became MP3. "
            f"Bundle {(report.provenance.subject_digest or '–')[:12]}, tagger {tagger.digest[:12]}.",
            class_="soft",
        ),
    )
    heard = _hearing(tagger)
    sections = [
        element(
            "section",
            element("h2", name),
            element("div", *(_card(one, heard(one)) for one in group), class_="pairs"),
        )
        for name, group in suites.items()
    ]
    return document(f"Sounds of {subject}", element("main", head, *sections), scripts=("players.js",))


def _hearing(tagger: Tagger) -> Callable[[Exhibit], tuple[bool, str]]:
    """Whether a sound is what was asked for, and in words what it was taken for."""

    def heard(one: Exhibit) -> tuple[bool, str]:
        tags = tagger.tag([one.audio.samples], one.audio.sample_rate)
        order = [tagger.labels[place] for place in tags.ranked(len(tagger.labels))[0]]
        places = [order.index(label) for label in one.prompt.labels if label in order]
        if len(places) < len(one.prompt.labels):
            return False, f"heard as {order[0]}; the tagger does not know the label"
        if len(places) > 1:
            found = [label for label in one.prompt.labels if order.index(label) < 5]
            both = len(found) == len(places)
            return both, "both among five" if both else f"among five: {found[0] if found else 'neither'}"
        if places[0] == 0:
            return True, "label first"
        return places[0] < 5, f"label at place {places[0] + 1}; heard as {order[0]}"

    return heard


def _card(one: Exhibit, verdict: tuple[bool, str]) -> Markup:
    good, words = verdict
    audio, text = one.audio, one.prompt.text
    loudness = integrated_loudness(audio)
    level = "silent" if loudness is None else f"{number(loudness, 1)} LUFS"
    pixels = spectrogram_pixels(audio.samples, audio.sample_rate, PICTURE_WIDTH, PICTURE_HEIGHT)
    return element(
        "article",
        element("h4", text),
        element(
            "p",
            element("span", ("✓ " if good else "") + words, class_=f"verdict {'pass' if good else 'none'}"),
            f" Seed {one.seed}, {level}, peak {number(audio.peak, 2)}",
            class_="soft",
        ),
        element(
            "figure",
            element(
                "img",
                src=data_address("image/png", picture_png(pixels, 32)),
                alt=f"Spectrogram of “{text}”",
                width=PICTURE_WIDTH,
                height=PICTURE_HEIGHT,
                loading="lazy",
            ),
            element(
                "audio",
                controls=True,
                preload="metadata",
                src=data_address("audio/mpeg", mp3_bytes(audio)),
                aria_label=f"“{text}”",
            ),
        ),
        class_="pair",
    )
