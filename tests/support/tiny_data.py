"""A tiny checkpoint and a teacher on disk, and a folder of clips to train on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from edge_tta.model.checkpoint import PARTS, ModelCheckpoint, save_part
from edge_tta.model.presets import preset
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


def write_teacher(folder: Path) -> None:
    """A random checkpoint in the layout of a sentence encoder."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import BertPreTokenizer

    folder.mkdir()
    tiny = preset("edge-tiny").text_encoder
    words = ["[PAD]", "[UNK]", "rain", "piano", "falling", "sound", "note", "roof", "key", "the", "of", "on"]
    tokenizer = Tokenizer(WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(words))
    width, inner = tiny.width, tiny.feedforward
    make = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return 0.1 * torch.randn(*shape, generator=make)

    weights = {
        "embeddings.word_embeddings.weight": draw(len(words), width),
        "embeddings.position_embeddings.weight": draw(64, width),
        "embeddings.token_type_embeddings.weight": draw(2, width),
        "embeddings.LayerNorm.weight": torch.ones(width),
        "embeddings.LayerNorm.bias": torch.zeros(width),
    }
    for layer in range(2):
        place = f"encoder.layer.{layer}."
        for name, (out, into) in {
            "attention.self.query": (width, width),
            "attention.self.key": (width, width),
            "attention.self.value": (width, width),
            "attention.output.dense": (width, width),
            "intermediate.dense": (inner, width),
            "output.dense": (width, inner),
        }.items():
            weights[f"{place}{name}.weight"], weights[f"{place}{name}.bias"] = draw(out, into), draw(out)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{place}{name}.weight"], weights[f"{place}{name}.bias"] = (
                torch.ones(width),
                torch.zeros(width),
            )
    save_file(weights, folder / "model.safetensors")
