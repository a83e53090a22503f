"""The clips of a recipe: chosen from a catalog, and decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_tta.catalog import Clip, bandwidth_at_least, permissive, select
from edge_tta.decode import seconds_of
from edge_tta.errors import ConfigError, DataError
from edge_tta.train.data.clip_cache import ClipCache, load_or_build_clip_cache, require_usable
from edge_tta.train.data.layouts import LAYOUTS
from edge_tta.train.recipes import DataConfig

Report = Callable[[str, int, int], Any]
"""Told (what, done, total) while data are decoded and encoded."""


def read_catalog(config: DataConfig) -> list[Clip]:
    """Clips of a data configuration, filtered.

    Raises:
        ConfigError: no folder, or an unknown layout.
        DataError: unreadable metadata, or nothing left after filtering.
    """
    if not config.folder:
        raise ConfigError("give data.folder, the folder of training clips (--set data.folder=PATH)")
    if config.layout not in LAYOUTS:
        raise ConfigError(f"data.layout '{config.layout}' is unknown; use {', '.join(LAYOUTS)}")
    clips = LAYOUTS[config.layout](Path(config.folder))
    if not clips:
        raise DataError(f"{config.folder}: no clip of layout {config.layout} is there")
    clips = select(clips, bandwidth_at_least(config.min_bandwidth_hz))
    if config.permissive_only:
        free = select(clips, permissive)
        if clips and not free:
            raise DataError(
                f"{config.folder}: no clip has a permissive licence; data.permissive_only=false takes them all"
            )
        clips = free
    if not clips:
        raise DataError(f"{config.folder}: no clip reaches {config.min_bandwidth_hz:g} Hz")
    return clips


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
        ConfigError, DataError: see ``read_catalog``; or clips cannot be opened or decoded.
    """
    clips = read_catalog(config)
    seconds_of_clips(clips, report)
    cache = load_or_build_clip_cache(
        clips, Path(config.cache), sample_rate, lambda done, total: report("decoding clips", done, total)
    )
    return clips, cache
