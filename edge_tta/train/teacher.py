"""A public sentence encoder as teacher: BERT-shaped weights read from a local directory, without a hub.

Works for any checkpoint of sentence-transformers' MiniLM layout: ``model.safetensors`` and ``tokenizer.json``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import TextEncoderConfig
from edge_tta.errors import ConfigError, DataError, MissingExtraError
from edge_tta.model.text_encoder import EncoderLayer, TextEncoder

MAX_TOKENS = 128
"""Longest text the teacher reads, in its own tokens; what it was trained on."""

_LAYER_NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "expand",
    "output.dense": "project",
    "output.LayerNorm": "norm",
}


def _layer_state(weights: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    state = {}
    for theirs, ours in _LAYER_NAMES.items():
        for kind in ("weight", "bias"):
            state[f"{ours}.{kind}"] = weights[f"encoder.layer.{index}.{theirs}.{kind}"].float()
    return state


def _read_tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("train", "distilling a text encoder") from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise DataError(f"teacher: {path} is no tokenizer ({error})") from error
    padding = tokenizer.token_to_id("[PAD]")
    if padding is None:
        raise DataError(f"teacher: {path} has no token [PAD]")
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(pad_id=padding)
    return tokenizer


class Teacher(nn.Module):
    """Frozen sentence encoder with its own WordPiece tokenizer.

    Args:
        directory: holds ``model.safetensors`` and ``tokenizer.json``.
        heads: attention heads (12 for MiniLM-L6-H384).

    Raises:
        DataError: a file is missing, damaged or not of this layout.
    """

    def __init__(self, directory: Path, heads: int = 12) -> None:
        super().__init__()
        for name in ("model.safetensors", "tokenizer.json"):
            if not (directory / name).is_file():
                raise DataError(f"teacher: {directory / name} not found")
        self.tokenizer = _read_tokenizer(directory / "tokenizer.json")
        path = directory / "model.safetensors"
        try:
            data = path.read_bytes()
            weights = {name.removeprefix("bert."): value for name, value in load(data).items()}
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"teacher: {path} cannot be read ({error})") from error
        self.digest = hashlib.sha256(data).hexdigest()
        """SHA-256 of the weights' file: which teacher this is, wherever it lies."""
        try:
            self._take(weights, heads)
        except KeyError as error:
            raise DataError(f"teacher: {path} has no {error}") from error
        except RuntimeError as error:
            raise DataError(
                f"teacher: {path} is not of BERT's shape ({str(error).splitlines()[-1].strip()})"
            ) from error
        self.requires_grad_(False)

    def _take(self, weights: dict[str, Tensor], heads: int) -> None:
        self.words = nn.Parameter(weights["embeddings.word_embeddings.weight"].float())
        # Every text is one sentence, so its kind's embedding is part of the positions.
        kind = weights["embeddings.token_type_embeddings.weight"][0].float()
        self.positions = nn.Parameter(weights["embeddings.position_embeddings.weight"].float() + kind)
        width = self.words.shape[1]
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.norm.load_state_dict(
            {name: weights[f"embeddings.LayerNorm.{name}"].float() for name in ("weight", "bias")}
        )
        feedforward = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
        depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
        layers = [EncoderLayer(width, heads, feedforward) for _ in range(depth)]
        for index, layer in enumerate(layers):
            layer.load_state_dict(_layer_state(weights, index))
        self.layers = nn.ModuleList(layers)
        self.heads, self.feedforward = heads, int(feedforward)

    @torch.no_grad()
    def forward(self, texts: list[str]) -> Tensor:
        """Sentence embeddings of length 1, float32 [N, width]: mean over tokens, normalised."""
        encoded = self.tokenizer.encode_batch(texts)
        ids = torch.tensor([item.ids for item in encoded])
        mask = torch.tensor([item.attention_mask for item in encoded], dtype=torch.float32)
        x = self.norm(self.words[ids] + self.positions[: ids.shape[1]])
        bias = ((1 - mask) * -1e4)[:, None, None]
        for layer in self.layers:
            x = layer(x, bias, False)
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(mean, dim=-1)

    def word_vector(self, text: str) -> Tensor | None:
        """Mean word embedding of a text's WordPieces, float32 [width]; None if it has none."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.words[torch.tensor(ids)].mean(0) if ids else None


@torch.no_grad()
def start_student(
    config: TextEncoderConfig, teacher: Teacher, pieces: list[str], layers: tuple[int, ...]
) -> TextEncoder:
    """Student whose layers are copies of the teacher's and whose pieces start at the mean of their WordPieces.

    Args:
        config: student's shape; width, heads and feedforward must be the teacher's.
        teacher: loaded teacher.
        pieces: the SentencePiece vocabulary in id order, word boundary as U+2581.
        layers: which teacher layers to copy, one per student layer.

    Raises:
        ConfigError: shapes or counts disagree.
    """
    if len(layers) != config.depth or not all(0 <= layer < len(teacher.layers) for layer in layers):
        raise ConfigError(
            f"{config.depth} student layers cannot be copied from layers {list(layers)} of a teacher "
            f"that has {len(teacher.layers)}"
        )
    if len(pieces) > config.vocab_size:
        raise ConfigError(f"{len(pieces)} pieces do not fit a vocabulary of {config.vocab_size}")
    shapes = {
        "width": (config.width, teacher.words.shape[1]),
        "feedforward": (config.feedforward, teacher.feedforward),
        "heads": (config.heads, teacher.heads),
    }
    for name, (mine, theirs) in shapes.items():
        if mine != theirs:
            raise ConfigError(f"student {name} {mine} is not the teacher's {theirs}")
    if len(teacher.positions) < 1 + config.max_tokens:
        raise ConfigError(
            f"a teacher of {len(teacher.positions)} positions cannot start a student of {config.max_tokens} "
            f"tokens; it needs one more for its first special token"
        )
    student = TextEncoder(config)
    student.embedding.weight.copy_(teacher.words.mean(0) + 0.02 * torch.randn_like(student.embedding.weight))
    for index, piece in enumerate(pieces):
        text = piece.replace("▁", " ").strip()
        vector = teacher.word_vector(text) if text and not text.startswith("<") else None
        if vector is not None:
            student.embedding.weight[index] = vector
    student.positions.copy_(teacher.positions[1 : 1 + config.max_tokens])
    student.embedding_norm.load_state_dict(teacher.norm.state_dict())
    for layer, source in zip(student.layers, layers, strict=True):
        layer.load_state_dict(teacher.layers[source].state_dict())
    return student
