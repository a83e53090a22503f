"""The torch modules of a checkpoint as a backend: for listening while training, and as the reference for exports.

The only part of the runtime that imports torch; it is loaded when the eager backend is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_tta.bundle.manifest import Generation
from edge_tta.errors import BackendError, ConfigError
from edge_tta.model.checkpoint import ModelCheckpoint, load_model_checkpoint
from edge_tta.runtime.backend import Floats, LoadedModel
from edge_tta.text import Tokenizer

UNSTATED = Generation(default_guidance=3.0, min_guidance=0.0, max_guidance=100.0, max_steps=8)
"""Limits of a checkpoint without a ``bundle.toml``: an unfinished model may be tried with anything."""

_ONE_AT_A_TIME = threading.Lock()


class EagerBackend:
    """Text encoder, generator and decoder of a complete checkpoint in float32.

    Args:
        checkpoint: all three parts.
        threads: threads inside one operator, set for the time of each call only.

    Raises:
        BackendError: a part is missing.
    """

    name = "eager"
    precision = "fp32"

    def __init__(self, checkpoint: ModelCheckpoint, threads: int) -> None:
        parts = checkpoint.text_encoder, checkpoint.generator, checkpoint.codec
        if parts[0] is None or parts[1] is None or parts[2] is None:
            raise BackendError(
                "eager: the checkpoint lacks a part; text_encoder, generator and codec are needed"
            )
        self.threads = threads
        self._modules: tuple[Any, Any, Any] | None = parts[0], parts[1], parts[2].decoder

    def _part(self, index: int) -> Any:
        if self._modules is None:
            raise BackendError("eager: the backend is closed")
        return self._modules[index]

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        # The number of threads is a property of the whole process in torch; others find it as they left it.
        with _ONE_AT_A_TIME:
            before = torch.get_num_threads()
            torch.set_num_threads(self.threads)
            try:
                with torch.inference_mode():
                    yield
            finally:
                torch.set_num_threads(before)

    def text_encoder(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See ``Backend``."""
        with self._inference():
            tokens, pooled = self._part(0)(_tensor(ids, np.int64))
        return tokens.numpy(), pooled.numpy()

    def generator(
        self,
        latent: Floats,
        time: float,
        duration: float,
        text: tuple[Floats, Floats],
        seconds: float,
        guidance: float,
    ) -> Floats:
        """See ``Backend``."""
        with self._inference():
            scalars = [
                torch.tensor([value], dtype=torch.float32) for value in (time, duration, seconds, guidance)
            ]
            features = [_tensor(part) for part in text]
            velocity: Floats = self._part(1)(_tensor(latent), *scalars[:2], *features, *scalars[2:]).numpy()
        return velocity

    def decoder(self, latent: Floats) -> Floats:
        """See ``Backend``."""
        with self._inference():
            waveform: Floats = self._part(2)(_tensor(latent)).numpy()
        return waveform

    def close(self) -> None:
        """See ``Backend``."""
        self._modules = None


def load_checkpoint(source: str | os.PathLike[str], threads: int) -> LoadedModel:
    """Open a checkpoint directory as a model.

    Args:
        source: directory as ``edge_tta.model.checkpoint`` describes it.
        threads: threads a stage may use.

    Raises:
        ConfigError: no checkpoint, a part is missing or damaged, or there is no tokenizer.
    """
    directory = Path(source)
    checkpoint = load_model_checkpoint(directory)
    if checkpoint.tokenizer is None:
        raise ConfigError(f"{directory} has no tokenizer.model")
    config = checkpoint.config
    digest = hashlib.sha256()
    for path in sorted(
        [directory / "tokenizer.model", directory / "config.json", *directory.glob("*.safetensors")]
    ):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return LoadedModel(
        f"{config.name}@{digest.hexdigest()[:12]}",
        config.audio,
        Tokenizer.from_bytes(checkpoint.tokenizer, config.text_encoder.max_tokens),
        _limits(directory),
        EagerBackend(checkpoint, threads),
    )


def _limits(directory: Path) -> Generation:
    """Defaults and limits the checkpoint states for its bundle, if it does."""
    path = directory / "bundle.toml"
    if not path.is_file():
        return UNSTATED
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        stated = {name: facts[name] for name in Generation.model_fields if name in facts}
        return Generation.model_validate(stated)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, reason['loc']))}: {reason['msg']}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error


def _tensor(array: NDArray[Any], dtype: type = np.float32) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))
