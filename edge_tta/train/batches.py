"""Batches are tensors inside tuples, dataclasses and dictionaries: moving them to a device, and writing them down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def to_device(batch: Any, device: torch.device) -> Any:
    """The same batch with every tensor on ``device``; everything that is no tensor stays as it is."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(part, device) for part in batch)
    if isinstance(batch, dict):
        return {name: to_device(part, device) for name, part in batch.items()}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        parts = {
            field.name: to_device(getattr(batch, field.name), device) for field in dataclasses.fields(batch)
        }
        return dataclasses.replace(batch, **parts)
    return batch


def named_parts(batch: Any, prefix: str = "batch") -> Iterator[tuple[str, Any]]:
    """Leaves of a batch with dotted names, tensors among them."""
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        items = list(zip(batch._fields, batch, strict=True))
    elif isinstance(batch, (tuple, list)) and any(isinstance(part, Tensor) for part in batch):
        items = [(str(index), part) for index, part in enumerate(batch)]
    elif isinstance(batch, dict):
        items = [(str(name), part) for name, part in batch.items()]
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        items = [(field.name, getattr(batch, field.name)) for field in dataclasses.fields(batch)]
    else:
        yield prefix, batch
        return
    for name, part in items:
        yield from named_parts(part, f"{prefix}.{name}")
