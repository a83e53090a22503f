"""A memory-mapped cache of a catalog's decoded clips."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.catalog import Clip, catalog_digest
from edge_tta.decode import decode_mono
from edge_tta.errors import DataError

MOST_NAMED = 3
"""Clips that a message names; a disk that is gone breaks thousands."""


class ClipCache:
    """Decoded clips of one catalog as one int16 file, mapped into memory.

    Args:
        samples: int16 [total].
        offsets: start of every clip in ``samples``, one more than clips.
        digest: ``catalog_digest`` of the clips.
    """

    def __init__(self, samples: NDArray[np.int16], offsets: NDArray[np.int64], digest: str = "") -> None:
        self.samples, self.offsets, self.digest = samples, offsets, digest

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def length(self, index: int) -> int:
        """Samples of a clip."""
        return int(self.offsets[index + 1] - self.offsets[index])

    def read(self, index: int, start: int = 0, count: int | None = None) -> NDArray[np.float32]:
        """Part of a clip as float32 in -1..1."""
        first = int(self.offsets[index]) + start
        last = (
            int(self.offsets[index + 1])
            if count is None
            else min(first + count, int(self.offsets[index + 1]))
        )
        return self.samples[first:last].astype(np.float32) / 32768.0


def require_usable(broken: Sequence[DataError], count: int) -> None:
    """Check that none of ``count`` clips is broken.

    Raises:
        DataError: names the first of those that are, and tells how many they are.
    """
    if not broken:
        return
    named = "; ".join(str(error) for error in broken[:MOST_NAMED])
    more = f"; and {len(broken) - MOST_NAMED} more" if len(broken) > MOST_NAMED else ""
    raise DataError(
        f"{len(broken)} of {count} clips cannot be used; mend them or take them out of the table: {named}{more}"
    )


def load_or_build_clip_cache(
    clips: Sequence[Clip],
    directory: Path,
    sample_rate: int,
    on_progress: Callable[[int, int], Any] | None = None,
) -> ClipCache:
    """Decode a catalog once and map the result.

    Args:
        clips: catalog in order.
        directory: where caches live; created if missing.
        sample_rate: Hz.
        on_progress: called with (clips done, clips in all).

    Raises:
        DataError: names the clips that cannot be decoded, once all have been tried.
    """
    digest = catalog_digest(clips)
    stem = directory / f"clips-{sample_rate}-{digest[:16]}"
    index_path, data_path = stem.with_suffix(".json"), stem.with_suffix(".i16")
    if not index_path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        offsets, broken = [0], list[DataError]()
        part = data_path.with_suffix(f".tmp-{os.getpid()}")
        try:
            with part.open("wb") as stream:
                for number, clip in enumerate(clips, start=1):
                    try:
                        decoded = np.clip(decode_mono(clip.path, sample_rate), -1.0, 1.0)
                    except DataError as error:
                        broken.append(error)
                    else:
                        stream.write(np.round(decoded * 32767.0).astype("<i2").tobytes())
                        offsets.append(offsets[-1] + len(decoded))
                    if on_progress is not None:
                        on_progress(number, len(clips))
            require_usable(broken, len(clips))
            os.replace(part, data_path)
        finally:
            part.unlink(missing_ok=True)
        index_part = index_path.with_suffix(f".tmp-{os.getpid()}")
        index_part.write_text(json.dumps(offsets), encoding="utf-8")
        os.replace(index_part, index_path)
    offsets_array = np.array(json.loads(index_path.read_text(encoding="utf-8")), dtype=np.int64)
    if data_path.stat().st_size != 2 * offsets_array[-1]:
        raise DataError(f"{data_path}: size does not match its index; delete both to build them anew")
    return ClipCache(np.memmap(data_path, dtype="<i2", mode="r"), offsets_array, digest)
