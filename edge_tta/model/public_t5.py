"""The encoder of a public T5 checkpoint from a local folder, and the sentence vector made from its tokens.

Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text transformer" (2020,
https://arxiv.org/abs/1910.10683); FLAN-T5 (https://arxiv.org/abs/2210.11416) has the same layout. Training conditions
on it, the toolchain exports it; nothing is ever fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_tta.config import TextEncoderConfig
from edge_tta.errors import BundleError, ConfigError, DataError, MissingExtraError
from edge_tta.text import Tokenizer

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER = "spiece.model"
FILES = (CONFIG, *WEIGHTS, TOKENIZER)
"""Everything that decides the features; of the weights one file is enough."""
MAX_TOKENS = 77
"""Longest text in tokens, end of sentence included, as in MeanAudio; what is longer is cut."""
_TABLE = {"shared.weight", "encoder.embed_tokens.weight"}
"""Two names of one table: a file holds one of them or both."""


def load_t5(folder: Path) -> Any:
    """The encoder half of a T5 checkpoint in Hugging Face layout, float32, frozen.

    Raises:
        DataError: a file is missing or damaged, or the weights are not T5's.
        MissingExtraError: transformers is not installed.
    """
    for names in ((CONFIG,), WEIGHTS):
        if not any((folder / name).is_file() for name in names):
            raise DataError(f"{folder}: not a T5 folder, it has no {' or '.join(names)}")
    try:
        from transformers import T5EncoderModel
    except ImportError as error:
        raise MissingExtraError("public", "the text encoder FLAN-T5") from error
    try:
        encoder, report = T5EncoderModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the library raises whatever its parts do
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{folder}: cannot be loaded as T5 ({lines[0][:200]})") from error
    # The library fills what a file lacks with random numbers.
    missing = sorted({*report["missing_keys"], *(item[0] for item in report.get("mismatched_keys", ()))})
    if missing and not set(missing) < _TABLE:
        raise DataError(f"{folder}: the weights lack {missing[0]} of T5's encoder")
    return encoder.float().eval().requires_grad_(False)


def load_t5_tokenizer(folder: Path, max_tokens: int = MAX_TOKENS) -> Tokenizer:
    """T5's SentencePiece model behind the same tokenizer that runs on the device.

    Raises:
        DataError: no ``spiece.model``, or a damaged one.
    """
    path = folder / TOKENIZER
    try:
        return Tokenizer(path.read_bytes(), max_tokens)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except BundleError as error:
        raise DataError(f"{path}: not a SentencePiece model of T5 ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A settings file of a public checkpoint.

    Raises:
        DataError: missing, or no JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: no JSON object")
    return document


def t5_shape(folder: Path, max_tokens: int = MAX_TOKENS) -> TextEncoderConfig:
    """Shape of the encoder in a T5 folder, from its settings alone; no weights are read.

    Raises:
        DataError: ``config.json`` is missing, or not that of a T5.
    """
    settings = read_json(folder / CONFIG)
    names = {
        "vocab_size": "vocab_size",
        "width": "d_model",
        "depth": "num_layers",
        "heads": "num_heads",
        "feedforward": "d_ff",
    }
    sizes = {own: settings.get(theirs) for own, theirs in names.items()}
    for own, size in sizes.items():
        if not isinstance(size, int):
            raise DataError(f"{folder / CONFIG}: not that of a T5, {names[own]} is {size!r}")
    try:
        return TextEncoderConfig(max_tokens=max_tokens, **sizes)  # type: ignore[arg-type]
    except ConfigError as error:
        raise DataError(f"{folder / CONFIG}: {error}") from error


class T5TextEncoder(nn.Module):
    """A T5 encoder with the interface of :class:`edge_tta.model.text_encoder.TextEncoder`, one text at a time.

    Args:
        encoder: what ``load_t5`` returns.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.explicit_attention = True
        """Without effect: T5's attention has a bias for distances and is always written out."""

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token features float32 [B, T, D] and sentence vectors [B, D] of ids int64 [B, T] without padding."""
        tokens: Tensor = self.encoder(input_ids=ids).last_hidden_state
        return tokens, sentence_vector(tokens)


def sentence_vector(tokens: Tensor) -> Tensor:
    """Mean over tokens [B, T, D] scaled to length sqrt(D), so that its entries have about unit variance: [B, D]."""
    mean = tokens.mean(dim=1)
    length = torch.rsqrt(mean.square().sum(dim=1, keepdim=True) + 1e-6)
    return mean * (mean.shape[1] ** 0.5) * length
