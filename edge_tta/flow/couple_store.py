"""Couples of noise and data on disk: shards that are whole or absent, and say what they were made with.

Latents are kept in float16, the text as captions: its features belong to a text encoder and are cheap to compute again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import default_rng
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Generator, Tensor, nn

from edge_tta.config import to_dict
from edge_tta.errors import DataError, OutputError
from edge_tta.flow.couples import Couples, Simulation
from edge_tta.flow.path import Condition, normal_like
from edge_tta.model.checkpoint import write_atomically


@dataclass(frozen=True)
class StoredCouples:
    """Couples of one length, and what they were made for."""

    couples: Couples
    captions: tuple[str, ...]
    seconds: Tensor
    """float32 [B], duration in seconds."""


def digest_of(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors on the CPU, hexadecimal; the order does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over all weights and buffers of a module, hexadecimal; the same on every device."""
    return digest_of({name: weight.detach().cpu() for name, weight in module.state_dict().items()})


def build_couple_shard(
    path: Path,
    teacher: nn.Module,
    simulation: Simulation,
    batches: Iterable[tuple[Sequence[str], Tensor, Condition]],
    seed: int,
    origin: Mapping[str, str] | None = None,
) -> None:
    """Simulate couples and store them as one safetensors file: whole, or not at all.

    Latents are stored in float16. The noise is rounded before the simulation, so that it is exactly where the ODE
    began; batch i depends on (seed, i) alone.

    Args:
        path: file to write.
        teacher: frozen generator.
        simulation: how couples are made.
        batches: captions, latents [B, L, C] of which only shape and device count, and condition.
        seed: of the noise and the guidance scales.
        origin: digests by name of what the couples belong to, such as codec and text encoder; kept with them.

    Raises:
        DataError: no batches, or a teacher that makes values beyond float16.
        OutputError: the file cannot be written.
    """
    made: list[StoredCouples] = []
    for index, (captions, like, condition) in enumerate(batches):
        own = Generator().manual_seed(seed * 2**20 + index)
        noise = normal_like(like, own).half().float()
        guidance = simulation.draw_guidance(len(like), own).to(like.device)
        # A teacher that has its guidance as an input need not know the scale 1 of the pivot.
        couples = simulation.run(teacher, noise, condition, guidance, simulation.classifier_free)
        made.append(StoredCouples(couples, tuple(captions), condition.seconds))
    if not made:
        raise DataError(f"{path}: no batches to make couples for")
    records = [
        {"caption": caption, "seconds": seconds}
        for batch in made
        for caption, seconds in zip(batch.captions, batch.seconds.tolist(), strict=True)
    ]
    document = {
        "records": records,
        "simulation": to_dict(simulation),
        "seed": seed,
        "teacher_sha256": weights_digest(teacher),
        "origin": dict(origin or {}),
    }
    parts = [batch.couples for batch in made]
    if not all(bool(part.data.half().isfinite().all()) for part in parts):
        raise DataError(f"{path}: the teacher made values that are not finite, nothing is written")
    tensors = {
        "noise": torch.cat([part.noise.flatten(0, 1) for part in parts]).half().cpu(),
        "data": torch.cat([part.data.flatten(0, 1) for part in parts]).half().cpu(),
        "lengths": torch.tensor([part.noise.shape[1] for part in parts for _ in part.noise]),
        "guidance": torch.cat([part.guidance for part in parts]).cpu(),
        "drift": torch.cat([part.drift for part in parts]).cpu(),
        "document": torch.frombuffer(bytearray(json.dumps(document).encode()), dtype=torch.uint8),
    }
    tensors["sha256"] = torch.frombuffer(bytearray.fromhex(digest_of(tensors)), dtype=torch.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def read_couple_shard(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and document of a shard.

    Raises:
        DataError: the file is missing, cut short, damaged, or no shard of couples.
    """
    try:
        tensors = load(path.read_bytes())
        found = tensors.pop("sha256")
        whole = bytes(found.numpy()).hex() == digest_of(tensors)
        document = json.loads(bytes(tensors["document"].numpy())) if whole else {}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no shard of couples ({error}); build it again") from error
    if not whole:
        raise DataError(f"{path}: its digest does not match, the file is damaged; build it again")
    return tensors, document


def read_couple_records(path: Path) -> list[dict[str, Any]]:
    """Caption and seconds of each couple of a shard, without reading its tensors: whether they are whole is not known.

    Raises:
        DataError: the file is missing, damaged, or no shard of couples.
    """
    try:
        with safe_open(path, framework="pt") as shard:
            document = json.loads(bytes(shard.get_tensor("document").numpy()))
        records: list[dict[str, Any]] = document["records"]
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no shard of couples ({error}); build it again") from error
    return records


class CoupleSet:
    """Couples of all shards in memory.

    Args:
        shards: files written by ``build_couple_shard``.

    Raises:
        DataError: no shards, or one that cannot be read.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        if not shards:
            raise DataError("no shards of couples; build them first")
        read = [read_couple_shard(path) for path in shards]
        self.records = [record for _, document in read for record in document["records"]]
        self.documents = [document for _, document in read]
        """What every shard says about itself."""
        self.noise, self.data, self.lengths, self.guidance, self.drift = (
            torch.cat([tensors[name] for tensors, _ in read])
            for name in ("noise", "data", "lengths", "guidance", "drift")
        )
        self.offsets = (self.lengths.cumsum(0) - self.lengths).tolist()

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Sequence[int]) -> StoredCouples:
        """Chosen couples of one length, whole: the ODE of a longer latent is not that of its beginning."""
        length = int(self.lengths[indices[0]])
        spans = [slice(self.offsets[index], self.offsets[index] + length) for index in indices]
        noise, data = (
            torch.stack([part[span] for span in spans]).float() for part in (self.noise, self.data)
        )
        chosen = torch.tensor(indices)
        couples = Couples(noise, data, self.guidance[chosen], self.drift[chosen])
        records = [self.records[index] for index in indices]
        seconds = torch.tensor([record["seconds"] for record in records], dtype=torch.float32)
        return StoredCouples(couples, tuple(record["caption"] for record in records), seconds)

    def batch(self, seed: int, step: int, frames: int) -> StoredCouples:
        """Couples of equal length, about ``frames`` latent frames together, as a function of (seed, step)."""
        rng = default_rng([seed, step])
        lengths = self.lengths.numpy()
        length = int(lengths[rng.integers(len(lengths))])
        pool = np.flatnonzero(lengths == length)
        count = max(1, min(len(pool), round(frames / length)))
        return self.rows(rng.choice(pool, count, replace=False).tolist())
