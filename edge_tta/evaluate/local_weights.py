"""Public weights from local files: read without running what a file says, and named by their digest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_tta.errors import DataError, MissingExtraError

_WRAPPERS = ("model", "state_dict")
"""Keys under which published checkpoints keep their state dict."""
_DTYPES = tuple(type(np.dtype(name)) for name in ("bool", "int32", "int64", "uint32", "float32", "float64"))
_SAFE: list[Any] = [
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    (np._core.multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    *_DTYPES,
]
"""Checkpoints of PANNs also hold the state of their sampler, plain arrays of numbers."""


def read_file(path: Path) -> bytes:
    """All bytes of a weights' file.

    Raises:
        DataError: missing or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_state(path: Path | str) -> tuple[dict[str, Tensor], str]:
    """State dict of a ``.safetensors`` or PyTorch file, float32 on the CPU, and the SHA-256 of the file.

    PyTorch files are unpickled with ``weights_only``: tensors and arrays come in, code does not.

    Raises:
        DataError: missing, damaged, or not a state dict.
        MissingExtraError: safetensors is not installed.
    """
    path = Path(path)
    data = read_file(path)
    content: Any
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load
        except ImportError as error:
            raise MissingExtraError("eval", "reading safetensors weights") from error
        try:
            content = load(data)
        except (SafetensorError, ValueError) as error:
            raise DataError(f"{path}: not a safetensors file ({error})") from error
    else:
        try:
            with torch.serialization.safe_globals(_SAFE):
                content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler raises many kinds
            raise DataError(f"{path}: not a PyTorch weights file ({_first_line(error)})") from error
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: holds no state dict")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    floats = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    return floats, hashlib.sha256(data).hexdigest()


def load_into(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put weights into a network; names and shapes must be exactly its own.

    Raises:
        DataError: a weight is missing, left over, of another shape or not finite.
    """
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise DataError(f"{path}: {str(error).splitlines()[-1].strip()}") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise DataError(
            f"{path}: not weights of {type(network).__name__} "
            f"({len(missing)} missing such as {missing[:1]}, {len(unexpected)} unknown such as {unexpected[:1]})"
        )
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise DataError(f"{path}: {name} holds a non-finite value")


def folder_digest(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 over names and contents of those of the files that exist, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(names):
        if (folder / name).is_file():
            whole.update(f"{name}\0".encode())
            whole.update(hashlib.sha256(read_file(folder / name)).digest())
    return whole.hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
