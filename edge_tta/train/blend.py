"""Weights between those of two models of one descent: what one of them is better at, for little of what the other is.

Wortsman et al., "Robust fine-tuning of zero-shot models" (arXiv 2109.01903), eq. 1: (1 - s) first + s second, weight by
weight. It works where the second was trained on from the first, or both from a third: models that were trained apart
have nothing in common that could be averaged.

    python -m edge_tta.train.blend FIRST SECOND SHARE CHECKPOINT [PART]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from edge_tta.errors import ConfigError, EdgeTTAError
from edge_tta.model.checkpoint import PARTS, load_part, read_config, read_note, save_part
from edge_tta.train.couple_data import CODEC


@torch.no_grad()
def blend(first: nn.Module, second: nn.Module, share: float) -> None:
    """Change the weights of ``first`` into (1 - share) of its own and ``share`` of those of ``second``.

    Raises:
        ConfigError: a share outside 0..1, or weights of other names or shapes.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of the second model is {share:g}; give 0 to 1")
    others = second.state_dict()
    own = first.state_dict()
    if {name: value.shape for name, value in own.items()} != {
        name: value.shape for name, value in others.items()
    }:
        raise ConfigError("models of different shapes have nothing to be averaged")
    for name, value in own.items():
        value.lerp_(others[name], share)


def blend_checkpoints(first: Path, second: Path, share: float, target: Path, part: str = "generator") -> None:
    """Write a part whose weights lie between those of two checkpoints; what else ``target`` holds stays.

    Raises:
        ConfigError: see ``blend``; an unknown part, or generators for latents of different codecs.
    """
    if part not in PARTS:
        raise ConfigError(f"part '{part}' is unknown; use {', '.join(PARTS)}")
    config = read_config(first)
    notes = {
        note for note in (read_note(folder, part, CODEC) for folder in (first, second)) if note is not None
    }
    if len(notes) > 1:
        raise ConfigError(f"{first} and {second} were trained on latents of different codecs")
    blended = load_part(first, config, part)
    blend(blended, load_part(second, read_config(second), part), share)
    save_part(target, config, part, blended, (CODEC, notes.pop()) if notes else None)


def main(arguments: Sequence[str]) -> None:
    """The command line: two checkpoints, the share of the second, where to, and which part."""
    try:
        first, second, share, target, *named = arguments
        (part,) = named or ["generator"]
        share_of_second = float(share)
    except ValueError:
        sys.exit("usage: python -m edge_tta.train.blend FIRST SECOND SHARE CHECKPOINT [PART]")
    try:
        blend_checkpoints(Path(first), Path(second), share_of_second, Path(target), part)
    except EdgeTTAError as error:
        sys.exit(f"blend: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
