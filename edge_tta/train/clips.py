"""The clips of a recipe: chosen from a catalog, and decoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_tta.errors import ConfigError, DataError
from edge_tta.train.data.catalog import (
    Clip,
    bandwidth_at_least,
    permissive,
    read_esc50,
    read_metadata_csv,
    select,
)
from edge_tta.train.data.decode import ClipCache, load_or_build_clip_cache
from edge_tta.train.recipes import DataConfig

Report = Callable[[str, int, int], Any]
"""Told (what, done, total) while data are decoded and encoded."""


def read_catalog(config: DataConfig) -> list[Clip]:
    """Clips of a data configuration, filtered.

    Raises:
        ConfigError: no folder or unknown layout.
        DataError: unreadable metadata, or nothing left after filtering.
    """
    if not config.folder:
        raise ConfigError("give data.folder, the folder of training clips (--set data.folder=PATH)")
    readers: dict[str, Callable[[Path], list[Clip]]] = {"metadata": read_metadata_csv, "esc50": read_esc50}
    if config.layout not in readers:
        raise ConfigError(f"data.layout '{config.layout}' is unknown; use {' or '.join(readers)}")
    conditions: list[Callable[[Clip], bool]] = [bandwidth_at_least(config.min_bandwidth_hz)]
    if config.permissive_only:
        conditions.append(permissive)
    clips = select(readers[config.layout](Path(config.folder)), *conditions)
    if not clips:
        raise DataError(f"{config.folder}: no clips are left after filtering by licence and bandwidth")
    return clips


def decoded_clips(config: DataConfig, sample_rate: int, report: Report) -> tuple[list[Clip], ClipCache]:
    """The catalog and its decoded samples, which are kept in ``data.cache``.

    Raises:
        ConfigError, DataError: see ``read_catalog``; or a clip cannot be read.
    """
    clips = read_catalog(config)
    cache = load_or_build_clip_cache(
        clips, Path(config.cache), sample_rate, lambda done, total: report("decoding clips", done, total)
    )
    return clips, cache
