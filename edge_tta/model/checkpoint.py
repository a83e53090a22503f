"""Model checkpoints: a directory with the configuration, bf16 weights per part and the tokenizer.

config.json                  ModelConfig, canonical JSON
text_encoder.safetensors     each part optional while a model is being trained; a part larger than a shard is
generator.safetensors        split into PART-00001-of-00003.safetensors and so on; in its header the codec whose latents
                             it makes
codec.safetensors
tokenizer.model              SentencePiece
text_source.json             in place of text encoder and tokenizer: which public networks (edge_tta.model.text_source)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from edge_tta.config import ModelConfig, from_dict, to_dict
from edge_tta.errors import ConfigError
from edge_tta.model.codec import Codec
from edge_tta.model.generator import Generator
from edge_tta.model.public_t5 import T5TextEncoder
from edge_tta.model.text_encoder import TextEncoder
from edge_tta.model.text_source import read_text_source

PARTS = ("text_encoder", "generator", "codec")
TOKENIZER_FILE = "tokenizer.model"
MAX_SHARD_BYTES = 48 * 2**20


@dataclass
class ModelCheckpoint:
    """Modules of a checkpoint, in evaluation mode; parts that were not asked for are None."""

    config: ModelConfig
    text_encoder: TextEncoder | T5TextEncoder | None
    """Its own, or the public T5 that somebody put in its place (``text_source.json``)."""
    generator: Generator | None
    codec: Codec | None
    tokenizer: bytes | None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one."""
    part = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def build_module(part: str, config: ModelConfig) -> nn.Module:
    """Fresh module of a part ("text_encoder", "generator" or "codec")."""
    if part == "text_encoder":
        return TextEncoder(config.text_encoder)
    if part == "generator":
        return Generator(config.generator)
    if part == "codec":
        return Codec(config.codec, config.audio)
    raise ConfigError(f"unknown part '{part}'; parts are {', '.join(PARTS)}")


def require_model(directory: Path, config: ModelConfig) -> None:
    """Check that a directory holds this model, or none yet.

    Raises:
        ConfigError: it holds another one.
    """
    if (directory / "config.json").is_file() and read_config(directory) != config:
        raise ConfigError(
            f"{directory} holds another model ({read_config(directory).name}); choose another directory"
        )


def save_config(directory: Path, config: ModelConfig) -> None:
    """Write ``config.json``; an existing one must agree.

    Raises:
        ConfigError: the directory holds another model.
    """
    require_model(directory, config)
    path = directory / "config.json"
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(to_dict(config), sort_keys=True, indent=1) + "\n").encode())


def read_config(directory: Path) -> ModelConfig:
    """Configuration of a checkpoint.

    Raises:
        ConfigError: missing or malformed.
    """
    path = directory / "config.json"
    try:
        return from_dict(ModelConfig, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"{directory} is no checkpoint: config.json cannot be read ({error.strerror})"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def save_part(
    directory: Path,
    config: ModelConfig,
    part: str,
    module: nn.Module,
    note: tuple[str, str] | None = None,
) -> None:
    """Write one part in bf16, in shards of at most 48 MiB; statistics keep float32.

    Args:
        directory: of the checkpoint.
        config: whose ``config.json`` is written beside it.
        part: "text_encoder", "generator" or "codec".
        module: with the weights.
        note: key and value kept in the header of every file, so that it goes where the weights go. One alone: the
            order of several would differ from file to file.
    """
    save_config(directory, config)
    tensors = {name: _stored(name, value) for name, value in module.state_dict().items()}
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        num_bytes = value.numel() * value.element_size()
        if shards[-1] and size + num_bytes > MAX_SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += num_bytes
    old = set(part_files(directory, part))
    for number, shard in enumerate(shards, start=1):
        name = (
            f"{part}.safetensors"
            if len(shards) == 1
            else f"{part}-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        write_atomically(directory / name, save(shard, None if note is None else dict([note])))
        old.discard(directory / name)
    for path in old:
        path.unlink()


def _stored(name: str, value: Tensor) -> Tensor:
    statistic = name.rsplit(".", 1)[-1] in ("latent_mean", "latent_std", "bin_mean", "bin_std")
    value = value.detach().cpu().contiguous()
    return value if statistic or not value.is_floating_point() else value.to(torch.bfloat16)


def part_files(directory: Path, part: str) -> list[Path]:
    """Files of a part, one or its shards in order; none if it is not there."""
    whole = directory / f"{part}.safetensors"
    return [whole] if whole.is_file() else sorted(directory.glob(f"{part}-?????-of-?????.safetensors"))


def read_note(directory: Path, part: str, key: str) -> str | None:
    """Value of the note that a part was saved with; None without part or note.

    Raises:
        ConfigError: the file is damaged.
    """
    for path in part_files(directory, part)[:1]:
        try:
            with safe_open(path, framework="pt") as opened:
                note: str | None = (opened.metadata() or {}).get(key)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: {error}") from error
        return note
    return None


def load_part(directory: Path, config: ModelConfig, part: str) -> nn.Module:
    """Module of one part with its weights, in evaluation mode.

    Raises:
        ConfigError: missing or damaged file, or names and shapes that are not those of the configuration.
    """
    paths = part_files(directory, part)
    if not paths and part == "text_encoder" and read_text_source(directory) is not None:
        raise ConfigError(
            f"{directory} is told its texts by a public T5 and has no text encoder of its own; "
            "export it with --text-encoder and use the bundle"
        )
    if not paths:
        raise ConfigError(f"{directory} has no {part}.safetensors")
    if len(paths) > 1 and len(paths) != int(paths[0].stem.rsplit("-", 1)[-1]):
        raise ConfigError(
            f"{directory}: {len(paths)} of {paths[0].stem.rsplit('-', 1)[-1]} shards of {part} are there"
        )
    state: dict[str, Tensor] = {}
    for path in paths:
        try:
            state.update({name: value.float() for name, value in load(path.read_bytes()).items()})
        except (OSError, SafetensorError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error
    module = build_module(part, config)
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ConfigError(
            f"{paths[0]}: weights do not fit config.json ({str(error).splitlines()[-1].strip()})"
        ) from error
    return module.eval()


def load_model_checkpoint(directory: Path, parts: tuple[str, ...] = PARTS) -> ModelCheckpoint:
    """Load a checkpoint directory.

    Args:
        directory: as described at the top of this module.
        parts: which modules to build; the tokenizer is read if it is there.

    Raises:
        ConfigError: one line that names what is missing or wrong.
    """
    config = read_config(directory)
    modules = {part: load_part(directory, config, part) for part in parts}
    tokenizer = directory / TOKENIZER_FILE
    return ModelCheckpoint(
        config,
        modules.get("text_encoder"),  # type: ignore[arg-type]
        modules.get("generator"),  # type: ignore[arg-type]
        modules.get("codec"),  # type: ignore[arg-type]
        tokenizer.read_bytes() if tokenizer.is_file() else None,
    )
