"""A tiny checkpoint on disk, and a folder of clips to train it on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from edge_tta.model.checkpoint import PARTS, ModelCheckpoint, save_part
from export.tiny import tiny_checkpoint

RATE = 44100
LABELS = ("piano", "rain")


def write_checkpoint(folder: Path, parts: tuple[str, ...] = PARTS) -> ModelCheckpoint:
    """Parts of the edge-tiny preset with seeded weights; with the tokenizer if the text encoder is one of them."""
    tiny = tiny_checkpoint()
    for part in parts:
        save_part(folder, tiny.config, part, getattr(tiny, part))
    assert tiny.tokenizer is not None
    if "text_encoder" in parts:
        (folder / "tokenizer.model").write_bytes(tiny.tokenizer)
    return tiny


def write_clips(folder: Path) -> None:
    """Twelve tones and noise bursts, two labels in both splits."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "licence", "split"])
        for index in range(12):
            time = np.arange(int(RATE * draw.uniform(0.3, 0.6))) / RATE
            tone = 0.5 * np.sin(2 * np.pi * 300 * (1 + index) * time)
            sound = 0.2 * draw.standard_normal(len(time)) if index % 2 else tone
            soundfile.write(folder / f"{index}.wav", sound.astype(np.float32), RATE)
            writer.writerow([f"{index}.wav", LABELS[index % 2], "CC0", "val" if index > 7 else "train"])
