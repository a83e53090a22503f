"""A public sentence encoder as teacher: BERT-shaped weights read from a local directory, without a hub.

Works for any checkpoint of sentence-transformers' MiniLM layout: ``model.safetensors`` and ``tokenizer.json``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import TextEncoderConfig
from edge_tta.errors import ConfigError, DataError, MissingExtraError
from edge_tta.model.text_encoder import EncoderLayer, TextEncoder

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


class Teacher(nn.Module):
    """Frozen sentence encoder with its own WordPiece tokenizer.

    Args:
        directory: holds ``model.safetensors`` and ``tokenizer.json``.
        heads: attention heads (12 for MiniLM-L6-H384).

    Raises:
        DataError: a file is missing or not of this layout.
    """

    def __init__(self, directory: Path, heads: int = 12) -> None:
        super().__init__()
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError("train", "distilling a text encoder") from error
        for name in ("model.safetensors", "tokenizer.json"):
            if not (directory / name).is_file():
                raise DataError(f"teacher: {directory / name} not found")
        weights = {k.removeprefix("bert."): v for k, v in load_file(directory / "model.safetensors").items()}
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.enable_truncation(128)
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id("[PAD]"))
        try:
            self.words = nn.Parameter(
                weights["embeddings.word_embeddings.weight"].float(), requires_grad=False
            )
            kind = weights["embeddings.token_type_embeddings.weight"][0].float()
            position = weights["embeddings.position_embeddings.weight"].float() + kind
            self.positions = nn.Parameter(position, requires_grad=False)
            width = self.words.shape[1]
            self.norm = nn.LayerNorm(width, eps=1e-12)
            self.norm.load_state_dict(
                {kind: weights[f"embeddings.LayerNorm.{kind}"].float() for kind in ("weight", "bias")}
            )
            feedforward = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
            depth = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.layer."))
            self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward) for _ in range(depth))
            for index, layer in enumerate(self.layers):
                layer.load_state_dict(_layer_state(weights, index))
        except KeyError as error:
            raise DataError(f"teacher: {directory / 'model.safetensors'} has no {error}") from error
        self.requires_grad_(False)

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
    if len(layers) != config.depth or max(layers) >= len(teacher.layers):
        raise ConfigError(f"{config.depth} student layers cannot be copied from teacher layers {layers}")
    if len(pieces) > config.vocab_size:
        raise ConfigError(f"{len(pieces)} pieces do not fit a vocabulary of {config.vocab_size}")
    student = TextEncoder(config)
    if student.embedding.weight.shape[1] != teacher.words.shape[1]:
        raise ConfigError(f"student width {config.width} is not the teacher's {teacher.words.shape[1]}")
    student.embedding.weight.copy_(teacher.words.mean(0) + 0.02 * torch.randn_like(student.embedding.weight))
    for index, piece in enumerate(pieces):
        text = piece.replace("▁", " ").strip()
        vector = teacher.word_vector(text) if text and not text.startswith("<") else None
        if vector is not None:
            student.embedding.weight[index] = vector
    student.positions.copy_(teacher.positions[1 : 1 + config.max_tokens])
    student.embedding_norm.load_state_dict(teacher.norm.state_dict())
    for mine, source in zip(student.layers, layers, strict=True):
        mine.load_state_dict(teacher.layers[source].state_dict())
    return student
