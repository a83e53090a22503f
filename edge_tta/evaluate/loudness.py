"""Integrated loudness of a sound, as broadcasters measure it."""

from __future__ import annotations

import numpy as np

from edge_tta.audio import Audio
from edge_tta.errors import MissingExtraError

BLOCK_SECONDS = 0.4
"""Length of a gating block."""


def integrated_loudness(audio: Audio) -> float | None:
    """Integrated loudness in LUFS (ITU-R BS.1770-4: K-weighting, 400 ms blocks, gates at -70 LUFS and 10 LU below).

    Returns:
        None for a sound shorter than a block, and for one that never passes the absolute gate.

    Raises:
        MissingExtraError: pyloudnorm is not installed.
    """
    try:
        import pyloudnorm
    except ImportError as error:
        raise MissingExtraError("eval", "measuring loudness") from error
    if audio.frames < BLOCK_SECONDS * audio.sample_rate:
        return None
    meter = pyloudnorm.Meter(audio.sample_rate, block_size=BLOCK_SECONDS)
    # Silence is log(0) on the way to -inf, which is an answer and no fault.
    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = float(meter.integrated_loudness(audio.samples.T.astype(np.float64)))
    return loudness if np.isfinite(loudness) else None
