"""Several sounds in one prompt: "rain on a tin roof + distant thunder (-6 dB)" is two sounds, made apart and mixed.

Why: docs/decisions/0017-several-sounds-are-made-apart.md. The syntax: docs/formats/prompt.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import RequestError
from edge_tta.text import normalise

MAX_LAYERS = 4
MAX_LEVEL_DB = 40.0
INAUDIBLE = 1e-5
"""A level below this (-100 dBFS) is that of nothing: it is not brought up to the others'."""

_LEVEL = re.compile(r"(?:(?P<prompt>.*\S) )?\((?P<level>[+\-\u2212]?[0-9]{1,3}(\.[0-9]{1,3})?) ?db\)")


@dataclass(frozen=True)
class Layer:
    """One sound of a prompt."""

    prompt: str
    """What it is; as it was given where it is the only one, else normalised."""
    level_db: float = 0.0
    """How much louder than the others."""


def layers_of(prompt: str) -> tuple[Layer, ...]:
    """The sounds that a prompt names, in order; one where no "+" stands between words.

    Raises:
        RequestError: the prompt is refused by ``normalise``, a part of it is empty, there are more than four parts, or
            a level is out of range.
    """
    text = normalise(prompt)
    parts = [part.strip() for part in re.split(r"(?:^| )\+(?= |$)", text)]
    if len(parts) == 1:
        return (Layer(prompt),)
    if len(parts) > MAX_LAYERS:
        raise RequestError(f"prompt names {len(parts)} sounds; at most {MAX_LAYERS} are mixed")
    return tuple(_layer(part) for part in parts)


def _layer(part: str) -> Layer:
    match = _LEVEL.fullmatch(part)
    if not part or (match is not None and match["prompt"] is None):
        raise RequestError("prompt has no sound on one side of a '+'; describe one on both")
    if match is None:
        return Layer(normalise(part))
    level = float(match["level"].replace("\u2212", "-"))
    if abs(level) > MAX_LEVEL_DB:
        raise RequestError(
            f"level {level:g} dB is out of range: allowed are {-MAX_LEVEL_DB:g} to {MAX_LEVEL_DB:g} dB"
        )
    return Layer(normalise(match["prompt"]), level)


def mix_layers(waveforms: Sequence[NDArray[np.float32]], layers: Sequence[Layer]) -> NDArray[np.float32]:
    """Sum of sounds at equal level, but for what is asked of each; one sound stays as it is.

    The level of a sound is the deviation of its samples from their mean. All are brought to the root mean square of
    the levels; inaudible ones stay as they are. Levels and factors are rounded to float32, so that another order of
    summation gives the same samples.

    Args:
        waveforms: one a layer, float32 [channels, frames], all of one shape.
        layers: as many.

    Returns:
        float32 [channels, frames], not limited.
    """
    if len(waveforms) == 1:
        return waveforms[0]
    levels = [float(np.float32(waveform.std(dtype=np.float64))) for waveform in waveforms]
    audible = [level for level in levels if level >= INAUDIBLE]
    common = math.sqrt(sum(level * level for level in audible) / max(1, len(audible)))
    mixture = np.zeros(waveforms[0].shape, dtype=np.float64)
    for waveform, level, layer in zip(waveforms, levels, layers, strict=True):
        factor = 10.0 ** (layer.level_db / 20.0)
        if level >= INAUDIBLE:
            factor *= common / level
        mixture += float(np.float32(factor)) * waveform.astype(np.float64)
    return mixture.astype(np.float32)
