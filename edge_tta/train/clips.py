"""The clips of a recipe: chosen from a catalog, and decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tta.catalog import Clip, bandwidth_at_least, is_known_licence, permissive, select
from edge_tta.decode import seconds_of
from edge_tta.errors import ConfigError, DataError
from edge_tta.train.data.clip_cache import ClipCache, load_or_build_clip_cache, require_usable
from edge_tta.train.data.layouts import LAYOUTS
from edge_tta.train.recipes import DataConfig

MOST_NAMED = 8
"""Licences or labels that a message names."""
UNKNOWN_LICENCE = "licence not known"
"""Why a clip is left out of whose licence nothing is known."""

Report = Callable[[str, int, int], Any]
"""Told (what, done, total) while data are decoded and encoded."""


@dataclass(frozen=True)
class Choice:
    """Clips that a recipe may use, and those that it may not."""

    clips: list[Clip]
    left_out: dict[str, int]
    """How many are left out, by the reason."""
    unknown_licences: dict[str, int]
    """How many of them have a licence of which nothing is known, by its text."""


def choose_clips(config: DataConfig) -> Choice:
    """Clips of a data configuration, filtered.

    Raises:
        ConfigError: no folder, or an unknown layout.
        DataError: unreadable metadata, or nothing left after filtering.
    """
    if not config.folder:
        raise ConfigError("give data.folder, the folder of training clips (--set data.folder=PATH)")
    if config.layout not in LAYOUTS:
        raise ConfigError(f"data.layout '{config.layout}' is unknown; use {', '.join(LAYOUTS)}")
    listed, absent = LAYOUTS[config.layout](Path(config.folder))
    if not listed:
        raise DataError(f"{config.folder}: no clip of layout {config.layout} is there")
    wide = select(listed, bandwidth_at_least(config.min_bandwidth_hz))
    if not wide:
        raise DataError(f"{config.folder}: no clip reaches {config.min_bandwidth_hz:g} Hz")
    chosen = select(wide, permissive) if config.permissive_only else wide
    refused = Counter(clip.licence for clip in wide if config.permissive_only and not clip.permissive)
    if not chosen:
        raise DataError(
            f"{config.folder}: no clip has a permissive licence ({told_counts(refused)}); "
            "data.permissive_only=false takes them all"
        )
    unknown = {text: count for text, count in refused.most_common() if text and not is_known_licence(text)}
    reasons = {
        "audio is not there": absent,
        f"bandwidth below {config.min_bandwidth_hz:g} Hz": len(listed) - len(wide),
        "licence not permissive": sum(refused.values()) - sum(unknown.values()) - refused[""],
        UNKNOWN_LICENCE: sum(unknown.values()),
        "no licence given": refused[""],
    }
    return Choice(chosen, {reason: count for reason, count in reasons.items() if count}, unknown)


def told_counts(counts: Mapping[str, int]) -> str:
    """Texts of licences, or labels, and how many clips have each, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    named = [f"{text!r} {count}" if text else f"none {count}" for text, count in ordered[:MOST_NAMED]]
    more = [f"{len(ordered) - MOST_NAMED} others"] if len(ordered) > MOST_NAMED else []
    return ", ".join([*named, *more])


def seconds_of_clips(clips: Sequence[Clip], report: Report) -> list[float]:
    """Length of every clip by its header: what cannot be opened is found before anything long begins.

    Raises:
        DataError: names the clips that cannot be opened.
    """
    seconds, broken = list[float](), list[DataError]()
    for number, clip in enumerate(clips, start=1):
        try:
            seconds.append(seconds_of(clip.path))
        except DataError as error:
            broken.append(error)
        report("opening clips", number, len(clips))
    require_usable(broken, len(clips))
    return seconds


def decoded_clips(config: DataConfig, sample_rate: int, report: Report) -> tuple[list[Clip], ClipCache]:
    """The catalog and its decoded samples, which are kept in ``data.cache``.

    Raises:
        ConfigError, DataError: see ``choose_clips``; or clips cannot be decoded.
    """
    clips = choose_clips(config).clips
    cache = load_or_build_clip_cache(
        clips, Path(config.cache), sample_rate, lambda done, total: report("decoding clips", done, total)
    )
    return clips, cache
